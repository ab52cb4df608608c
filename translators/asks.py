"""What a 402 asks of a client, in all three protocols at once, and the answer to one of its asks.

Reading is forgiving about what stands beside an ask and strict about the ask itself: what cannot be paid is told with
its reason, and spoils nothing next to it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from translators import mpp, x402
from translators.binding import challenge_hash, parse_time
from translators.encoding import b64_decode, b64_encode
from translators.errors import MalformedError, MethodUnsupported, PaymentError
from translators.fields import parse_address
from translators.networks import KNOWN_TOKENS, chain_id_from_network
from translators.payment import (
    Asset,
    Authorization,
    Binding,
    ChallengeBinding,
    Offer,
    Payment,
    Protocol,
    ResourceBinding,
)
from translators.payment_identifier import NAME as PAYMENT_IDENTIFIER
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

__all__ = [
    "VALID_SINCE_SECONDS",
    "Asked",
    "Passed",
    "Reading",
    "envelope",
    "in_envelope_of",
    "read_asks",
    "to_payment",
    "to_sign",
]

VALID_SINCE_SECONDS: Final = 600
"""How far back an x402 authorization is valid from, in seconds: the chain's clock may be behind the payer's."""


class Asked(msgspec.Struct, frozen=True):
    """One way to pay that a 402 named, and where it said so.

    `offer.asset` has an empty `name` where nobody has said the token's EIP-712 domain: MPP's wire does not carry it.
    """

    protocol: Protocol
    where: str
    offer: Offer
    challenge: mpp_wire.Challenge | None = None
    required: x402_v2.PaymentRequired | None = None
    entry: dict[str, Any] | None = None
    """x402 v2: the entry of `accepts`, to be echoed as it came."""


class Passed(msgspec.Struct, frozen=True):
    """A way to pay that was read over, and why."""

    protocol: Protocol
    reason: str


class Reading(msgspec.Struct, frozen=True):
    """Everything that a 402 asked: what can be paid, in the server's order, and what cannot."""

    asks: tuple[Asked, ...]
    passed: tuple[Passed, ...]


def read_asks(headers: Iterable[tuple[str, str]], body: bytes, tokens: Sequence[Asset] = ()) -> Reading:
    """Read a 402 as a client of each protocol does.

    `tokens` are known to the client besides `KNOWN_TOKENS`. An ask whose domain contradicts a known token is passed
    over. Raises nothing: an answer that asks for nothing gives an empty reading.
    """
    found = list(headers)
    known = {(token.chain_id, token.address): token for token in (*KNOWN_TOKENS, *tokens)}
    asks: list[Asked] = []
    passed: list[Passed] = []
    for protocol, read in _READERS:
        for ask in read(found, body):
            try:
                asks.append(_with_domain(ask(known), known))
            except PaymentError as error:
                passed.append(Passed(protocol, error.detail))
    return Reading(tuple(asks), tuple(passed))


_Known = dict[tuple[int, str], Asset]
_Ask = Callable[[_Known], Asked]
_Headers = list[tuple[str, str]]


def _values(headers: _Headers, name: str) -> list[str]:
    return [value for key, value in headers if key.lower() == name.lower()]


def _fail(error: PaymentError, _: _Known) -> Asked:
    raise error


def _read_mpp(headers: _Headers, body: bytes) -> Iterator[_Ask]:
    for line in _values(headers, mpp_wire.CHALLENGE_HEADER):
        try:
            # A line at a time: one that cannot be read spoils no other.
            challenges = mpp_wire.decode_challenges([line])
        except MalformedError as error:
            yield partial(_fail, error)
            continue
        for challenge in challenges:
            yield partial(_mpp_ask, challenge)


def _mpp_ask(challenge: mpp_wire.Challenge, known: _Known) -> Asked:
    if challenge.method != mpp.METHOD or challenge.intent != mpp.INTENT:
        raise MethodUnsupported(f"{challenge.method}/{challenge.intent} is not an evm charge")
    if challenge.expires is not None:
        parse_time(challenge.expires)
    if challenge.header is not None and challenge.header.lower() not in _CREDENTIAL_HEADERS:
        raise MethodUnsupported("the challenge wants its credential in a header that no draft names")
    request = mpp_wire.decode_charge_request(challenge.request)
    token = known.get((request.method_details.chain_id, parse_address(request.currency, "currency")))
    offer = mpp.from_charge_request(request, token.name if token else "", token.version if token else "")
    return Asked(Protocol.MPP, mpp_wire.CHALLENGE_HEADER, offer, challenge=challenge)


