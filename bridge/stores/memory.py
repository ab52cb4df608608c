"""A store in this process's memory: for one process, for tests, and for trying things out."""

from threading import Lock

from bridge.stores import rules
from bridge.stores.base import Claim, Record
from translators.lifecycle import State

__all__ = ["MemoryStore"]


class MemoryStore:
    """Claims in a dict. Atomic across tasks and threads; every process has its own, and its end forgets them all.

    With several worker processes the same authorization can be claimed once in each, and only the chain keeps it from
    being settled twice. Behind more than one process, use a store that they share.
    """

    def __init__(self) -> None:
        self._rows: dict[str, Record] = {}
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
            return row

    async def get(self, payment_id: str) -> Record | None:
        """See `Store.get`."""
        with self._lock:
            return self._rows.get(payment_id)

    async def take_over(self, *, owner: str, now: float, lease_until: float, limit: int = 100) -> list[Record]:
        """See `Store.take_over`."""
        with self._lock:
            orphans = [row for row in self._rows.values() if rules.is_orphaned(row, now)]
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
            return len(disposable)
