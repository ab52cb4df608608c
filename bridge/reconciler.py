"""What became of payments whose request did not live to say so: the chain is asked, and the journal put right.

A request that dies, or whose settlement times out, leaves a row `settling` or `unknown`. It says all that is needed to
find out (payer, nonce, recipient, value, window), so whoever comes next can: at start-up, on a schedule, by command, or
because the same credential came again.
"""

import asyncio
from contextlib import suppress
from enum import StrEnum
from typing import Protocol as TypingProtocol

import msgspec
import structlog

from bridge.clock import Clock
from bridge.events import Events, payment_digest
from bridge.randomness import fresh_owner
from bridge.settlers.base import Fate, Found
from bridge.stores.base import ClaimLost, Record, Store
from translators.errors import Unavailable
from translators.lifecycle import State
from translators.payment import is_foreign, network_of

__all__ = ["Finder", "Reconciler", "Resolution", "Verdict"]


class Finder(TypingProtocol):
    """Who can say what became of a payment: every settler, or a reader of the chain alone."""

    async def find(self, record: Record) -> Found | None:
        """See `Settler.find`."""
        ...


AT_ONCE = 10
"""How many payments of a round are looked into at once."""

REMEMBERED = 10_000
"""Payments of which this process remembers what it said."""


class Verdict(StrEnum):
    """What could be found out about a payment."""

    SETTLED = "settled"
    """The money reached the recipient, in a transaction that is known now; the payment is to be delivered."""
    RELEASED = "released"
    """No money moved, and none will."""
    OPEN = "open"
    """No money has moved; it still may while the authorization's window is open."""
    UNKNOWABLE = "unknowable"
    """Nobody who is configured can tell: a facilitator alone cannot be asked what the chain knows."""
    UNREACHABLE = "unreachable"
    """The chain or the store did not answer; it is asked again."""


class Resolution(msgspec.Struct, frozen=True):
    """A verdict, and the journal's row as it stands after it."""

    verdict: Verdict
    record: Record


class Reconciler:
    """Asks about payments that nobody works on.

    `lease_seconds` is how long a row is held while it is asked about; `interval_seconds` is between two rounds of
    `run`, which takes at most `batch` rows at once.
    """

    def __init__(
        self,
        *,
        store: Store,
        settler: Finder,
        events: Events,
        clock: Clock,
        lease_seconds: float = 60.0,
        interval_seconds: float = 15.0,
        batch: int = 100,
    ) -> None:
        self._store = store
        self._settler = settler
        self._events = events
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._interval_seconds = interval_seconds
        self._batch = batch
        self._told: dict[str, Verdict] = {}
        """What was last said of payments that stay as they are, so that it is said once."""

    async def run(self) -> None:
        """Reconcile now and after every interval, until cancelled. What goes wrong is logged and tried again."""
        log = structlog.get_logger("x402_mpp")
        while True:
            try:
                await self.once()
            except Exception as error:
                log.warning("reconcile.failed", error_type=type(error).__name__)
            await asyncio.sleep(self._interval_seconds)

    async def once(self) -> list[Resolution]:
        """One round; raises `Unavailable` when the store does not answer."""
        owner = fresh_owner()
        now = self._clock()
        rows = await self._store.take_over(
            owner=owner, now=now, lease_until=now + self._lease_seconds, limit=self._batch
        )
        at_once = asyncio.Semaphore(AT_ONCE)

        async def looked_into(row: Record) -> Resolution:
            async with at_once:
                return await self.resolve(row)

        # Side by side: as long as a row is held, its payer is told to wait, and a node may take its time over another.
        return await asyncio.gather(*(looked_into(row) for row in rows))

    async def resolve(self, record: Record) -> Resolution:
        """Find out about one row, whose owner the caller is, and move it on; raises nothing."""
        try:
            resolution = await self._resolve(record)
        except (Unavailable, ClaimLost):
            resolution = Resolution(Verdict.UNREACHABLE, record)
            # Who was away for a moment may be asked again at once. Held on to, the row would wait for its lease, and
            # its payer with it; so it does where the store is away. A row that is another's by now stays as it is.
            with suppress(Unavailable, ClaimLost):
                resolution = Resolution(Verdict.UNREACHABLE, await self._move(record, record.state))
        if self._told.get(record.id) is not resolution.verdict:
            self._tell(resolution, record)
        return resolution

    def _tell(self, resolution: Resolution, record: Record) -> None:
        if resolution.verdict in (Verdict.SETTLED, Verdict.RELEASED):
            self._told.pop(record.id, None)
        elif len(self._told) < REMEMBERED:
            self._told[record.id] = resolution.verdict
        self._events.emit(
            "payment.reconciled",
            outcome=resolution.verdict.value,
            payment=payment_digest(record.id),
            route=record.route,
            correlation_id=record.correlation_id,
            protocol=record.protocol.value,
            payer=record.payer,
            amount=str(record.value),
            asset=record.asset,
            network=network_of(record.id),
            x402_only=is_foreign(record.id) or None,
            transaction=resolution.record.transaction or None,
        )

    async def _resolve(self, record: Record) -> Resolution:
        found = await self._settler.find(record)
        if found is None:
            return Resolution(Verdict.UNKNOWABLE, await self._keep(record, "cannot_be_known"))
        match found.fate:
            case Fate.PAID:
                settled = await self._move(record, State.SETTLED, transaction=found.transaction)
                return Resolution(Verdict.SETTLED, settled)
            case Fate.VOID:
                return Resolution(Verdict.RELEASED, await self._move(record, State.RELEASED, reason="void"))
            case Fate.UNUSED if found.chain_time >= record.valid_before:
                # The token takes it no more, so this is final.
                return Resolution(Verdict.RELEASED, await self._move(record, State.RELEASED, reason="expired_unused"))
            case Fate.UNUSED:
                return Resolution(Verdict.OPEN, await self._keep(record, "still_open"))
            case Fate.UNSEEN:
                return Resolution(Verdict.UNKNOWABLE, await self._keep(record, "too_long_ago"))

    async def _move(
        self, record: Record, to: State, *, transaction: str | None = None, reason: str | None = None
    ) -> Record:
        now = self._clock()
        return await self._store.advance(
            record.id, to, owner=record.owner, now=now, lease_until=now, transaction=transaction, reason=reason
        )

    async def _keep(self, record: Record, reason: str) -> Record:
        """Leave the row where it is, to be asked about again; nobody has to wait for this lease to end."""
        return await self._move(record, record.state, reason=reason)
