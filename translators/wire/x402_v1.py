"""x402 version 1 over HTTP (x402-specification-v1, transports-v1/http).

The challenge is the JSON body of the 402; by custom the same JSON also travels as base64 in `X-PAYMENT-REQUIRED`.
"""

from typing import Any

import msgspec

from translators.encoding import b64_decode, b64_encode, json_decode
from translators.errors import MalformedError, UnsupportedVersion
from translators.wire.exact_evm import ExactEvmPayload, decode_exact_evm_payload

__all__ = [
    "CHALLENGE_HEADER",
    "CREDENTIAL_HEADER",
    "MAX_BODY_BYTES",
    "RECEIPT_HEADER",
    "PaymentPayload",
    "PaymentRequirements",
    "PaymentRequirementsResponse",
    "SettlementResponse",
    "decode_payment_payload",
    "decode_payment_required",
    "decode_requirements",
    "decode_settlement_response",
    "encode_payment_payload",
    "encode_payment_required",
    "encode_settlement_response",
]

CHALLENGE_HEADER = "X-PAYMENT-REQUIRED"
CREDENTIAL_HEADER = "X-PAYMENT"
RECEIPT_HEADER = "X-PAYMENT-RESPONSE"

MAX_BODY_BYTES = 256 * 1024
"""The longest 402 body that is read, in bytes."""


class PaymentRequirements(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One entry of `accepts` (x402 v1, section 5.1.2)."""

    scheme: str
    network: str
    max_amount_required: str
    asset: str
    pay_to: str
    resource: str
    description: str
    max_timeout_seconds: int
    mime_type: str | None = None
    output_schema: dict[str, Any] | None = None
    extra: dict[str, Any] | None = None


class PaymentRequirementsResponse(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The 402 body. Entries of `accepts` stay as they came: unknown members survive on their way through.

    `error` is left out where there is none: v1's own client takes its absence, not `null`.
    """

    x402_version: int
    error: str | None = None
    accepts: list[dict[str, Any]]


class PaymentPayload(msgspec.Struct, rename="camel", kw_only=True):
    """What `X-PAYMENT` carries. It does not echo what it accepts."""

    x402_version: int
    scheme: str
    network: str
    payload: msgspec.Raw

    def exact_evm(self) -> ExactEvmPayload:
        """The `payload` member of scheme `exact` on EVM; raises `MalformedError` for another shape."""
        return decode_exact_evm_payload(self.payload, CREDENTIAL_HEADER)


class SettlementResponse(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What `X-PAYMENT-RESPONSE` carries (x402 v1, section 5.3). `transaction` is empty when settlement failed."""

    success: bool
    transaction: str
    network: str
    payer: str | None = None
    error_reason: str | None = None


_PAYLOAD = msgspec.json.Decoder(PaymentPayload)
_REQUIRED = msgspec.json.Decoder(PaymentRequirementsResponse)
_SETTLEMENT = msgspec.json.Decoder(SettlementResponse)
_ENCODER = msgspec.json.Encoder()


def decode_payment_payload(header: str | bytes) -> PaymentPayload:
    """Read `X-PAYMENT`. Raises `MalformedError`, or `UnsupportedVersion` for another `x402Version` than 1."""
    payload = json_decode(b64_decode(header, CREDENTIAL_HEADER), _PAYLOAD, CREDENTIAL_HEADER)
    if payload.x402_version != 1:
        raise UnsupportedVersion(f"{CREDENTIAL_HEADER} carries x402Version 1")
    return payload


def encode_payment_payload(payload: PaymentPayload) -> str:
    """Write `X-PAYMENT`."""
    return b64_encode(_ENCODER.encode(payload))


def decode_payment_required(body: bytes) -> PaymentRequirementsResponse:
    """Read a 402 body. Raises `MalformedError` for anything but a version 1 body of at most 256 KiB."""
    if len(body) > MAX_BODY_BYTES:
        raise MalformedError(f"the 402 body is longer than {MAX_BODY_BYTES} bytes")
    required = json_decode(body, _REQUIRED, "the 402 body")
    if required.x402_version != 1:
        raise UnsupportedVersion("the 402 body is not x402Version 1")
    return required


def encode_payment_required(required: PaymentRequirementsResponse) -> bytes:
    """Write a 402 body; base64 of the same bytes is `X-PAYMENT-REQUIRED`."""
    return _ENCODER.encode(required)


def decode_requirements(entry: dict[str, Any], what: str) -> PaymentRequirements:
    """Read one entry of `accepts`. Raises `MalformedError`; `what` names the source in it."""
    try:
        return msgspec.convert(entry, PaymentRequirements)
    except msgspec.ValidationError as error:
        raise MalformedError(f"{what}: {error}") from None


def decode_settlement_response(header: str | bytes) -> SettlementResponse:
    """Read `X-PAYMENT-RESPONSE`. Raises `MalformedError`."""
    return json_decode(b64_decode(header, RECEIPT_HEADER), _SETTLEMENT, RECEIPT_HEADER)


def encode_settlement_response(response: SettlementResponse) -> str:
    """Write `X-PAYMENT-RESPONSE`."""
    return b64_encode(_ENCODER.encode(response))
