"""A settler that settles nowhere, for benchmarks and for trying a client's handshake."""

import time
from collections.abc import Callable, Sequence

import structlog

from bridge.settlers.base import BeforeBroadcast, Found, settlement_of
from bridge.settlers.foreign import refuse_foreign
from bridge.stores.base import Record
from translators.checks import is_proven
from translators.errors import Unavailable
from translators.payment import Offer, Payment, Resource, Settlement

__all__ = ["NullSettler"]


class NullSettler:
    """Asks no chain and moves no money: whoever can sign is served, and nobody is ever charged.

    What can be told without a chain (terms, window, the payer's signature) is checked as always. Its settlements have
    no transaction. `clock` gives Unix seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    async def start(self, offers: Sequence[Offer]) -> None:
        """Nothing to connect to; says so, for it must not be in production.

        Raises `SettlerConfigError` for a foreign offer: anybody could make up its proof.
        """
        refuse_foreign(offers, "the null settler")
        structlog.get_logger("x402_mpp").warning("settler.null", detail="nobody is charged")

    async def close(self) -> None:
        """Nothing to release."""

    async def verify(self, payment: Payment, offer: Offer, resource: Resource) -> None:
        """Nothing is looked up."""

    async def settle(
        self, payment: Payment, offer: Offer, resource: Resource, before_broadcast: BeforeBroadcast
    ) -> Settlement:
        """Pretend: the settlement's transaction is empty."""
        await before_broadcast("")
        return settlement_of(payment, "", self._clock())

    async def find(self, record: Record) -> Found | None:
        """None: there is no chain to ask."""
        return None

    async def check_signature(self, payment: Payment, offer: Offer, resource: Resource) -> bool:
        """Prove what can be proven without a chain; `Unavailable` for a contract wallet's signature."""
        if not is_proven(payment, offer):
            raise Unavailable("a contract wallet's signature cannot be judged without a chain")
        return False

    async def ping(self) -> None:
        """Nothing can be missing."""