_CREDENTIAL_HEADERS = {
    mpp_wire.CREDENTIAL_HEADER.lower(): mpp_wire.CREDENTIAL_HEADER,
    mpp_wire.ALTERNATIVE_CREDENTIAL_HEADER.lower(): mpp_wire.ALTERNATIVE_CREDENTIAL_HEADER,
}


def _read_v2(headers: _Headers, body: bytes) -> Iterator[_Ask]:
    sent = _values(headers, x402_v2.CHALLENGE_HEADER)
    where = x402_v2.CHALLENGE_HEADER
    if not sent and _version(body) == 2:
        # Not what the transport says, and easily understood all the same.
        sent, where = [b64_encode(body)], "JSON body"
    for value in sent[:1]:
        try:
            required = x402_v2.decode_payment_required(value)
        except MalformedError as error:
            yield partial(_fail, error)
            return
        for entry in required.accepts:
            yield partial(_v2_ask, entry, required, where)


def _v2_ask(entry: dict[str, Any], required: x402_v2.PaymentRequired, where: str, known: _Known) -> Asked:
    requirements = x402_v2.decode_requirements(_with_extra(entry, known), x402_v2.CHALLENGE_HEADER)
    offer = x402.from_requirements_v2(requirements)
    return Asked(Protocol.X402_V2, where, offer, required=required, entry=entry)


def _read_v1(headers: _Headers, body: bytes) -> Iterator[_Ask]:
    if _version(body) == 1:
        content, where = body, "JSON body"
    else:
        sent = _values(headers, x402_v1.CHALLENGE_HEADER)
        if not sent:
            return
        where = x402_v1.CHALLENGE_HEADER
        try:
            content = b64_decode(sent[0], where)
        except MalformedError as error:
            yield partial(_fail, error)
            return
    try:
        accepts = x402_v1.decode_payment_required(content).accepts
    except MalformedError as error:
        yield partial(_fail, error)
        return
    for entry in accepts:
        yield partial(_v1_ask, entry, where)


def _v1_ask(entry: dict[str, Any], where: str, known: _Known) -> Asked:
    requirements = x402_v1.decode_requirements(_with_extra(entry, known), where)
    return Asked(Protocol.X402_V1, where, x402.from_requirements_v1(requirements))


_READERS = ((Protocol.MPP, _read_mpp), (Protocol.X402_V2, _read_v2), (Protocol.X402_V1, _read_v1))


class _Versioned(msgspec.Struct, rename="camel"):
    x402_version: int


def _version(body: bytes) -> int | None:
    if len(body) > x402_v1.MAX_BODY_BYTES:
        return None
    try:
        return msgspec.json.decode(body, type=_Versioned).x402_version
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _with_extra(entry: dict[str, Any], known: _Known) -> dict[str, Any]:
    """The entry with a known token's domain where the server left it out."""
    extra = entry.get("extra")
    network, asset = entry.get("network"), entry.get("asset")
    if not isinstance(network, str) or not isinstance(asset, str) or not isinstance(extra, dict | None):
        return entry
    said: dict[str, Any] = extra or {}
    chain_id = chain_id_from_network(network)
    token = known.get((chain_id, asset.lower())) if chain_id else None
    if token is None or ("name" in said and "version" in said):
        return entry
    return entry | {"extra": {"name": token.name, "version": token.version} | said}


def _with_domain(asked: Asked, known: _Known) -> Asked:
    """The ask with what is known of its token; raises where the server says something else of it."""
    asset = asked.offer.asset
    token = known.get((asset.chain_id, asset.address))
    if token is None:
        return asked
    if (asset.name, asset.version) != (token.name, token.version):
        raise MalformedError(
            f"the token at {token.address} signs as {token.name!r}, version {token.version!r},"
            f" and the server says {asset.name!r}, version {asset.version!r}"
        )
    return msgspec.structs.replace(asked, offer=msgspec.structs.replace(asked.offer, asset=token))


