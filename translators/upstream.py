"""What another x402 server asks for, read so that other protocols can ask for it too, and answered in its words.

Its entries of `accepts` stay JSON objects, with members that nobody here knows. One of them travels inside our own
challenge, sealed by the challenge's id, and comes back with the payment: so whoever translates keeps nothing, and the
upstream gets the very entry that it wrote.
"""

import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from translators import x402
from translators.checks import check_terms
from translators.encoding import b64_decode, b64url_encode, json_decode
from translators.errors import MalformedError, PaymentError
from translators.mpp import INTENT, METHOD
from translators.networks import KNOWN_TOKENS
from translators.payment import Offer, Payment, Protocol
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

__all__ = [
    "MAX_SEALED",
    "Demand",
    "Outcome",
    "Terms",
    "is_paid_by",
    "longest_timeout",
    "read_demand",
    "read_outcome",
    "seal_terms",
    "to_credential_header",
    "unseal_terms",
]

MAX_SEALED = 2048
"""The longest terms that a challenge carries, in characters: they are echoed in a credential, which is a header."""

_MAX_UNSEALED = 64 * 1024
_DICTIONARY = (
    b'"description":"","mimeType":"application/json","outputSchema":{"input":{"type":"http","method":"GET",'
    b'"discoverable":true}},"bazaar":{"info":{"input":{"type":"http","queryParams":{}},"output":{"type":"json",'
    b'"example":{}}},"schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":'
    b'{"required":[],"additionalProperties":false}}},{"url":"http://127.0.0.1:"url":"https://"},'
    b'"maxAmountRequired":"network":"base-sepolia","network":"base",'
    b'[1,{"scheme":"exact","network":"eip155:8453","network":"eip155:84532","amount":"10000",'
    b'"asset":"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913","asset":"0x036CbD53842c5426634e7929541eC2318f3dCF7e",'
    b'"payTo":"0x","maxTimeoutSeconds":300,"extra":{"name":"USD Coin","version":"2"}}'
    b'[2,{"extra":{"name":"USDC","version":"2","assetTransferMethod":"eip3009"}},null,null]'
)
"""What terms are made of, for the compression. It is part of the form: a challenge lives for minutes, so a change of it
costs those that are open at the time."""

_DECIMALS = {(token.chain_id, token.address): token for token in KNOWN_TOKENS}
_HEADER_V1, _HEADER_V2 = (said.CREDENTIAL_HEADER.lower().encode() for said in (x402_v1, x402_v2))
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_SEALED = msgspec.json.Decoder(tuple[int, dict[str, Any], dict[str, Any] | None, dict[str, Any] | None])
_ENCODER = msgspec.json.Encoder()


class Terms(msgspec.Struct, frozen=True):
    """One entry of an upstream's `accepts` that any protocol can pay, and what its payment has to say beside it."""

    version: int
    """Of x402: 1 or 2."""
    entry: dict[str, Any]
    offer: Offer
    resource: dict[str, Any] | None = None
    """x402 v2's `resource`, as the upstream wrote it."""
    extensions: dict[str, Any] | None = None


class Demand(msgspec.Struct, frozen=True):
    """An upstream's 402."""

    v1: x402_v1.PaymentRequirementsResponse | None
    v2: x402_v2.PaymentRequired | None
    terms: tuple[Terms, ...]
    """What every protocol can pay: of v2 where the upstream speaks it, else of v1."""
    body: dict[str, Any] | None
    """The body, where it is a JSON object."""
    has_mpp: bool
    """Whether the upstream asks for an MPP payment of its own, by whatever method."""
    has_evm: bool
    """Whether it does so by the method that we would add."""

    @property
    def versions(self) -> frozenset[int]:
        """The versions of x402 that the upstream speaks."""
        return frozenset(number for number, said in ((1, self.v1), (2, self.v2)) if said is not None)

    @property
    def reason(self) -> str | None:
        """The upstream's own word for why it asks (again)."""
        return (self.v2.error if self.v2 is not None else None) or (self.v1.error if self.v1 is not None else None)


class Outcome(msgspec.Struct, frozen=True):
    """What an upstream's receipt says of a payment."""

    success: bool
    transaction: str
    reason: str | None


def read_demand(headers: Iterable[tuple[bytes, bytes]], body: bytes | None) -> Demand | None:
    """What a 402 with these headers (names in any case) asks for; None where nothing in it can be read.

    `body` is None where it is too long to read.
    """
    v2 = v1 = None
    challenges: list[str] = []
    for name, value in headers:
        match name.lower():
            case b"payment-required":
                v2 = v2 or _read_v2(value)
            case b"x-payment-required":
                v1 = v1 or _read_v1_header(value)
            case b"www-authenticate":
                challenges.append(value.decode("latin-1"))
    content = _read_object(body) if body else None
    match (content or {}).get("x402Version"):
        case 1:
            v1 = _convert(content, x402_v1.PaymentRequirementsResponse) or v1
        case 2 if v2 is None:
            v2 = _convert(content, x402_v2.PaymentRequired)
    own = _own_challenges(challenges)
    if v1 is None and v2 is None:
        return None
    terms = _terms_v2(v2) or _terms_v1(v1)
    has_evm = any((challenge.method, challenge.intent) == (METHOD, INTENT) for challenge in own)
    return Demand(v1, v2, terms, content, bool(own), has_evm)


def _own_challenges(values: Sequence[str]) -> list[mpp_wire.Challenge]:
    try:
        return mpp_wire.decode_challenges(values)
    except MalformedError:
        return []


def _read_v2(value: bytes) -> x402_v2.PaymentRequired | None:
    try:
        return x402_v2.decode_payment_required(value)
    except PaymentError:
        return None


