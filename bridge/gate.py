"""The gate: what happens to a request for a priced route. Read this first.

    request -> Gate.admit -> Free        let it through
                          -> Refused     send this answer instead
                          -> Admitted    run the handler; settle at its first successful byte; then it is delivered

Whatever protocol the client speaks, its credential becomes one `Payment`, passes one verifier, is claimed once in the
store, settled once by the settler, and is answered in the client's own words.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Coroutine
from contextlib import suppress
from time import perf_counter
from traceback import format_tb
from typing import Any, TypeVar

import structlog

from bridge.clock import Clock
from bridge.credentials import UnreadableCredential, read_credential
from bridge.events import Events
from bridge.request import PaidRequest
from bridge.responses import ChallengeContext, Headers, Responder, Response
from bridge.routes import PaidRoute, SettlePolicy
from bridge.settlers.base import Settler
from bridge.stores.base import ClaimLost, Record, Store
from bridge.verifier import Verified, Verifier
from translators.binding import body_digest
from translators.errors import (
    AlreadyUsed,
    MethodUnsupported,
    OutcomeUnknown,
    PaymentError,
    PaymentRequired,
    SettlementFailed,
    Unavailable,
)
from translators.lifecycle import State
from translators.payment import ChallengeBinding, Offer, Payment, Protocol, Resource, Settlement

__all__ = ["Admitted", "Free", "Gate", "Refused"]

T = TypeVar("T")

_REPLAYABLE_BODIES = ("application/json", "application/x-www-form-urlencoded", "text/")
"""Content types whose bytes a client sends again unchanged; a multipart body gets a new boundary each time."""


class Free:
    """Nothing to pay for this request."""


class Refused:
    """The request is answered with `response`, and the handler does not run."""

    __slots__ = ("response",)

    def __init__(self, response: Response) -> None:
        self.response = response


class Gate:
    """Admits requests to priced routes.

    `realm` is MPP's protection space, by default the public authority. `lease_seconds` is how long a claim outlives the
    process that held it. `body_limit` is in bytes; 0 binds no challenge to a body.
    """

    def __init__(
        self,
        *,
        verifier: Verifier,
        settler: Settler,
        store: Store,
        responder: Responder,
        events: Events,
        clock: Clock,
        realm: str | None,
        lease_seconds: float,
        body_limit: int,
    ) -> None:
        self.verifier = verifier
        self.settler = settler
        self.store = store
        self.responder = responder
        self.events = events
        self.clock = clock
        self.lease_seconds = lease_seconds
        self._realm = realm
        self._body_limit = body_limit
        self._at_work: set[asyncio.Task[Any]] = set()

    async def start(self, offers: list[Offer]) -> None:
        """Open the store and check that the settler can settle `offers`; raises where a priced route could not be."""
        await self.store.start()
        await self.settler.start(offers)

    async def close(self) -> None:
        """Let settlements in flight finish and be recorded, then close settler and store."""
        while self._at_work:
            await asyncio.wait(self._at_work)
        await self.settler.close()
        await self.store.close()

    async def admit(self, route: PaidRoute, request: PaidRequest) -> "Free | Refused | Admitted":
        """Decide about one request. What is refused cost the client nothing."""
        offers = route.offers if isinstance(route.offers, tuple) else await route.offers(request)
        if offers is None:
            return Free()
        attempt = Attempt(self, route, request, tuple(offers))
        try:
            presented = read_credential(request.headers)
        except UnreadableCredential as unreadable:
            return await attempt.refuse(unreadable.error, unreadable.protocol)
        if presented is None:
            return await attempt.challenge()
        try:
            if presented.protocol not in route.protocols:
                raise MethodUnsupported("this route does not take payments in this protocol")
            return await attempt.take(await attempt.verify(presented))
        except PaymentError as error:
            return await attempt.refuse(error, presented.protocol)

    def realm(self, request: PaidRequest) -> str:
        """The realm of a request's challenges."""
        return self._realm or request.authority

    def begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run `work` as a task of the gate's own, which `close` waits for and no request can cancel."""
        task = asyncio.ensure_future(work)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        return task

    async def digest_for(self, request: PaidRequest) -> str | None:
        """The digest to bind a challenge to, where the request has a body that the client can send again unchanged."""
        if not self._body_limit or request.method not in ("POST", "PUT", "PATCH"):
            return None
        if not (request.header(b"content-type") or "").lower().startswith(_REPLAYABLE_BODIES):
            return None
        body = await request.body(self._body_limit)
        return body_digest(body) if body else None


