"""One timer for all claims that are held: each is renewed in time, and none that was let go."""

import asyncio
import time

import pytest

from bridge.holds import Holds

pytestmark = pytest.mark.anyio

SECONDS = 0.4


class Claim:
    """Notes when it was renewed."""

    def __init__(self) -> None:
        self.renewed: list[float] = []

    async def renew(self) -> None:
        """See `Holds`."""
        self.renewed.append(time.monotonic())


async def test_each_is_renewed_before_its_time_and_none_that_was_let_go() -> None:
    holds, early, late, let_go = Holds(), Claim(), Claim(), Claim()
    running = asyncio.ensure_future(holds.run(SECONDS))
    try:
        began = time.monotonic()
        holds.add(early)
        holds.add(let_go)
        await asyncio.sleep(SECONDS / 3)
        holds.add(late)
        joined = time.monotonic()
        holds.discard(let_go)
        holds.discard(let_go)
        while not (len(early.renewed) > 1 and late.renewed):
            await asyncio.sleep(0.01)
            assert time.monotonic() - began < 10
    finally:
        running.cancel()
    # Looked at four times in that: never late but for a busy machine, and not much too early.
    assert SECONDS / 2 < early.renewed[0] - began < 2 * SECONDS
    assert SECONDS / 2 < early.renewed[1] - early.renewed[0] < 2 * SECONDS
    assert SECONDS / 2 < late.renewed[0] - joined < 2 * SECONDS
    assert not let_go.renewed


async def test_a_claim_that_comes_while_others_are_renewed() -> None:
    """Renewing lets others run, who hold and let go meanwhile."""
    holds, claims = Holds(), [Claim() for _ in range(50)]

    class Restless(Claim):
        async def renew(self) -> None:
            await super().renew()
            holds.discard(self)
            holds.add(claims.pop())

    for _ in range(20):
        holds.add(Restless())
    running = asyncio.ensure_future(holds.run(0.04))
    await asyncio.sleep(0.2)
    assert not running.done()
    running.cancel()
    assert len(claims) <= 30
