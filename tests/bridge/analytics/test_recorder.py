"""The recorder: nobody waits for it, what it cannot keep is counted, and what it was killed over is whole."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bridge.analytics import EventStore, Recorder, Report, open_events
from bridge.config import ConfigError, PaymentConfig
from tests.bridge.analytics.samples import DAY, START, paid
from tests.bridge.harness import MPP, PROTOCOLS, V2, House

ALICE = "0x" + "a1" * 20


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another thread or process does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def report(url: str) -> Report:
    with open_events(url) as events:
        return events.report(since=START, until=START + DAY)


def recorder(url: str, **settings: Any) -> Recorder:
    return Recorder(EventStore(url=url, **settings), clock=lambda: START + 60)


def pay(to: Recorder, number: int) -> None:
    for _, event, fields in paid(START, f"p{number}", ALICE, "mpp"):
        to(event, fields)


def test_events_are_written(url: str) -> None:
    """While it runs, and what waits when it is closed; it can be started again, and each payment counts once."""
    own = recorder(url, flush_seconds=0.05)
    pay(own, 0)
    own.start()
    until(lambda: own.recorded == 3)
    pay(own, 1)
    own.close()
    assert report(url).total.settled == 2
    pay(own, 1)
    own.start()
    own.close()
    found = report(url)
    assert (found.total.settled, found.total.delivered, found.dropped) == (2, 2, 0)


def test_overload_drops_and_counts(url: str) -> None:
    """Memory is bounded: what finds the queue full is dropped, counted, and shown in the report that lacks it."""
    own = recorder(url, queue_events=30)
    for number in range(1000):
        pay(own, number)
    assert own.dropped == 3000 - 30
    own.start()
    own.close()
    found = report(url)
    assert (found.total.settled, found.dropped) == (10, 2970)
    with open_events(url) as events:
        assert events.readiness("mpp", since=START, until=START + DAY).dropped == 2970


def test_flushing(url: str) -> None:
    """Whoever has to see what happened can wait for it; a store that is away is not waited for."""
    own = recorder(url, flush_seconds=30)
    own.start()
    for number in range(3):
        pay(own, number)
        assert own.flush()
        assert report(url).total.settled == number + 1
    own.close()
    pay(own, 9)
    assert not own.flush(seconds=0.05)


def test_half_a_queue_is_written_at_once(url: str) -> None:
    """However long events may wait."""
    own = recorder(url, flush_seconds=30, queue_events=60)
    own.start()
    for number in range(10):
        pay(own, number)
    until(lambda: own.recorded == 30)
    own.close()


@pytest.mark.anyio
async def test_what_is_dropped_is_a_metric(tmp_path: Path) -> None:
    """`x402_mpp_events_dropped`, as the metrics page has it."""
    kept = EventStore(url=f"{tmp_path}/nowhere/events.sqlite3", queue_events=4)
    house = House(event_store=kept, metrics_path="/metrics")
    for _ in range(3):
        house.clock.now += 1
        await house.pay(MPP)
    assert "x402_mpp_events_dropped 8.0" in (await house.visit("GET", "/metrics")).text
    assert house.config.recorder is not None
    await asyncio.to_thread(house.config.recorder.close, 0.1)


def test_a_store_that_is_away_comes_back(tmp_path: Path, logged: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again until it is there; nothing that fitted into the queue is lost."""
    monkeypatch.setattr("bridge.analytics.recorder.RETRY_SECONDS", 0.05)
    folder = tmp_path / "later"
    own = recorder(str(folder / "events.sqlite3"))
    own.start()
    pay(own, 0)
    until(lambda: any(entry["event"] == "analytics.away" for entry in logged))
    folder.mkdir()
    until(lambda: own.recorded == 3)
    own.close()
    assert report(str(folder / "events.sqlite3")).total.settled == 1
    assert [entry["event"] for entry in logged] == ["analytics.away", "analytics.back"]


def test_closing_does_not_wait_for_a_store_that_is_away(tmp_path: Path, logged: list[Any]) -> None:
    """What could not be written is said."""
    own = recorder(str(tmp_path / "nowhere" / "events.sqlite3"))
    own.start()
    pay(own, 0)
    begun = time.monotonic()
    own.close(seconds=0.5)
    assert time.monotonic() - begun < 5
    assert {"event": "analytics.lost", "events": 3, "log_level": "error"} in logged


