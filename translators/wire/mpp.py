"""MPP over HTTP: the `Payment` authentication scheme, and the `evm` method's `charge` intent.

Sources: draft-httpauth-payment-00 (challenge, credential, receipt, problems), draft-payment-intent-charge-00 and
draft-evm-charge-00 (the `request`, the `authorization` payload, the receipt's members).
"""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from translators.auth_params import format_challenge, parse_challenges
from translators.encoding import b64_decode, b64url_encode, jcs_encode, json_decode
from translators.errors import MalformedError

__all__ = [
    "ACCEPT_HEADER",
    "ALTERNATIVE_CREDENTIAL_HEADER",
    "CHALLENGE_HEADER",
    "CREDENTIAL_HEADER",
    "RECEIPT_HEADER",
    "SCHEME",
    "AuthorizationPayload",
    "Challenge",
    "ChargeRequest",
    "Credential",
    "EvmMethodDetails",
    "Receipt",
    "decode_challenges",
    "decode_charge_request",
    "decode_credential",
    "decode_opaque",
    "decode_payload",
    "decode_payload_type",
    "decode_receipt",
    "encode_challenge",
    "encode_charge_request",
    "encode_credential",
    "encode_opaque",
    "encode_payload",
    "encode_receipt",
]

SCHEME = "Payment"
CHALLENGE_HEADER = "WWW-Authenticate"
CREDENTIAL_HEADER = "Authorization"
ALTERNATIVE_CREDENTIAL_HEADER = "Payment-Authorization"
"""Carries the credential where the API uses `Authorization` itself; the challenge then says so in `header`."""
RECEIPT_HEADER = "Payment-Receipt"
ACCEPT_HEADER = "Accept-Payment"


class Challenge(msgspec.Struct, omit_defaults=True, kw_only=True, frozen=True):
    """The auth-params of one challenge, and their echo in a credential.

    `request` and `opaque` stay base64url text: the challenge id covers them as they are on the wire.
    """

    id: str
    realm: str
    method: str
    intent: str
    request: str
    expires: str | None = None
    digest: str | None = None
    description: str | None = None
    opaque: str | None = None
    header: str | None = None


ChainId = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
"""An EIP-155 chain id, up to what every JSON implementation reads exactly."""


