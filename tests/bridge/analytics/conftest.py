"""The databases that events are kept in."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from bridge.analytics import Fact, Mark
from bridge.analytics.database import open_database
from bridge.analytics.facts import Reducer
from bridge.analytics.writer import Writer
from tests.bridge.analytics.samples import Event
from tests.bridge.stores import servers

Fill = Callable[..., str]


@pytest.fixture
def postgres() -> Iterator[str]:
    """A schema of its own in the PostgreSQL server at DATABASE_URL, dropped afterwards."""
    with servers.postgres_schema() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/events.sqlite3"
    return str(request.getfixturevalue("postgres"))


def write(
    url: str, events: Iterable[Event], *, batch: int = 50, bucket_seconds: int = 3600, began: float = 2.0**40
) -> None:
    """Write events as the recorder does, `batch` at a time."""
    reducer = Reducer()
    database = open_database(url, write=True)
    writer = Writer(database, bucket_seconds, began)
    kept = [kept for at, event, fields in events if (kept := reducer.reduce(at, event, fields)) is not None]
    for begin in range(0, len(kept), batch):
        portion = kept[begin : begin + batch]
        writer.write(
            [fact for fact in portion if isinstance(fact, Fact)], [mark for mark in portion if isinstance(mark, Mark)]
        )
    database.close()


@pytest.fixture
def fill(url: str) -> Fill:
    """Write events into the store, and say where it is."""

    def filled(events: Iterable[Event], **how: int) -> str:
        write(url, events, **how)
        return url

    return filled
