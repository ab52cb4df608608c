"""Idempotency keys: one payment for one request, though its client signs anew each time that it tries.

A key is bound to a payment in the store, together with the request that it came with. Whoever comes with the same key
and request is answered with that payment, and what it brought itself stays untouched.
"""

from msgspec.structs import replace

from bridge.clock import Clock
from bridge.randomness import fresh_owner
from bridge.stores.base import Record, Store
from translators.errors import IdempotencyConflict, PaymentError, Unavailable
from translators.lifecycle import State

__all__ = ["IdempotencyKeys"]


class IdempotencyKeys:
    """The keys in `store`. One is remembered for `seconds`; a claim outlives its process by `lease_seconds`."""

    def __init__(self, store: Store, *, clock: Clock, seconds: float, lease_seconds: float) -> None:
        self._store = store
        self._clock = clock
        self._seconds = seconds
        self._lease_seconds = lease_seconds

    async def payment_for(self, key: str, own_payment_id: str, fingerprint: str) -> str | Unavailable:
        """The payment that `key` stands for: the request's own, or an earlier one for the same request.

        `Unavailable` while another request with the key is about to claim. Raises `IdempotencyConflict` where the key
        came with another request before.
        """
        store, now = self._store, self._clock()
        asking = f"{own_payment_id} {fingerprint}"
        # With the time in it, every attempt binds anew: who takes the key from one takes it from no later one.
        own = f"{asking} {now!r}"
        expires_at = now + self._seconds
        bound = await store.bind_key(key, own, now=now, expires_at=expires_at)
        while bound != own:
            earlier, (asked, _, since) = bound, bound.rpartition(" ")
            payment_id, _, asked_for = asked.rpartition(" ")
            if asked != asking:
                record = await self._standing(payment_id, now)
                if record is not None and record.state is not State.RELEASED:
                    if asked_for != fingerprint:
                        raise IdempotencyConflict("this idempotency key was used for another request")
                    return payment_id
                ended = record is not None and record.updated_at >= float(since)
                if not ended and float(since) + self._lease_seconds > now:
                    # Whoever bound it may be just about to claim.
                    return Unavailable("a request with this idempotency key is being worked on", retry_after=1)
            # Nothing was paid by it: the key is free.
            bound = await store.bind_key(key, own, now=now, expires_at=expires_at, instead_of=earlier)
            if bound == own and asked != asking:
                record = await self._standing(payment_id, now)
                if record is not None and record.state is not State.RELEASED:
                    # It was claimed after all, while the key was taken from it: see `confirm`.
                    bound = await store.bind_key(key, earlier, now=now, expires_at=expires_at, instead_of=own)
        return own_payment_id

    async def is_paid(self, key: str) -> bool:
        """Whether `key` stands for a payment that was claimed and not given up. It is not bound by asking."""
        now = self._clock()
        # Bound to nobody, long ago, and for a moment: whoever comes may take the key at once.
        nobody = "nobody nothing 0.0"
        bound = await self._store.bind_key(key, nobody, now=now, expires_at=now + 1)
        if bound == nobody:
            return False
        record = await self._store.get(bound.rpartition(" ")[0].rpartition(" ")[0])
        return record is not None and record.state is not State.RELEASED

    async def confirm(self, key: str, fingerprint: str, record: Record) -> Record | PaymentError:
        """The claim, if its key still stands for it.

        Two payments with one key may come at once. Whoever claims looks at the key afterwards, and whoever takes the
        key looks for a claim afterwards, so at least one of them sees the other, and only one goes on.
        """
        store, now = self._store, self._clock()
        asking = f"{record.id} {fingerprint}"
        bound = await store.bind_key(key, f"{asking} {now!r}", now=now, expires_at=now + self._seconds)
        if bound.rpartition(" ")[0] == asking:
            return record
        await store.advance(record.id, State.RELEASED, owner=record.owner, now=now, lease_until=now)
        return Unavailable("a request with this idempotency key is being worked on", retry_after=1)

    async def _standing(self, payment_id: str, now: float) -> Record | None:
        """The row of a payment, if it has one; not the claim of a request that died."""
        record = await self._store.get(payment_id)
        if record is not None and record.state is State.CLAIMED and record.lease_until <= now:
            return await self._end_claim(record, now)
        return record

    async def _end_claim(self, record: Record, now: float) -> Record:
        """End the claim of a request that died before it paid anything, so that it cannot go on after all."""
        claim = await self._store.claim(
            replace(record, owner=fresh_owner(), lease_until=now + self._lease_seconds), now=now
        )
        if not claim.won or claim.record.state is not State.CLAIMED:
            return claim.record
        return await self._store.advance(record.id, State.RELEASED, owner=claim.record.owner, now=now, lease_until=now)
