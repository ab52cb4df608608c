"""Events in a SQLite file, which any number of processes of one machine write and read side by side."""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from bridge.analytics.database import EventsUnavailable
from bridge.analytics.schema import MIGRATIONS

__all__ = ["SQLiteDatabase"]

BUSY_SECONDS = 5.0
"""How long a transaction waits for other processes; nobody waits for it."""

# SQLite's integers end at 2**63 - 1, and its sums of texts are floating: amounts are added in Python.
_WORDS = {
    "id": "INTEGER PRIMARY KEY",
    "int": "INTEGER",
    "real": "REAL",
    "blob": "BLOB",
    "amount": "TEXT",
    "rowless": " WITHOUT ROWID",
    "sum": "exact_sum",
    "greatest": "max",
    "least": "min",
}


@lru_cache(maxsize=256)
def _spoken(sql: str) -> str:
    return sql.format(**_WORDS)


class _Sum:
    def __init__(self) -> None:
        self.total = 0

    def step(self, amount: str) -> None:
        self.total += int(amount)

    def finalize(self) -> str:
        return str(self.total)


class SQLiteDatabase:
    """See `bridge.analytics.database.Database`."""

    def __init__(self, path: str, *, write: bool) -> None:
        if not write and not Path(path).exists():
            raise EventsUnavailable(f"there are no events at {path}")
        try:
            self._connection = _open(path, write)
        except (sqlite3.Error, OSError) as error:
            raise EventsUnavailable(f"the events at {path} cannot be opened: {_why(error)}") from error
        try:
            self._check(path, write)
        except sqlite3.Error as error:
            self.close()
            raise EventsUnavailable(f"the events at {path} cannot be read: {_why(error)}") from error
        except BaseException:
            self.close()
            raise

    def _check(self, path: str, write: bool) -> None:
        connection = self._connection
        connection.create_function("exact_add", 2, lambda a, b: str(int(a) + int(b)), deterministic=True)
        connection.create_aggregate("exact_sum", 1, _Sum)  # type: ignore[arg-type]
        if write:
            with self.writing():
                self._migrate()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise RuntimeError(f"the events have schema version {version}: they were written by a later release")
        if version < len(MIGRATIONS):
            raise EventsUnavailable(f"{path} holds no events of this release: start the server on it once")

    def _migrate(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                self._connection.execute(_spoken(statement))
        if version < len(MIGRATIONS):
            self._connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Iterable[tuple[Any, ...]]:
        """See `Database.execute`."""
        with _translated():
            return _Rows(self._connection.execute(_spoken(sql), parameters))

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """See `Database.execute_many`."""
        if rows:
            with _translated():
                self._connection.executemany(_spoken(sql), rows)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See `Database.writing`."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.Error as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise EventsUnavailable(_why(error)) from error
                # SQLite's own waiting looks ever less often, and busy writers that have just come pass it by.
                time.sleep(0.005)
        yield from self._to_the_end()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See `Database.reading`."""
        with _translated():
            self._connection.execute("BEGIN")
        yield from self._to_the_end()

    def _to_the_end(self) -> Iterator[None]:
        try:
            yield
            with _translated():
                self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.rollback()
            raise

    def amount(self, amount: int) -> str:
        """See `Database.amount`."""
        return str(amount)

    def close(self) -> None:
        """See `Database.close`."""
        with suppress(sqlite3.Error):
            self._connection.close()


class _Rows:
    """A cursor that names its errors as we do."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        with _translated():
            yield from self._cursor


def _open(path: str, write: bool) -> sqlite3.Connection:
    if write:
        # SQLite would create it readable for all; its -wal and -shm files take over the mode of the file itself.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        connection = sqlite3.connect(path, timeout=0.05, isolation_level=None)
        try:
            if write:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                if mode != "wal":
                    raise sqlite3.OperationalError(f"it needs the write-ahead log, and this file only has {mode!r}")
                # A commit survives the process at once, and the machine within seconds: these are no claims.
                connection.execute("PRAGMA synchronous = NORMAL")
            else:
                connection.execute("PRAGMA query_only = ON")
                connection.execute("PRAGMA cache_size = -65536")
                connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.Error as error:
            connection.close()
            # Processes that start at once meet here: SQLite refuses some without asking their busy handler.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError) as error:
        raise ValueError(f"the event store does not take this: {type(error).__name__}") from error
    except sqlite3.Error as error:
        raise EventsUnavailable(_why(error)) from error


def _why(error: BaseException) -> str:
    # An OSError's text holds the path already; SQLite's are short and name tables at most.
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
