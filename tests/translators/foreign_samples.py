"""Entries of `accepts` that only x402 v2 can say, and a good payload for each."""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from tests.translators import samples
from translators.encoding import b64_encode
from translators.foreign import EXACT_PERMIT2_PROXY, UPTO_PERMIT2_PROXY, X402Only, to_foreign_offer
from translators.payment import Offer
from translators.wire import x402_v2

NOW = samples.NOW
FACILITATOR = "0x" + "fa" * 20
SOLANA = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"
FEE_PAYER = "2wKupLR9q6wXYppw8Gr2NvWxKBUqm4PPJKkQfoxHDBg4"
SIGNATURE = "0x" + "5e" * 65

_EVM = {
    "network": "eip155:84532",
    "amount": "10000",
    "asset": samples.USDC.address,
    "payTo": samples.RECIPIENT,
    "maxTimeoutSeconds": 60,
}
PERMIT2 = {"scheme": "exact", **_EVM, "extra": {"assetTransferMethod": "permit2", "name": "USDC", "version": "2"}}
UPTO = {"scheme": "upto", **_EVM, "extra": {"name": "USDC", "version": "2", "facilitatorAddress": FACILITATOR}}
ERC7710 = {"scheme": "exact", **_EVM, "extra": {"assetTransferMethod": "erc7710"}}
SVM = {
    "scheme": "exact",
    "network": SOLANA,
    "amount": "1000",
    "asset": "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU",
    "payTo": "9B5XszUGdMaxCZ7uSQhPzdks5ZQSmWxrmzCSvtJ6Ns6g",
    "maxTimeoutSeconds": 60,
    "extra": {"feePayer": FEE_PAYER},
}
SUI = {
    "scheme": "exact",
    "network": "sui:mainnet",
    "amount": "1000",
    "asset": "0xdba3::usdc::USDC",
    "payTo": "0x1eb7c57e3f2bd0fc6cb9dcffd143ea957e4d98f805c358733f76dee0667fe0b1",
    "maxTimeoutSeconds": 60,
}
ENTRIES: dict[str, dict[str, Any]] = {"permit2": PERMIT2, "upto": UPTO, "erc7710": ERC7710, "solana": SVM, "sui": SUI}


def permit2(scheme: str = "exact", **changes: Any) -> dict[str, Any]:
    """A Permit2 payload; a change is named by its member, `to`, `validAfter` and `facilitator` in the witness."""
    upto = scheme == "upto"
    witness = {"to": samples.RECIPIENT, "validAfter": "0", **({"facilitator": FACILITATOR} if upto else {})}
    witness |= {name: changes.pop(name) for name in ("to", "validAfter", "facilitator") if name in changes}
    permitted = {"token": changes.pop("token", samples.USDC.address), "amount": changes.pop("amount", "10000")}
    return {
        "signature": changes.pop("signature", SIGNATURE),
        "permit2Authorization": {
            "permitted": permitted,
            "from": samples.PAYER,
            "spender": UPTO_PERMIT2_PROXY if upto else EXACT_PERMIT2_PROXY,
            "nonce": "255",
            "deadline": str(NOW + 60),
            "witness": witness,
            **changes,
        },
    }


def key(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _base58_decode(text: str) -> bytes:
    number = 0
    for letter in text:
        number = number * 58 + "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".index(letter)
    return number.to_bytes(32, "big")


def transaction(
    *,
    signatures: Iterable[bytes] = (bytes(64), b"\x01" * 64),
    versioned: bool = True,
    memo: bytes = b"memo",
    after: bytes = b"",
    count: bytes | None = None,
) -> bytes:
    """A Solana transaction of the right form: the facilitator pays the fee, one payer signs, one memo."""
    signed = list(signatures)
    keys = [_base58_decode(FEE_PAYER), key("payer"), key("memo program")]
    message = (b"\x80" if versioned else b"") + bytes((2, 1, 1, len(keys))) + b"".join(keys) + key("blockhash")
    message += bytes((1, 2, 1, 1, len(memo))) + memo + (b"\0" if versioned else b"")
    return (count or bytes((len(signed),))) + b"".join(signed) + message + after


def payload_of(name: str) -> dict[str, Any]:
    match name:
        case "permit2" | "upto":
            return permit2("upto" if name == "upto" else "exact")
        case "erc7710":
            return {
                "delegationManager": "0x" + "d0" * 20,
                "permissionContext": "0x" + "5e" * 200,
                "delegator": samples.PAYER,
            }
        case "solana":
            return {"transaction": b64_encode(transaction())}
        case _:
            return {"signature": b64_encode(b"\x5e" * 97), "transaction": b64_encode(b"\x5e" * 300)}


def offer(name: str) -> Offer:
    return to_foreign_offer(X402Only(ENTRIES[name]))


def wire(
    name: str, payload: Any = None, *, accepted: dict[str, Any] | None = None, **more: Any
) -> x402_v2.PaymentPayload:
    """What a client sends that takes up the entry."""
    content = msgspec.json.encode(payload_of(name) if payload is None else payload)
    return x402_v2.PaymentPayload(
        x402_version=2, accepted=accepted or ENTRIES[name], payload=msgspec.Raw(content), **more
    )
