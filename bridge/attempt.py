"""One request's way through the gate: its credential checked, its payment claimed, or found to be paid already."""

import asyncio
import hashlib
from functools import lru_cache, partial
from time import perf_counter
from typing import Any

import msgspec
from msgspec.structs import replace

from bridge.admitted import Admitted, Desk, Keeping, Refused
from bridge.credentials import PresentedCredential
from bridge.events import Events, payment_digest
from bridge.idempotency import IdempotencyKeys
from bridge.levers.board import LeverBoard
from bridge.levers.entrance import Entrance
from bridge.levers.shadow import Shadow
from bridge.randomness import fresh_id, fresh_owner
from bridge.reconciler import Reconciler, Verdict
from bridge.replays import Recognition, idempotency_key
from bridge.request import PaidRequest
from bridge.responses import ChallengeContext, Response
from bridge.routes import PaidRoute, SettlePolicy
from bridge.stores.base import ClaimLost, Record
from bridge.tracing import NO_TRACE, Step, step
from bridge.verifier import Verified, Verifier
from translators.binding import body_digest
from translators.errors import (
    AlreadyUsed,
    IdempotencyConflict,
    OutcomeUnknown,
    PaymentError,
    Unavailable,
)
from translators.lifecycle import State
from translators.payment import ChallengeBinding, Offer, Payment, Protocol, Resource, network_of

__all__ = ["Attempt", "Means", "Replayed", "correlation_id_of", "digest_for"]

_REPLAYABLE_BODIES = ("application/json", "application/x-www-form-urlencoded", "text/")
"""Content types whose bytes a client sends again unchanged; a multipart body gets a new boundary each time."""


class Replayed:
    """The request was paid and answered before: `response` is that answer."""

    __slots__ = ("response",)

    def __init__(self, response: Response) -> None:
        self.response = response


class Means(msgspec.Struct, frozen=True):
    """What every attempt works with; the limits are `bridge.gate.Gate`'s."""

    verifier: Verifier
    desk: Desk
    events: Events
    reconciler: Reconciler
    keys: IdempotencyKeys
    realm: str | None
    body_limit: int
    wait_seconds: float
    replay_seconds: float
    replay_bytes: int
    board: LeverBoard | None = None
    """None: no lever was ever touched, and every protocol of a route is on."""
    shadow: Shadow | None = None


async def digest_for(request: PaidRequest, body_limit: int) -> str | None:
    """The digest to bind a challenge to, where the request has a body that the client can send again unchanged."""
    if not body_limit or request.method not in ("POST", "PUT", "PATCH"):
        return None
    if not (request.header(b"content-type") or "").lower().startswith(_REPLAYABLE_BODIES):
        return None
    body = await request.body(body_limit)
    return body_digest(body) if body else None