def _read_v1_header(value: bytes) -> x402_v1.PaymentRequirementsResponse | None:
    try:
        return x402_v1.decode_payment_required(b64_decode(value, x402_v1.CHALLENGE_HEADER))
    except PaymentError:
        return None


def _read_object(body: bytes) -> dict[str, Any] | None:
    try:
        return json_decode(body, _OBJECT, "the 402 body")
    except PaymentError:
        return None


def _convert(content: Any, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError:
        return None


def _terms_v2(required: x402_v2.PaymentRequired | None) -> tuple[Terms, ...]:
    if required is None:
        return ()
    found: dict[Offer, Terms] = {}
    for entry in required.accepts:
        offer = _offer(2, entry)
        if offer is not None:
            found.setdefault(offer, Terms(2, entry, offer, required.resource, required.extensions))
    return tuple(found.values())


def _terms_v1(required: x402_v1.PaymentRequirementsResponse | None) -> tuple[Terms, ...]:
    if required is None:
        return ()
    found: dict[Offer, Terms] = {}
    for entry in required.accepts:
        offer = _offer(1, entry)
        if offer is not None:
            found.setdefault(offer, Terms(1, entry, offer))
    return tuple(found.values())


def _offer(version: int, entry: dict[str, Any]) -> Offer | None:
    """An entry as an offer; None for what an EIP-3009 authorization cannot pay, and for what cannot be read."""
    try:
        if version == 2:
            offer = x402.from_requirements_v2(x402_v2.decode_requirements(entry, "accepts"))
        else:
            offer = x402.from_requirements_v1(x402_v1.decode_requirements(entry, "accepts"))
    except PaymentError:
        return None
    if offer.amount == 0 or offer.max_timeout_seconds == 0:
        return None
    known = _DECIMALS.get((offer.asset.chain_id, offer.asset.address))
    if known is None:
        return offer
    asset = msgspec.structs.replace(offer.asset, decimals=known.decimals, symbol=known.symbol)
    return msgspec.structs.replace(offer, asset=asset)


def seal_terms(terms: Terms) -> str | None:
    """The terms as text for a challenge's `opaque`; None where even the entry alone is too long.

    Extensions, and then the resource, stay out where the whole is longer than `MAX_SEALED`: no specification makes a
    server compare them.
    """
    for resource, extensions in ((terms.resource, terms.extensions), (terms.resource, None), (None, None)):
        packer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=_DICTIONARY)
        data = _ENCODER.encode((terms.version, terms.entry, resource, extensions))
        sealed = b64url_encode(packer.compress(data) + packer.flush())
        if len(data) <= _MAX_UNSEALED and len(sealed) <= MAX_SEALED:
            return sealed
    return None


@lru_cache(maxsize=1024)
def unseal_terms(sealed: str) -> Terms:
    """The terms again. Raises `MalformedError`; to be called once the challenge is known to be ours.

    The same text for every payment of a route, so read once: what comes back is never changed.
    """
    try:
        unpacker = zlib.decompressobj(-15, zdict=_DICTIONARY)
        data = unpacker.decompress(b64_decode(sealed, "opaque"), _MAX_UNSEALED + 1)
    except zlib.error:
        raise MalformedError("the challenge's terms cannot be read") from None
    version, entry, resource, extensions = json_decode(data, _SEALED, "opaque")
    offer = _offer(version, entry)
    if offer is None:
        raise MalformedError("the challenge's terms cannot be read")
    return Terms(version, entry, offer, resource, extensions)


def to_credential_header(payment: Payment, terms: Terms) -> tuple[bytes, bytes]:
    """The header and value that pay an upstream what it asked, whatever protocol the payment came in."""
    if terms.version == 2:
        v2 = x402.to_payload_v2(payment, terms.entry, terms.resource)
        # What the upstream announced is echoed (x402 v2, section 5.2), not what the client may have said elsewhere.
        v2.extensions = terms.extensions
        return _HEADER_V2, x402_v2.encode_payment_payload(v2).encode()
    v1 = x402.to_payload_v1(payment)
    v1.network = str(terms.entry["network"])
    return _HEADER_V1, x402_v1.encode_payment_payload(v1).encode()


def read_outcome(headers: Iterable[tuple[bytes, bytes]]) -> Outcome | None:
    """What the upstream's receipt says; None where there is none, or it cannot be read."""
    for name, value in headers:
        try:
            match name.lower():
                case b"payment-response":
                    v2 = x402_v2.decode_settlement_response(value)
                    return Outcome(v2.success, v2.transaction, v2.error_reason)
                case b"x-payment-response":
                    v1 = x402_v1.decode_settlement_response(value)
                    return Outcome(v1.success, v1.transaction, v1.error_reason)
        except PaymentError:
            continue
    return None


def longest_timeout(demand: Demand) -> int:
    """How long a payment may take by any entry of the upstream's, in seconds; 0 where none says so."""
    accepts = [entry for said in (demand.v1, demand.v2) if said is not None for entry in said.accepts]
    return max((s for entry in accepts if isinstance(s := entry.get("maxTimeoutSeconds"), int)), default=0)


def is_paid_by(demand: Demand, protocol: Protocol, token: bytes) -> bool:
    """Whether an x402 credential is for what was asked; true for one that cannot be read, which no terms would mend."""
    offers = [terms.offer for terms in demand.terms]
    try:
        if protocol is Protocol.X402_V2:
            payload = x402_v2.decode_payment_payload(token)
            payment = x402.from_payload_v2(payload)
            x402.check_accepted(payload, check_terms(payment, offers))
        else:
            check_terms(x402.from_payload_v1(x402_v1.decode_payment_payload(token), offers), offers)
    except MalformedError:
        return True
    except PaymentError:
        return False
    return True
