"""The event store's database, SQLite or PostgreSQL, behind the few words that the two say differently.

Connections are blocking and belong to the thread that opened them: the recorder's, or a reader's.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any
from typing import Protocol as TypingProtocol

__all__ = ["Database", "EventsUnavailable", "is_server", "open_database", "path_of"]


class EventsUnavailable(Exception):
    """The event store cannot be had now; the message says why, and names no password."""


class Database(TypingProtocol):
    """One connection. Statements are written with `?`, and with the words below in braces."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Iterable[tuple[Any, ...]]:
        """The rows of one statement, as they come; raises `EventsUnavailable`."""
        ...

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """One statement for each of `rows`; raises `EventsUnavailable`."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """A transaction that no other writer is in: committed at the end, rolled back where the block raises."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """A transaction in which every statement sees the same."""
        ...

    def amount(self, amount: int) -> Any:
        """An amount as the database takes it: a uint256 fits into no integer of either."""
        ...

    def close(self) -> None:
        """Give the connection up; raises nothing."""
        ...


def is_server(url: str) -> bool:
    """Whether `url` names PostgreSQL."""
    return url.startswith(("postgresql://", "postgres://"))


def path_of(url: str) -> str:
    """The file that `url` names, as `sqlite:PATH` or as it is; raises `ValueError`, which does not repeat it."""
    path = url.removeprefix("sqlite:")
    # SQLAlchemy's sqlite:///PATH is relative where a reader takes it for absolute.
    if not path or "://" in url or path.startswith((":", "//")):
        raise ValueError("events: give a path, sqlite:PATH or postgresql://...")
    return path


def open_database(url: str, *, write: bool) -> Database:
    """Connect; to `write`, create and migrate as needed.

    Raises `EventsUnavailable`, `ValueError` for a URL that names no store, `ImportError` without the extra for it, and
    `RuntimeError` for what another release wrote.
    """
    if is_server(url):
        from bridge.analytics.postgres import PostgreSQLDatabase

        return PostgreSQLDatabase(url, write=write)
    from bridge.analytics.sqlite import SQLiteDatabase

    return SQLiteDatabase(path_of(url), write=write)
