"""The one boundary where errors and settlements become HTTP, in the words of each client.

One 402 serves everybody: a `WWW-Authenticate` line for each offer, `PAYMENT-REQUIRED`, `X-PAYMENT-REQUIRED`, and a body
that is an RFC 9457 problem and an x402 v1 challenge at once.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from bridge.clock import Clock
from bridge.routes import PaidRoute
from translators import mpp, x402
from translators.accept_payment import rank
from translators.encoding import b64_encode
from translators.errors import PaymentError, PaymentRequired, ProtocolRefused, Unavailable
from translators.levers import Doors
from translators.payment import ChallengeBinding, Offer, Payment, Protocol, Resource, Settlement
from translators.payment_identifier import ADVERTISED
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

__all__ = [
    "EXPOSED_HEADERS",
    "ChallengeContext",
    "Headers",
    "Members",
    "Notice",
    "Responder",
    "Response",
    "failed_receipt",
    "header_text",
    "lever_headers",
    "lever_members",
    "merge_receipt",
    "plain_refusal",
    "problem_of",
]

Headers = list[tuple[bytes, bytes]]
Notice = tuple[tuple[bytes, bytes], ...]
Members = tuple[tuple[str, object], ...]
"""Members of a problem."""

EXPOSED_HEADERS = ", ".join(
    (
        mpp_wire.CHALLENGE_HEADER,
        mpp_wire.RECEIPT_HEADER,
        x402_v2.CHALLENGE_HEADER,
        x402_v2.RECEIPT_HEADER,
        x402_v1.CHALLENGE_HEADER,
        x402_v1.RECEIPT_HEADER,
        "Retry-After",
    )
)
"""What a browser's script may read of our answers (`Access-Control-Expose-Headers`)."""

_EXPOSE = (b"access-control-expose-headers", EXPOSED_HEADERS.encode())
_NO_STORE = (b"cache-control", b"no-store")
_PRIVATE = (b"cache-control", b"private")
_PROBLEM = (b"content-type", b"application/problem+json")
_ENCODER = msgspec.json.Encoder()
_LONGEST_KEPT = 1024
"""Characters of a URL or path of which the 402 is remembered."""
_MOST_KEPT = 1024
"""Places whose 402 is remembered."""
_UNPAID = PaymentRequired("this resource is paid for by request")

UNPAID_V1 = f"{x402_v1.CREDENTIAL_HEADER} header is required"
UNPAID_V2 = f"{x402_v2.CREDENTIAL_HEADER} header is required"


class Response(msgspec.Struct, frozen=True):
    """A whole answer of ours."""

    status: int
    headers: Headers
    body: bytes
    trailers: Headers = []


class ChallengeContext(msgspec.Struct, frozen=True):
    """What a challenge depends on besides its route."""

    route: PaidRoute
    doors: Doors
    """What this client is offered, and in which order."""
    offers: tuple[Offer, ...]
    resource: Resource
    realm: str
    bound_to: str
    """What an MPP challenge is good for: method and path."""
    correlation_id: str
    digest: str | None = None
    accept_payment: str | None = None
    notice: Notice = ()
    """Headers that the client's protocol is answered with in any case: that it ends, and when."""
    migration: str | None = None


class _Asked(NamedTuple):
    """What every 402 of one place has in common."""

    route: PaidRoute
    offers: tuple[Offer, ...]
    speaks: tuple[Protocol, ...]
    before: tuple[tuple[bytes, bytes], ...]
    """Headers before MPP's challenges."""
    templates: tuple[mpp.ChallengeTemplate, ...]
    after: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def is_for(self, context: ChallengeContext) -> bool:
        """Whether nothing has changed since; compared by identity, because offers that are made anew may differ."""
        return self.offers is context.offers and self.route is context.route and self.speaks == context.doors.offered


