"""What is said to an EIP-3009 token, and how its answers, refusals and logs are read. Pure.

Every argument but the signature is one static word, so the ABI encoding is written out, as the typed data's is in
`translators.eip3009`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from translators.eip3009 import EOA_SIGNATURE_BYTES
from translators.errors import (
    AlreadyUsed,
    InsufficientFunds,
    PaymentError,
    PaymentExpired,
    VerificationFailed,
)
from translators.keccak import keccak256
from translators.payment import Authorization

__all__ = [
    "AUTHORIZATION_CANCELED",
    "AUTHORIZATION_USED",
    "DOMAIN_SEPARATOR_CALL",
    "NAME_CALL",
    "VERSION_CALL",
    "address_topic",
    "authorization_state_call",
    "balance_call",
    "moved_money",
    "plain_signature",
    "read_string",
    "refusal",
    "revert_reason",
    "transfer_call",
    "wallet_transfer_call",
]

_FIELDS: Final = b"address,address,uint256,uint256,uint256,bytes32"
_TRANSFER_VRS: Final = keccak256(b"transferWithAuthorization(" + _FIELDS + b",uint8,bytes32,bytes32)")[:4]
_TRANSFER_BYTES: Final = keccak256(b"transferWithAuthorization(" + _FIELDS + b",bytes)")[:4]
_AUTHORIZATION_STATE: Final = keccak256(b"authorizationState(address,bytes32)")[:4]
_BALANCE_OF: Final = keccak256(b"balanceOf(address)")[:4]

DOMAIN_SEPARATOR_CALL: Final = keccak256(b"DOMAIN_SEPARATOR()")[:4]
NAME_CALL: Final = keccak256(b"name()")[:4]
VERSION_CALL: Final = keccak256(b"version()")[:4]

AUTHORIZATION_USED: Final = "0x" + keccak256(b"AuthorizationUsed(address,bytes32)").hex()
AUTHORIZATION_CANCELED: Final = "0x" + keccak256(b"AuthorizationCanceled(address,bytes32)").hex()
_TRANSFER: Final = "0x" + keccak256(b"Transfer(address,address,uint256)").hex()

_ERROR_STRING: Final = keccak256(b"Error(string)")[:4]


def transfer_call(authorization: Authorization) -> bytes:
    """The calldata that settles `authorization`, signed by the payer's own key.

    65 bytes go as v, r and s, which every EIP-3009 token takes; any other length goes as `bytes`.
    """
    signature = plain_signature(authorization.signature)
    if len(signature) == EOA_SIGNATURE_BYTES:
        return _TRANSFER_VRS + _terms(authorization) + signature[64].to_bytes(32, "big") + signature[:64]
    return wallet_transfer_call(authorization, signature)


def wallet_transfer_call(authorization: Authorization, signature: bytes) -> bytes:
    """The calldata that settles `authorization` by a contract wallet's `signature`, every byte as it came.

    Those tokens take it that know contract wallets (FiatToken from v2.2 on).
    """
    offset, length = (7 * 32).to_bytes(32, "big"), len(signature).to_bytes(32, "big")
    return _TRANSFER_BYTES + _terms(authorization) + offset + length + signature + bytes(-len(signature) % 32)


def plain_signature(signature: bytes) -> bytes:
    """A key's 65 bytes with v as 27 or 28, as tokens want it: some signers write the recovery id alone (0 or 1)."""
    if len(signature) == EOA_SIGNATURE_BYTES and signature[64] in (0, 1):
        return signature[:64] + bytes((signature[64] + 27,))
    return signature


def authorization_state_call(payer: str, nonce: str) -> bytes:
    """Calldata that asks whether the payer's nonce is used or canceled."""
    return _AUTHORIZATION_STATE + _word(payer) + bytes.fromhex(nonce[2:])


def balance_call(payer: str) -> bytes:
    """Calldata that asks for the payer's balance, in atomic units."""
    return _BALANCE_OF + _word(payer)


