"""The payloads of x402 v2 that no other protocol can carry: Permit2 (`exact` and `upto`), ERC-7710, a transaction.

Sources: scheme_exact_evm (sections 2 and 3), scheme_upto_evm, scheme_exact_svm. Members that are not named here survive
on their way to the facilitator, which gets the payload as it came.
"""

from typing import Any

import msgspec

from translators.encoding import json_decode

__all__ = [
    "Erc7710Payload",
    "Permit2Authorization",
    "Permit2Payload",
    "Permit2Witness",
    "TokenPermissions",
    "TransactionPayload",
    "decode_erc7710_payload",
    "decode_object_payload",
    "decode_permit2_payload",
    "decode_transaction_payload",
]

_WHAT = "PAYMENT-SIGNATURE payload"


class TokenPermissions(msgspec.Struct):
    """The token and the most that may be taken of it, in atomic units as a decimal string."""

    token: str
    amount: str


class Permit2Witness(msgspec.Struct, rename="camel"):
    """What the payer signs beside the permit: to whom it goes, and for `upto` by whose hand."""

    to: str
    valid_after: str
    facilitator: str | None = None


class Permit2Authorization(msgspec.Struct, rename="camel", kw_only=True):
    """The message `PermitWitnessTransferFrom`, and its owner."""

    permitted: TokenPermissions
    from_: str = msgspec.field(name="from")
    spender: str
    nonce: str
    deadline: str
    witness: Permit2Witness


class Permit2Payload(msgspec.Struct, kw_only=True):
    """A signature and what it signs."""

    signature: str
    permit2_authorization: Permit2Authorization = msgspec.field(name="permit2Authorization")

    def __repr__(self) -> str:
        """Leave the signature out: a repr ends up in logs."""
        return f"Permit2Payload(permit2_authorization={self.permit2_authorization!r})"


class Erc7710Payload(msgspec.Struct, rename="camel", kw_only=True):
    """A delegation, opaque to everybody but its manager."""

    delegation_manager: str
    permission_context: str
    delegator: str

    def __repr__(self) -> str:
        """Leave the delegation out: whoever holds it can use it."""
        return f"Erc7710Payload(delegator={self.delegator!r})"


class TransactionPayload(msgspec.Struct):
    """A transaction that its payer has signed, as base64."""

    transaction: str

    def __repr__(self) -> str:
        """Leave the transaction out: its signatures are in it."""
        return "TransactionPayload()"


_PERMIT2 = msgspec.json.Decoder(Permit2Payload)
_ERC7710 = msgspec.json.Decoder(Erc7710Payload)
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_TRANSACTION = msgspec.json.Decoder(TransactionPayload)


def decode_permit2_payload(payload: msgspec.Raw) -> Permit2Payload:
    """Read a Permit2 payload. Raises `MalformedError`."""
    return json_decode(bytes(payload), _PERMIT2, _WHAT)


def decode_erc7710_payload(payload: msgspec.Raw) -> Erc7710Payload:
    """Read an ERC-7710 payload. Raises `MalformedError`."""
    return json_decode(bytes(payload), _ERC7710, _WHAT)


def decode_object_payload(payload: msgspec.Raw) -> dict[str, Any]:
    """Read a payload of which only that it is an object is known. Raises `MalformedError`."""
    return json_decode(bytes(payload), _OBJECT, _WHAT)


def decode_transaction_payload(payload: msgspec.Raw) -> TransactionPayload:
    """Read a payload that is a transaction. Raises `MalformedError`."""
    return json_decode(bytes(payload), _TRANSACTION, _WHAT)