def test_an_event_that_cannot_be_read_is_counted(url: str) -> None:
    """A defect in one event costs that event, and none of its neighbours."""
    own = recorder(url)
    pay(own, 0)
    own("payment.settled", {"payment": "x", "amount": "much", "route": "GET /"})
    own("payment.settled", {"payment": "y", "amount": "1", "transaction": "a\0b\ud800", "route": "GET /"})
    own.start()
    own.close()
    found = report(url)
    assert (found.total.settled, found.dropped) == (2, 1)


def test_several_processes_write_one_store(url: str) -> None:
    """Side by side, from several connections: nothing is lost, and a payment that several tell of counts once."""
    own = [recorder(url, flush_seconds=0.01) for _ in range(4)]
    for one in own:
        one.start()

    def work(one: Recorder, first: int) -> None:
        for number in range(first, first + 60):
            pay(one, number)
            time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(one, place * 50)) for place, one in enumerate(own)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in own:
        one.close()
    assert [one.dropped for one in own] == [0] * 4
    found = report(url)
    assert (found.total.settled, found.total.delivered, found.total.attempted) == (210, 210, 240)
    assert found.total.revenue == {"0x036cbd53842c5426634e7929541ec2318f3dcf7e": "2100000"}


_VICTIM = """
import sys, time
from bridge.analytics import EventStore, Recorder
from tests.bridge.analytics.test_recorder import pay, START
own = Recorder(EventStore(url=sys.argv[1], flush_seconds=0.01), clock=lambda: START + 60)
own.start()
number = int(sys.argv[2])
while True:
    pay(own, number)
    number += 1
    if number % 50 == 0:
        print(number, own.recorded, flush=True)
        time.sleep(0.002)
"""


def test_a_writer_that_is_killed(tmp_path: Path) -> None:
    """At most its unflushed tail is lost; what was said to be recorded is there, and the file is whole."""
    path = tmp_path / "events.sqlite3"
    recorded = 0
    for round_ in range(3):
        victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM, str(path), str(round_ * 1_000_000)], stdout=subprocess.PIPE, text=True
        )
        assert victim.stdout is not None
        own = 0
        while own < 600:
            own = int(victim.stdout.readline().split()[1])
        os.kill(victim.pid, signal.SIGKILL)
        for line in victim.stdout:
            own = max(own, int([*line.split(), "0", "0"][1]))
        victim.wait()
        victim.stdout.close()
        recorded += own
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (kept,) = raw.execute("SELECT count(*) FROM events").fetchone()
        # The roll-ups are written with the facts: they never differ.
        (settled,) = raw.execute("SELECT count(*) FROM events WHERE counts & 1").fetchone()
        for grain in (3600, 86400):
            assert raw.execute("SELECT sum(payments) FROM money WHERE grain = ?", (grain,)).fetchone() == (settled,)
    assert kept >= recorded
    assert report(str(path)).total.settled == settled


@pytest.mark.anyio
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_death_of_the_store_costs_no_payment(protocol: Any, tmp_path: Path) -> None:
    """It cannot be opened, breaks while it is used, or is locked: payments are taken, and no slower."""
    house = House(event_store=f"sqlite:{tmp_path}/no/such/folder/events.sqlite3")
    assert (await house.pay(protocol)).status_code == 200
    await house.app.gate.close()
    path = tmp_path / "events.sqlite3"
    house = House(event_store=EventStore(url=str(path), flush_seconds=0.01))
    assert (await house.pay(protocol)).status_code == 200
    recorder = house.config.recorder
    assert recorder is not None
    await asyncio.to_thread(until, lambda: recorder.recorded == 4)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        house.clock.now += 1
        assert (await house.pay(protocol)).status_code == 200
        assert time.monotonic() - begun < 2
        other.execute("ROLLBACK")
    await asyncio.to_thread(until, lambda: recorder.recorded == 8)
    path.write_bytes(b"this is no database any more" * 1000)
    house.clock.now += 1
    assert (await house.pay(protocol)).status_code == 200
    await asyncio.to_thread(recorder.close, 0.2)