def address_topic(address: str) -> str:
    """An address as an indexed log topic."""
    return "0x" + _word(address).hex()


def read_string(answer: bytes) -> str | None:
    """The single ABI-encoded string of `answer`; None where there is none."""
    length = int.from_bytes(answer[32:64], "big")
    if len(answer) < 64 or len(answer) < 64 + length:
        return None
    return answer[64 : 64 + length].decode("utf-8", "replace")


def revert_reason(message: str, data: Any) -> str:
    """Why a call reverted: the contract's words in the returned data, else the node's message."""
    if isinstance(data, str):
        try:
            returned = bytes.fromhex(data.removeprefix("0x"))
        except ValueError:
            returned = b""
        if returned[:4] == _ERROR_STRING and (reason := read_string(returned[4:])) is not None:
            return reason
    return message


class _Refusal(NamedTuple):
    signs: tuple[str, ...]
    kind: type[PaymentError]
    detail: str
    reason: str | None = None


_REFUSALS: Final = (
    _Refusal(
        ("authorization is used", "authorizationused", "authorizationalreadyused"),
        AlreadyUsed,
        "the authorization is used or canceled",
    ),
    _Refusal(
        ("authorization is expired", "authorizationexpired"),
        PaymentExpired,
        "the authorization has expired by the chain's clock",
    ),
    _Refusal(
        ("authorization is not yet valid", "authorizationnotyetvalid"),
        VerificationFailed,
        "the authorization is not valid yet by the chain's clock",
        "invalid_exact_evm_payload_authorization_valid_after",
    ),
    _Refusal(
        ("exceeds balance", "insufficient balance", "insufficientbalance"),
        InsufficientFunds,
        "the authorization is for more than the payer has",
    ),
    _Refusal(
        ("invalid signature", "invalidsignature", "signermismatch"),
        VerificationFailed,
        "the token refuses the signature",
    ),
    _Refusal(
        ("blacklisted", "blocklisted"),
        VerificationFailed,
        "the token has blocked an account of this payment",
    ),
)
"""What FiatToken reverts with, and tokens like it with a custom error's name, and what it means for a payment."""


def refusal(reason: str) -> PaymentError | None:
    """The error that a token's revert reason stands for; None for words that are not known."""
    words = reason.lower()
    for known in _REFUSALS:
        if any(sign in words for sign in known.signs):
            return known.kind(known.detail, reason=known.reason)
    return None


def moved_money(
    logs: Sequence[Mapping[str, Any]], *, asset: str, payer: str, nonce: str, recipient: str, value: int
) -> bool:
    """Whether a transaction's logs say that this very authorization paid `value` to `recipient`.

    The transfer that belongs to an `AuthorizationUsed` is the token's next log if that is a transfer (as in FiatToken),
    else the one before. Anything looser lets one transfer pass for several authorizations that are used beside it in
    one transaction, each for a transfer to the payer himself (`receiveWithAuthorization` shares the nonces).
    """
    ours = [log for log in logs if str(log["address"]).lower() == asset]
    used = [AUTHORIZATION_USED, address_topic(payer), nonce]
    transfer = [_TRANSFER, address_topic(payer), address_topic(recipient)]
    for index, log in enumerate(ours):
        if _topics(log) != used:
            continue
        after, before = ours[index + 1 : index + 2], ours[max(index - 1, 0) : index]
        candidates = after if after and _topics(after[0])[:1] == [_TRANSFER] else before
        return bool(candidates) and _topics(candidates[0]) == transfer and candidates[0]["data"] == f"0x{value:064x}"
    return False


def _topics(log: Mapping[str, Any]) -> list[str]:
    return [str(topic).lower() for topic in log["topics"]]


def _terms(authorization: Authorization) -> bytes:
    return (
        _word(authorization.payer)
        + _word(authorization.recipient)
        + authorization.value.to_bytes(32, "big")
        + authorization.valid_after.to_bytes(32, "big")
        + authorization.valid_before.to_bytes(32, "big")
        + bytes.fromhex(authorization.nonce[2:])
    )


def _word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])
