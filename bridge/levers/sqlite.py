"""Levers in a table of a SQLite file: the journal's own, or another one."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from translators.errors import Unavailable

__all__ = ["SQLiteLevers"]

T = TypeVar("T")

_CREATE = "CREATE TABLE IF NOT EXISTS lever_changes (number INTEGER PRIMARY KEY, text TEXT NOT NULL)"
_READ = "SELECT text FROM lever_changes ORDER BY number"
_ADD = "INSERT INTO lever_changes (text) VALUES (?)"


class SQLiteLevers:
    """The table `lever_changes` in the file at `path`, which is created where it is missing."""

    def __init__(self, path: str, *, busy_timeout: float = 5.0) -> None:
        self.name = f"sqlite:{path}"
        self._path = path
        self._busy_timeout = busy_timeout

    async def read(self) -> str:
        """See `LeverSource.read`."""
        return await asyncio.to_thread(self._with, _text)

    async def append(self, text: str, *, after: str) -> bool:
        """See `LeverSource.append`."""

        def add(connection: sqlite3.Connection) -> bool:
            connection.execute("BEGIN IMMEDIATE")
            if _text(connection) != after:
                return False
            connection.execute(_ADD, (text,))
            connection.execute("COMMIT")
            return True

        return await asyncio.to_thread(self._with, add)

    def _with(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # A connection each time: it is looked at once in a while, from whichever thread comes, also after a fork.
        try:
            with closing(sqlite3.connect(self._path, timeout=self._busy_timeout, isolation_level=None)) as connection:
                return work(connection)
        except sqlite3.Error as error:
            raise Unavailable(f"{self.name}: {error}") from None


def _text(connection: sqlite3.Connection) -> str:
    try:
        rows = connection.execute(_READ).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        connection.execute(_CREATE)
        rows = []
    return "".join(row[0] for row in rows)