@pytest.mark.anyio
async def test_it_opens_and_closes_with_the_gate(tmp_path: Path) -> None:
    """On by default, in the folder that the server was started in; None keeps nothing."""
    assert PaymentConfig.__dataclass_fields__["event_store"].default == "sqlite:events.sqlite3"
    house = House(event_store=f"sqlite:{tmp_path}/events.sqlite3")
    await house.pay(MPP)
    await house.app.gate.close()
    with open_events(f"{tmp_path}/events.sqlite3") as events:
        assert [row.fact.kind for row in events.tail()] == house.events
    assert (tmp_path / "events.sqlite3").stat().st_mode & 0o777 == 0o600
    assert House(event_store=None).config.recorder is None


def test_what_cannot_work_is_said_at_the_start() -> None:
    """A URL that names no store, a key that is too short, and settings out of range."""
    for wrong in ("redis://127.0.0.1", "sqlite:", "sqlite::memory:", "sqlite:///x"):
        with pytest.raises(ConfigError, match="event_store"):
            House(event_store=wrong)
    wrong_settings: list[dict[str, Any]] = [
        {"payer_key": "short"},
        {"event_days": 0},
        {"event_days": 9, "rollup_days": 3},
        {"queue_events": 0},
        {"flush_seconds": 0},
        {"rollup": "minute"},
    ]
    for settings in wrong_settings:
        with pytest.raises(ValueError, match=r"give|has|is"):
            EventStore(**settings)
    assert "secret" not in repr(EventStore(url="postgresql://u:secret@h/d", payer_key="secret " * 5))


def test_from_the_environment() -> None:
    """`X402_MPP_EVENTS` and `X402_MPP_PAYER_KEY`."""
    env = {"X402_MPP_RECIPIENT": "0x" + "11" * 20, "X402_MPP_SETTLER": "null"}
    env |= {"X402_MPP_EVENTS": "sqlite:kept.sqlite3", "X402_MPP_PAYER_KEY": "k" * 16}
    config = PaymentConfig.from_env(env)
    assert config.event_store == EventStore(url="sqlite:kept.sqlite3", payer_key="k" * 16)
    assert PaymentConfig.from_env(env | {"X402_MPP_EVENTS": "none"}).event_store is None
    with pytest.raises(ConfigError, match="payer_key"):
        PaymentConfig.from_env(env | {"X402_MPP_PAYER_KEY": "k"})


@pytest.mark.anyio
async def test_nothing_personal_is_kept(tmp_path: Path) -> None:
    """With a key nothing that leads to a payer is in the file; and never a user agent in full, nor an IP address."""
    path = tmp_path / "events.sqlite3"
    house = House(event_store=EventStore(url=str(path), payer_key="a key of the tests, 16 bytes"))
    agent = ("User-Agent", "shop/2.1.0 (bob@example.com; Nokia 3310) curl/7")
    for protocol in PROTOCOLS:
        house.clock.now += 1
        credential = await house.credential(protocol)
        await house.visit(headers=[credential, agent], client=("203.0.113.77", 4242))
    await house.app.gate.close()
    said = json.dumps(house.told)
    data = path.read_bytes()
    secrets = {f["payer"] for _, f in house.told if "payer" in f} | {"203.0.113.77", "Nokia", "bob@", "example.com"}
    secrets |= {f[name] for _, f in house.told for name in ("transaction", "payment") if f.get(name)}
    secrets |= {f["correlation_id"] for e, f in house.told if e == "payment.settled"}
    assert any(secret in said for secret in secrets)
    for secret in secrets:
        assert secret.removeprefix("0x").encode() not in data
    with open_events(str(path)) as events:
        found = events.report(since=0, until=4e9, by="client")
        assert found.total.payers == 1
        assert found.groups["shop/2.1.0"].delivered == 3
        assert {row.fact.payer[:5] for row in events.tail() if row.fact.payer} == {"hmac:"}


@pytest.mark.anyio
async def test_many_names_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can send any name: what comes after the last place counts as other, but for those who pay."""
    monkeypatch.setattr("bridge.analytics.writer.MOST_NAMES", 5)
    path = f"{tmp_path}/events.sqlite3"
    house = House(event_store=path)
    for number in range(20):
        await house.visit(headers=[("User-Agent", f"junk-{number}/1.0")])
    credential = await house.credential(V2)
    await house.visit(headers=[credential, ("User-Agent", "customer/1.0")])
    await house.app.gate.close()
    with open_events(path) as events:
        groups = events.report(since=0, until=4e9, by="product").groups
    assert len(groups) <= 8
    assert groups["customer"].delivered == 1
    assert groups["(other)"].challenged >= 15
