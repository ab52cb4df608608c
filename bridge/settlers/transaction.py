"""A settlement as a transaction: what it does, what it pays, and what became of it so far."""

from typing import NamedTuple

from bridge.settlers.chain_reader import ChainReader
from bridge.settlers.eip3009_calls import transfer_call, wallet_transfer_call
from bridge.settlers.erc6492 import deploy_and_call, is_wrapped, unwrap
from translators.checks import is_proven
from translators.errors import VerificationFailed
from translators.payment import Offer, Payment

__all__ = ["Call", "Fees", "GasLimits", "Sent", "transfer"]


class Fees(NamedTuple):
    """Wei per unit of gas, as EIP-1559 has them."""

    max_fee: int
    priority: int

    def raised(self, other: "Fees") -> "Fees":
        """A quarter more than these, and no less than `other`: nodes want at least a tenth, some an eighth, of both."""
        return Fees(max(self.max_fee * 5 // 4 + 1, other.max_fee), max(self.priority * 5 // 4 + 1, other.priority))


class Call(NamedTuple):
    """What a transaction does: `data` to `to`, or run as a new contract's constructor where that is None."""

    to: str | None
    data: bytes
    gas: int


class Sent:
    """One call under way: its transactions by hash, each with its nonce and its bytes, the newest last."""

    def __init__(self, call: Call, fees: Fees) -> None:
        self.call = call
        self.fees = fees
        self.nonce = 0
        self.transactions: dict[str, tuple[int, str]] = {}

    @property
    def newest(self) -> str:
        """The hash of the transaction that was sent last."""
        return next(reversed(self.transactions))


class GasLimits(NamedTuple):
    """How much gas a settlement may take, and one that makes its wallet, if that is done at all."""

    settle: int
    deploy: int | None


async def transfer(reader: ChainReader, payment: Payment, offer: Offer, limits: GasLimits) -> Call:
    """How `payment` is settled, with the most gas that it may take.

    Raises `VerificationFailed`, `NodeError` or `NodeUnreachable`.
    """
    authorization = payment.authorization
    if is_proven(payment, offer):
        return Call(payment.asset, transfer_call(authorization), limits.settle)
    if not is_wrapped(authorization.signature):
        data = wallet_transfer_call(authorization, authorization.signature)
        return Call(payment.asset, data, limits.settle)
    wrapped = unwrap(authorization.signature)
    data = wallet_transfer_call(authorization, wrapped.signature)
    if await reader.has_code(authorization.payer):
        return Call(payment.asset, data, limits.settle)
    if limits.deploy is None:
        raise VerificationFailed(
            "a wallet that does not exist on the chain yet cannot pay",
            reason="invalid_exact_evm_payload_undeployed_smart_wallet",
        )
    return Call(None, deploy_and_call(wrapped, authorization.payer, payment.asset, data), limits.deploy)