class Attempt:
    """One request's way through the gate, until it is refused or admitted."""

    def __init__(self, means: Means, route: PaidRoute, request: PaidRequest, offers: tuple[Offer, ...]) -> None:
        self.means = means
        self.route = route
        self.request = request
        self.offers = offers
        self.entrance = Entrance(means.board, route, request)
        self.resource: Resource = route.resource(request.url)
        self.realm = means.realm or request.authority
        self.bound_to = f"{request.method} {request.path}"
        self.trace = means.desk.tracing.request(route.name, request.method)
        self.started = perf_counter()
        self.verified: Verified | None = None
        self.unsettleable: PaymentError | None = None
        """Why the payment cannot be settled any more; it goes on only because the journal knows it already."""
        self._presented_id: str | None = None
        self._known: dict[str, Any] | None = None
        self._stage = "read"
        """How far the request has got: `read`, `verify`, `claim` or `settle`."""
        self._held_id: str | None = None
        """The payment that this request holds: an idempotency key may stand for an earlier one than it came with."""

    @property
    def presented_id(self) -> str:
        """What ties the events of this request together: the payment's, once it is known."""
        if self._presented_id is None:
            self._presented_id = fresh_id()
        return self._presented_id

    def emit(self, event: str, **fields: Any) -> None:
        """Say what happened, with everything that is known of this payment."""
        if not self.means.events.hears(event):
            return
        if self._known is None:
            self._known = self._fields()
        told = {**self._known, "duration_ms": self.elapsed_ms(), **fields}
        if event in ("payment.rejected", "payment.unknown"):
            told.setdefault("stage", self._stage)
        self.means.events.tell(event, told)

    def _fields(self) -> dict[str, Any]:
        """What every event of this request says."""
        known: dict[str, Any] = {
            "route": self.route.name,
            "correlation_id": self.presented_id,
            "user_agent": self.request.user_agent,
        }
        if self.verified is not None:
            payment = self.verified.payment
            payment_id = payment.id
            known |= {
                "payment": payment_digest(self._held_id or payment_id),
                "protocol": payment.protocol.value,
                "payer": payment.authorization.payer,
                "amount": str(payment.authorization.value),
                "asset": payment.asset,
                "network": network_of(payment_id),
            }
            if payment.foreign is not None:
                known |= {"payer": payment.authorization.payer or None, "scheme": payment.foreign.scheme}
                known["x402_only"] = True
        return known

    def _hold(self, payment_id: str) -> None:
        """What happens from now on, happens to this payment."""
        self._held_id = payment_id
        self._known = None

    def elapsed_ms(self) -> float:
        """Milliseconds since the request came."""
        return round((perf_counter() - self.started) * 1000, 3)

    async def challenge(self) -> Refused:
        """Ask for payment."""
        digest = await digest_for(self.request, self.means.body_limit)
        response = self.means.desk.responder.ask(self._context(self.presented_id, digest, None))
        # An unpaid request says nothing of its client's protocol, unless it names MPP's preferences.
        says_mpp = self.request.header(b"accept-payment") is not None
        self.emit(
            "payment.challenged",
            protocol=Protocol.MPP.value if says_mpp else None,
            offered=list(_names(self.entrance.doors.offered)),
            amount=str(self.offers[0].amount),
            asset=self.offers[0].asset.address,
            network=self.offers[0].network,
        )
        return Refused(response)

    async def refuse(self, error: PaymentError, protocol: Protocol, *, unsettled: Payment | None = None) -> Refused:
        """Answer `error` in the client's own protocol."""
        self.entrance.came_in(protocol, self.verified.payment.authorization.payer if self.verified is not None else "")
        # The detail is the client's; the event takes the reason, which is from a fixed list.
        response = await self._response(error, protocol, unsettled)
        event = "payment.unknown" if isinstance(error, OutcomeUnknown) else "payment.rejected"
        self.emit(event, protocol=protocol.value, reason=error.reason, problem=error.slug, status=response.status)
        return Refused(response)

    async def _response(self, error: PaymentError, protocol: Protocol, unsettled: Payment | None = None) -> Response:
        # A fresh challenge has an id of its own: its payment is another one than the refused.
        context = self._context(fresh_id(), await digest_for(self.request, self.means.body_limit), protocol)
        return self.means.desk.responder.refuse(error, context, protocol, unsettled)

    def _context(self, correlation_id: str, digest: str | None, protocol: Protocol | None) -> ChallengeContext:
        return ChallengeContext(
            self.route,
            self.entrance.doors,
            self.offers,
            self.resource,
            self.realm,
            self.bound_to,
            correlation_id,
            digest=digest,
            accept_payment=self.request.header(b"accept-payment"),
            notice=self.entrance.notice(protocol),
            migration=self.entrance.migration,
        )

    async def verify(self, presented: PresentedCredential) -> None:
        """Check the credential, first without and then with the chain; raises a `PaymentError`."""
        if self.trace is NO_TRACE:
            await self._verify(presented, None)
            return
        with step(self.trace, "payment.verify") as verifying:
            verifying.note(x402_mpp__protocol=presented.protocol.value)
            await self._verify(presented, verifying)

    async def _verify(self, presented: PresentedCredential, verifying: Step | None) -> None:
        self._stage = "verify"
        verifier = self.means.verifier
        is_shut = await self.entrance.is_shut(presented.protocol)
        try:
            verified = await verifier.check(
                presented, self.offers, self.request, self.resource, self.realm, self.bound_to
            )
        except PaymentError as error:
            if isinstance(error, Unavailable):
                raise
            if not is_shut:
                self._cast_shadow(presented, error)
                raise
            # What is wrong with it is of no use to a client that has to change its protocol.
            raise self.entrance.refusal(presented.protocol) from None
        self.verified = verified
        self._presented_id = correlation_id_of(verified.payment)
        self._known = None
        if verifying is not None:
            verifying.note(
                x402_mpp__correlation_id=self.presented_id,
                x402_mpp__payer=verified.payment.authorization.payer,
                x402_mpp__network=verified.payment.network,
                x402_mpp__asset=verified.payment.asset,
                x402_mpp__amount=str(verified.payment.authorization.value),
            )
        if is_shut and not self.entrance.was_asked_in_time(verified, self.means.desk.clock()):
            await self._check_paid(verified.payment)
        try:
            await verifier.verify(verified, self.resource)
        except PaymentError as error:
            # Its nonce may be used because of us: to say "already used" would make the client pay twice.
            record = await self.means.desk.store.get(verified.payment.id)
            if record is None or not self._is_in_hand(record):
                raise
            if verified.payment.foreign is not None and record.nonce != verified.payment.authorization.nonce:
                # Nobody has judged this proof, and it is not the one that was judged when the payment was claimed.
                raise
            self.unsettleable = error
        else:
            self._cast_shadow(presented, None)

    async def _check_paid(self, payment: Payment) -> None:
        """Raise for a payment in a shut protocol that nobody has made yet: no lever takes back what was paid for."""
        record = await self.means.desk.store.get(payment.id)
        if record is None or record.state is State.RELEASED:
            key = idempotency_key(self.request, payment)
            if key is None or not await self.means.keys.is_paid(key):
                raise self.entrance.refusal(payment.protocol)

    def _cast_shadow(self, presented: PresentedCredential, refusal: PaymentError | None) -> None:
        """Try MPP out on this payment, or on what was refused, where the owner wants to know before he offers it."""
        shadow = self.means.shadow
        if shadow is None or presented.protocol is Protocol.MPP or not self.entrance.has_shadow:
            return
        context = self._context(fresh_id(), None, None)
        tell = partial(self.emit, protocol=presented.protocol.value)
        if refusal is not None:
            shadow.begin_refused(presented, refusal, context, tell)
        elif self.verified is not None:
            shadow.begin(self.verified.payment, self.verified.offer, context, tell)

    def _is_in_hand(self, record: Record) -> bool:
        """Whether a payment was handed over to be settled, or is about to be by a request that holds it now."""
        if record.state is State.CLAIMED:
            return record.lease_until > self.means.desk.clock()
        return record.state is not State.RELEASED

    async def take(self, presented: PresentedCredential) -> "Refused | Replayed | Admitted":
        """Claim the payment, and settle it where the route settles first; or find what came of it before."""
        assert self.verified is not None
        self._stage = "claim"
        payment = self.verified.payment
        key = idempotency_key(self.request, payment)
        body = await self.request.body(max(self.means.body_limit, self.means.replay_bytes))
        known_by = Recognition(self.request, payment, presented.token, key, body)
        payment_id = own_id = payment.id

        patience: Patience | None = None
        while True:
            held: Record | PaymentError
            try:
                found: str | PaymentError = own_id
                if key is not None:
                    found = await self.means.keys.payment_for(key, own_id, known_by.fingerprint)
                if isinstance(found, str):
                    payment_id = found
                    held = await self._claim(payment_id)
                else:
                    held = found
                if key is not None and isinstance(held, Record) and held.state is State.CLAIMED:
                    held = await self.means.keys.confirm(key, known_by.fingerprint, held)
            except ClaimLost:
                # Between two writes another request, or a reconciler, took what this one had just looked into.
                held = Unavailable("this payment is being worked on; send the same credential again", retry_after=1)
            if isinstance(held, AlreadyUsed):
                return await self._replay(payment_id, known_by)
            if isinstance(held, Record):
                break
            patience = patience or Patience(self.means.wait_seconds)
            if not await patience.wait():
                raise held
        self._stage = "settle"
        self._hold(payment_id)
        keeping = None
        if body is not None:
            keeping = Keeping(known_by, self.means.replay_seconds, self.means.replay_bytes)
        return await self._admit(Admitted(self, self.means.desk, self.verified, held, keeping))

    async def _admit(self, admitted: Admitted) -> "Refused | Admitted":
        self.emit("payment.verified")
        payment = admitted.payment
        self.entrance.remember(payment.authorization.payer, payment.protocol)
        admitted.notice = self.entrance.notice(payment.protocol)
        if self.route.settle is SettlePolicy.FIRST:
            # A settlement may take longer than a lease, and a second worker would do the route's work again.
            admitted.hold()
            try:
                refused = await admitted.settle_or_refuse()
            except asyncio.CancelledError:
                admitted.abandon()
                raise
            finally:
                admitted.let_go()
            if refused is not None:
                return refused
        return admitted

    async def _claim(self, payment_id: str) -> Record | PaymentError:
        """The row, when this request holds it now; else why not, for now (`Unavailable`) or for good (`AlreadyUsed`).

        Raises what makes this payment one to refuse.
        """
        assert self.verified is not None
        now = self.means.desk.clock()
        record = self._record(self.verified.payment, now)
        if payment_id != record.id:
            return await self._claim_earlier(payment_id, record, now)
        claim = await self.means.desk.store.claim(record, now=now)
        if not claim.won:
            return await self._take_over(claim.record, now)
        if claim.record.state is State.CLAIMED and self.unsettleable is not None:
            # It went on for a row that is not there any more.
            await self._give_back(claim.record, State.RELEASED)
            raise self.unsettleable
        return await self._check_protocol(claim.record)

    async def _claim_earlier(self, payment_id: str, record: Record, now: float) -> Record | PaymentError:
        """The payment that an idempotency key stands for: this one is left untouched, and nobody is charged twice."""
        earlier = await self.means.desk.store.get(payment_id)
        if earlier is None or earlier.state in (State.CLAIMED, State.RELEASED):
            return Unavailable("a request with this idempotency key is being worked on", retry_after=1)
        claim = await self.means.desk.store.claim(
            replace(earlier, state=State.CLAIMED, owner=record.owner, lease_until=record.lease_until), now=now
        )
        return claim.record if claim.won else await self._take_over(claim.record, now)

    async def _check_protocol(self, record: Record) -> Record:
        """Give a settled payment to nobody who may only have read it off the chain.

        There stands all that an x402 credential holds. An MPP credential holds its challenge's id as well, which only
        its payer knows: the answer waits for that.
        """
        assert self.verified is not None
        own = self.verified.payment.protocol
        if record.state is State.SETTLED and record.protocol is Protocol.MPP and own is not Protocol.MPP:
            await self._give_back(record, State.SETTLED)
            raise AlreadyUsed("this payment was made in another protocol")
        return record

    async def _take_over(self, record: Record, now: float) -> Record | PaymentError:
        """What to do about a payment that another request holds, has used, or has left behind."""
        if record.state is State.DELIVERED:
            return AlreadyUsed("this payment was used before")
        if record.state in (State.SETTLING, State.UNKNOWN):
            rows = await self.means.desk.store.take_over(
                owner=fresh_owner(),
                now=now,
                lease_until=now + self.means.desk.lease_seconds,
                payment_id=record.id,
            )
            if rows:
                return await self._look_into(rows[0])
            if record.state is State.UNKNOWN:
                return OutcomeUnknown("this payment's settlement is being looked into; send the same credential again")
        return Unavailable("this payment is being worked on; send the same credential again", retry_after=1)

    async def _look_into(self, record: Record) -> Record | PaymentError:
        """Find out what became of a payment that was left behind, and hold it where it can still be settled."""
        resolution = await self.means.reconciler.resolve(record)
        now = self.means.desk.clock()
        assert self.verified is not None
        # Its own authorization can be handed over again: whatever came of the first time, it moves money once.
        is_own = record.id == self.verified.payment.id and self.unsettleable is None
        proof = self.verified.payment.foreign
        if is_own and (proof is None or proof.moves_once) and resolution.verdict in (Verdict.OPEN, Verdict.UNKNOWABLE):
            return await self.means.desk.store.advance(
                record.id,
                resolution.record.state,
                owner=record.owner,
                now=now,
                lease_until=now + self.means.desk.lease_seconds,
            )
        if resolution.verdict in (Verdict.SETTLED, Verdict.RELEASED):
            # The row can be claimed now, by whoever asks first.
            return Unavailable("this payment is being worked on; send the same credential again", retry_after=1)
        raise OutcomeUnknown("this payment's outcome is not known yet; send the same credential again")

    async def _replay(self, payment_id: str, known_by: Recognition) -> Replayed:
        """The answer that this very request got before; raises where it is not kept, or not for this client."""
        assert self.verified is not None
        kept = await self.means.desk.store.response(payment_id, now=self.means.desk.clock())
        if kept is None or kept.fingerprint != known_by.fingerprint or kept.proof != known_by.proof:
            if payment_id != self.verified.payment.id:
                raise IdempotencyConflict("the answer to this idempotency key is not kept any more")
            raise AlreadyUsed("this payment was used before")
        self._hold(payment_id)
        self.emit("payment.replayed", status=kept.status)
        notice = self.entrance.notice(self.verified.payment.protocol)
        return Replayed(Response(kept.status, [*kept.headers, *notice], kept.body, kept.trailers))

    async def _give_back(self, record: Record, state: State) -> None:
        now = self.means.desk.clock()
        await self.means.desk.store.advance(record.id, state, owner=record.owner, now=now, lease_until=now)

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
            owner=fresh_owner(),
            lease_until=now + self.means.desk.lease_seconds,
            created_at=now,
            updated_at=now,
        )


@lru_cache(maxsize=64)
def _names(protocols: tuple[Protocol, ...]) -> tuple[str, ...]:
    return tuple(sorted(protocol.value for protocol in protocols))


def correlation_id_of(payment: Payment) -> str:
    """One id for all events of a payment: of its challenge where it has one, else of the authorization itself."""
    if isinstance(payment.binding, ChallengeBinding) and payment.binding.correlation_id is not None:
        # Behind the dot stands which of the 402's challenges it was.
        return payment.binding.correlation_id.partition(".")[0]
    return hashlib.sha256(payment.id.encode()).hexdigest()[:16]


class Patience:
    """How long a request waits for another one: a little at first, then longer, `seconds` in all."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._step = 0.02

    async def wait(self) -> bool:
        """Wait a while; false when there is no more time to."""
        if self._left <= 0:
            return False
        step = min(self._step, self._left)
        await asyncio.sleep(step)
        self._left -= step
        self._step = min(self._step * 1.5, 0.5)
        return True