class Responder:
    """Makes answers.

    `keys` sign challenges, the first of them; `challenge_seconds` is how long one lives; `credential_header` names
    another header for the MPP credential where the application uses `Authorization` itself; `both_receipts` gives
    x402 payers MPP's receipt as well; `payment_identifier` tells x402 v2 clients that they may name their request.
    """

    def __init__(
        self,
        *,
        keys: Sequence[bytes],
        clock: Clock,
        challenge_seconds: int,
        credential_header: str | None = None,
        both_receipts: bool = False,
        payment_identifier: bool = True,
    ) -> None:
        self._payment_identifier = payment_identifier
        self._keys = tuple(keys)
        self._clock = clock
        self._challenge_seconds = challenge_seconds
        self._credential_header = credential_header
        self._both_receipts = both_receipts
        self._asked: dict[tuple[str, str, str], _Asked] = {}

    def ask(self, context: ChallengeContext) -> Response:
        """The 402 for a request that brings no payment.

        Nobody asks more often, so what all the answers of one place have in common is looked up by that place.
        """
        doors = context.doors
        if context.accept_payment is not None or doors.preferred is not None or doors.told:
            return self.refuse(_UNPAID, context)
        place = (context.resource.url, context.bound_to, context.realm)
        asked = self._asked.get(place)
        if asked is None or not asked.is_for(context):
            asked = self._ask_anew(context)
            if len(place[0]) <= _LONGEST_KEPT:
                if len(self._asked) >= _MOST_KEPT:
                    self._asked.clear()
                self._asked[place] = asked
        headers = list(asked.before)
        if asked.templates:
            expires = self._clock() + self._challenge_seconds
            for index, template in enumerate(asked.templates):
                headers.append((b"www-authenticate", self._issue(template, context, index, expires)))
        headers += asked.after
        headers += context.notice
        return Response(402, headers, asked.body)

    def _ask_anew(self, context: ChallengeContext) -> "_Asked":
        speaks = context.doors.offered
        said = _said(_UNPAID, 402, unpaid=True)
        body, x402_headers, rest = _kept(_x402_part, context.resource.url)(
            said, context.offers, context.resource, speaks, self._payment_identifier, context.route.bazaar
        )
        templates: tuple[mpp.ChallengeTemplate, ...] = ()
        place = len(x402_headers)
        if Protocol.MPP in speaks:
            place = speaks.index(Protocol.MPP)
            templates = tuple(self._template(offer, context) for offer in context.offers if offer.foreign is None)
        return _Asked(
            context.route, context.offers, speaks, x402_headers[:place], templates, (*x402_headers[place:], *rest), body
        )

    def refuse(
        self,
        error: PaymentError,
        context: ChallengeContext,
        protocol: Protocol | None = None,
        unsettled: Payment | None = None,
    ) -> Response:
        """The answer to `error` for a client of `protocol` (None: it has not said).

        A 402 carries fresh challenges. `unsettled` is the payment whose settlement failed: an x402 client hears of it
        in its receipt header as well.
        """
        if isinstance(error, Unavailable):
            return plain_refusal(error, protocol, notice=context.notice)
        status = _status(error, protocol)
        levered = lever_members(error, context.doors, context.migration, protocol)
        said = _said(error, status, unpaid=protocol is None)._replace(levered=levered)
        speaks = context.doors.offered
        body, x402_headers, rest = _kept(_x402_part, context.resource.url)(
            said, context.offers, context.resource, speaks, self._payment_identifier, context.route.bazaar
        )
        headers: Headers = list(x402_headers)
        if status == 402 and Protocol.MPP in speaks:
            # First unless another is preferred, and in this case: some parsers look no further.
            place = speaks.index(Protocol.MPP)
            headers[place:place] = [(b"www-authenticate", value) for value in self.challenges(context)]
        headers += rest
        headers += lever_headers(error, context.notice)
        if unsettled is not None:
            headers += failed_receipt(unsettled, error.reason)
        return Response(status, headers, body)

    def challenges(self, context: ChallengeContext) -> Iterable[bytes]:
        """MPP's challenges as they stand in `WWW-Authenticate`, one an offer."""
        expires = self._clock() + self._challenge_seconds
        carried = tuple(offer for offer in context.offers if offer.foreign is None)
        offers = rank(carried, context.accept_payment, lambda _: (mpp.METHOD, mpp.INTENT))
        for index, offer in enumerate(offers):
            yield self._issue(self._template(offer, context), context, index, expires)

    def _template(self, offer: Offer, context: ChallengeContext) -> mpp.ChallengeTemplate:
        template: mpp.ChallengeTemplate = _kept(_mpp_template, context.bound_to)(
            offer, context.realm, context.bound_to, context.route.description, self._credential_header
        )
        return template

    def _issue(self, template: mpp.ChallengeTemplate, context: ChallengeContext, index: int, expires: float) -> bytes:
        nonce = context.correlation_id if index == 0 else f"{context.correlation_id}.{index}"
        return mpp.issue_challenge(template, self._keys, nonce=nonce, expires=expires, digest=context.digest).encode(
            "latin-1"
        )

    def receipt(self, settlement: Settlement, payment: Payment, status: int) -> Headers:
        """The headers that tell the payer of `payment` what was settled, on a response with `status`.

        MPP's receipt goes on a 2xx only (draft-httpauth-payment-00, section "Receipt Status Semantics").
        """
        headers: Headers = []
        succeeded = 200 <= status < 300
        match payment.protocol:
            case Protocol.X402_V1:
                v1 = x402_v1.encode_settlement_response(x402.to_settlement_response_v1(settlement))
                headers.append((b"x-payment-response", v1.encode()))
            case Protocol.X402_V2:
                v2 = x402_v2.encode_settlement_response(x402.to_settlement_response_v2(settlement))
                headers.append((b"payment-response", v2.encode()))
            case Protocol.MPP:
                pass
        # MPP has no word for what a foreign proof moved.
        in_both = self._both_receipts and payment.foreign is None
        if succeeded and (payment.protocol is Protocol.MPP or in_both):
            binding = payment.binding if isinstance(payment.binding, ChallengeBinding) else None
            receipt = mpp_wire.encode_receipt(mpp.to_receipt(settlement, binding))
            headers.append((b"payment-receipt", receipt.encode()))
        return headers


