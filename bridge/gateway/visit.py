"""One request at the gateway: whether it pays, in whose words, and what becomes of it.

no credential                        -> pass on; complete a 402
in the upstream's version of x402    -> pass on as it is, claimed where its payer is proven
in another protocol                  -> the gate: verify, claim, pass on translated, answer in the client's words
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from bridge.asgi import Delivery, send_response
from bridge.attempt import Replayed, digest_for
from bridge.credentials import PresentedCredential, UnreadableCredential, read_credential
from bridge.gate import Admitted, Free, Refused
from bridge.gateway import documents, problems
from bridge.gateway.challenges import Moment
from bridge.gateway.demands import Asked
from bridge.gateway.exchange import Exchange, Refusal
from bridge.gateway.forward import Answer, Body, TooLarge, Unanswered, Unreached, relay
from bridge.gateway.headers import Headers, allowing_payments, without
from bridge.gateway.hop import Hop
from bridge.gateway.native import as_asked, read_native
from bridge.gateway.parts import Parts
from bridge.gateway.sealed import read_sealed
from bridge.gateway.told import Told
from bridge.gateway.upstreams import Upstream
from bridge.gateway.websocket import pass_through
from bridge.levers.entrance import Entrance
from bridge.randomness import fresh_id
from bridge.responses import Notice, failed_receipt, lever_headers, lever_members, plain_refusal
from bridge.routes import ALL_PROTOCOLS, PaidRoute, SettlePolicy
from bridge.trailers import takes_trailers
from bridge.verifier import Verified
from translators.errors import IdempotencyConflict, PaymentError, ProtocolRefused, Unavailable
from translators.payment import Offer, Protocol
from translators.upstream import Demand, Terms, is_paid_by, longest_timeout

__all__ = ["Visit"]

_VERSION = {Protocol.X402_V1: 1, Protocol.X402_V2: 2}
_PROTOCOL = {1: Protocol.X402_V1, 2: Protocol.X402_V2}
_RECEIPTS = frozenset((b"payment-response", b"x-payment-response"))
_ASK_AS_BEFORE = IdempotencyConflict(
    "this idempotency key was paid for, and its answer failed: send the credential again that came with it first"
)


class Visit:
    """One request for `upstream`. `path` is the request's, as it was sent and without where the gateway is mounted."""

    notice: Notice = ()
    """What every answer says besides, because the request's protocol will end here."""
    _came_in: Protocol | None = None
    """The protocol of the request's credential."""

    def __init__(self, parts: Parts, upstream: Upstream, path: str, scope: Any, receive: Any, send: Any) -> None:
        self._parts = parts
        self._upstream = upstream
        self._scope = scope
        self._send = send
        self._hop = Hop(parts, upstream, path, scope, receive)
        self.request = self._hop.request
        self._route = f"{self.request.method} {self.request.path}"
        self._told = Told(parts.events, self.request, self._route)
        self._is_document = documents.is_document(self.request.method, path)
        if self._is_document:
            self._hop.leave_out(documents.CONDITIONS)

    async def run(self) -> None:
        """Answer it. Raises `Unreached`, `Unanswered`, `TooLarge` or `ClientGone` where the upstream does not."""
        self._hop.check_announced()
        try:
            presented = read_credential(self._scope["headers"])
        except UnreadableCredential as unreadable:
            self._comes_in(unreadable.protocol)
            await self._unreadable(unreadable)
            return
        if presented is None:
            await self._answer(await self._hop.pass_on(None, once=False))
            return
        self._comes_in(presented.protocol)
        if presented.protocol is Protocol.MPP:
            await self._mpp(presented)
        else:
            await self._x402(presented)

    def _comes_in(self, protocol: Protocol) -> None:
        levers = self._parts.levers
        if levers.is_set:
            self._came_in, self.notice = protocol, levers.notice(self._route, self.request, protocol)

    async def websocket(self) -> None:
        """Pass a WebSocket through. Nothing is charged for one, though the upstream may decline it unpaid."""
        hop, seconds = self._hop, self._parts.config.timeout
        await pass_through(
            self._upstream, hop.target, hop.headers, self._scope, self.request.receive, self._send, seconds=seconds
        )

    # No credential

    async def _answer(self, answer: Answer) -> None:
        """Send an answer on, a 402 with what it lacks."""
        if self.request.method == "OPTIONS":
            answer.headers = allowing_payments(answer.headers)
        if answer.status != 402:
            if self._is_document:
                await self._describe(answer)
            await self._relay(answer)
            return
        asked = await self._hop.read(answer)
        if isinstance(asked, Answer):
            await self._relay(asked)
            return
        correlation_id = fresh_id()
        moment, entrance = await self._moment(correlation_id), self._entrance(asked.demand)
        headers, body = self._parts.challenger.complete(asked, self._hop.place, moment, entrance=entrance)
        hidden: Collection[Protocol] = ()
        if entrance is not None:
            hidden = ALL_PROTOCOLS.difference(entrance.doors.offered)
            headers += self.notice or entrance.notice(None)
        self._told.challenged(asked.demand, headers, correlation_id, _spoken(asked.demand), hidden)
        await self._send_402(answer, headers, body)

    def _entrance(self, demand: Demand, payer: str = "") -> Entrance | None:
        """What the levers leave of a 402 for this client, and `payer` where he is known; None where all of it stays."""
        levers = self._parts.levers
        if not levers.is_set:
            return None
        entrance = levers.entrance(self._route, self.request, demand)
        if not entrance.is_levered:
            return None
        if self._came_in is not None:
            entrance.came_in(self._came_in, payer)
        return entrance

    async def _relay(self, answer: Answer) -> None:
        if self.notice:
            answer.headers = [*answer.headers, *self.notice]
        await relay(answer, self._send, self.request.receive, trails=takes_trailers(self._scope))

    async def _describe(self, answer: Answer) -> None:
        """Put what is paid into the upstream's document."""
        hop, upstream, parts = self._hop, self._upstream, self._parts
        prefix = upstream.prefix if upstream.replaces else ""

        def seen() -> Iterable[tuple[str, str, Demand]]:
            for method, path, demand in parts.learned.all(upstream):
                yield method, path.removeprefix(hop.mounted_at + prefix), demand

        async def ask(path: str) -> None:
            asked = await hop.elsewhere(prefix + path).probe()
            await (asked if isinstance(asked, Answer) else asked.answer).close()

        def protocols(demand: Demand) -> frozenset[Protocol]:
            return parts.adds | {_PROTOCOL[version] for version in demand.versions}

        public = hop.place.public if upstream.replaces else self.request.origin + hop.mounted_at
        own = upstream.own if upstream.replaces else upstream.origin
        await documents.describe(answer, seen, ask, protocols, (own, public))

    async def _moment(self, correlation_id: str) -> Moment:
        config, request = self._parts.config, self.request
        return Moment(
            config.realm or request.authority,
            self._route,
            correlation_id,
            await digest_for(request, config.bind_body_bytes),
            request.header(b"accept-payment"),
        )

    async def _send_402(self, answer: Answer, headers: Headers, body: bytes | None) -> None:
        """Send a completed 402, with the upstream's body where that stays."""
        if body is None:
            answer.headers = headers
            await relay(answer, self._send, self.request.receive, trails=takes_trailers(self._scope))
            return
        await answer.close()
        if self.request.method == "HEAD":
            # How long the body of a GET's 402 would be is not known.
            headers, body = [item for item in headers if item[0] != b"content-length"], b""
        await self._send({"type": "http.response.start", "status": 402, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    # A credential

    async def _unreadable(self, unreadable: UnreadableCredential) -> None:
        error, protocol = unreadable.error, unreadable.protocol
        self._told.refused(error, protocol, _status(error, protocol), "read")
        await self._refuse(Refusal(error, protocol), None, is_native=False)

    async def _mpp(self, presented: PresentedCredential) -> None:
        found = read_sealed(presented.token, self._parts.keys)
        if found is not None:
            genuine, terms = found
            # Looked into once: the gate's verifier has the same keys.
            presented = PresentedCredential(presented.protocol, presented.token, genuine)
            # The challenge says what the upstream asked: it need not be asked again.
            demand = self._parts.learned.demand(self._upstream, self.request.method, self.request.path)
            await self._through_gate(presented, [terms], _PROTOCOL[terms.version], None, demand)
            return
        asked = await self._hop.probe()
        if isinstance(asked, Answer):
            await self._answer(asked)
        elif asked.demand.has_mpp:
            # Not ours: an upstream that takes MPP payments of its own gets what is meant for it.
            if not await self._turned_away(presented.protocol, asked.demand, self._parts.config.challenge_seconds):
                await self._answer(await self._hop.pass_on(None))
        else:
            await self._through_gate(presented, asked.demand.terms, _spoken(asked.demand), asked, asked.demand)

    async def _x402(self, presented: PresentedCredential) -> None:
        parts, request = self._parts, self.request
        demand = parts.learned.demand(self._upstream, request.method, request.path)
        versions = demand.versions if demand is not None else parts.learned.versions(self._upstream)
        asked: Asked | None = None
        hedged = request.header(b"x-payment") is not None and request.header(b"payment-signature") is not None
        version = _VERSION[presented.protocol]
        crosses = versions is not None and version not in versions
        shut = parts.levers.shut(self._route, request)
        if hedged and not shut.isdisjoint(_VERSION):
            # The upstream would choose between the two, and may choose what is shut: it gets the one that was read.
            self._hop.leave_out((b"x-payment",))
            hedged = False
        is_unknown = versions is None or (demand is None and presented.protocol in shut)
        if not hedged and (is_unknown or (crosses and not _fits(presented, demand))):
            found = await self._hop.probe()
            if isinstance(found, Answer):
                if found.status == 402 or isinstance(await self._hop.body(), Body):
                    # Nothing that can be read, or not an answer to this request: the upstream knows better.
                    await found.close()
                    await self._answer(await self._hop.pass_on(None))
                else:
                    # Free, or refused for a reason of its own; asked twice, it might do its work twice.
                    await self._answer(found)
                return
            asked, demand = found, found.demand
            crosses = version not in demand.versions
        if hedged or not crosses:
            await self._native(presented, demand)
        else:
            assert demand is not None
            await self._through_gate(presented, demand.terms, _spoken(demand), asked, demand)

    async def _native(self, presented: PresentedCredential, demand: Demand | None) -> None:
        self._hop.restore_url()
        offers = [terms.offer for terms in demand.terms] if demand is not None else []
        verified = read_native(presented, offers)
        if verified is not None:
            if self._parts.levers.is_set:
                verified = as_asked(verified, demand)
            await self._through_gate(presented, None, presented.protocol, None, demand, verified)
            return
        if await self._turned_away(presented.protocol, demand, longest_timeout(demand) if demand is not None else 0):
            return
        answer = await self._hop.pass_on(None)
        self._told.passed(presented.protocol, answer.status)
        await self._answer(answer)

    async def _turned_away(self, protocol: Protocol, demand: Demand | None, seconds: float) -> bool:
        """Refuse a payment that nobody here can claim, where its protocol is shut and was when it was asked for.

        `seconds` is how long the upstream gives it to be paid.
        """
        levers = self._parts.levers
        if not levers.is_set:
            return False
        entrance = levers.entrance(self._route, self.request, demand, protocol)
        is_shut = await entrance.is_shut(protocol)
        self.notice = entrance.notice(protocol)
        if not is_shut or entrance.is_in_time(protocol, seconds, self._parts.clock()):
            return False
        error = entrance.refusal(protocol)
        levered = lever_members(error, entrance.doors, entrance.migration, protocol)
        self._told.refused(error, protocol, _status(error, protocol), "verify")
        await self._refuse(Refusal(error, protocol, levered=levered), None, is_native=False)
        return True

    async def _through_gate(
        self,
        presented: PresentedCredential,
        terms: Iterable[Terms] | None,
        upstream_protocol: Protocol,
        asked: Asked | None,
        demand: Demand | None,
        verified: Verified | None = None,
    ) -> None:
        """Let the gate decide about a payment. `terms` are None for one that the upstream verifies (`verified`)."""
        parts = self._parts
        terms_of: Mapping[Offer, Terms] | None = {t.offer: t for t in terms} if terms is not None else None
        exchange = Exchange(
            terms=terms_of,
            protocol=upstream_protocol,
            pass_on=self._hop.pass_on,
            read=self._hop.read,
            chain=parts.chain,
            responder=parts.responder,
            events=parts.events,
            clock=parts.clock,
        )
        offers = (verified.offer,) if verified is not None else tuple(terms_of or ())
        # Its own version is the upstream's to take or not.
        takes = ALL_PROTOCOLS if verified is not None else parts.takes[upstream_protocol]
        route, board = PaidRoute(self._route, offers, SettlePolicy.FIRST, takes), None
        if parts.levers.is_set:
            may = takes & {presented.protocol}
            route, board = parts.levers.route(self._route, offers, demand, upstream_protocol, *may)
        means = parts.means_for(exchange, verified, board, demand)
        match await parts.gate.admit(route, self.request, presented, means):
            case Replayed() as replayed:
                trails = takes_trailers(self._scope)
                await send_response(self._send, replayed.response, self.request.method, trails=trails)
            case Admitted() as admitted:

                async def deliver(scope: Any, receive: Any, send: Any) -> None:
                    await self._deliver(exchange, admitted, send)

                await Delivery(admitted, self._send, self.request.method).run(
                    deliver, self._scope, self.request.receive
                )
            case Refused():
                await self._refused(exchange, asked)
            case Free():
                raise AssertionError("a payment is never free")

    async def _deliver(self, exchange: Exchange, admitted: Admitted, send: Any) -> None:
        """Send the answer that was paid for; of a payment that was settled for an earlier request, ask for it again."""
        answer = exchange.answer
        if answer is None:
            settled = admitted.settlement
            if settled is not None and settled.payment_id != admitted.payment.id:
                # An idempotency key stands for that one. Handed over, this one would be settled as well.
                await send_response(send, plain_refusal(_ASK_AS_BEFORE, admitted.payment.protocol), self.request.method)
                return
            try:
                answer = await exchange.hand_over(admitted.payment, admitted.offer)
            except (Unreached, Unanswered, TooLarge) as error:
                await send_response(send, problems.for_error(error), self.request.method)
                return
        if answer.status == 402:
            await answer.close()
            self._told.unserved(exchange, admitted)
            await send_response(send, problems.PAID_UNSERVED, self.request.method)
            return
        if not exchange.is_native:
            answer.headers = without(answer.headers, _RECEIPTS, mpp=False)
        # The upstream sells it once. What can be kept is kept, though its client leaves: he may come back for it.
        capture, seconds = admitted.capture, self._parts.config.timeout
        trails, receive = takes_trailers(self._scope), self.request.receive
        await relay(answer, send, receive, trails=trails, keeps=lambda: capture.fits, patience=seconds)

    async def _refused(self, exchange: Exchange, asked: Asked | None) -> None:
        refusal, answer = exchange.refusal, exchange.answer
        assert refusal is not None
        self.notice = refusal.notice
        is_shut = isinstance(refusal.error, ProtocolRefused)
        if answer is not None and exchange.shows_answer:
            await self._relay(answer)
        elif isinstance(refusal.error, Unavailable):
            if answer is not None:
                await answer.close()
            plain = plain_refusal(refusal.error, refusal.protocol, notice=self.notice)
            await send_response(self._send, plain, self.request.method)
        elif answer is not None and exchange.asked is None:
            # A 402 that nobody here can read: of another kind, or for its own clients.
            await self._relay(answer)
        elif (
            exchange.is_native and answer is None and not is_shut and not isinstance(refusal.error, IdempotencyConflict)
        ):
            # Used before, as far as we know: what that means to its own clients is the upstream's to say. A payment
            # beside the one that its idempotency key stands for was not used, and would be charged.
            await self._answer(await self._hop.pass_on(None))
        else:
            # What is shut, the upstream has not seen.
            await self._refuse(refusal, exchange.asked or asked, is_native=exchange.is_native and not is_shut)

    async def _refuse(self, refusal: Refusal, asked: Asked | None, *, is_native: bool) -> None:
        """Say why a payment was not taken, with a fresh challenge where the client may pay anew."""
        error, protocol = refusal.error, refusal.protocol
        if _status(error, protocol) != 402:
            plain = plain_refusal(error, protocol, notice=self.notice, levered=refusal.levered)
            await send_response(self._send, plain, self.request.method)
            return
        if asked is None:
            found = await self._hop.probe()
            if isinstance(found, Answer):
                # It asks for nothing now.
                await self._relay(found)
                return
            asked = found
        if not is_native:
            asked = asked._replace(headers=without(asked.headers, _RECEIPTS, mpp=False))
        moment = await self._moment(fresh_id())
        payer = refusal.unsettled.authorization.payer if refusal.unsettled is not None else ""
        headers, body = self._parts.challenger.complete(
            asked,
            self._hop.place,
            moment,
            error,
            is_native=is_native,
            entrance=self._entrance(asked.demand, payer),
            protocol=protocol,
        )
        headers += lever_headers(error, self.notice)
        if refusal.unsettled is not None and not is_native:
            headers += failed_receipt(refusal.unsettled, error.reason)
        await self._send_402(asked.answer, headers, body)


def _status(error: PaymentError, protocol: Protocol | None) -> int:
    return error.x402_status if protocol in (Protocol.X402_V1, Protocol.X402_V2) else error.mpp_status


def _spoken(demand: Demand) -> Protocol:
    """The version of x402 that payments are translated into."""
    return _PROTOCOL[demand.terms[0].version if demand.terms else max(demand.versions)]


def _fits(presented: PresentedCredential, demand: Demand | None) -> bool:
    """Whether a payment is for what a route was last seen to ask."""
    return demand is not None and is_paid_by(demand, presented.protocol, presented.token)
