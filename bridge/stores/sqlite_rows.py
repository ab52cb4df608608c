"""Payments in a SQLite file: how a row is claimed and moved."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress

import msgspec

from bridge.stores import rules
from bridge.stores.base import Claim, ClaimLost, Record, StoredResponse
from bridge.stores.rows import COLUMNS, from_row, to_row
from bridge.stores.sqlite_file import short_key
from translators.lifecycle import IllegalTransition, State

__all__ = ["Rows", "find"]

_FIND = f"SELECT rowid, {COLUMNS} FROM payments WHERE id = ?"  # noqa: S608  (constants, here and below)
_PLACES = ", ".join("?" * len(Record.__struct_fields__))
_INSERT = f"INSERT INTO payments ({COLUMNS}) VALUES ({_PLACES}) ON CONFLICT DO NOTHING"  # noqa: S608
_REPLACE = f"INSERT OR REPLACE INTO payments ({COLUMNS}) VALUES ({_PLACES})"  # noqa: S608
_MOVE = """
    UPDATE payments SET state = ?, lease_until = ?, updated_at = ?, "transaction" = ?, reason = ?
    WHERE rowid = ? AND id = ? AND owner = ?
    AND state = ? AND lease_until = ? AND updated_at = ? AND "transaction" = ? AND reason = ?"""

_KEEP = "INSERT OR REPLACE INTO responses (payment_id, response, expires_at) VALUES (?, ?, ?)"

REMEMBERED = 10_000
"""Rows of which a process remembers what it wrote: more than it works on at once."""


class Rows:
    """Claims and moves rows on a connection, and remembers those that this process holds.

    So a step of a payment is one statement that reads nothing back. It finds the row by its place in the file and says
    what the row must hold; a row that another process has changed is read, like one that is not remembered. Used by one
    thread.
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, Record]] = {}
        """Each row as it was written last, and its place."""

    def claim(self, record: Record, now: float, connection: sqlite3.Connection) -> Claim:
        """See `Store.claim`."""
        if record.state is State.CLAIMED:
            inserted = connection.execute(_INSERT, to_row(record))
            if inserted.rowcount == 1:
                # Nearly every payment is new.
                self._remember(inserted.lastrowid, record)
                return Claim(won=True, record=record)
        answer = rules.claim(find(record.id, connection), record, now)
        if answer.won:
            self._remember(connection.execute(_REPLACE, to_row(answer.record)).lastrowid, answer.record)
        return answer

    def advance(
        self,
        payment_id: str,
        step: Callable[[Record | None], Record],
        response: StoredResponse | None,
        connection: sqlite3.Connection,
    ) -> Record:
        """The row after `step`, which raises where it is not to be taken; `response` is kept with it."""
        row = self._step(payment_id, step, connection)
        if response is not None:
            kept = msgspec.msgpack.encode(response)
            connection.execute(_KEEP, (short_key(payment_id), kept, response.expires_at))
        return row

    def _step(self, payment_id: str, step: Callable[[Record | None], Record], connection: sqlite3.Connection) -> Record:
        if payment_id in self._held:
            rowid, held = self._held[payment_id]
            # What is remembered may be out of date: only what the file holds is an answer.
            with suppress(ClaimLost, IllegalTransition):
                row = step(held)
                if self._move(rowid, held, row, connection):
                    return row
        found = connection.execute(_FIND, (payment_id,)).fetchone()
        if found is None:
            return step(None)
        held = from_row(found[1:])
        row = step(held)
        moved = self._move(found[0], held, row, connection)
        assert moved, "it was read in this transaction"
        return row

    def _move(self, rowid: int, held: Record, row: Record, connection: sqlite3.Connection) -> bool:
        """Write `row` where `held` stands; false where something else does."""
        moved = connection.execute(
            _MOVE,
            (
                row.state.value,
                row.lease_until,
                row.updated_at,
                row.transaction,
                row.reason,
                rowid,
                held.id,
                held.owner,
                held.state.value,
                held.lease_until,
                held.updated_at,
                held.transaction,
                held.reason,
            ),
        )
        if moved.rowcount != 1:
            return False
        self._remember(rowid, row)
        return True

    def _remember(self, rowid: int | None, row: Record) -> None:
        if row.state in rules.FINISHED:
            self._held.pop(row.id, None)
        elif rowid is not None:
            if len(self._held) >= REMEMBERED:
                del self._held[next(iter(self._held))]
            self._held[row.id] = rowid, row


def find(payment_id: str, connection: sqlite3.Connection) -> Record | None:
    """The row of a payment, if it has one."""
    row = connection.execute(_FIND, (payment_id,)).fetchone()
    return None if row is None else from_row(row[1:])
