"""How the parts of a process do, as it finds them itself and as it notes it where others look."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bridge import condition
from bridge.analytics import EventStore, Part, Recorder, Worker, open_events
from bridge.condition import Condition
from bridge.stores import MemoryStore, Record
from bridge.testing import FakeSettler, FixedClock
from tests.bridge.harness import MPP, House
from translators.errors import Unavailable
from translators.lifecycle import State

pytestmark = pytest.mark.anyio


class Store(MemoryStore):
    """A store that can be away."""

    away = False

    async def records(self, *, states: Any = (), limit: int = 100) -> list[Record]:
        if self.away:
            raise Unavailable("The payment store does not answer.")
        return await super().records(states=states, limit=limit)


class Paying(FakeSettler):
    """A settler that pays for gas itself."""

    left: int | None = None

    def settlements_left(self) -> int | None:
        return self.left


def by_name(parts: Sequence[Part]) -> dict[str, Part]:
    return {part.name: part for part in parts}


async def test_since_when_a_part_is_away() -> None:
    """From when it was first found so, until it is found well again."""
    clock, store, settler = FixedClock(), Store(), FakeSettler()
    found = Condition(store, settler, None, clock)
    began = clock()
    assert {part.name: (part.state, part.since) for part in await found.parts()} == {
        "settler": ("ok", began),
        "store": ("ok", began),
    }
    clock.advance(60)
    settler.problem, store.away = "the relayer has no gas", True
    for _ in range(2):
        parts = by_name(await found.parts())
        assert parts["settler"] == Part("settler", "away", "the relayer has no gas", since=began + 60)
        assert parts["store"] == Part("store", "away", "The payment store does not answer.", since=began + 60)
        clock.advance(30)
    settler.problem = None
    parts = by_name(await found.parts())
    assert (parts["settler"].since, parts["store"].since) == (clock(), began + 60)


async def test_a_part_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is away after a while, and keeps the others from nothing; what a driver raises is told by its type."""

    class Hanging(FakeSettler):
        async def ping(self) -> None:
            await asyncio.Event().wait()

    class Broken(MemoryStore):
        async def records(self, *, states: Any = (), limit: int = 100) -> list[Record]:
            raise OSError("postgresql://user:secret@db")

    monkeypatch.setattr(condition, "PATIENCE_SECONDS", 0.05)
    parts = by_name(await Condition(Broken(), Hanging(), None, FixedClock()).parts())
    assert (parts["settler"].state, parts["settler"].detail) == ("away", "no answer within 0.05 s")
    assert (parts["store"].state, parts["store"].detail) == ("away", "OSError")


@pytest.mark.parametrize(("left", "state"), [(None, "ok"), (5000, "ok"), (100, "ok"), (99, "low"), (0, "low")])
async def test_gas_that_runs_low(left: int | None, state: str) -> None:
    """Told before it is spent."""
    settler = Paying()
    settler.left = left
    settler_part = by_name(await Condition(MemoryStore(), settler, None, FixedClock()).parts())["settler"]
    assert settler_part.state == state
    assert settler_part.figures == ({} if left is None else {"settlements left": left})
    assert ("runs dry" in settler_part.detail) == (state == "low")


async def test_what_is_left_behind() -> None:
    """Payments that were handed over to be settled, and that nobody works on any more."""
    going_on = asyncio.Event()

    class Slow(FakeSettler):
        async def settle(self, payment: Any, offer: Any, resource: Any, before_broadcast: Any) -> Any:
            await before_broadcast("0xab")
            await going_on.wait()
            return await super().settle(payment, offer, resource, before_broadcast)

    house = House(settler=Slow())
    paying = asyncio.ensure_future(house.pay(MPP))
    await until(lambda: any(row.state is State.SETTLING for row in house.store._rows.values()))  # type: ignore[attr-defined]

    async def figures() -> dict[str, int]:
        return by_name(await house.app.gate.condition.parts())["store"].figures

    assert await figures() == {"claimed": 0, "settling": 1, "unknown": 0, "left behind": 0}
    house.clock.advance(house.config.lease_seconds)
    assert await figures() == {"claimed": 0, "settling": 1, "unknown": 0, "left behind": 1}
    going_on.set()
    assert (await paying).status_code == 200
    assert await figures() == {"claimed": 0, "settling": 0, "unknown": 0, "left behind": 0}


# In the event store


def noted(url: str) -> list[Worker]:
    with open_events(url) as events:
        return events.workers()


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


async def test_a_process_notes_how_it_does(tmp_path: Any) -> None:
    """When it starts, and from then on; it is not missed when it ends as it should."""
    url = f"sqlite:{tmp_path}/events.sqlite3"
    settler = FakeSettler()
    house = House(event_store=EventStore(url=url, flush_seconds=0.01, health_seconds=1), settler=settler)
    await house.app._start()
    recorder = house.config.recorder
    assert recorder is not None
    await until(lambda: (tmp_path / "events.sqlite3").exists() and recorder.is_noted)
    (worker,) = noted(url)
    assert (worker.at, worker.every) == (house.clock(), 1)
    assert {part.name: part.state for part in worker.parts} == {"settler": "ok", "store": "ok", "recorder": "ok"}
    settler.problem = "the relayer has no gas"
    house.clock.advance(7)
    await until(lambda: by_name(noted(url)[0].parts)["settler"].state == "away")
    (worker,) = noted(url)
    assert by_name(worker.parts)["settler"].since == house.clock()
    assert not worker.is_silent(house.clock() + 8)
    assert worker.is_silent(house.clock() + 9)
    await house.app.gate.close()
    assert noted(url) == []


async def test_nothing_is_noted_where_nobody_wants_it(tmp_path: Any) -> None:
    """`health_seconds` of 0: no settler is asked either."""

    class Counting(FakeSettler):
        asked = 0

        async def ping(self) -> None:
            self.asked += 1

    settler, url = Counting(), f"sqlite:{tmp_path}/events.sqlite3"
    house = House(event_store=EventStore(url=url, flush_seconds=0.01, health_seconds=0), settler=settler)
    await house.pay(MPP)
    recorder = house.config.recorder
    assert recorder is not None
    await asyncio.to_thread(recorder.flush)
    assert (noted(url), settler.asked) == ([], 0)
    await house.app.gate.close()


def test_a_store_that_is_away_keeps_nobody(tmp_path: Any) -> None:
    """What was last said is written when it is back, and is all that is kept of it meanwhile."""
    folder = tmp_path / "later"
    recorder = Recorder(EventStore(url=f"sqlite:{folder}/events.sqlite3", flush_seconds=0.01), FixedClock())
    recorder.start()
    for number in range(3):
        recorder.note([Part("settler", "ok", str(number))])
    deadline = time.monotonic() + 20
    while not recorder.is_away:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    folder.mkdir()
    assert recorder.flush(20)
    (worker,) = noted(f"sqlite:{folder}/events.sqlite3")
    assert [part.detail for part in worker.parts] == ["2"]
    # Also where no event came meanwhile.
    assert not recorder.is_away
    recorder.close()
