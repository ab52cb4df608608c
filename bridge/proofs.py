"""Contract wallets whose word was taken: who signed a payment is then known, though nobody may be able to say it again.

A key's signature proves itself for ever. A wallet's is judged by somebody else, who answers for this moment: a
facilitator refuses what is settled already, whoever signed it; a wallet may change its owner; a node may be away. So it
is kept that a payment was judged good, and its credential is known again when it comes back for its answer.
"""

import hashlib

from bridge.clock import Clock
from bridge.stores.base import Store
from translators.payment import Payment

__all__ = ["Proofs"]

PROOF_SECONDS = 30 * 24 * 60 * 60.0
"""How long it is known that a wallet has signed."""


class Proofs:
    """Proofs that were judged good, in `store`: as hashes, for no signature is stored."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def keep(self, payment: Payment) -> None:
        """This very signature of this payment is good. Raises `Unavailable`, and then nothing may be claimed for it."""
        now = self._clock()
        await self._store.bind_key(_key(payment), payment.id, now=now, expires_at=now + PROOF_SECONDS)

    async def has(self, payment: Payment) -> bool:
        """Whether it was judged good before. Raises `Unavailable`."""
        return await self._store.bound(_key(payment), now=self._clock()) == payment.id


def _key(payment: Payment) -> str:
    """One way, and of this payment alone: what the signature signed (value, recipient, window) is in it as well."""
    authorization = payment.authorization
    terms = f"{payment.id} {authorization.recipient} {authorization.value}"
    window = f"{authorization.valid_after} {authorization.valid_before}"
    return hashlib.sha256(f"proof {terms} {window} {authorization.signature.hex()}".encode()).hexdigest()