class EvmMethodDetails(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """`methodDetails` of an evm charge (draft-evm-charge-00, section "Method Details")."""

    chain_id: ChainId
    credential_types: list[str] | None = None
    decimals: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    permit2_address: str | None = None
    splits: list[dict[str, Any]] | None = None


class ChargeRequest(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """`request` of an evm charge: atomic units as a string, addresses as `0x` hexadecimal."""

    amount: str
    currency: str
    recipient: str
    method_details: EvmMethodDetails
    description: str | None = None
    external_id: str | None = None


class AuthorizationPayload(msgspec.Struct, rename="camel", tag_field="type", tag="authorization", kw_only=True):
    """The evm payload of type `authorization`: an EIP-3009 authorization whose nonce is the challenge's hash."""

    from_: str = msgspec.field(name="from")
    to: str
    value: str
    valid_after: str
    valid_before: str
    nonce: str
    signature: str

    def __repr__(self) -> str:
        """Leave the signature out: a repr ends up in logs."""
        return f"AuthorizationPayload(from_={self.from_!r}, value={self.value!r}, nonce={self.nonce!r})"


class Credential(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What `Authorization: Payment` carries."""

    challenge: Challenge
    payload: msgspec.Raw
    source: str | None = None


class Receipt(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What `Payment-Receipt` carries; `reference` is the transaction hash, `timestamp` RFC 3339."""

    status: str
    method: str
    timestamp: str
    reference: str
    challenge_id: str | None = None
    chain_id: int | None = None
    external_id: str | None = None


class _PayloadType(msgspec.Struct):
    type: str


_CREDENTIAL = msgspec.json.Decoder(Credential)
_PAYLOAD = msgspec.json.Decoder(AuthorizationPayload)
_PAYLOAD_TYPE = msgspec.json.Decoder(_PayloadType)
_REQUEST = msgspec.json.Decoder(ChargeRequest)
_OPAQUE = msgspec.json.Decoder(dict[str, str])
_RECEIPT = msgspec.json.Decoder(Receipt)
_ENCODER = msgspec.json.Encoder()
_PARAMS = Challenge.__struct_fields__


def decode_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Every `Payment` challenge in the given `WWW-Authenticate` values, in order; other schemes are passed over.

    Raises `MalformedError` for a value outside the grammar, and for a `Payment` challenge that lacks a required
    parameter or has an empty `id` (draft-httpauth-payment-00, section "Required Parameters").
    """
    challenges = []
    for header in headers:
        for scheme, params, _ in parse_challenges(header):
            if scheme.lower() != SCHEME.lower():
                continue
            known = {name: params[name] for name in _PARAMS if name in params}
            missing = [name for name in ("id", "realm", "method", "intent", "request") if name not in known]
            if missing or not known["id"]:
                raise MalformedError(f"a Payment challenge has no {missing[0] if missing else 'id'}")
            challenges.append(Challenge(**known))
    return challenges


def encode_challenge(challenge: Challenge) -> str:
    """One `WWW-Authenticate` value. Raises `ValueError` for a parameter that no header can carry."""
    params = {name: value for name in _PARAMS if (value := getattr(challenge, name)) is not None}
    return format_challenge(SCHEME, params)


def decode_credential(token: str | bytes) -> Credential:
    """Read what follows `Payment ` in the credential header. Raises `MalformedError`."""
    return json_decode(b64_decode(token, CREDENTIAL_HEADER), _CREDENTIAL, "the Payment credential")


def encode_credential(credential: Credential) -> str:
    """Write what follows `Payment ` in the credential header."""
    return b64url_encode(_ENCODER.encode(credential))


def decode_payload_type(payload: msgspec.Raw) -> str:
    """The `type` of a credential's payload. Raises `MalformedError`."""
    return json_decode(bytes(payload), _PAYLOAD_TYPE, "the Payment credential's payload", is_part=True).type


def decode_payload(payload: msgspec.Raw) -> AuthorizationPayload:
    """Read a payload of type `authorization`. Raises `MalformedError`."""
    return json_decode(bytes(payload), _PAYLOAD, "the Payment credential's payload", is_part=True)


def encode_payload(payload: AuthorizationPayload) -> msgspec.Raw:
    """Write a payload."""
    return msgspec.Raw(_ENCODER.encode(payload))


def decode_charge_request(request: str) -> ChargeRequest:
    """Read a challenge's `request`. Raises `MalformedError`."""
    return json_decode(b64_decode(request, "request"), _REQUEST, "request")


def encode_charge_request(request: ChargeRequest) -> str:
    """Write a challenge's `request`: JCS, then base64url."""
    return b64url_encode(jcs_encode(msgspec.to_builtins(request)))


def decode_opaque(opaque: str) -> dict[str, str]:
    """Read a challenge's `opaque`, a flat map of strings. Raises `MalformedError`."""
    return json_decode(b64_decode(opaque, "opaque"), _OPAQUE, "opaque")


def encode_opaque(opaque: dict[str, str]) -> str:
    """Write a challenge's `opaque`: JCS, then base64url."""
    return b64url_encode(jcs_encode(opaque))


def decode_receipt(header: str | bytes) -> Receipt:
    """Read `Payment-Receipt`. Raises `MalformedError`."""
    return json_decode(b64_decode(header, RECEIPT_HEADER), _RECEIPT, RECEIPT_HEADER)


def encode_receipt(receipt: Receipt) -> str:
    """Write `Payment-Receipt`."""
    return b64url_encode(_ENCODER.encode(receipt))