class Attempt:
    """One request's way through the gate, until it is refused or admitted."""

    def __init__(self, gate: Gate, route: PaidRoute, request: PaidRequest, offers: tuple[Offer, ...]) -> None:
        self.gate = gate
        self.route = route
        self.request = request
        self.offers = offers
        self.resource: Resource = route.resource(request.url)
        self.realm = gate.realm(request)
        self.bound_to = f"{request.method} {request.path}"
        self.started = perf_counter()
        self.verified: Verified | None = None
        self.unsettleable: PaymentError | None = None
        """Why the payment cannot be settled any more; it goes on only because the journal knows it already."""
        self.presented_id: str = secrets.token_urlsafe(12)

    def emit(self, event: str, **fields: Any) -> None:
        """Say what happened, with everything that is known of this payment."""
        known: dict[str, Any] = {"route": self.route.name, "correlation_id": self.presented_id}
        if self.verified is not None:
            payment = self.verified.payment
            known |= {
                "protocol": payment.protocol.value,
                "payer": payment.authorization.payer,
                "amount": str(payment.authorization.value),
                "asset": payment.asset,
                "network": f"eip155:{payment.chain_id}",
            }
        known["user_agent"] = self.request.header(b"user-agent")
        known["duration_ms"] = self.elapsed_ms()
        self.gate.events.emit(event, **(known | fields))

    def elapsed_ms(self) -> float:
        """Milliseconds since the request came."""
        return round((perf_counter() - self.started) * 1000, 3)

    async def challenge(self) -> Refused:
        """Ask for payment."""
        response = await self._response(PaymentRequired("this resource is paid for by request"), None)
        # An unpaid request says nothing of its client's protocol, unless it names MPP's preferences.
        says_mpp = self.request.header(b"accept-payment") is not None
        self.emit(
            "payment.challenged",
            protocol=Protocol.MPP.value if says_mpp else None,
            offered=sorted(protocol.value for protocol in self.route.protocols),
            amount=str(self.offers[0].amount),
            asset=self.offers[0].asset.address,
            network=f"eip155:{self.offers[0].asset.chain_id}",
        )
        return Refused(response)

    async def refuse(self, error: PaymentError, protocol: Protocol, *, unsettled: Payment | None = None) -> Refused:
        """Answer `error` in the client's own protocol."""
        # The detail is the client's; the event takes the reason, which is from a fixed list.
        response = await self._response(error, protocol, unsettled)
        event = "payment.unknown" if isinstance(error, OutcomeUnknown) else "payment.rejected"
        self.emit(event, protocol=protocol.value, reason=error.reason, problem=error.slug, status=response.status)
        return Refused(response)

    async def _response(
        self, error: PaymentError, protocol: Protocol | None, unsettled: Payment | None = None
    ) -> Response:
        # A fresh challenge has an id of its own: its payment is another one than the refused.
        correlation_id = self.presented_id if protocol is None else secrets.token_urlsafe(12)
        context = ChallengeContext(
            self.route,
            self.offers,
            self.resource,
            self.realm,
            self.bound_to,
            correlation_id,
            digest=await self.gate.digest_for(self.request),
            accept_payment=self.request.header(b"accept-payment"),
        )
        return self.gate.responder.refuse(error, context, protocol, unsettled)

    async def verify(self, presented: Any) -> Verified:
        """Check the credential, first without and then with the chain; raises a `PaymentError`."""
        verifier = self.gate.verifier
        verified = await verifier.check(presented, self.offers, self.request, self.resource, self.realm, self.bound_to)
        self.verified = verified
        self.presented_id = _correlation_id(verified.payment)
        try:
            await verifier.verify(verified, self.resource)
        except PaymentError as error:
            if not await self._is_known(verified):
                raise
            self.unsettleable = error
        return verified

    async def _is_known(self, verified: Verified) -> bool:
        """Whether the journal has this payment as settled and not delivered, or as on its way.

        Its nonce is then used because of us, so to say "already used" would make the client pay twice for one answer.
        Only for a signature that was checked here: of another, the chain's refusal is all that is known.
        """
        if not verified.is_proven:
            return False
        record = await self.gate.store.get(verified.payment.id)
        return record is not None and record.state in (State.SETTLING, State.UNKNOWN, State.SETTLED)

    async def take(self, verified: Verified) -> "Refused | Admitted":
        """Claim the payment, and settle it where the route settles first."""
        now = self.gate.clock()
        claim = await self.gate.store.claim(self._record(verified.payment, now), now=now)
        if not claim.won:
            raise _taken(claim.record)
        if claim.record.state is State.SETTLED:
            if claim.record.protocol is Protocol.MPP and verified.payment.protocol is not Protocol.MPP:
                # A settled authorization can be read off the chain, and an x402 credential holds nothing else. An MPP
                # credential holds the challenge's id as well, which only its payer knows: the answer waits for that.
                await self._give_back(claim.record, State.SETTLED)
                raise AlreadyUsed("this payment was made in another protocol")
        elif self.unsettleable is not None:
            # It went on for a row that is not there any more.
            await self._give_back(claim.record, State.RELEASED)
            raise self.unsettleable
        admitted = Admitted(self, verified, claim.record)
        self.emit("payment.verified")
        if self.route.settle is SettlePolicy.FIRST:
            try:
                refused = await admitted.settle_or_refuse()
            except asyncio.CancelledError:
                admitted.abandon()
                raise
            if refused is not None:
                return refused
        return admitted

    async def _give_back(self, record: Record, state: State) -> None:
        now = self.gate.clock()
        await self.gate.store.advance(record.id, state, owner=record.owner, now=now, lease_until=now)

    def _record(self, payment: Payment, now: float) -> Record:
        authorization = payment.authorization
        return Record(
            id=payment.id,
            state=State.CLAIMED,
            protocol=payment.protocol,
            route=self.route.name,
            correlation_id=self.presented_id,
            chain_id=payment.chain_id,
            asset=payment.asset,
            payer=authorization.payer,
            recipient=authorization.recipient,
            value=authorization.value,
            nonce=authorization.nonce,
            valid_after=authorization.valid_after,
            valid_before=authorization.valid_before,
            owner=secrets.token_hex(16),
            lease_until=now + self.gate.lease_seconds,
            created_at=now,
            updated_at=now,
        )


