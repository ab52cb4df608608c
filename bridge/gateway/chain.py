"""What the chain says of payments that an upstream settles: everything, where a node is configured, else nothing."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from bridge.settlers.base import Found
from bridge.settlers.chain_reader import ChainReader, nothing_sent, terms_of
from bridge.settlers.eip3009_calls import authorization_state_call, balance_call
from bridge.settlers.facilitator_proof import prove
from bridge.stores.base import Record
from translators.checks import is_proven
from translators.errors import AlreadyUsed, InsufficientFunds, OutcomeUnknown, Unavailable, VerificationFailed
from translators.payment import Offer, Payment, Resource

__all__ = ["Chain"]

_PROVE_SECONDS: Final = 5.0
"""How long a request waits for the chain to show a payment of which the upstream does not say what became of it."""


class Chain:
    """The half of a settler that moves nothing. `rpc_url` is as for `ChainSettler`; None: nobody can be asked."""

    def __init__(self, rpc_url: str | None) -> None:
        self._reader = ChainReader(rpc_url) if rpc_url else None

    async def start(self, offers: Sequence[Offer]) -> None:
        """Connect. Raises `SettlerConfigError`."""
        if self._reader is not None:
            await self._reader.start(set())

    async def close(self) -> None:
        """Close the connections."""
        if self._reader is not None:
            await self._reader.close()

    async def verify(self, payment: Payment, offer: Offer, resource: Resource) -> None:
        """Raise `AlreadyUsed` or `InsufficientFunds` where the chain says so.

        A node that does not answer is no reason to refuse: the upstream asks a chain of its own.
        """
        reader = self._reader
        if reader is None or reader.chain_id != payment.chain_id:
            return
        authorization = payment.authorization
        used = balance = b""
        with suppress(Unavailable), nothing_sent():
            used, balance = await asyncio.gather(
                reader.nodes.call(payment.asset, authorization_state_call(authorization.payer, authorization.nonce)),
                reader.nodes.call(payment.asset, balance_call(authorization.payer)),
            )
        if any(used):
            raise AlreadyUsed("the authorization is used or canceled")
        if balance and int.from_bytes(balance, "big") < authorization.value:
            raise InsufficientFunds("the authorization is for more than the payer has")

    async def find(self, record: Record) -> Found | None:
        """See `Settler.find`."""
        return None if self._reader is None else await self._reader.find(record)

    async def find_payment(self, payment: Payment) -> Found | None:
        """What the chain says of a payment now; None where nobody can be asked, or nobody answers."""
        reader = self._reader
        if reader is None or reader.chain_id != payment.chain_id:
            return None
        with suppress(Unavailable):
            return await reader.find_settlement(**terms_of(payment))
        return None

    async def prove(self, payment: Payment, unknown: OutcomeUnknown) -> str:
        """The transaction that paid `payment`; see `bridge.settlers.facilitator_proof.prove`."""
        reader = self._reader
        if reader is None or reader.chain_id != payment.chain_id:
            raise unknown
        return await prove(reader, payment, None, unknown, _PROVE_SECONDS)

    async def check_signature(self, payment: Payment, offer: Offer, resource: Resource) -> bool:
        """See `Settler.check_signature`."""
        if is_proven(payment, offer):
            return False
        if self._reader is None or self._reader.chain_id != payment.chain_id:
            raise VerificationFailed("the signature is not the payer's key's, and of a wallet's nobody here can judge")
        await self._reader.check_signature(payment, offer)
        return False

    async def ping(self) -> None:
        """Nothing that a payment needs can be missing here."""
