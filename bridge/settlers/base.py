"""What every settler promises: money moves at most once, and whoever asks is told the truth about it."""

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Protocol as TypingProtocol
from typing import runtime_checkable

import msgspec

from bridge.stores.base import Record
from translators.payment import Offer, Payment, Resource, Settlement

__all__ = [
    "BeforeBroadcast",
    "Fate",
    "Found",
    "PaysGas",
    "Settler",
    "SettlerConfigError",
    "SettlerUnreachable",
    "settlement_of",
]

BeforeBroadcast = Callable[[str], Awaitable[None]]
"""Awaited with the transaction hash, before the transaction is sent, by a settler that signs it itself; with an empty
string by one that hands the payment to somebody else. Raising keeps the payment from being sent. Awaited again for
another transaction in the first one's place, and when a transaction of somebody else's becomes known; always before
`settle` returns, or raises `OutcomeUnknown`."""


class SettlerConfigError(Exception):
    """The settler cannot do what the routes need: raised at start-up, so that no priced route is served for free."""


class SettlerUnreachable(SettlerConfigError):
    """It does not answer at start-up, and may later: nothing says that it could not do what the routes need."""


class Fate(StrEnum):
    """What became of an authorization."""

    UNUSED = "unused"
    """No money moved. It still may, until the chain's time reaches `validBefore`."""
    PAID = "paid"
    """It moved the value to the recipient."""
    VOID = "void"
    """Canceled, or its nonce was used for something else: it moved nothing to the recipient, and never will."""
    UNSEEN = "unseen"
    """Used or canceled, in a transaction before the blocks that were searched."""


class Found(msgspec.Struct, frozen=True):
    """What became of an authorization, and as of when."""

    fate: Fate
    block: int
    """The number of the block as of which this is so."""
    chain_time: int
    """That block's time, in Unix seconds. UNUSED is final when it is not before `validBefore`."""
    transaction: str | None = None
    """For PAID and VOID, the transaction that used or canceled it."""


def settlement_of(payment: Payment, transaction: str, settled_at: float) -> Settlement:
    """The settlement that `transaction` is of `payment`."""
    authorization = payment.authorization
    return Settlement(
        payment_id=payment.id,
        protocol=payment.protocol,
        chain_id=payment.chain_id,
        asset=payment.asset,
        amount=authorization.value,
        payer=authorization.payer,
        recipient=authorization.recipient,
        transaction=transaction,
        settled_at=settled_at,
    )


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

    async def find(self, record: Record) -> Found | None:
        """What the chain says of the authorization of a journal's row, whoever sent it; reads only.

        None where nobody who is configured can tell, now or later: a facilitator without an RPC, a settler that settles
        nowhere. Raises `Unavailable` when it cannot be told now.
        """
        ...

    async def check_signature(self, payment: Payment, offer: Offer, resource: Resource) -> bool:
        """Prove that the payer signed `payment`, where `translators.checks.is_proven` cannot: ask his contract.

        True where that took all that `verify` does, and `verify` need not be asked any more. Raises
        `VerificationFailed` for a signature that is not the payer's, and `Unavailable` when it cannot be told. Who can
        ask the chain says nothing of balance, window or nonce: a payment that was settled is proven like a fresh one.
        Who cannot raises what `verify` does, and then whether he signed may not be known.
        """
        ...

    async def ping(self) -> None:
        """Whether a payment could be settled now: reachable, and able to pay for it. Cheap, moves nothing.

        Raises `Unavailable` with a detail that names what is missing.
        """
        ...


@runtime_checkable
class PaysGas(TypingProtocol):
    """A settler that pays for gas from an account of its own."""

    def settlements_left(self) -> int | None:
        """How many usual settlements the account can pay for, by what the last `ping` heard; None where not known."""
        ...
