"""The calls, refusals and logs of an EIP-3009 token, against eth-abi and against forged transactions."""

from typing import Any

import pytest
from eth_abi import encode
from eth_utils import keccak

from bridge.settlers.eip3009_calls import (
    AUTHORIZATION_USED,
    address_topic,
    authorization_state_call,
    balance_call,
    moved_money,
    refusal,
    revert_reason,
    transfer_call,
)
from translators.errors import AlreadyUsed, InsufficientFunds, PaymentError, PaymentExpired, VerificationFailed

from .payments import PRICE, RECIPIENT, USDC, a_payment

FIELDS = ["address", "address", "uint256", "uint256", "uint256", "bytes32"]
TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()


def selector(name: str, types: list[str]) -> bytes:
    return keccak(text=f"{name}({','.join(types)})")[:4]


@pytest.mark.parametrize("length", [65, 66, 64, 96, 130, 1])
def test_transfer_call(length: int) -> None:
    """Calldata is what eth-abi encodes: v, r, s for 65 bytes, `bytes` for any other length."""
    signed = a_payment(signature=lambda signature: (signature * 2)[:length]).authorization
    values = [
        signed.payer,
        signed.recipient,
        signed.value,
        signed.valid_after,
        signed.valid_before,
        bytes.fromhex(signed.nonce[2:]),
    ]
    if length == 65:
        types = [*FIELDS, "uint8", "bytes32", "bytes32"]
        values += [signed.signature[64], signed.signature[:32], signed.signature[32:64]]
    else:
        types = [*FIELDS, "bytes"]
        values.append(signed.signature)
    assert transfer_call(signed) == selector("transferWithAuthorization", types) + encode(types, values)


def test_reading_calls() -> None:
    """The two questions are what eth-abi encodes."""
    signed = a_payment().authorization
    types: list[str] = ["address", "bytes32"]
    state = encode(types, [signed.payer, bytes.fromhex(signed.nonce[2:])])
    assert authorization_state_call(signed.payer, signed.nonce) == selector("authorizationState", types) + state
    assert balance_call(signed.payer) == selector("balanceOf", ["address"]) + encode(["address"], [signed.payer])


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("FiatTokenV2: authorization is used or canceled", AlreadyUsed),
        ("FiatTokenV2: authorization is expired", PaymentExpired),
        ("FiatTokenV2: authorization is not yet valid", VerificationFailed),
        ("FiatTokenV2: invalid signature", VerificationFailed),
        ("ECRecover: invalid signature 's' value", VerificationFailed),
        ("ECRecover: invalid signature length", VerificationFailed),
        ("ERC20: transfer amount exceeds balance", InsufficientFunds),
        ("Blacklistable: account is blacklisted", VerificationFailed),
        ("Pausable: paused", None),
        ("", None),
    ],
)
def test_refusals(words: str, kind: type[PaymentError] | None) -> None:
    """The token's words count, in the returned data before the node's message, and unknown ones mean nothing."""
    data = "0x08c379a0" + encode(["string"], [words]).hex()
    assert revert_reason("execution reverted", data) == words
    assert revert_reason(f"execution reverted: {words}", None) == f"execution reverted: {words}"
    error = refusal(revert_reason("execution reverted", data))
    assert type(error) is (kind or type(None))


@pytest.mark.parametrize("data", ["0x", "0x08c379a0", "zz", {"a": 1}, 7, "0x08c379a0" + "00" * 40, "0x12345678"])
def test_odd_revert_data(data: Any) -> None:
    """Data that is no string leaves the node's message."""
    assert revert_reason("execution reverted", data) == "execution reverted"


def test_moved_money() -> None:
    """One transfer in a transaction pays one authorization, however many are used beside it."""
    mine, other = a_payment().authorization, a_payment().authorization
    terms = {"asset": USDC.address, "payer": mine.payer, "recipient": RECIPIENT, "value": PRICE}

    def log(*topics: str, data: str = "0x", address: str = USDC.address) -> dict[str, Any]:
        return {"address": address, "topics": list(topics), "data": data}

    def used(nonce: str) -> dict[str, Any]:
        return log(AUTHORIZATION_USED, address_topic(mine.payer), nonce)

    def transfer(to: str, value: int = PRICE, **more: str) -> dict[str, Any]:
        return log(TRANSFER, address_topic(mine.payer), address_topic(to), data=f"0x{value:064x}", **more)

    paid, to_self = transfer(RECIPIENT), transfer(mine.payer)
    fine = [
        [used(mine.nonce), paid],
        [paid, used(mine.nonce)],
        [used(other.nonce), to_self, used(mine.nonce), paid],
        [used(mine.nonce), log("0x01", address="0x" + "55" * 20), paid],
        [{**used(mine.nonce), "address": "0x036CbD53842c5426634e7929541eC2318f3dCF7e"}, paid],
    ]
    for logs in fine:
        assert moved_money(logs, nonce=mine.nonce, **terms)
    forged = [
        [],
        [paid],
        [used(mine.nonce)],
        [used(other.nonce), paid],
        [used(mine.nonce), to_self, paid],
        [used(other.nonce), paid, used(mine.nonce), to_self],
        [used(mine.nonce), transfer(RECIPIENT, PRICE - 1)],
        [used(mine.nonce), transfer(RECIPIENT, address="0x" + "55" * 20)],
        [{**used(mine.nonce), "address": "0x" + "55" * 20}, paid],
        [used(mine.nonce), log(TRANSFER, address_topic(other.payer), address_topic("0x" + "99" * 20), data="0x")],
    ]
    for logs in forged:
        assert not moved_money(logs, nonce=mine.nonce, **terms)