def failed_receipt(payment: Payment, reason: str) -> Headers:
    """What an x402 client hears of a settlement that failed, in its receipt's header."""
    match payment.protocol:
        case Protocol.X402_V1:
            v1 = x402_v1.encode_settlement_response(x402.to_failed_settlement_v1(payment, reason))
            return [(b"x-payment-response", v1.encode())]
        case Protocol.X402_V2:
            v2 = x402_v2.encode_settlement_response(x402.to_failed_settlement_v2(payment, reason))
            return [(b"payment-response", v2.encode())]
        case Protocol.MPP:
            # No receipt on an error (draft-evm-charge-00, section "Receipt Generation").
            return []


def _status(error: PaymentError, protocol: Protocol | None) -> int:
    return error.x402_status if protocol in (Protocol.X402_V1, Protocol.X402_V2) else error.mpp_status


def plain_refusal(
    error: PaymentError, protocol: Protocol | None, *, notice: Notice = (), levered: Members = ()
) -> Response:
    """The answer to `error` that asks for no payment. `notice` and `levered` are what levers have it say besides."""
    status = _status(error, protocol)
    body = _ENCODER.encode(problem_of(error, status) | dict(levered))
    retry = [(b"retry-after", str(error.retry_after).encode())] if isinstance(error, Unavailable) else []
    said = lever_headers(error, notice)
    return Response(status, [_PROBLEM, _NO_STORE, *retry, _EXPOSE, _length(body), *said], body)


def merge_receipt(headers: Iterable[tuple[bytes, bytes]], receipt: Headers) -> Headers:
    """The application's response headers with the receipt among them, kept from shared caches.

    `Cache-Control` loses what invites a shared cache and gains `private`; what scripts may read is added to.
    """
    merged: Headers = []
    directives: list[bytes] = []
    exposed: list[bytes] = []
    for name, value in headers:
        match name.lower():
            case b"cache-control":
                directives += [part.strip() for part in value.split(b",") if part.strip()]
            case b"access-control-expose-headers":
                exposed.append(value)
            case _:
                merged.append((name, value))
    merged.append(_kept_private(directives) if directives else _PRIVATE)
    merged.append(_exposing(exposed) if exposed else _EXPOSE)
    merged += receipt
    return merged


def _kept_private(directives: list[bytes]) -> tuple[bytes, bytes]:
    kept = [d for d in directives if d.lower() != b"public" and not d.lower().startswith((b"s-maxage", b"private"))]
    if b"no-store" not in kept:
        kept.insert(0, b"private")
    return _PRIVATE[0], b", ".join(kept)


def _exposing(exposed: list[bytes]) -> tuple[bytes, bytes]:
    return _EXPOSE[0], b"*" if b"*" in exposed else b", ".join([*exposed, _EXPOSE[1]])


class _Said(NamedTuple):
    """What an answer says, by value."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    unpaid: bool
    levered: Members = ()
    """Members about the owner's levers."""

    def problem(self) -> dict[str, object]:
        """An RFC 9457 problem. `error` beside it is x402's machine-readable word for the same."""
        return {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "error": self.reason,
            **dict(self.levered),
        }


