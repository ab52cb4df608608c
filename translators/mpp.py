"""Between MPP's evm `charge` and the vocabulary, both ways.

Going out, an offer becomes a challenge that this server can recognise again without keeping it. Coming in, a credential
becomes a `Payment` bound to that challenge; an x402 payment can be written as a credential too, and then only its echo
ties it to anything.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from translators.auth_params import format_challenge
from translators.binding import format_time, is_challenge_hash, issue_id, sign_challenge, signed_slots
from translators.encoding import b64url_encode, jcs_encode
from translators.errors import (
    InvalidChallenge,
    MalformedError,
    MethodUnsupported,
    PaymentInsufficient,
    VerificationFailed,
)
from translators.fields import checksum_address, parse_address, parse_signature, parse_uint256, parse_word
from translators.payment import (
    Asset,
    Authorization,
    ChallengeBinding,
    Offer,
    Payment,
    Protocol,
    ResourceBinding,
    Settlement,
)
from translators.wire.mpp import (
    SCHEME,
    AuthorizationPayload,
    Challenge,
    ChargeRequest,
    Credential,
    EvmMethodDetails,
    Receipt,
    decode_charge_request,
    decode_opaque,
    decode_payload,
    decode_payload_type,
    encode_charge_request,
    encode_opaque,
    encode_payload,
)

__all__ = [
    "INTENT",
    "METHOD",
    "ChallengeTemplate",
    "carried_terms",
    "challenge_template",
    "check_route",
    "encoded_request",
    "from_charge_request",
    "from_credential",
    "from_unbound_credential",
    "issue_challenge",
    "to_challenge",
    "to_charge_request",
    "to_credential",
    "to_receipt",
]

METHOD = "evm"
INTENT = "charge"

_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")

_OPAQUE_NONCE = "n"
_OPAQUE_ROUTE = "r"
_OPAQUE_TERMS = "u"


def to_charge_request(offer: Offer) -> ChargeRequest:
    """The offer, which is not foreign, as the `request` of an evm charge (draft-evm-charge-00, "Request Schema")."""
    assert offer.foreign is None
    return ChargeRequest(
        amount=str(offer.amount),
        currency=checksum_address(offer.asset.address),
        recipient=checksum_address(offer.recipient),
        method_details=EvmMethodDetails(
            chain_id=offer.asset.chain_id, credential_types=["authorization"], decimals=offer.asset.decimals
        ),
    )


def to_challenge(
    request: str,
    *,
    keys: Sequence[bytes],
    realm: str,
    route: str,
    nonce: str,
    expires: float,
    digest: str | None = None,
    description: str | None = None,
    header: str | None = None,
    terms: str | None = None,
) -> Challenge:
    """A challenge for `request` (the encoded charge request of an offer), bound to this route and moment.

    `route` is what the challenge is good for, such as `GET /report`. `nonce` must be fresh: two challenges alike would
    give one payer's two payments the same authorization. `expires` is in Unix seconds. `terms` comes back with the
    credential, unchanged.
    """
    opaque = {_OPAQUE_NONCE: nonce, **_opaque_of(route, terms)}
    return sign_challenge(
        keys,
        Challenge(
            id="",
            realm=realm,
            method=METHOD,
            intent=INTENT,
            request=request,
            expires=format_time(expires),
            digest=digest,
            description=description or None,
            opaque=encode_opaque(opaque),
            header=header,
        ),
    )


class ChallengeTemplate(msgspec.Struct, frozen=True):
    """What all challenges of one offer on one route have in common, encoded once; `issue_challenge` adds the rest."""

    signed_before: str
    signed_after: str
    opaque_after: bytes
    params_before: str
    params_between: str
    params_after: str


def challenge_template(
    request: str,
    *,
    realm: str,
    route: str,
    description: str | None = None,
    header: str | None = None,
    terms: str | None = None,
) -> ChallengeTemplate:
    """The template of the challenges that `to_challenge` makes of these; raises `ValueError` as it does."""
    common = Challenge(id="", realm=realm, method=METHOD, intent=INTENT, request=request, header=header)
    before, after = signed_slots(common)
    return ChallengeTemplate(
        signed_before=before,
        signed_after=after,
        opaque_after=b"," + jcs_encode(_opaque_of(route, terms))[1:],
        params_before=_params(realm=realm, method=METHOD, intent=INTENT, request=request),
        params_between=_params(description=description or None),
        params_after=_params(header=header),
    )


def _opaque_of(route: str, terms: str | None) -> dict[str, str]:
    """What stands in `opaque` besides the nonce."""
    return {_OPAQUE_ROUTE: route} if terms is None else {_OPAQUE_ROUTE: route, _OPAQUE_TERMS: terms}


def _params(**params: str | None) -> str:
    """Parameters as they follow others."""
    present = {name: value for name, value in params.items() if value is not None}
    return format_challenge(",", present) if present else ""


def issue_challenge(
    template: ChallengeTemplate, keys: Sequence[bytes], *, nonce: str, expires: float, digest: str | None = None
) -> str:
    """A `WWW-Authenticate` value: the challenge that `to_challenge` makes of the same arguments, in its encoding."""
    until = format_time(expires)
    # JCS orders members by name, and this one is the first; what needs no escaping is its own JSON.
    said = b'"%b"' % nonce.encode() if _PLAIN.fullmatch(nonce) else jcs_encode(nonce)
    opaque = b64url_encode(b'{"%b":%b%b' % (_OPAQUE_NONCE.encode(), said, template.opaque_after))
    identifier = issue_id(keys, template.signed_before, until, digest or "", template.signed_after + opaque)
    bound = f', digest="{digest}"' if digest else ""
    return (
        f'{SCHEME} id="{identifier}"{template.params_before}, expires="{until}"{bound}{template.params_between}'
        f', opaque="{opaque}"{template.params_after}'
    )


def check_route(challenge: Challenge, realm: str, route: str) -> None:
    """Raise `InvalidChallenge` for a genuine challenge of another realm or route. Call after `check_challenge_id`."""
    opaque = _opaque(challenge.opaque) if challenge.opaque is not None else {}
    if challenge.realm != realm or opaque.get(_OPAQUE_ROUTE) != route:
        raise InvalidChallenge("the challenge was issued for another route")


def carried_terms(challenge: Challenge) -> str | None:
    """The `terms` that a challenge was made with. Call after `check_challenge_id`."""
    opaque = _opaque(challenge.opaque) if challenge.opaque is not None else {}
    return opaque.get(_OPAQUE_TERMS)


def from_charge_request(request: ChargeRequest, name: str, version: str) -> Offer:
    """The terms of a challenge as an offer; the token's EIP-712 `name` and `version` are not on the wire.

    Raises `MethodUnsupported` when the challenge does not take an EIP-3009 authorization, `MalformedError`.
    """
    details = request.method_details
    if details.splits or "authorization" not in (details.credential_types or ()):
        raise MethodUnsupported("the challenge does not take an EIP-3009 authorization")
    return Offer(
        asset=Asset(
            details.chain_id, parse_address(request.currency, "currency"), details.decimals or 0, name, version
        ),
        amount=parse_uint256(request.amount, "amount"),
        recipient=parse_address(request.recipient, "recipient"),
    )


def from_credential(credential: Credential) -> Payment:
    """A credential as a payment on the terms of the challenge that it echoes.

    The echo must have been recognised first (`check_challenge_id`). Raises `MethodUnsupported` for another method,
    intent or payload type, `MalformedError`, and `VerificationFailed` or `PaymentInsufficient` where the payload or
    `source` contradicts the challenge (draft-evm-charge-00, section "Authorization Verification", 3 to 5).
    """
    challenge = credential.challenge
    terms, authorization = _read(credential)
    if not is_challenge_hash(authorization.nonce, challenge):
        raise VerificationFailed("the authorization's nonce is not the challenge's hash")
    return Payment(
        Protocol.MPP,
        terms.chain_id,
        terms.currency,
        authorization,
        ChallengeBinding(
            challenge.id,
            challenge.realm,
            terms.external_id,
            _opaque(challenge.opaque).get(_OPAQUE_NONCE) if challenge.opaque is not None else None,
        ),
    )


def from_unbound_credential(credential: Credential) -> Payment:
    """A credential as a payment whose nonce may be anything: the translation of one that came in x402.

    Everything else is checked, and raised, as in `from_credential`. Such a payment proves no challenge.
    """
    terms, authorization = _read(credential)
    return Payment(Protocol.MPP, terms.chain_id, terms.currency, authorization, ResourceBinding())


def _read(credential: Credential) -> "tuple[_Terms, Authorization]":
    """What the challenge asks and the authorization that pays it: everything but the nonce is checked."""
    challenge = credential.challenge
    if challenge.method != METHOD or challenge.intent != INTENT:
        raise MethodUnsupported("only evm charges are offered")
    payload = _authorization_payload(credential)
    terms = _terms(challenge.request)
    authorization = Authorization(
        payer=parse_address(payload.from_, "from"),
        recipient=parse_address(payload.to, "to"),
        value=parse_uint256(payload.value, "value"),
        valid_after=parse_uint256(payload.valid_after, "validAfter"),
        valid_before=parse_uint256(payload.valid_before, "validBefore"),
        nonce=parse_word(payload.nonce, "nonce"),
        signature=parse_signature(payload.signature),
    )
    _check_terms(terms, authorization)
    _check_source(credential.source, terms.chain_id, authorization.payer)
    return terms, authorization


def _authorization_payload(credential: Credential) -> AuthorizationPayload:
    try:
        return decode_payload(credential.payload)
    except MalformedError:
        if decode_payload_type(credential.payload) != "authorization":
            raise MethodUnsupported("only credentials of type authorization are accepted") from None
        raise


class _Terms(NamedTuple):
    """A charge request, as far as a payment is held against it."""

    chain_id: int
    currency: str
    recipient: str
    amount: int
    has_splits: bool
    external_id: str | None


@lru_cache(maxsize=1024)
def _terms(request: str) -> _Terms:
    """The same few for every payment of a server, so read once."""
    charge = decode_charge_request(request)
    return _Terms(
        charge.method_details.chain_id,
        parse_address(charge.currency, "currency"),
        parse_address(charge.recipient, "recipient"),
        parse_uint256(charge.amount, "amount"),
        bool(charge.method_details.splits),
        charge.external_id,
    )


@lru_cache(maxsize=16)
def _opaque(opaque: str) -> dict[str, str]:
    """Asked for twice in one verification: only read, never changed."""
    return decode_opaque(opaque)


def _check_terms(terms: _Terms, authorization: Authorization) -> None:
    """Raise unless the authorization pays what the challenge asks, and nobody else has a share in it."""
    if terms.has_splits:
        # draft-evm-charge-00, section "Payment Splits": only Permit2 can carry them.
        raise MethodUnsupported("a charge with splits takes no authorization")
    if terms.recipient != authorization.recipient:
        raise VerificationFailed(
            "the payment goes to another recipient", reason="invalid_exact_evm_payload_recipient_mismatch"
        )
    if authorization.value < terms.amount:
        raise PaymentInsufficient("the payment is below the price")
    if authorization.value != terms.amount:
        raise VerificationFailed(
            "the payment is not exactly the price", reason="invalid_exact_evm_payload_authorization_value_mismatch"
        )


def _check_source(source: str | None, chain_id: int, payer: str) -> None:
    """A `did:pkh` source must be the payer; another DID method says nothing that can be held against the proof."""
    if source is None or not source.lower().startswith("did:pkh:"):
        return
    if source.lower() != f"did:pkh:eip155:{chain_id}:{payer}":
        raise VerificationFailed("the source is not the payer")


def to_credential(payment: Payment, challenge: Challenge) -> Credential:
    """Any payment as a credential that answers `challenge`.

    For a payment that was signed for it, a native credential. For an x402 payment, its translation: the payer chose
    the nonce, so only a verifier that knows of `ResourceBinding` accepts it. Raises `ValueError` for a payment whose
    signature is bound to another challenge.
    """
    authorization = payment.authorization
    bound = not isinstance(payment.binding, ResourceBinding)
    if bound and not is_challenge_hash(authorization.nonce, challenge):
        raise ValueError("the payment is bound to another challenge")
    return Credential(
        challenge=challenge,
        source=f"did:pkh:eip155:{payment.chain_id}:{checksum_address(authorization.payer)}",
        payload=encode_payload(
            AuthorizationPayload(
                from_=checksum_address(authorization.payer),
                to=checksum_address(authorization.recipient),
                value=str(authorization.value),
                valid_after=str(authorization.valid_after),
                valid_before=str(authorization.valid_before),
                nonce=authorization.nonce,
                signature="0x" + authorization.signature.hex(),
            )
        ),
    )


def to_receipt(settlement: Settlement, binding: ChallengeBinding | None) -> Receipt:
    """The receipt (draft-evm-charge-00, section "Receipt Generation"); without a binding, for an x402 payer."""
    return Receipt(
        status="success",
        method=METHOD,
        timestamp=format_time(settlement.settled_at),
        reference=settlement.transaction,
        challenge_id=binding.challenge_id if binding else None,
        chain_id=settlement.chain_id,
        external_id=binding.external_id if binding else None,
    )


def encoded_request(offer: Offer) -> str:
    """The encoded `request` of an offer: constant for a route, so made once."""
    return encode_charge_request(to_charge_request(offer))
