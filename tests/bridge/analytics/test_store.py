"""The event store as a store, on both databases: created once, purged, and read beside those who write."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from bridge.analytics import EventsUnavailable, Part, Worker, open_events
from bridge.analytics.database import open_database
from bridge.analytics.schema import MIGRATIONS
from bridge.analytics.workers import MOST_WORKERS
from bridge.analytics.writer import Writer
from tests.bridge.analytics.conftest import Fill, write
from tests.bridge.analytics.samples import DAY, START, challenged, paid
from tests.bridge.stores.servers import schema_of


def test_many_create_it_at_once(url: str) -> None:
    """Workers that start together create it once."""
    errors: list[Exception] = []

    def start() -> None:
        try:
            open_database(url, write=True).close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with open_events(url) as events:
        assert events.recorded() is None


def test_reading_creates_nothing(url: str) -> None:
    """A reader finds no store, says so, and leaves none behind."""
    for _ in range(2):
        with pytest.raises(EventsUnavailable):
            open_events(url)


def test_a_later_release_wrote_it(fill: Fill) -> None:
    """It is refused, to be read and to be written."""
    url = fill([])
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:"))) as raw:
            raw.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    else:
        with psycopg.connect(url.partition("?")[0], autocommit=True) as connection:
            connection.execute(f"UPDATE {schema_of(url)}.schema_version SET version = {len(MIGRATIONS) + 1}")
    for write_ in (False, True):
        with pytest.raises(RuntimeError, match="later release"):
            open_database(url, write=write_)


def test_what_fails_leaves_nothing(fill: Fill) -> None:
    """A batch is written whole or not at all, and what was rolled back has no number."""
    url = fill(paid(START, "p", "0x01", "mpp"))
    database = open_database(url, write=True)
    writer = Writer(database, 3600, START)

    def break_off() -> None:
        with database.writing():
            database.execute_many("INSERT INTO meta (name, value) VALUES (?, ?)", [("half", "done")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert list(database.execute("SELECT value FROM meta WHERE name = ?", ("half",))) == []
    writer.write([])
    database.close()


def test_retention(fill: Fill) -> None:
    """Single events and hours go first, then days; what is younger stays, and reports go on by the day."""
    old, middle, young = START, START + 100 * DAY, START + 800 * DAY
    events = [e for at in (old, middle, young) for n in range(3) for e in paid(at + n, f"p{at}{n}", f"0x{at}", "mpp")]
    url = fill(events)
    database = open_database(url, write=True)
    writer = Writer(database, 3600, START)
    while writer.purge(now=young + 10, event_days=90, rollup_days=730):
        pass
    for table, left in (("events", 9), ("payments", 3), ("payers", 2), ("journeys", 2)):
        assert list(database.execute(f"SELECT count(*) FROM {table}")) == [(left,)]
    database.close()
    with open_events(url) as opened:
        found = opened.report(since=START, until=young + DAY)
        assert found.total.settled == 6
        # A span that begins where hours are not kept any more has its first day whole.
        assert opened.report(since=middle + 7200, until=young + DAY).total.settled == 6
        assert opened.report(since=old, until=middle).total.settled == 0
        assert opened.report(since=old, until=young + DAY, exact=True).total.settled == 3


def test_read_beside_a_writer(fill: Fill) -> None:
    """A report sees one moment, while a batch is being written, and waits for nobody."""
    url = fill(paid(START, "p", "0x01", "mpp"))
    database = open_database(url, write=True)
    writer = Writer(database, 3600, START)
    with database.writing():
        database.execute_many("UPDATE money SET payments = ?", [(77,)])
        with open_events(url) as events:
            assert events.report(since=START, until=START + DAY).total.settled == 1
    writer.write([])
    database.close()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A file alone is enough to read: an owner copies it and asks elsewhere."""
    path = tmp_path / "events.sqlite3"
    write(str(path), [challenged(START)])
    path.chmod(0o400)
    with open_events(str(path)) as events:
        assert events.report(since=START, until=START + DAY).total.challenged == 1


def test_no_password_in_an_error() -> None:
    """A server that is away is said without its URL."""
    with pytest.raises(EventsUnavailable) as raised:
        open_events("postgresql://user:hunter2@127.0.0.1:1/none?timeout=0.2")
    assert "hunter2" not in f"{raised.value!r} {raised.value}"


def test_how_processes_do_is_kept_for_a_day(url: str) -> None:
    """Each in its last words, told apart from an earlier one of the same number; not more of them than are shown."""
    database = open_database(url, write=True)
    writer = Writer(database, 3600, START)

    def names() -> list[str]:
        with open_events(url) as events:
            return [worker.name for worker in events.workers()]

    for host in ("a:1:00", "a:1:01", "b:1:02"):
        for state in ("ok", "away"):
            writer.note(Worker(host, START, 30, [Part("settler", state, "no gas", {"left": 1}, START)]))  # type: ignore[arg-type]
    with open_events(url) as events:
        assert events.workers() == [
            Worker(name, START, 30, [Part("settler", "away", "no gas", {"left": 1}, START)])
            for name in ("a:1", "a:1", "b:1")
        ]
    writer.forget("a:1:01")
    assert names() == ["a:1", "b:1"]
    writer.note(Worker("c:1:03", START + DAY, 30, []))
    assert names() == ["a:1", "b:1", "c:1"]
    writer.note(Worker("c:1:03", START + DAY + 1, 30, []))
    assert names() == ["c:1"]
    for number in range(MOST_WORKERS + 20):
        writer.note(Worker(f"d:{number}:04", START + DAY + 2 + number, 30, []))
    assert len(names()) == MOST_WORKERS
    assert "d:0" not in names()
    database.close()


def test_a_server_that_is_there_covers_a_time_without_visitors(url: str) -> None:
    """What it says of itself is a sign of life: nobody came, and that is known."""
    write(url, paid(START, "p", "0x01", "mpp"))
    database = open_database(url, write=True)
    writer = Writer(database, 3600, START)

    def gaps() -> list[str]:
        with open_events(url) as events:
            return [gap.kind for gap in events.readiness("x402-v1", since=START, until=START + 5 * DAY).gaps]

    assert gaps() == ["ends-early"]
    writer.note(Worker("a:1:00", START + 4.5 * DAY, 30, []))
    assert gaps() == []
    database.close()


def test_a_store_of_the_release_before(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server brings it up to date, nothing in it is lost, and it knows no less of when it began."""
    with monkeypatch.context() as before:
        for module in ("sqlite", "postgres"):
            before.setattr(f"bridge.analytics.{module}.MIGRATIONS", MIGRATIONS[:1])
        write(url, paid(START, "p", "0x01", "mpp"))
        database = open_database(url, write=True)
        with database.writing():
            database.execute_many("DELETE FROM meta WHERE name = ?", [("began",)])
        database.close()
    with pytest.raises(EventsUnavailable, match="start the server on it once"):
        open_events(url)
    write(url, paid(START + DAY, "q", "0x02", "x402-v1"), began=START + DAY)
    with open_events(url) as events:
        found = events.readiness("x402-v1", since=START, until=START + 2 * DAY)
        assert (found.all_payments, found.gaps, events.workers()) == (2, [], [])
