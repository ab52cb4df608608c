"""Doubles: a clock that stands still, and a settler that moves nothing and remembers."""

from collections.abc import Callable, Sequence

from bridge.settlers.base import BeforeBroadcast, Fate, Found
from bridge.stores.base import Record
from translators.checks import is_proven
from translators.errors import AlreadyUsed, Unavailable, VerificationFailed
from translators.keccak import keccak256
from translators.payment import Offer, Payment, Resource, Settlement

__all__ = ["FakeSettler", "FixedClock"]


class FixedClock:
    """A clock that moves only when told; calling it gives Unix seconds."""

    def __init__(self, now: float = 1_900_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Unix seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.now += seconds


class FakeSettler:
    """A chain that exists in memory: every authorization settles once.

    `settlements` is what it moved, in order. Set `on_verify` or `on_settle` to a function of the payment that raises
    what the chain should say; `on_settle` runs after the payment was handed over. `wallets` are payers whose contract
    takes any signature; `chain_time` is what `find` gives, in Unix seconds; `can_tell=False` makes it a settler that
    cannot be asked; `problem` is what `ping` raises as `Unavailable`.
    """

    def __init__(self) -> None:
        self.settlements: list[Settlement] = []
        self.verified: list[Payment] = []
        self.on_verify: Callable[[Payment], None] | None = None
        self.on_settle: Callable[[Payment], None] | None = None
        self.offers: list[Offer] = []
        self.wallets: set[str] = set()
        self.chain_time = 0
        self.can_tell = True
        self.problem: str | None = None

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

    async def find(self, record: Record) -> Found | None:
        """`PAID` for what was settled here, else `UNUSED`; None when it `can_tell` nothing."""
        if not self.can_tell:
            return None
        for block, settled in enumerate(self.settlements, 1):
            if settled.payment_id == record.id:
                return Found(Fate.PAID, block, self.chain_time, settled.transaction)
        return Found(Fate.UNUSED, len(self.settlements), self.chain_time)

    async def check_signature(self, payment: Payment, offer: Offer, resource: Resource) -> bool:
        """Raise `VerificationFailed` unless the payer's key signed, or he is one of `wallets`."""
        if payment.authorization.payer not in self.wallets and not is_proven(payment, offer):
            raise VerificationFailed("the payer's wallet refuses the signature")
        return False

    async def ping(self) -> None:
        """Raise `Unavailable` when there is a `problem`."""
        if self.problem is not None:
            raise Unavailable(self.problem)
