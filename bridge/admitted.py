"""A payment that one request holds: settled at most once, and left in the state that its answer earned."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from time import perf_counter
from traceback import format_tb
from typing import Any, TypeVar
from typing import Protocol as TypingProtocol

import msgspec
import structlog

from bridge.clock import Clock
from bridge.holds import Holds
from bridge.replays import Capture, Recognition
from bridge.responses import Headers, Responder, Response
from bridge.settlers.base import Fate, Settler
from bridge.stores.base import ClaimLost, Record, Store, StoredResponse
from bridge.tracing import NO_TRACE, NO_TRACING, Step, Trace, Tracing, step
from bridge.verifier import Verified
from translators.errors import AlreadyUsed, OutcomeUnknown, PaymentError, SettlementFailed, Unavailable
from translators.lifecycle import State
from translators.payment import Payment, Protocol, Resource, Settlement

__all__ = ["Admitted", "Desk", "Keeping", "Refused", "Shown", "Teller"]

T = TypeVar("T")

TRANSACTION_SECONDS = 30 * 24 * 60 * 60.0
"""How long it is remembered whose payment a transaction was, where that matters: longer than any network takes one."""


class Refused:
    """The request is answered with `response`, and the handler does not run."""

    __slots__ = ("response",)

    def __init__(self, response: Response) -> None:
        self.response = response


class Desk(msgspec.Struct, eq=False, kw_only=True):
    """What everything behind the gate works with."""

    store: Store
    settler: Settler
    responder: Responder
    clock: Clock
    lease_seconds: float
    """How long a claim outlives its process."""
    tracing: Tracing = NO_TRACING
    holds: Holds = msgspec.field(default_factory=Holds)
    """Claims of answers that are on the way, which do not end meanwhile."""
    at_work: set[asyncio.Task[Any]] = msgspec.field(default_factory=set)

    def beside(self, settler: Settler, responder: Responder) -> "Desk":
        """A desk for one payment that somebody else settles and tells of. Closing waits for its work as well."""
        return msgspec.structs.replace(self, settler=settler, responder=responder)

    def begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run `work` as a task of the gate's own, which closing waits for and no request can cancel."""
        task = asyncio.get_running_loop().create_task(work)
        self.at_work.add(task)
        task.add_done_callback(self.at_work.discard)
        return task


class Keeping(msgspec.Struct, frozen=True):
    """That this request's answer is kept, and for whom: `seconds` from its delivery, at most `limit` bytes."""

    known_by: Recognition
    seconds: float
    limit: int


class Shown:
    """What a handler may know of its payment.

    It stands in the request's scope, so it must not lead back there: thousands of such circles a second would wait for
    the garbage collector, and their whole requests with them.
    """

    __slots__ = ("payment", "settlement")

    def __init__(self, payment: Payment, settlement: Settlement | None) -> None:
        self.payment = payment
        self.settlement = settlement
        """None until the money has moved."""


class Teller(TypingProtocol):
    """Who tells the client and the log about a payment."""

    resource: Resource
    trace: Trace

    def emit(self, event: str, **fields: Any) -> None:
        """Say that something happened to the payment."""
        ...

    async def refuse(self, error: PaymentError, protocol: Protocol, *, unsettled: Payment | None = None) -> Refused:
        """The answer for the client."""
        ...


