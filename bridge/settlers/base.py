"""What every settler promises: money moves at most once, and whoever asks is told the truth about it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol as TypingProtocol

from translators.payment import Offer, Payment, Resource, Settlement

__all__ = ["BeforeBroadcast", "Settler", "SettlerConfigError"]

BeforeBroadcast = Callable[[str], Awaitable[None]]
"""Awaited with the transaction hash, before the transaction is sent, by a settler that signs it itself; with an empty
string by one that hands the payment to somebody else. Raising keeps the payment from being sent. Awaited again for
another transaction in the first one's place, and when a transaction of somebody else's becomes known; always before
`settle` returns, or raises `OutcomeUnknown`."""


class SettlerConfigError(Exception):
    """The settler cannot do what the routes need: raised at start-up, so that no priced route is served for free."""


class Settler(TypingProtocol):
    """Settles a payment of any protocol: it sees the vocabulary, never an envelope."""

    async def start(self, offers: Sequence[Offer]) -> None:
        """Connect and check that every one of `offers` can be settled; raises `SettlerConfigError` where not."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...

    async def verify(self, payment: Payment, offer: Offer, resource: Resource) -> None:
        """Check what only the chain (or the facilitator that reads it) knows; moves nothing.

        Raises `AlreadyUsed`, `InsufficientFunds`, `VerificationFailed`, or `Unavailable` when it cannot be told.
        """
        ...

    async def settle(
        self, payment: Payment, offer: Offer, resource: Resource, before_broadcast: BeforeBroadcast
    ) -> Settlement:
        """Move the money.

        Raises `SettlementFailed` (or another `PaymentError` that is not `Unavailable`) only when no money moved and
        none will; `Unavailable` when nothing was sent; `OutcomeUnknown` for everything that is not known.
        """
        ...
