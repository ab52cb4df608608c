"""Payments whose request died or gave up are looked into, and the journal is put right or left alone."""

import asyncio

import pytest
from msgspec.structs import replace

from bridge.events import Events
from bridge.reconciler import Reconciler, Verdict
from bridge.settlers.base import Fate, Found
from bridge.stores import MemoryStore, Record
from bridge.testing import FakeSettler, FixedClock
from tests.bridge.stores.rows import LEASE, NOW, fresh, put
from translators.errors import Unavailable
from translators.lifecycle import State

pytestmark = pytest.mark.anyio

HASH = "0x" + "ab" * 32


class Oracle(FakeSettler):
    """A chain that says one thing of every payment."""

    def __init__(self, says: Found | Exception | None) -> None:
        super().__init__()
        self.says = says

    async def find(self, record: Record) -> Found | None:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def found(fate: Fate, chain_time: int = int(NOW), transaction: str | None = None) -> Found:
    return Found(fate, 7, chain_time, transaction)


CLOSED = fresh().valid_before

CASES = [
    (found(Fate.PAID, transaction=HASH), Verdict.SETTLED, State.SETTLED),
    (found(Fate.VOID, transaction=HASH), Verdict.RELEASED, State.RELEASED),
    (found(Fate.UNUSED, CLOSED), Verdict.RELEASED, State.RELEASED),
    (found(Fate.UNUSED, CLOSED - 1), Verdict.OPEN, None),
    (found(Fate.UNSEEN), Verdict.UNKNOWABLE, None),
    (None, Verdict.UNKNOWABLE, None),
    (Unavailable("no answer"), Verdict.UNREACHABLE, None),
]


def reconciler(store: MemoryStore, settler: FakeSettler, told: list[dict[str, object]]) -> Reconciler:
    return Reconciler(
        store=store,
        settler=settler,
        events=Events([lambda _, fields: told.append(fields)]),
        clock=FixedClock(NOW + LEASE),
    )


@pytest.mark.parametrize("state", [State.SETTLING, State.UNKNOWN])
@pytest.mark.parametrize(("says", "verdict", "becomes"), CASES)
async def test_verdicts(state: State, says: Found | Exception | None, verdict: Verdict, becomes: State | None) -> None:
    """What the chain says moves the row on; what it cannot say leaves it, to be asked about again."""
    store, told = MemoryStore(), []
    row = await put(store, state)
    (resolution,) = await reconciler(store, Oracle(says), told).once()
    assert resolution.verdict is verdict
    after = await store.get(row.id)
    assert after is not None
    assert after.state is (becomes or state)
    assert after.transaction == (HASH if verdict is Verdict.SETTLED else row.transaction)
    assert told[0]["outcome"] == verdict.value
    # Nobody has to wait for the reconciler's lease: a chain that was away may be back by now.
    assert after.lease_until <= NOW + LEASE
    assert after.reason == row.reason or verdict is not Verdict.UNREACHABLE


async def test_what_stays_as_it_is_is_said_once() -> None:
    """A payment that nobody can tell about is looked into every time, and an event of its own the first time only."""
    store, told = MemoryStore(), []
    await put(store, State.UNKNOWN)
    watching = reconciler(store, Oracle(None), told)
    assert [len(await watching.once()) for _ in range(3)] == [1, 1, 1]
    assert len(told) == 1


async def test_what_somebody_works_on_is_left_alone() -> None:
    """A row whose lease runs is not looked into, nor is one of another state."""
    store = MemoryStore()
    running = await put(store, State.SETTLING)
    await store.advance(running.id, State.SETTLING, owner=running.owner, now=NOW, lease_until=NOW + LEASE + 1)
    for number, state in enumerate((State.CLAIMED, State.SETTLED, State.DELIVERED, State.RELEASED), 2):
        await put(store, state, number)
    assert await reconciler(store, Oracle(None), []).once() == []


async def test_two_reconcilers_never_hold_one_row() -> None:
    """Of two that start at once, each row is looked into by one."""

    class Slow(Oracle):
        async def find(self, record: Record) -> Found | None:
            await asyncio.sleep(0.01)
            return await super().find(record)

    store = MemoryStore()
    for number in range(1, 11):
        await put(store, State.UNKNOWN, number)
    rounds = await asyncio.gather(*(reconciler(store, Slow(Unavailable("no answer")), []).once() for _ in range(2)))
    ids = [resolution.record.id for done in rounds for resolution in done]
    assert len(ids) == len(set(ids)) == 10


async def test_one_row_does_not_hold_up_the_others() -> None:
    """A payer whose payment is in a round's hands is told to wait: for what becomes of it, not of all before it.

    Of one the node says nothing for long, of another it says what nobody understands.
    """
    answered = asyncio.Event()

    class Stuck(Oracle):
        async def find(self, record: Record) -> Found | None:
            if record.id == rows[0].id:
                await answered.wait()
            if record.id == rows[1].id:
                raise RuntimeError("what is this?")
            return await super().find(record)

    store = MemoryStore()
    rows = [await put(store, State.UNKNOWN, number) for number in range(1, 31)]
    going = asyncio.ensure_future(reconciler(store, Stuck(found(Fate.UNUSED)), []).once())
    async with asyncio.timeout(5):
        free: list[Record | None] = []
        while len(free) < 28:
            await asyncio.sleep(0.01)
            free = [row for row in [await store.get(row.id) for row in rows] if row and row.lease_until <= NOW + LEASE]
    answered.set()
    with pytest.raises(RuntimeError):
        await going


async def test_a_round_that_fails_is_not_the_last() -> None:
    """The schedule goes on after a store that was away."""

    class Away(MemoryStore):
        calls = 0

        async def take_over(self, **_: object) -> list[Record]:  # type: ignore[override]
            self.calls += 1
            raise Unavailable("away")

    store = Away()
    task = asyncio.ensure_future(
        Reconciler(
            store=store, settler=Oracle(None), events=Events(), clock=FixedClock(NOW), interval_seconds=0.01
        ).run()
    )
    await asyncio.sleep(0.1)
    task.cancel()
    assert store.calls > 2


async def test_a_row_that_somebody_took_meanwhile_is_theirs() -> None:
    """The verdict of one who lost the row changes nothing."""
    store = MemoryStore()
    row = await put(store, State.UNKNOWN)
    resolution = await reconciler(store, Oracle(found(Fate.PAID, transaction=HASH)), []).resolve(
        replace(row, owner="somebody else")
    )
    assert resolution.verdict is Verdict.UNREACHABLE
    assert await store.get(row.id) == row
