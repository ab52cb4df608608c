"""Many requests at once with one authorization: one settlement, one run of the handler, whoever asked how."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bridge.payers import sign
from bridge.stores import MemoryStore, store_from_url
from bridge.stores.base import Store
from bridge.testing import FakeSettler
from tests.bridge.harness import MPP, PAYER, PROTOCOLS, V2, Answer, House, envelope, reply
from translators.lifecycle import State
from translators.payment import Settlement

pytestmark = pytest.mark.anyio

REQUESTS = 200
SPREAD = 20
"""Requests that each client sends: the same envelope from one address."""


class SlowSettler(FakeSettler):
    """A chain that takes a moment, so that everybody meets."""

    async def settle(self, *args: Any) -> Settlement:
        await asyncio.sleep(0.05)
        return await super().settle(*args)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each store that one machine can have."""
    return MemoryStore() if request.param == "memory" else store_from_url(f"sqlite:{tmp_path / 'payments.sqlite3'}")


async def rush(house: House) -> list[Answer]:
    """All of them at once, over the three envelopes, from ten addresses."""
    asked = {protocol: await house.ask(protocol) for protocol in PROTOCOLS}
    payment = sign(asked[MPP], PAYER, house.clock())
    headers = [envelope(payment, asked[protocol], protocol) for protocol in PROTOCOLS]
    return list(
        await asyncio.gather(
            *(
                house.visit(headers=[headers[n % 3]], client=(f"10.0.0.{n // SPREAD}", 4000 + n))
                for n in range(REQUESTS)
            )
        )
    )


@pytest.mark.parametrize("policy", ["on_success", "first"])
@pytest.mark.parametrize("wait_seconds", [0.0, 20.0])
async def test_200_requests_with_one_authorization(store: Store, policy: str, wait_seconds: float) -> None:
    """One settlement and one delivery. The others come again later, or, having waited, hear that it is used; who shows
    that it is the same client gets the same answer."""
    house = House(store=store, settler=SlowSettler(), settle=policy, wait_seconds=wait_seconds)

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.02)
        for message in reply():
            await send(message)

    house.handler = handler
    answers = await rush(house)
    await house.app.gate.close()
    statuses = Counter(answer.status_code for answer in answers)
    events = Counter(house.events)
    assert (house.runs, len(house.settler.settlements)) == (1, 1)
    assert (events["payment.settled"], events["payment.delivered"]) == (1, 1)
    assert statuses[200] == 1 + events["payment.replayed"]
    assert set(statuses) <= {200, 402, 503}
    for answer in answers:
        if answer.status_code != 200:
            assert "the report" not in answer.text_of_everything
        if answer.status_code == 402:
            assert answer.problem == "invalid-challenge"
        if answer.status_code == 503:
            assert "retry-after" in answer.headers
            assert "www-authenticate" not in answer.headers
    if wait_seconds:
        assert statuses[503] == 0


async def test_different_payments_do_not_wait_for_each_other(store: Store) -> None:
    """A hundred payers at once each get their answer, each for the own money."""
    house = House(store=store, settler=SlowSettler())
    started = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(house.pay(PROTOCOLS[n % 3]) for n in range(100)))
    elapsed = asyncio.get_running_loop().time() - started
    await house.app.gate.close()
    assert Counter(answer.status_code for answer in answers) == {200: 100}
    assert len({settlement.payment_id for settlement in house.settler.settlements}) == 100
    # One after the other the settlements alone would take five seconds.
    assert elapsed < 4


async def test_two_processes_on_one_file(tmp_path: Path) -> None:
    """Two gates that share nothing but an SQLite file and a chain settle and deliver once between them."""
    settler = SlowSettler()
    houses = [
        House(store=store_from_url(f"sqlite:{tmp_path / 'payments.sqlite3'}"), settler=settler, wait_seconds=0.0)
        for _ in range(2)
    ]
    header = await houses[0].credential(MPP)
    answers = await asyncio.gather(*(houses[n % 2].visit(headers=[header]) for n in range(100)))
    for house in houses:
        await house.app.gate.close()
    assert (sum(house.runs for house in houses), len(settler.settlements)) == (1, 1)
    delivered = [house for house in houses if "payment.delivered" in house.events]
    assert len(delivered) == 1
    assert {answer.status_code for answer in answers} <= {200, 402, 503}


async def test_losers_leave_the_winners_row_alone() -> None:
    """A request that loses the claim changes nothing of the row, however it ends."""
    house = House(settler=SlowSettler())
    header = await house.credential(V2)
    await asyncio.gather(*(house.visit(headers=[header]) for _ in range(20)))
    assert (await house.record()).state is State.DELIVERED
    assert house.runs == 1
