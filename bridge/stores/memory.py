"""A store in this process's memory: for one process, for tests, and for trying things out."""

from collections.abc import Collection
from threading import Lock

import msgspec

from bridge.stores import rules
from bridge.stores.base import Claim, Record, StoredResponse
from translators.lifecycle import State

__all__ = ["MemoryStore"]


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """An answer, packed: thousands of them lie here for a day, and the garbage collector would look at each."""

    expires_at: float
    packed: bytes

    def response(self) -> StoredResponse:
        return msgspec.msgpack.decode(self.packed, type=StoredResponse)


class MemoryStore:
    """Claims in a dict. Atomic across tasks and threads; every process has its own, and its end forgets them all.

    With several worker processes the same authorization can be claimed once in each, and only the chain keeps it from
    being settled twice. Behind more than one process, use a store that they share.
    """

    def __init__(self) -> None:
        self._rows: dict[str, Record] = {}
        self._responses: dict[str, _Kept] = {}
        self._keys: dict[str, tuple[str, float]] = {}
        # No method awaits while it holds the lock, so tasks never meet it: it is for event loops in other threads.
        self._lock = Lock()

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close: rows live as long as the object does."""

    async def claim(self, record: Record, *, now: float) -> Claim:
        """See `Store.claim`."""
        with self._lock:
            answer = rules.claim(self._rows.get(record.id), record, now)
            if answer.won:
                self._rows[record.id] = answer.record
            return answer

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
        with self._lock:
            row = rules.advance(
                self._rows.get(payment_id),
                to,
                owner=owner,
                now=now,
                lease_until=lease_until,
                transaction=transaction,
                reason=reason,
            )
            self._rows[payment_id] = row
            if response is not None:
                self._responses[payment_id] = _Kept(response.expires_at, msgspec.msgpack.encode(response))
            return row

    async def get(self, payment_id: str) -> Record | None:
        """See `Store.get`."""
        with self._lock:
            return self._rows.get(payment_id)

    async def response(self, payment_id: str, *, now: float) -> StoredResponse | None:
        """See `Store.response`."""
        with self._lock:
            kept = self._responses.get(payment_id)
            return kept.response() if kept is not None and kept.expires_at > now else None

    async def bind_key(
        self, key: str, payment_id: str, *, now: float, expires_at: float, instead_of: str | None = None
    ) -> str:
        """See `Store.bind_key`."""
        with self._lock:
            bound, until = self._keys.get(key, (payment_id, 0.0))
            if until > now and bound not in (payment_id, instead_of):
                return bound
            self._keys[key] = payment_id, expires_at
            return payment_id

    async def bound(self, key: str, *, now: float) -> str | None:
        """See `Store.bound`."""
        with self._lock:
            bound, until = self._keys.get(key, ("", 0.0))
            return bound if until > now else None

    async def records(self, *, states: Collection[State] = (), limit: int = 100) -> list[Record]:
        """See `Store.records`."""
        with self._lock:
            rows = [row for row in self._rows.values() if not states or row.state in states]
        return sorted(rows, key=lambda row: (-row.updated_at, row.id))[:limit]

    async def take_over(
        self, *, owner: str, now: float, lease_until: float, limit: int = 100, payment_id: str | None = None
    ) -> list[Record]:
        """See `Store.take_over`."""
        with self._lock:
            rows = self._rows.values() if payment_id is None else filter(None, [self._rows.get(payment_id)])
            orphans = [row for row in rows if rules.is_orphaned(row, now)]
            orphans.sort(key=lambda row: (row.lease_until, row.id))
            taken = [rules.take_over(row, owner=owner, now=now, lease_until=lease_until) for row in orphans[:limit]]
            self._rows.update((row.id, row) for row in taken)
            return taken

    async def purge(self, *, now: float) -> int:
        """See `Store.purge`."""
        with self._lock:
            disposable = [row.id for row in self._rows.values() if rules.is_disposable(row, now)]
            for payment_id in disposable:
                del self._rows[payment_id]
            self._responses = {id_: kept for id_, kept in self._responses.items() if kept.expires_at > now}
            self._keys = {key: bound for key, bound in self._keys.items() if bound[1] > now}
            return len(disposable)