def _correlation_id(payment: Payment) -> str:
    """One id for all events of a payment: of its challenge where it has one, else of the authorization itself."""
    if isinstance(payment.binding, ChallengeBinding) and payment.binding.correlation_id is not None:
        return payment.binding.correlation_id
    return hashlib.sha256(payment.id.encode()).hexdigest()[:16]


def _taken(record: Record) -> PaymentError:
    """What to say of a payment that another request holds, or has used."""
    match record.state:
        case State.DELIVERED:
            return AlreadyUsed("this payment was used before")
        case State.UNKNOWN:
            return OutcomeUnknown("this payment's settlement is being looked into; send the same credential again")
        case _:
            return Unavailable("this payment is being worked on; send the same credential again", retry_after=1)


class Admitted:
    """A verified payment that this request alone holds.

    Call `settle_or_refuse` before the first byte of a success, `release` when there will be none, and `delivered` after
    the last byte; `hold` runs beside them.
    """

    def __init__(self, attempt: Attempt, verified: Verified, record: Record) -> None:
        self._attempt = attempt
        self._gate = attempt.gate
        self.payment = verified.payment
        self.offer = verified.offer
        self._record = record
        # A payment that was settled for a request which died before its answer is only delivered.
        self.settlement = _settlement_from(record) if record.state is State.SETTLED else None
        self._settling: asyncio.Task[Refused | None] | None = None
        self._writing = asyncio.Lock()
        """One change of the row after the other, so that `_record` is always the last."""
        self._concluded = False

    async def settle_or_refuse(self) -> Refused | None:
        """Settle, once; None when the money has moved, else the answer for the client.

        Cancelling the caller does not cancel the settlement: once begun, it is recorded and told like any other.
        """
        if self.settlement is not None:
            return None
        self._settling = self._gate.begin(self._settle_and_tell())
        return await asyncio.shield(self._settling)

    async def _settle_and_tell(self) -> Refused | None:
        began = perf_counter()
        try:
            settlement = await self._settle()
        except PaymentError as error:
            self._concluded = True
            unsettled = None if isinstance(error, Unavailable) else self.payment
            return await self._attempt.refuse(error, self.payment.protocol, unsettled=unsettled)
        self.settlement = settlement
        self._attempt.emit(
            "payment.settled",
            transaction=settlement.transaction,
            settle_ms=round((perf_counter() - began) * 1000, 3),
        )
        return None

    async def _settle(self) -> Settlement:
        try:
            settlement = await self._gate.settler.settle(
                self.payment, self.offer, self._attempt.resource, self._before_broadcast
            )
        except OutcomeUnknown as error:
            await self._note(State.UNKNOWN, reason=error.reason)
            raise
        except PaymentError as error:
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
            await self._note(State.UNKNOWN, reason="unexpected_settle_error")
            raise OutcomeUnknown("the settlement's outcome is not known; send the same credential again") from None
        # The money moved, so the answer is due even where the journal cannot say so yet.
        await self._note_settled(settlement)
        return settlement

    async def _note_settled(self, settlement: Settlement) -> None:
        """Tell the journal that the money moved, where it has not heard yet."""
        transaction = settlement.transaction or None
        if self._record.state is State.CLAIMED:
            # A settler that told nobody before it moved the money.
            await self._note(State.SETTLING, transaction=transaction)
        if self._record.state is State.SETTLING:
            await self._note(State.SETTLED, transaction=transaction)

    async def _before_broadcast(self, transaction: str) -> None:
        await self._advance(State.SETTLING, transaction=transaction or None)

    async def _note(
        self, to: State, *, transaction: str | None = None, reason: str | None = None, lease: float | None = None
    ) -> None:
        """Record what has happened already. A store that cannot take it is behind, and what happened stands.

        So whatever a store raises here ends here: the payer's answer does not depend on our books.
        """
        try:
            await self._advance(to, transaction=transaction, reason=reason, lease=lease)
        except Exception as error:
            structlog.get_logger("x402_mpp").error(
                "store.behind",
                payment_id=self.payment.id,
                state=to.value,
                transaction=transaction,
                error_type=type(error).__name__,
            )

    async def _advance(
        self, to: State, *, transaction: str | None = None, reason: str | None = None, lease: float | None = None
    ) -> None:
        async with self._writing:
            await self._write(to, transaction, reason, self._gate.lease_seconds if lease is None else lease)

    async def _write(self, to: State, transaction: str | None, reason: str | None, lease: float) -> None:
        now = self._gate.clock()
        self._record = await self._gate.store.advance(
            self.payment.id,
            to,
            owner=self._record.owner,
            now=now,
            lease_until=now + lease,
            transaction=transaction,
            reason=reason,
        )

    async def hold(self) -> None:
        """Renew the claim for as long as the answer is on its way, which may be longer than a lease.

        Without this the same credential could start a second one meanwhile.
        """
        while not self._concluded:
            await asyncio.sleep(self._gate.lease_seconds / 3)
            # A store that is away now may be back before the lease is over; a claim that is lost stays lost.
            with suppress(Exception):
                async with self._writing:
                    if not self._concluded:
                        await self._write(self._record.state, None, None, self._gate.lease_seconds)

    def receipt(self, status: int) -> Headers:
        """The headers that tell the payer what was settled; empty before it was."""
        if self.settlement is None:
            return []
        return self._gate.responder.receipt(self.settlement, self.payment, status)

    async def release(self, status: int) -> None:
        """The handler did not succeed. Unsettled, the payer keeps the money; settled, the same credential may retry."""
        await self._conclude(self._released(status, "handler_failed"))

    async def broken_off(self, status: int) -> None:
        """The answer began and did not end: settled, not delivered, and the same credential may ask again."""
        await self._conclude(self._undelivered(status))

    async def delivered(self, status: int) -> None:
        """The last byte was handed over."""
        await self._conclude(self._delivered(status))

    def abandon(self) -> None:
        """The request was cancelled: what became of its payment is recorded without it."""
        self._concluded = True
        self._gate.begin(self._abandoned())

    async def _conclude(self, work: Coroutine[Any, Any, None]) -> None:
        self._concluded = True
        await asyncio.shield(self._gate.begin(work))

    async def _released(self, status: int | None, reason: str) -> None:
        if self.settlement is not None:
            await self._undelivered(status)
            return
        await self._note(State.RELEASED, reason=reason)
        self._attempt.emit("payment.rejected", reason=reason, status=status)

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
        self._attempt.emit("payment.undelivered", status=status, transaction=self._transaction())

    async def _delivered(self, status: int) -> None:
        if self.settlement is not None:
            await self._note_settled(self.settlement)
        await self._note(State.DELIVERED)
        self._attempt.emit("payment.delivered", status=status, transaction=self._transaction())

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
