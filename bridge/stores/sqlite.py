"""A store in one SQLite file: for one machine, any number of processes, and nothing to install."""

import os
import sqlite3
from collections.abc import Collection
from functools import partial
from typing import Any

import msgspec

from bridge.stores import rules
from bridge.stores.base import Claim, Record, StoredResponse
from bridge.stores.rows import COLUMNS, from_row
from bridge.stores.sqlite_file import open_database, short_key
from bridge.stores.sqlite_rows import Rows, find
from bridge.stores.sqlite_thread import SQLiteThread
from translators.errors import Unavailable
from translators.lifecycle import State

__all__ = ["SQLiteStore"]

_OPEN = ", ".join(f"'{state.value}'" for state in rules.OUTCOME_OPEN)
_TAKE_OVER = f"""
    UPDATE payments SET owner = :owner, lease_until = :lease_until, updated_at = :now WHERE rowid IN (
        SELECT rowid FROM payments WHERE state IN ({_OPEN}) AND lease_until <= :now
        AND (:payment_id IS NULL OR id = :payment_id) ORDER BY lease_until, id LIMIT :limit
    ) RETURNING {COLUMNS}"""  # noqa: S608
_PURGE = """
    DELETE FROM payments WHERE rowid IN (
        SELECT rowid FROM payments WHERE CAST(valid_before AS REAL) <= :now
        AND (+state IN (:finished_0, :finished_1) OR (+state = :claimed AND lease_until <= :now)) LIMIT :limit
    )"""
_PURGE_KEPT = tuple(
    f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE expires_at <= :now LIMIT :limit)"  # noqa: S608
    for table, key in (("responses", "rowid"), ("idempotency_keys", "key"))
)
# +state keeps SQLite from going by state: it would look at every delivered payment that is not yet expired.

_RECORDS = f"SELECT {COLUMNS} FROM payments %s ORDER BY updated_at DESC, id LIMIT ?"  # noqa: S608
_KEPT = "SELECT response FROM responses WHERE payment_id = ? AND expires_at > ?"
_BIND = """
    INSERT INTO idempotency_keys (key, bound_to, expires_at) VALUES (:key, :to, :expires_at)
    ON CONFLICT (key) DO UPDATE SET bound_to = excluded.bound_to, expires_at = excluded.expires_at
    WHERE expires_at <= :now OR bound_to IN (excluded.bound_to, :instead_of)"""
_BOUND = "SELECT bound_to, expires_at FROM idempotency_keys WHERE key = ?"

_STATES = {
    "claimed": State.CLAIMED.value,
    **{f"finished_{index}": state.value for index, state in enumerate(rules.FINISHED)},
}

_PURGED_AT_ONCE = 1_000
"""Rows deleted in one transaction: the claims that wait behind it notice nothing."""


