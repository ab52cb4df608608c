"""Accounts and EIP-712 signatures for the demo token's tests."""

import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from bridge.demo.token import CHAIN_ID, TOKEN_ADDRESS, TOKEN_NAME, TOKEN_VERSION

Send = Callable[[Any], Awaitable[Any]]
"""The `send` fixture: a contract call in, its receipt out."""

SETTLER: LocalAccount = Account.from_key("0x" + "11" * 32)
PAYER: LocalAccount = Account.from_key("0x" + "22" * 32)
POOR: LocalAccount = Account.from_key("0x" + "33" * 32)
RECIPIENT = "0x" + "44" * 20

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

_TRANSFER = "address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce"
TYPES = {
    "TransferWithAuthorization": _TRANSFER,
    "ReceiveWithAuthorization": _TRANSFER,
    "CancelAuthorization": "address authorizer,bytes32 nonce",
    "Permit": "address owner,address spender,uint256 value,uint256 nonce,uint256 deadline",
}

_nonces = itertools.count(1)


@dataclass(frozen=True)
class Transfer:
    """An authorization to move money, good for a minute unless a test says otherwise."""

    sender: str = PAYER.address
    to: str = RECIPIENT
    value: int = 1_000
    valid_after: int = 0
    valid_before: int = field(default_factory=lambda: int(time.time()) + 60)
    nonce: bytes = field(default_factory=lambda: next(_nonces).to_bytes(32, "big"))

    @property
    def arguments(self) -> tuple[Any, ...]:
        return (self.sender, self.to, self.value, self.valid_after, self.valid_before, self.nonce)

    def sign(self, key: LocalAccount = PAYER, *, kind: str = "TransferWithAuthorization") -> "Signature":
        return sign(kind, key, *self.arguments)


@dataclass(frozen=True)
class Signature:
    v: int
    r: int
    s: int

    @property
    def vrs(self) -> tuple[int, bytes, bytes]:
        return self.v, self.r.to_bytes(32, "big"), self.s.to_bytes(32, "big")

    @property
    def packed(self) -> bytes:
        return self.r.to_bytes(32, "big") + self.s.to_bytes(32, "big") + bytes([self.v])

    @property
    def mirrored(self) -> "Signature":
        """The other signature of the same message, which EIP-2 forbids."""
        return Signature(55 - self.v, self.r, CURVE_ORDER - self.s)


def sign(kind: str, key: LocalAccount, *values: Any) -> Signature:
    fields = [dict(zip(("type", "name"), item.split(), strict=True)) for item in TYPES[kind].split(",")]
    signed = Account.sign_typed_data(
        key.key,
        domain_data={
            "name": TOKEN_NAME,
            "version": TOKEN_VERSION,
            "chainId": CHAIN_ID,
            "verifyingContract": TOKEN_ADDRESS,
        },
        message_types={kind: fields},
        message_data={item["name"]: value for item, value in zip(fields, values, strict=True)},
    )
    return Signature(signed.v, signed.r, signed.s)


def payment(nonce: int, **overrides: Any) -> str:
    """A signed transaction from the settler that sends one wei."""
    transaction = {
        "chainId": CHAIN_ID,
        "nonce": nonce,
        "maxFeePerGas": 2 * 10**9,
        "maxPriorityFeePerGas": 10**6,
        "gas": 21_000,
        "to": RECIPIENT,
        "value": 1,
        **overrides,
    }
    return "0x" + SETTLER.sign_transaction(transaction).raw_transaction.hex()
