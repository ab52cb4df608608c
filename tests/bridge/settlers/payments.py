"""Payments to settle, signed by eth-account, and the accounts that sign them."""

import secrets
import time
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from bridge.stores.base import Record
from translators.lifecycle import State
from translators.networks import KNOWN_TOKENS
from translators.payment import (
    Asset,
    Authorization,
    Binding,
    ChallengeBinding,
    Offer,
    Payment,
    Protocol,
    Resource,
    ResourceBinding,
)

USDC: Asset = next(token for token in KNOWN_TOKENS if token.chain_id == 84532)
RELAYER: LocalAccount = Account.from_key("0x" + "11" * 32)
PAYER: LocalAccount = Account.from_key("0x" + "22" * 32)
POOR: LocalAccount = Account.from_key("0x" + "33" * 32)
RIVAL: LocalAccount = Account.from_key("0x" + "66" * 32)
RECIPIENT = "0x" + "44" * 20
PRICE = 1_000
OFFER = Offer(USDC, PRICE, RECIPIENT)
RESOURCE = Resource("https://api.example.com/report", "A report", "text/plain")


def sign(authorization: Authorization, key: LocalAccount = PAYER, asset: Asset = USDC) -> bytes:
    """What eth-account's generic encoder signs for this authorization."""
    fields = ("address from", "address to", "uint256 value", "uint256 validAfter", "uint256 validBefore")
    signed = Account.sign_typed_data(
        key.key,
        domain_data={
            "name": asset.name,
            "version": asset.version,
            "chainId": asset.chain_id,
            "verifyingContract": asset.address,
        },
        message_types={
            "TransferWithAuthorization": [
                dict(zip(("type", "name"), field.split(), strict=True)) for field in (*fields, "bytes32 nonce")
            ]
        },
        message_data={
            "from": authorization.payer,
            "to": authorization.recipient,
            "value": authorization.value,
            "validAfter": authorization.valid_after,
            "validBefore": authorization.valid_before,
            "nonce": bytes.fromhex(authorization.nonce[2:]),
        },
    )
    return bytes(signed.signature)


def a_payment(
    *,
    payer: str | None = None,
    key: LocalAccount = PAYER,
    protocol: Protocol = Protocol.X402_V2,
    valid_after: int = 0,
    valid_before: int | None = None,
    value: int = PRICE,
    signature: Any = None,
) -> Payment:
    """A fresh payment of the offer; `signature` makes one from the EOA's 65 bytes."""
    unsigned = Authorization(
        payer=(payer or key.address).lower(),
        recipient=RECIPIENT,
        value=value,
        valid_after=valid_after,
        valid_before=int(time.time()) + 300 if valid_before is None else valid_before,
        nonce="0x" + secrets.token_hex(32),
        signature=b"",
    )
    signed = sign(unsigned, key)
    authorization = Authorization(
        **{name: getattr(unsigned, name) for name in Authorization.__struct_fields__ if name != "signature"},
        signature=signature(signed) if signature else signed,
    )
    binding: Binding = ResourceBinding(RESOURCE.url)
    if protocol is Protocol.MPP:
        binding = ChallengeBinding("a-challenge-id", "api.example.com")
    return Payment(protocol, USDC.chain_id, USDC.address, authorization, binding)


def a_record(payment: Payment, **fields: Any) -> Record:
    """The journal's row of a payment that somebody began to settle."""
    authorization = payment.authorization
    values: dict[str, Any] = {
        "id": payment.id,
        "state": State.SETTLING,
        "protocol": payment.protocol,
        "route": "GET /report",
        "correlation_id": "a-correlation-id",
        "chain_id": payment.chain_id,
        "asset": payment.asset,
        "payer": authorization.payer,
        "recipient": authorization.recipient,
        "value": authorization.value,
        "nonce": authorization.nonce,
        "valid_after": authorization.valid_after,
        "valid_before": authorization.valid_before,
        "owner": "somebody",
        "lease_until": 0.0,
        "created_at": time.time(),
        "updated_at": time.time(),
    }
    return Record(**(values | fields))


class Recorder:
    """A `before_broadcast` that remembers what it was told, and may refuse."""

    def __init__(self, refuse: Exception | None = None) -> None:
        self.told: list[str] = []
        self.refuse = refuse

    async def __call__(self, transaction: str) -> None:
        self.told.append(transaction)
        if self.refuse is not None:
            raise self.refuse