class SQLiteStore:
    """Claims in the SQLite file at `path`, created with mode 0600; one winner among all processes that open it.

    A call waits at most `busy_timeout` seconds for other processes to let go of the file (and as long again behind a
    group of operations that is waiting already), then raises `Unavailable`. The event loop never waits.

    Each process calls `start` itself, after it was forked: SQLite connections do not survive a fork, not even to be
    closed. The file is on a local disk: the write-ahead log does not work over a network.

    What was called is carried out, even if the calling task is cancelled meanwhile: a claim whose caller went away
    is freed when its lease is over, and an outcome that was reported is never lost.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0) -> None:
        self._path = os.fspath(path)
        self._busy_timeout = busy_timeout
        self._thread: SQLiteThread | None = None
        self._rows = Rows()

    async def start(self) -> None:
        """Open the file, and create or migrate its schema.

        Raises `Unavailable` where the file cannot be had, and `RuntimeError` for a file of a later release.
        """
        if self._thread is not None:
            raise RuntimeError(
                "the payment store is started already, here or in the process that this one was forked from"
            )
        thread = SQLiteThread(partial(open_database, self._path, self._busy_timeout), self._busy_timeout)
        self._thread = thread
        try:
            await thread.start()
        except BaseException:
            self._thread = None
            raise

    async def close(self) -> None:
        """Finish what is queued and close; the store can be started again."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await thread.stop()

    async def claim(self, record: Record, *, now: float) -> Claim:
        """See `Store.claim`."""
        return await self._opened().run(partial(self._rows.claim, record, now), writes=True)

    async def advance(
        self,
        payment_id: str,
        to: State,
        *,
        owner: str,
        now: float,
        lease_until: float | None = None,
        transaction: str | None = None,
        reason: str | None = None,
        response: StoredResponse | None = None,
    ) -> Record:
        """See `Store.advance`."""
        # The answer is out, and nobody waits for the word that it is.
        return await self._opened().run(
            partial(
                self._rows.advance,
                payment_id,
                partial(
                    rules.advance,
                    to=to,
                    owner=owner,
                    now=now,
                    lease_until=lease_until,
                    transaction=transaction,
                    reason=reason,
                ),
                response,
            ),
            writes=True,
            late=to is State.DELIVERED,
        )

    async def get(self, payment_id: str) -> Record | None:
        """See `Store.get`."""
        return await self._opened().run(partial(find, payment_id), writes=False)

    async def response(self, payment_id: str, *, now: float) -> StoredResponse | None:
        """See `Store.response`."""
        return await self._opened().run(partial(_kept, payment_id, now), writes=False)

    async def bind_key(
        self, key: str, payment_id: str, *, now: float, expires_at: float, instead_of: str | None = None
    ) -> str:
        """See `Store.bind_key`."""
        parameters = {"key": key, "to": payment_id, "now": now, "expires_at": expires_at, "instead_of": instead_of}
        return await self._opened().run(partial(_bind, parameters), writes=True)

    async def bound(self, key: str, *, now: float) -> str | None:
        """See `Store.bound`."""
        return await self._opened().run(partial(_bound, key, now), writes=False)

    async def records(self, *, states: Collection[State] = (), limit: int = 100) -> list[Record]:
        """See `Store.records`."""
        return await self._opened().run(partial(_records, [state.value for state in states], limit), writes=False)

    async def take_over(
        self, *, owner: str, now: float, lease_until: float, limit: int = 100, payment_id: str | None = None
    ) -> list[Record]:
        """See `Store.take_over`."""
        parameters = {
            **_STATES,
            "owner": owner,
            "now": now,
            "lease_until": lease_until,
            "limit": limit,
            "payment_id": payment_id,
        }
        return await self._opened().run(partial(_take_over, parameters), writes=True)

    async def purge(self, *, now: float) -> int:
        """See `Store.purge`."""
        parameters = {**_STATES, "now": now, "limit": _PURGED_AT_ONCE}
        for statement in _PURGE_KEPT:
            await self._purge(statement, parameters)
        return await self._purge(_PURGE, parameters)

    async def _purge(self, statement: str, parameters: dict[str, Any]) -> int:
        purged = 0
        while True:
            count = await self._opened().run(partial(_delete, statement, parameters), writes=True)
            purged += count
            if count < _PURGED_AT_ONCE:
                return purged

    def _opened(self) -> SQLiteThread:
        if self._thread is None:
            raise Unavailable("The payment store is closed.")
        return self._thread


def _take_over(parameters: dict[str, Any], connection: sqlite3.Connection) -> list[Record]:
    return [from_row(row) for row in connection.execute(_TAKE_OVER, parameters).fetchall()]


def _kept(payment_id: str, now: float, connection: sqlite3.Connection) -> StoredResponse | None:
    row = connection.execute(_KEPT, (short_key(payment_id), now)).fetchone()
    return None if row is None else msgspec.msgpack.decode(row[0], type=StoredResponse)


def _bind(parameters: dict[str, Any], connection: sqlite3.Connection) -> str:
    connection.execute(_BIND, parameters)
    bound: str = connection.execute(_BOUND, (parameters["key"],)).fetchone()[0]
    return bound


def _bound(key: str, now: float, connection: sqlite3.Connection) -> str | None:
    row = connection.execute(_BOUND, (key,)).fetchone()
    return row[0] if row is not None and row[1] > now else None


def _records(states: list[str], limit: int, connection: sqlite3.Connection) -> list[Record]:
    where = f"WHERE state IN ({', '.join('?' * len(states))})" if states else ""
    return [from_row(row) for row in connection.execute(_RECORDS % where, (*states, limit)).fetchall()]


def _delete(statement: str, parameters: dict[str, Any], connection: sqlite3.Connection) -> int:
    return connection.execute(statement, parameters).rowcount
