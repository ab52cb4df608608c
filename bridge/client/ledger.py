"""What a wallet has signed: the one place that knows how much went out today, and what is not decided yet.

A file that every process of one user shares (SQLite), or memory. It holds terms and nonces, never a key, a signature or
a credential: an authorization that has to be sent again is signed again, and as its nonce is the same, it is the same
payment.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from bridge.client.errors import Declined, LedgerFailed
from translators.asks import Asked
from translators.payment import Authorization

__all__ = ["DAY_SECONDS", "Ledger", "Open", "Spent", "State"]

DAY_SECONDS: Final = 24 * 60 * 60

_KEPT_SECONDS: Final = 90 * DAY_SECONDS
"""How long a row is kept whose outcome is known."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS payments (
    payment_id TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    state TEXT NOT NULL,
    doubtful INTEGER NOT NULL,
    signed_at REAL NOT NULL,
    valid_before REAL NOT NULL,
    amount TEXT NOT NULL,
    chain_id INTEGER NOT NULL,
    asset TEXT NOT NULL,
    decimals INTEGER,
    url TEXT NOT NULL,
    transaction_hash TEXT,
    terms BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS by_request ON payments (request, state);
CREATE INDEX IF NOT EXISTS by_time ON payments (signed_at);
"""


class State(StrEnum):
    """What is known of an authorization that was signed."""

    OPEN = "open"
    """It may have left this machine, and is not known to have been paid for."""
    PAID = "paid"
    """The server took it and delivered, or said that it charged."""
    VOID = "void"
    """It never left this machine, or can move no money any more and has moved none."""
    LEFT = "left"
    """Nobody knows, and a person has decided to go on without knowing. It counts as spent."""


class Spent(msgspec.Struct, frozen=True):
    """One authorization of the last day, for the limits."""

    chain_id: int
    asset: str
    amount: int
    decimals: int | None
    """None where the token is not one whose unit is known to be a dollar."""


class Open(msgspec.Struct, frozen=True):
    """An authorization that was signed for a request, as it is kept; it is unsigned here."""

    asked: Asked
    authorization: Authorization
    identifier: str
    """The `Idempotency-Key` that went with it."""
    url: str
    decimals: int | None = None
    doubtful: bool = False
    """Whether an answer that would have told its outcome is missing."""
    signed_at: float = 0.0

    @property
    def payment_id(self) -> str:
        """The identity that its payment goes by everywhere."""
        asset, signed = self.asked.offer.asset, self.authorization
        return f"eip155:{asset.chain_id}/{asset.address}/{signed.payer}/{signed.nonce}"


class Ledger:
    """Opens the file at `path` on first use, readable by its owner only; without a path, in memory."""

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """The database, in a transaction that no other process writes in."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._opened()
                connection = self._connection
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as error:
                raise LedgerFailed(f"the ledger {self._path or 'in memory'} cannot be used: {error}") from None

    def _opened(self) -> sqlite3.Connection:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Made before SQLite does, which would let everybody read who pays whom.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        name = ":memory:" if self._path is None else str(self._path)
        connection = sqlite3.connect(name, timeout=10, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        return connection

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def reserve(self, request: str, entry: Open, now: float, check: Callable[[list[Spent]], None]) -> None:
        """Remember `entry` before it is signed. `check` is given the last day's payments, and raises over a limit.

        In one transaction: of two processes that ask at once, the second sees the first one's. Raises `Declined` where
        the same authorization was signed before: a server that repeats a challenge would be paid nothing for it.
        """
        asset, signed = entry.asked.offer.asset, entry.authorization
        with self._writing() as connection:
            rows = connection.execute(
                "SELECT chain_id, asset, amount, decimals FROM payments WHERE signed_at > ? AND state != 'void'",
                (now - DAY_SECONDS,),
            ).fetchall()
            check([Spent(chain_id, token, int(amount), decimals) for chain_id, token, amount, decimals in rows])
            connection.execute("DELETE FROM payments WHERE payment_id = ? AND state = 'void'", (entry.payment_id,))
            connection.execute(
                "DELETE FROM payments WHERE signed_at < ? AND NOT (state = 'open' AND doubtful)", (now - _KEPT_SECONDS,)
            )
            if connection.execute("SELECT 1 FROM payments WHERE payment_id = ?", (entry.payment_id,)).fetchone():
                raise Declined("the server's challenge is one that was paid with before")
            connection.execute(
                "INSERT INTO payments VALUES (?, ?, 'open', 0, ?, ?, ?, ?, ?, ?, ?, NULL, ?)",
                (
                    *(entry.payment_id, request, now, float(signed.valid_before), str(signed.value)),
                    *(asset.chain_id, asset.address, entry.decimals, entry.url, _terms(entry)),
                ),
            )

    def left_open(self, request: str, now: float) -> list[Open]:
        """What was signed for this request and is not decided: valid at `now`, or in doubt; the last signed first."""
        with self._writing() as connection:
            rows = connection.execute(
                "SELECT terms, doubtful, signed_at FROM payments WHERE request = ? AND state = 'open'"
                " AND (doubtful OR valid_before > ?) ORDER BY signed_at DESC",
                (request, now),
            ).fetchall()
        return [
            msgspec.structs.replace(_ENTRY.decode(terms), doubtful=bool(doubtful), signed_at=signed_at)
            for terms, doubtful, signed_at in rows
        ]

    def mark(
        self, payment_id: str, state: State, *, doubtful: bool | None = None, transaction: str | None = None
    ) -> None:
        """Write down what is known now; what is None stays as it was."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE payments SET state = ?, doubtful = COALESCE(?, doubtful),"
                " transaction_hash = COALESCE(?, transaction_hash) WHERE payment_id = ?",
                (state.value, doubtful, transaction, payment_id),
            )

    def forget(self, request: str) -> int:
        """Let what is open for this request be paid anew; it still counts for the day. How many there were."""
        with self._writing() as connection:
            return connection.execute(
                "UPDATE payments SET state = 'left' WHERE request = ? AND state = 'open'", (request,)
            ).rowcount


_ENTRY = msgspec.json.Decoder(Open)


def _terms(entry: Open) -> bytes:
    """What is kept of an entry; the authorization is unsigned."""
    unsigned = msgspec.structs.replace(entry.authorization, signature=b"")
    return msgspec.json.encode(msgspec.structs.replace(entry, authorization=unsigned))