def _said(error: PaymentError, status: int, *, unpaid: bool) -> _Said:
    return _Said(error.base + error.slug, error.title, status, error.detail, error.reason, unpaid)


def problem_of(error: PaymentError, status: int) -> dict[str, object]:
    """An RFC 9457 problem. `error` beside it is x402's machine-readable word for the same."""
    return _said(error, status, unpaid=False).problem()


def lever_members(error: PaymentError, doors: Doors, migration: str | None, protocol: Protocol | None) -> Members:
    """What a problem says about protocols that are shut, or preferred; nothing where the owner touched no lever."""
    if not isinstance(error, ProtocolRefused) and doors.preferred is None and not doors.told:
        return ()
    said: dict[str, object] = {}
    if doors.preferred is not None:
        said["preferred"] = doors.preferred.value
    if migration is not None and (doors.told or isinstance(error, ProtocolRefused)):
        said["migration"] = migration
    if isinstance(error, ProtocolRefused):
        said |= {"stage": error.stage, "use": error.instead}
    elif doors.told:
        said["refused"] = tuple(sorted(shut.value for shut in doors.told))
    # In v1's own words, for its clients read nothing but the body: nothing here can be paid in v1.
    is_refused_v1 = protocol is Protocol.X402_V1 and isinstance(error, ProtocolRefused)
    if is_refused_v1 or (protocol is None and Protocol.X402_V1 in doors.told):
        said |= {"x402Version": 1, "accepts": ()}
    return tuple(said.items())


def lever_headers(error: PaymentError, notice: Notice) -> Headers:
    """The headers of a refusal that are about its protocol's end, and about the end of its brownout."""
    wait = error.over_in if isinstance(error, ProtocolRefused) else None
    return [*notice, *([] if wait is None else [(b"retry-after", str(wait).encode())])]


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()


def _kept(made: Any, place: str) -> Any:
    """What remembers what it `made`, or does not: anybody can ask for long paths below a `*`, and thousands of them."""
    return made if len(place) <= _LONGEST_KEPT else made.__wrapped__


@lru_cache(maxsize=1024)
def header_text(description: str) -> str | None:
    """A description as every header can carry it: ASCII without accents, on one line; None where nothing is left.

    The x402 challenges are base64 and hold it as it is.
    """
    plain = unicodedata.normalize("NFKD", description).encode("ascii", "ignore").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split()) or None


@lru_cache(maxsize=1024)
def _mpp_template(
    offer: Offer, realm: str, bound_to: str, description: str, header: str | None
) -> mpp.ChallengeTemplate:
    return mpp.challenge_template(
        mpp.encoded_request(offer), realm=realm, route=bound_to, description=header_text(description), header=header
    )


@lru_cache(maxsize=1024)
def _x402_part(
    said: _Said,
    offers: tuple[Offer, ...],
    resource: Resource,
    speaks: tuple[Protocol, ...],
    payment_identifier: bool,
    bazaar: str | None,
) -> tuple[bytes, tuple[tuple[bytes, bytes], ...], tuple[tuple[bytes, bytes], ...]]:
    """The body, x402's challenges in the order of `speaks`, and the other headers: always the same, so made once."""
    v1: dict[str, object] = {}
    headers: Headers = []
    if Protocol.X402_V1 in speaks:
        v1_error = UNPAID_V1 if said.unpaid else said.reason
        v1 = msgspec.to_builtins(x402.to_payment_required_v1(offers, resource, v1_error))
    body = _ENCODER.encode(said.problem() | v1)
    for protocol in speaks if said.status == 402 else ():
        if protocol is Protocol.X402_V2:
            v2_error = UNPAID_V2 if said.unpaid else said.reason
            extensions = (ADVERTISED if payment_identifier else {}) | (msgspec.json.decode(bazaar) if bazaar else {})
            required = x402.to_payment_required_v2(offers, resource, v2_error, extensions or None)
            headers.append((b"payment-required", x402_v2.encode_payment_required(required).encode()))
        elif protocol is Protocol.X402_V1:
            headers.append((b"x-payment-required", b64_encode(_ENCODER.encode(v1)).encode()))
    return body, tuple(headers), (_PROBLEM, _NO_STORE, _EXPOSE, _length(body))
