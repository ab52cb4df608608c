"""The `payload` of x402's `exact` on EVM, the same in both versions (scheme_exact_evm, asset transfer `eip3009`)."""

import msgspec

from translators.encoding import json_decode

__all__ = ["ExactEvmAuthorization", "ExactEvmPayload", "decode_exact_evm_payload", "encode_exact_evm_payload"]


class ExactEvmAuthorization(msgspec.Struct, rename="camel", kw_only=True):
    """The EIP-3009 message. Numbers are decimal strings: atomic units and Unix seconds."""

    from_: str = msgspec.field(name="from")
    to: str
    value: str
    valid_after: str
    valid_before: str
    nonce: str


class ExactEvmPayload(msgspec.Struct, rename="camel", kw_only=True):
    """A signature and what it signs."""

    signature: str
    authorization: ExactEvmAuthorization

    def __repr__(self) -> str:
        """Leave the signature out: a repr ends up in logs."""
        return f"ExactEvmPayload(authorization={self.authorization!r})"


_DECODER = msgspec.json.Decoder(ExactEvmPayload)
_ENCODER = msgspec.json.Encoder()


def decode_exact_evm_payload(payload: bytes | msgspec.Raw, what: str) -> ExactEvmPayload:
    """Read the member `payload` of what was decoded. Raises `MalformedError`; `what` names the header in it."""
    return json_decode(bytes(payload), _DECODER, f"{what} payload", is_part=True)


def encode_exact_evm_payload(payload: ExactEvmPayload) -> msgspec.Raw:
    """Write the member `payload`."""
    return msgspec.Raw(_ENCODER.encode(payload))
