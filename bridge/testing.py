"""Doubles for tests, yours and ours: a clock that stands still, and a settler that moves nothing and remembers."""

from collections.abc import Callable, Sequence

from bridge.payers import Account, account, ask, credential, pay, read_402
from bridge.settlers.base import BeforeBroadcast
from translators.errors import AlreadyUsed
from translators.keccak import keccak256
from translators.payment import Offer, Payment, Resource, Settlement

__all__ = ["Account", "FakeSettler", "FixedClock", "account", "ask", "credential", "pay", "read_402"]


class FixedClock:
    """A clock that moves only when told; calling it gives Unix seconds."""

    def __init__(self, now: float = 1_900_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.now += seconds


class FakeSettler:
    """A chain that exists in memory: every authorization settles once.

    `settlements` is what it moved, in order. Set `on_verify` or `on_settle` to a function of the payment that raises
    what the chain should say; `on_settle` runs after the payment was handed over.
    """

    def __init__(self) -> None:
        self.settlements: list[Settlement] = []
        self.verified: list[Payment] = []
        self.on_verify: Callable[[Payment], None] | None = None
        self.on_settle: Callable[[Payment], None] | None = None
        self.offers: list[Offer] = []

    async def start(self, offers: Sequence[Offer]) -> None:
        """Remember what was asked of it."""
        self.offers = list(offers)

    async def close(self) -> None:
        """Nothing to release."""

    async def verify(self, payment: Payment, offer: Offer, resource: Resource) -> None:
        """Raise `AlreadyUsed` for an authorization that was settled."""
        self.verified.append(payment)
        if self.on_verify is not None:
            self.on_verify(payment)
        if any(settled.payment_id == payment.id for settled in self.settlements):
            raise AlreadyUsed("the authorization is used on the chain")

    async def settle(
        self, payment: Payment, offer: Offer, resource: Resource, before_broadcast: BeforeBroadcast
    ) -> Settlement:
        """Settle in memory; the transaction hash is made from the payment's identity."""
        transaction = "0x" + keccak256(payment.id.encode()).hex()
        await before_broadcast(transaction)
        if self.on_settle is not None:
            self.on_settle(payment)
        settlement = Settlement(
            payment_id=payment.id,
            protocol=payment.protocol,
            chain_id=payment.chain_id,
            asset=payment.asset,
            amount=payment.authorization.value,
            payer=payment.authorization.payer,
            recipient=payment.authorization.recipient,
            transaction=transaction,
            settled_at=float(payment.authorization.valid_before),
        )
        self.settlements.append(settlement)
        return settlement