def to_sign(asked: Asked, payer: str, *, now: float, nonce: bytes, longest: int | None = None) -> Authorization:
    """The authorization, still unsigned, of exactly what was asked.

    `nonce` is 32 random bytes, used where the protocol leaves the choice to the payer (x402). `longest` bounds how
    many seconds from `now` on it may be settled; without it, as long as the server asks.
    """
    offer = asked.offer
    if asked.challenge is not None:
        nonce = challenge_hash(asked.challenge)
        valid_after = 0
        valid_before = parse_time(asked.challenge.expires) if asked.challenge.expires else int(now) + 300
    else:
        valid_after, valid_before = int(now) - VALID_SINCE_SECONDS, int(now) + offer.max_timeout_seconds
    if longest is not None:
        valid_before = min(valid_before, int(now) + longest)
    return Authorization(
        payer=payer,
        recipient=offer.recipient,
        value=offer.amount,
        valid_after=valid_after,
        valid_before=valid_before,
        nonce="0x" + nonce.hex(),
        signature=b"",
    )


def to_payment(asked: Asked, unsigned: Authorization, signature: bytes) -> Payment:
    """The payment that `signature` makes of what was to be signed, bound as its protocol binds it."""
    asset = asked.offer.asset
    binding: Binding
    if asked.challenge is not None:
        binding = ChallengeBinding(asked.challenge.id, asked.challenge.realm)
    else:
        # x402 v2, section 5.1.2: what the server said among its extensions is echoed.
        binding = ResourceBinding(extensions=asked.required.extensions if asked.required is not None else None)
    signed = msgspec.structs.replace(unsigned, signature=signature)
    return Payment(asked.protocol, asset.chain_id, asset.address, signed, binding)


def envelope(asked: Asked, payment: Payment, identifier: str | None = None) -> tuple[str, str]:
    """The header and value that answer `asked` with `payment`.

    `identifier` is the client's own id of its request, told to an x402 v2 server that listens for one.
    """
    match asked.protocol:
        case Protocol.X402_V1:
            return x402_v1.CREDENTIAL_HEADER, x402_v1.encode_payment_payload(x402.to_payload_v1(payment))
        case Protocol.X402_V2:
            assert asked.required is not None
            assert asked.entry is not None
            payload = x402.to_payload_v2(payment, asked.entry, asked.required.resource)
            if identifier is not None:
                payload = msgspec.structs.replace(payload, extensions=_identified(payload.extensions, identifier))
            return x402_v2.CREDENTIAL_HEADER, x402_v2.encode_payment_payload(payload)
        case Protocol.MPP:
            assert asked.challenge is not None
            name = _CREDENTIAL_HEADERS[(asked.challenge.header or mpp_wire.CREDENTIAL_HEADER).lower()]
            wire = mpp_wire.encode_credential(mpp.to_credential(payment, asked.challenge))
            return name, f"{mpp_wire.SCHEME} {wire}"


def _identified(extensions: dict[str, Any] | None, identifier: str) -> dict[str, Any] | None:
    extension = (extensions or {}).get(PAYMENT_IDENTIFIER)
    if extensions is None or not isinstance(extension, dict) or not isinstance(extension.get("info"), dict):
        return extensions
    # x402 v2, section 5.1.2: a client may add to what it echoes, and removes nothing.
    return extensions | {PAYMENT_IDENTIFIER: extension | {"info": extension["info"] | {"id": identifier}}}


def in_envelope_of(payment: Payment, asked: Asked) -> Payment | None:
    """The same signed authorization as an answer to another ask, or None where it does not fit.

    x402 takes any nonce, so what was signed for an MPP challenge pays an x402 ask on the same terms: one authorization,
    which can move money once, however many envelopes it is sent in.
    """
    signed, offer = payment.authorization, asked.offer
    if asked.protocol is Protocol.MPP or (payment.chain_id, payment.asset) != (
        offer.asset.chain_id,
        offer.asset.address,
    ):
        return None
    if (signed.value, signed.recipient) != (offer.amount, offer.recipient):
        return None
    return to_payment(asked, signed, signed.signature)
