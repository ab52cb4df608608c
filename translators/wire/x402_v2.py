"""x402 version 2 over HTTP (x402-specification-v2, transports-v2/http).

What a client must echo (an entry of `accepts`, the resource, the extensions) stays a JSON object here, so that members
which this code does not know survive.
"""

from typing import Any

import msgspec

from translators.encoding import b64_decode, b64_encode, json_decode
from translators.errors import MalformedError, UnsupportedVersion
from translators.wire.exact_evm import ExactEvmPayload, decode_exact_evm_payload

__all__ = [
    "CHALLENGE_HEADER",
    "CREDENTIAL_HEADER",
    "RECEIPT_HEADER",
    "PaymentPayload",
    "PaymentRequired",
    "PaymentRequirements",
    "ResourceInfo",
    "SettlementResponse",
    "decode_payment_payload",
    "decode_payment_required",
    "decode_requirements",
    "decode_settlement_response",
    "encode_payment_payload",
    "encode_payment_required",
    "encode_settlement_response",
]

CHALLENGE_HEADER = "PAYMENT-REQUIRED"
CREDENTIAL_HEADER = "PAYMENT-SIGNATURE"
RECEIPT_HEADER = "PAYMENT-RESPONSE"


class PaymentRequirements(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One entry of `accepts` (x402 v2, section 5.1.2)."""

    scheme: str
    network: str
    amount: str
    asset: str
    pay_to: str
    max_timeout_seconds: int
    extra: dict[str, Any] | None = None


class ResourceInfo(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What is paid for (x402 v2, section 5.1.2)."""

    url: str
    description: str | None = None
    mime_type: str | None = None


class PaymentRequired(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What `PAYMENT-REQUIRED` carries."""

    x402_version: int
    error: str | None = None
    resource: dict[str, Any] | None = None
    accepts: list[dict[str, Any]]
    extensions: dict[str, Any] | None = None


class PaymentPayload(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What `PAYMENT-SIGNATURE` carries: the accepted entry echoed, and the scheme's own payload."""

    x402_version: int
    resource: dict[str, Any] | None = None
    accepted: dict[str, Any]
    payload: msgspec.Raw
    extensions: dict[str, Any] | None = None

    def exact_evm(self) -> ExactEvmPayload:
        """The `payload` member of scheme `exact` on EVM; raises `MalformedError` for another shape."""
        return decode_exact_evm_payload(self.payload, CREDENTIAL_HEADER)


class SettlementResponse(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What `PAYMENT-RESPONSE` carries (x402 v2, section 5.3). `transaction` is empty when settlement failed."""

    success: bool
    transaction: str
    network: str
    payer: str | None = None
    amount: str | None = None
    error_reason: str | None = None
    extensions: dict[str, Any] | None = None


_PAYLOAD = msgspec.json.Decoder(PaymentPayload)
_REQUIRED = msgspec.json.Decoder(PaymentRequired)
_SETTLEMENT = msgspec.json.Decoder(SettlementResponse)
_ENCODER = msgspec.json.Encoder()


def decode_payment_payload(header: str | bytes) -> PaymentPayload:
    """Read `PAYMENT-SIGNATURE`. Raises `MalformedError`, or `UnsupportedVersion` for another `x402Version` than 2."""
    payload = json_decode(b64_decode(header, CREDENTIAL_HEADER), _PAYLOAD, CREDENTIAL_HEADER)
    if payload.x402_version != 2:
        raise UnsupportedVersion(f"{CREDENTIAL_HEADER} carries x402Version 2")
    return payload


def encode_payment_payload(payload: PaymentPayload) -> str:
    """Write `PAYMENT-SIGNATURE`."""
    return b64_encode(_ENCODER.encode(payload))


def decode_payment_required(header: str | bytes) -> PaymentRequired:
    """Read `PAYMENT-REQUIRED`. Raises `MalformedError`, or `UnsupportedVersion`."""
    required = json_decode(b64_decode(header, CHALLENGE_HEADER), _REQUIRED, CHALLENGE_HEADER)
    if required.x402_version != 2:
        raise UnsupportedVersion(f"{CHALLENGE_HEADER} carries x402Version 2")
    return required


def encode_payment_required(required: PaymentRequired) -> str:
    """Write `PAYMENT-REQUIRED`."""
    return b64_encode(_ENCODER.encode(required))


def decode_requirements(entry: dict[str, Any], what: str) -> PaymentRequirements:
    """Read one entry of `accepts`, or the `accepted` echo. Raises `MalformedError`; `what` names the header in it."""
    try:
        return msgspec.convert(entry, PaymentRequirements)
    except msgspec.ValidationError as error:
        raise MalformedError(f"{what}: {error}") from None


def decode_settlement_response(header: str | bytes) -> SettlementResponse:
    """Read `PAYMENT-RESPONSE`. Raises `MalformedError`."""
    return json_decode(b64_decode(header, RECEIPT_HEADER), _SETTLEMENT, RECEIPT_HEADER)


def encode_settlement_response(response: SettlementResponse) -> str:
    """Write `PAYMENT-RESPONSE`."""
    return b64_encode(_ENCODER.encode(response))
