"""What every store promises: one winner a payment, and a journal that survives the process.

The record is the journal's row. It holds what is needed to ask the chain later, and never a signature.
"""

from collections.abc import Collection
from typing import Protocol as TypingProtocol

import msgspec

from translators.lifecycle import State
from translators.payment import Protocol

__all__ = ["Claim", "ClaimLost", "Record", "Store", "StoredResponse"]


class Record(msgspec.Struct, frozen=True, gc=False):
    """One payment's row in the journal. Times are Unix seconds, amounts atomic units."""

    id: str
    """`Payment.id`: the same authorization in any protocol is the same row."""
    state: State
    protocol: Protocol
    route: str
    correlation_id: str
    chain_id: int
    asset: str
    payer: str
    recipient: str
    value: int
    nonce: str
    valid_after: int
    valid_before: int
    owner: str
    """Who works on it: unique for each request that claims."""
    lease_until: float
    """Until when nobody else may take it over; from this second on, the lease is over."""
    created_at: float
    updated_at: float
    transaction: str = ""
    """Known before it is broadcast where this process signs it; else as the facilitator reports it."""
    reason: str = ""


class StoredResponse(msgspec.Struct, frozen=True, gc=False):
    """An answer that was paid for, kept so that the same request gets it again."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    fingerprint: str
    """Of the request that it answers: method, URL and body, hashed."""
    proof: str
    """What its client must show to get it again, hashed."""
    expires_at: float
    """From this Unix second on it is gone."""
    trailers: list[tuple[bytes, bytes]] = []


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The answer to `Store.claim`: `won` says whether the caller owns `record`, which is the row now in force."""

    won: bool
    record: Record


class ClaimLost(Exception):
    """The row is no longer the caller's to move: its lease ran out and another request took it over."""


class Store(TypingProtocol):
    """Where claims live. Every method may raise `translators.errors.Unavailable`, and then nothing was changed."""

    async def start(self) -> None:
        """Open, and create or migrate the schema."""
        ...

    async def close(self) -> None:
        """Finish what is queued and close."""
        ...

    async def claim(self, record: Record, *, now: float) -> Claim:
        """Take the payment for `record.owner`, atomically across tasks, threads and processes.

        Won when there is no row; when the row is `released`; when it is `claimed` and its lease is over (its owner
        died before any money could move); and when it is `settled` and its lease is over (paid, not yet delivered:
        the row keeps its state, transaction, protocol and everything else, and only changes owner, lease and
        `updated_at`). Elsewhere a claim that is won is `record` itself, whose state must be `claimed`, and a claim
        that is lost changes nothing: the owner of a row loses a second claim on it like anybody else.
        """
        ...

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
        """Move a row that `owner` holds along the lifecycle table; durable when it returns.

        What is None stays as it is. `response` is kept in the same step, until it expires. `to` equal to the current
        state only renews the lease or adds the transaction or reason. A lease that is over is no obstacle while nobody
        has taken the row. Raises `IllegalTransition` where the table does not lead there, and `ClaimLost` where the row
        is not (or no longer) `owner`'s.
        """
        ...

    async def get(self, payment_id: str) -> Record | None:
        """The row as it stands, or None."""
        ...

    async def response(self, payment_id: str, *, now: float) -> StoredResponse | None:
        """The kept answer of a payment, or None where there is none (any more)."""
        ...

    async def bind_key(
        self, key: str, payment_id: str, *, now: float, expires_at: float, instead_of: str | None = None
    ) -> str:
        """Bind an idempotency key to a payment, atomically; returns the payment that it is bound to.

        The first binding stands until it expires, except that it gives way where it is to `instead_of`. Binding the
        same payment again renews `expires_at`.
        """
        ...

    async def bound(self, key: str, *, now: float) -> str | None:
        """What `key` is bound to, or None where it is to nothing (any more); binds nothing."""
        ...

    async def records(self, *, states: Collection[State] = (), limit: int = 100) -> list[Record]:
        """The `limit` rows that were touched last, newest first; of these `states` only, where any are given."""
        ...

    async def take_over(
        self, *, owner: str, now: float, lease_until: float, limit: int = 100, payment_id: str | None = None
    ) -> list[Record]:
        """Hand to `owner` at most `limit` rows that are `settling` or `unknown` and whose lease is over.

        Only the row of `payment_id`, where it is given. For the reconciler: whoever sent the money off died or gave up,
        `claim` leaves such rows alone, and only the chain can say how they ended. Those that have waited longest
        go first, and come back in no particular order. Two reconcilers never hold one row, and the former owner's
        `advance` raises `ClaimLost` from here on; so a lease outlives the longest settlement.
        """
        ...

    async def purge(self, *, now: float) -> int:
        """Forget rows that nobody needs and whose authorization's `valid_before` has passed.

        Those are `delivered` or `released` rows, and `claimed` ones whose lease is over; `settling`, `unknown` and
        `settled` rows stay. Answers and keys that have expired go too. Returns how many rows went.
        """
        ...
