"""One payment on its way to an upstream: translated, passed on, and what the upstream made of it.

To the gate it is a settler that settles first: the upstream moves the money while it answers, and says so in its
receipt. The answer waits here until the gate has heard.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from bridge.clock import Clock
from bridge.events import Events
from bridge.gateway.chain import Chain
from bridge.gateway.demands import Asked
from bridge.gateway.forward import Answer, ClientGone, TooLarge, Unanswered, Unreached
from bridge.responses import ChallengeContext, Headers, Members, Notice, Responder, Response, lever_members
from bridge.settlers.base import BeforeBroadcast, Fate, Found, settlement_of
from bridge.settlers.facilitator_answers import is_certain_refusal, leaves_open
from bridge.stores.base import Record
from translators.errors import OutcomeUnknown, PaymentError, SettlementFailed, Unavailable
from translators.payment import Offer, Payment, Protocol, Resource, Settlement
from translators.upstream import Outcome, Terms, read_outcome, to_credential_header

__all__ = ["Exchange", "Refusal", "reason_of"]

ReadAsked = Callable[[Answer], Awaitable[Asked | Answer]]
PassOn = Callable[[tuple[bytes, bytes] | None], Awaitable[Answer]]

_FROM_BETWEEN = frozenset((502, 503, 504, *range(520, 531)))
"""Statuses by which something between us and the upstream's code says that it did not hear the end of it."""

_MAX_TRANSACTION = 128
_HANDLER_FAILED = "handler_failed"
"""For the journal and the events: the client gets the upstream's own answer."""

_UNMATCHED = re.compile(r"x-payment header|matching payment requirements", re.IGNORECASE)
"""What servers of v1 say of a payment that they did not look at further."""


class Refusal(msgspec.Struct, frozen=True):
    """Why a payment was not taken, for the answer that says so."""

    error: PaymentError
    protocol: Protocol | None
    unsettled: Payment | None = None
    notice: Notice = ()
    levered: Members = ()
    """What levers have an answer of ours say besides, in its headers and in its problem."""