class Admitted:
    """A verified payment that this request alone holds.

    Call `settle_or_refuse` before the first byte of a success, `release` when there will be none, and `delivered` after
    the last byte; between `hold` and `let_go` the claim does not end.
    """

    def __init__(self, teller: Teller, desk: Desk, verified: Verified, record: Record, keeping: Keeping | None) -> None:
        self._teller = teller
        self._desk = desk
        self._keeping = keeping
        self.capture = Capture(keeping.limit if keeping is not None else 0)
        self.payment = verified.payment
        self.offer = verified.offer
        self._record = record
        self._handed_over = record.state in (State.SETTLING, State.UNKNOWN)
        """By a request before this one, which did not live to hear what came of it."""
        # A payment that was settled for a request which died before its answer is only delivered.
        self.shown = Shown(self.payment, _settlement_from(record) if record.state is State.SETTLED else None)
        self._settling: asyncio.Task[Refused | None] | None = None
        self._delivering: Step | None = None
        self._writing = asyncio.Lock()
        """One change of the row after the other, so that `_record` is always the last."""
        self._concluded = False
        self.notice: tuple[tuple[bytes, bytes], ...] = ()
        """Headers of the answer, whatever it says: that the payer's protocol will end here."""

    @property
    def settlement(self) -> Settlement | None:
        """The money's move; None before it."""
        return self.shown.settlement

    async def settle_or_refuse(self) -> Refused | None:
        """Settle, once; None when the money has moved, else the answer for the client.

        Cancelling the caller does not cancel the settlement: once begun, it is recorded and told like any other.
        """
        if self.settlement is not None:
            self._begin_delivery(self.settlement)
            return None
        settling = self._settling = self._desk.begin(self._settle_and_tell())
        await asyncio.sleep(0)
        if self._keeping is not None:
            # The settlement is under way, and waits for somebody else: time to hash what its answer is kept by.
            self._keeping.known_by.make()
        return settling.result() if settling.done() else await asyncio.shield(settling)

    async def _settle_and_tell(self) -> Refused | None:
        began = perf_counter()
        try:
            if self._teller.trace is NO_TRACE:
                settlement = await self._settle()
            else:
                settlement = await self._settle_traced()
        except PaymentError as error:
            self._concluded = True
            unsettled = None if isinstance(error, Unavailable) else self.payment
            return await self._teller.refuse(error, self.payment.protocol, unsettled=unsettled)
        self.shown.settlement = settlement
        self._teller.emit(
            "payment.settled",
            transaction=settlement.transaction,
            settle_ms=round((perf_counter() - began) * 1000, 3),
        )
        self._begin_delivery(settlement)
        return None

    async def _settle_traced(self) -> Settlement:
        with step(self._teller.trace, "payment.settle") as settling:
            settling.note(x402_mpp__protocol=self.payment.protocol.value, x402_mpp__network=self.payment.network)
            settlement = await self._settle()
            settling.note(x402_mpp__transaction=settlement.transaction)
            return settlement

    def _begin_delivery(self, settlement: Settlement) -> None:
        if self._delivering is None and self._teller.trace is not NO_TRACE:
            self._delivering = self._teller.trace.begin("payment.deliver")
            self._delivering.note(
                x402_mpp__protocol=self.payment.protocol.value, x402_mpp__transaction=settlement.transaction
            )

    def _end_delivery(self, status: int | None, problem: str | None = None) -> None:
        if self._delivering is not None:
            self._delivering.note(http__response__status_code=status)
            self._delivering.end(problem)

    async def _settle(self) -> Settlement:
        try:
            settlement = await self._desk.settler.settle(
                self.payment, self.offer, self._teller.resource, self._before_broadcast
            )
            if self.payment.foreign is not None and not self.payment.foreign.moves_once:
                await self._check_own_transaction(settlement)
        except OutcomeUnknown as error:
            await self._note_unknown(error.reason)
            raise
        except PaymentError as error:
            if self._handed_over:
                return await self._look_again(error)
            await self._note(State.RELEASED, reason=error.reason)
            raise
        except ClaimLost:
            raise Unavailable("this payment is being worked on; send the same credential again") from None
        except Exception as error:
            # A defect in a settler: whether money moved is known only if it was never handed over.
            # Its message may quote what it was about to send, which holds a signature: only the place is logged.
            structlog.get_logger("x402_mpp").error(
                "settler.failed", error_type=type(error).__name__, stack="".join(format_tb(error.__traceback__))
            )
            if self._record.state is State.CLAIMED:
                await self._note(State.RELEASED, reason="unexpected_settle_error")
                raise SettlementFailed("settlement failed", reason="unexpected_settle_error") from None
            await self._note_unknown("unexpected_settle_error")
            raise OutcomeUnknown("the settlement's outcome is not known; send the same credential again") from None
        # The money moved, so the answer is due even where the journal cannot say so yet.
        await self._note_settled(settlement)
        return settlement

    async def _check_own_transaction(self, settlement: Settlement) -> None:
        """Two foreign payments that went in one transaction are one payment, in two encodings: raise for the later one.

        Some networks' proofs can be written in several ways that no one here can tell to be the same, and a facilitator
        may call the settlement of each a success.
        """
        key = hashlib.sha256(f"transaction {settlement.network} {settlement.transaction}".encode()).hexdigest()
        now = self._desk.clock()
        # The money has moved: a store that is away is no reason to keep the answer back.
        with suppress(Unavailable):
            first = await self._desk.store.bind_key(key, self._record.id, now=now, expires_at=now + TRANSACTION_SECONDS)
            if first != self._record.id:
                raise AlreadyUsed("this payment was used before", reason="duplicate_settlement")

    async def _look_again(self, error: PaymentError) -> Settlement:
        """This payment was handed over before, so a refusal now says nothing of what that came to: the chain has to.

        A payer whose first settlement took all he had is refused for want of funds, and has paid.
        """
        try:
            found = await self._desk.settler.find(self._record)
        except Unavailable:
            found = None
        if found is not None and found.fate is Fate.PAID:
            await self._note(State.SETTLED, transaction=found.transaction)
            return msgspec.structs.replace(
                _settlement_from(self._record), transaction=found.transaction or "", settled_at=float(found.chain_time)
            )
        if found is not None and found.fate is Fate.VOID:
            await self._note(State.RELEASED, reason=error.reason)
            raise error
        await self._note_unknown(error.reason)
        raise OutcomeUnknown("the settlement's outcome is not known; send the same credential again")

    async def _note_unknown(self, reason: str) -> None:
        """Nobody knows. The claim stays, and whoever comes next may look into it at once."""
        await self._note(State.UNKNOWN, reason=reason, lease=0)

    async def _note_settled(self, settlement: Settlement) -> None:
        """Tell the journal that the money moved, where it has not heard yet."""
        transaction = settlement.transaction or None
        if self._record.state is State.CLAIMED:
            # A settler that told nobody before it moved the money.
            await self._note(State.SETTLING, transaction=transaction)
        if self._record.state in (State.SETTLING, State.UNKNOWN):
            await self._note(State.SETTLED, transaction=transaction)

    async def _before_broadcast(self, transaction: str) -> None:
        await self._advance(State.SETTLING, transaction=transaction or None)

    async def _note(
        self,
        to: State,
        *,
        transaction: str | None = None,
        reason: str | None = None,
        lease: float | None = None,
        response: StoredResponse | None = None,
    ) -> None:
        """Record what has happened already. A store that cannot take it is behind, and what happened stands.

        So whatever a store raises here ends here: the payer's answer does not depend on our books.
        """
        try:
            await self._advance(to, transaction=transaction, reason=reason, lease=lease, response=response)
        except Exception as error:
            structlog.get_logger("x402_mpp").error(
                "store.behind",
                payment_id=self._record.id,
                state=to.value,
                transaction=transaction,
                error_type=type(error).__name__,
            )

    async def _advance(
        self,
        to: State,
        *,
        transaction: str | None = None,
        reason: str | None = None,
        lease: float | None = None,
        response: StoredResponse | None = None,
    ) -> None:
        await self._writing.acquire()
        try:
            now = self._desk.clock()
            self._record = await self._desk.store.advance(
                self._record.id,
                to,
                owner=self._record.owner,
                now=now,
                lease_until=now + (self._desk.lease_seconds if lease is None else lease),
                transaction=transaction,
                reason=reason,
                response=response,
            )
        finally:
            self._writing.release()

    def hold(self) -> None:
        """Renew the claim for as long as the answer is on its way, which may be longer than a lease; then `let_go`.

        Without this the same credential could start a second one meanwhile.
        """
        self._desk.holds.add(self)

    def let_go(self) -> None:
        """The answer is out, or will not be."""
        self._desk.holds.discard(self)

    async def renew(self) -> None:
        """Make the lease last longer."""
        # A store that is away now may be back before the lease is over; a claim that is lost stays lost.
        with suppress(Exception):
            # Whatever is being written renews the claim too, or ends it.
            if not self._concluded and not self._writing.locked():
                await self._advance(self._record.state)

    def receipt(self, status: int) -> Headers:
        """The headers that tell the payer what was settled; empty before it was."""
        if self.settlement is None:
            return []
        return self._desk.responder.receipt(self.settlement, self.payment, status)

    async def release(self, status: int) -> None:
        """The handler did not succeed. Unsettled, the payer keeps the money; settled, the same credential may retry."""
        await self._conclude(partial(self._released, status, "handler_failed"))

    async def broken_off(self, status: int) -> None:
        """The answer began and did not end: settled, not delivered, and the same credential may ask again."""
        await self._conclude(partial(self._undelivered, status))

    async def delivered(self, status: int) -> None:
        """The last byte was handed over."""
        await self._conclude(partial(self._delivered, status))

    def abandon(self) -> None:
        """The request was cancelled: what became of its payment is recorded without it."""
        self._concluded = True
        self._desk.begin(self._abandoned())

    async def _conclude(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `work`, whose writes may be repeated and whose event comes last: cancelled, it is done again elsewhere."""
        self._concluded = True
        try:
            await work()
        except asyncio.CancelledError:
            self._desk.begin(work())
            raise

    async def _released(self, status: int | None, reason: str) -> None:
        if self.settlement is not None:
            await self._undelivered(status)
            return
        if self._handed_over:
            await self._note_unknown(reason)
        else:
            await self._note(State.RELEASED, reason=reason)
        self._teller.emit("payment.rejected", reason=reason, status=status, stage="handler")

    async def _abandoned(self) -> None:
        if self._settling is not None:
            # Money may be on its way. Released now, the authorization could be claimed while it is being settled.
            await asyncio.wait({self._settling})
            if self.settlement is None:
                return
        await self._released(None, "cancelled")

    async def _undelivered(self, status: int | None) -> None:
        if self.settlement is not None:
            await self._note_settled(self.settlement)
        await self._note(State.SETTLED, lease=0)
        self._end_delivery(status, "undelivered")
        self._teller.emit("payment.undelivered", status=status, transaction=self._transaction())

    async def _delivered(self, status: int) -> None:
        if self.settlement is not None:
            await self._note_settled(self.settlement)
        await self._note(State.DELIVERED, response=self._kept())
        self._end_delivery(status)
        self._teller.emit("payment.delivered", status=status, transaction=self._transaction())

    def _kept(self) -> StoredResponse | None:
        keeping = self._keeping
        if keeping is None:
            return None
        known_by = keeping.known_by
        return self.capture.response(
            fingerprint=known_by.fingerprint, proof=known_by.proof, expires_at=self._desk.clock() + keeping.seconds
        )

    def _transaction(self) -> str | None:
        return self.settlement.transaction if self.settlement else None


def _settlement_from(record: Record) -> Settlement:
    return Settlement(
        payment_id=record.id,
        protocol=record.protocol,
        chain_id=record.chain_id,
        asset=record.asset,
        amount=record.value,
        payer=record.payer,
        recipient=record.recipient,
        transaction=record.transaction,
        settled_at=record.updated_at,
    )