class Exchange:
    """One request with a payment.

    `terms` says for each offer what the upstream wrote of it; None for a payment in the upstream's own version, which
    goes on as it came. `pass_on` sends the request with the given credential header, or with its own.
    """

    def __init__(
        self,
        *,
        terms: Mapping[Offer, Terms] | None,
        protocol: Protocol,
        pass_on: PassOn,
        read: ReadAsked,
        chain: Chain,
        responder: Responder,
        events: Events,
        clock: Clock,
    ) -> None:
        self.terms = terms
        self.protocol = protocol
        """The upstream's."""
        self.answer: Answer | None = None
        """The upstream's answer to the payment, until it is sent on or replaced."""
        self.asked: Asked | None = None
        """The upstream's 402, where it answered the payment with one that can be read."""
        self.shows_answer = False
        """Whether the client gets the answer though its payment was not settled: a 404, a 500, a redirect."""
        self.refusal: Refusal | None = None
        self._unconfirmed = False
        """The upstream served the payment, and neither it nor the chain says that the money moved."""
        self._pass_on = pass_on
        self._read = read
        self._chain = chain
        self._responder = responder
        self._events = events
        self._clock = clock

    @property
    def is_native(self) -> bool:
        """Whether the payment goes on as it came."""
        return self.terms is None

    # As the gate's events

    def hears(self, event: str) -> bool:
        """See `Events.hears`."""
        return self._events.hears(event)

    def emit(self, event: str, **fields: Any) -> None:
        """Say what happened, and what the upstream speaks."""
        self.tell(event, fields)

    def tell(self, event: str, fields: dict[str, Any]) -> None:
        """See `Events.tell`."""
        fields["upstream_protocol"] = self.protocol.value
        if self._unconfirmed and event in ("payment.settled", "payment.delivered"):
            fields["unconfirmed"] = True
        self._events.tell(event, fields)

    # As the gate's responder

    def refuse(
        self,
        error: PaymentError,
        context: ChallengeContext,
        protocol: Protocol | None = None,
        unsettled: Payment | None = None,
    ) -> Response:
        """Remember why; the answer is made when the upstream has said what it asks."""
        levered = lever_members(error, context.doors, context.migration, protocol)
        self.refusal = Refusal(error, protocol, unsettled, context.notice, levered)
        if self.answer is not None and self.shows_answer:
            return Response(self.answer.status, [], b"")
        status = error.x402_status if protocol in (Protocol.X402_V1, Protocol.X402_V2) else error.mpp_status
        return Response(status, [], b"")

    def receipt(self, settlement: Settlement, payment: Payment, status: int) -> Headers:
        """The receipt in the client's words; none where the upstream gave none, or speaks the client's words itself."""
        if self.is_native or not settlement.transaction:
            return []
        return self._responder.receipt(settlement, payment, status)

    # As the gate's settler

    async def verify(self, payment: Payment, offer: Offer, resource: Resource) -> None:
        """See `Settler.verify`."""
        await self._chain.verify(payment, offer, resource)

    async def check_signature(self, payment: Payment, offer: Offer, resource: Resource) -> bool:
        """See `Settler.check_signature`."""
        return await self._chain.check_signature(payment, offer, resource)

    async def find(self, record: Record) -> Found | None:
        """See `Settler.find`."""
        return await self._chain.find(record)

    async def settle(
        self, payment: Payment, offer: Offer, resource: Resource, before_broadcast: BeforeBroadcast
    ) -> Settlement:
        """Pass the payment on, and read what the upstream made of it. See `Settler.settle`."""
        await before_broadcast("")
        try:
            answer = await self.hand_over(payment, offer)
        except Unreached:
            raise Unavailable("the upstream cannot be reached; nothing was sent to it", retry_after=1) from None
        except (Unanswered, TooLarge, ClientGone):
            # TooLarge and ClientGone: the upstream had the payment, and may settle before it reads the body.
            return await self._ask_chain(payment, "the upstream did not answer after the payment was passed on")
        return await self._judge(answer, payment)

    def hand_over(self, payment: Payment, offer: Offer) -> Awaitable[Answer]:
        """Send the request with the payment in the upstream's words."""
        return self._pass_on(None if self.terms is None else to_credential_header(payment, self.terms[offer]))

    async def _judge(self, answer: Answer, payment: Payment) -> Settlement:
        outcome = read_outcome(answer.headers)
        if outcome is not None and outcome.success:
            self.answer = answer
            return self._settled(payment, outcome.transaction)
        if answer.status == 402:
            self.answer = answer
            return await self._judge_402(answer, outcome, payment)
        if answer.status in _FROM_BETWEEN:
            await answer.close()
            return await self._ask_chain(payment, f"the upstream answered {answer.status}")
        self.answer = answer
        if answer.status >= 500:
            # Its code may have failed before the settlement, after it, or in it: the client gets to see what it says.
            self.shows_answer = True
            return await self._ask_chain(payment, f"the upstream answered {answer.status}")
        if outcome is not None or not 200 <= answer.status < 300:
            self.shows_answer = True
            raise SettlementFailed(f"the upstream answered {answer.status} and settled nothing", reason=_HANDLER_FAILED)
        found = await self._chain.find_payment(payment)
        transaction = found.transaction if found is not None and found.fate is Fate.PAID else None
        self._unconfirmed = transaction is None
        return self._settled(payment, transaction or "")

    async def _judge_402(self, answer: Answer, outcome: Outcome | None, payment: Payment) -> Settlement:
        """A refusal, if nothing can have moved. Servers say 402 as well when they lost sight of a settlement."""
        read = await self._read(answer)
        self.asked = read if isinstance(read, Asked) else None
        challenged = (self.asked.demand.reason if self.asked is not None else None) or ""
        if outcome is not None:
            said = outcome.reason or ""
            refused = is_certain_refusal(said) and not outcome.transaction
        else:
            # Refused before it was settled, as a server says that has not settled anything yet.
            said = challenged
            refused = not leaves_open(said)
            if refused and self.protocol is Protocol.X402_V1:
                # Servers of v1 give no receipt of a settlement that failed, and say whatever was thrown, or nothing.
                refused = is_certain_refusal(said) or _UNMATCHED.search(said) is not None
        reason = reason_of(said)
        if refused:
            raise SettlementFailed(f"the upstream refused the payment: {reason}", reason=reason)
        return await self._ask_chain(payment, f"the upstream refused the payment: {reason}")

    async def _ask_chain(self, payment: Payment, what: str) -> Settlement:
        """What the chain says of a payment of which the upstream leaves open what became of it.

        Raises `OutcomeUnknown` where nobody can tell, and `SettlementFailed` where nothing moved and nothing will.
        """
        unknown = OutcomeUnknown(f"{what}; money may have moved, so send the same credential again, and no other")
        return self._settled(payment, await self._chain.prove(payment, unknown))

    def _settled(self, payment: Payment, transaction: str) -> Settlement:
        return settlement_of(payment, transaction[:_MAX_TRANSACTION], self._clock())


def reason_of(said: str) -> str:
    """An upstream's word for a refusal, if it is a word; else one of ours."""
    if said and len(said) <= 80 and said.replace("_", "a").isalnum() and said.isascii():
        return said
    return "upstream_refused"
