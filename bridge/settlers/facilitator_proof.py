"""Whether a facilitator's word is so: the chain says which transaction paid, or that none did and none will."""

import asyncio
from contextlib import suppress
from typing import Final

from bridge.settlers.base import Fate
from bridge.settlers.chain_reader import Carried, ChainReader, terms_of
from bridge.settlers.facilitator_answers import Failed
from translators.errors import OutcomeUnknown, SettlementFailed, Unavailable
from translators.payment import Payment

__all__ = ["prove"]

_POLL_SECONDS: Final = 0.5


async def prove(
    reader: ChainReader, payment: Payment, transaction: str | None, unknown: OutcomeUnknown, seconds: float
) -> str:
    """The transaction that paid `payment`; at first `transaction`, where one was told, then whatever the chain knows.

    Raises `SettlementFailed` when the chain says that no money moved and none will, or that what the facilitator itself
    calls failed was reverted; and `unknown` when that cannot be told within `seconds`.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                # A node that is away now may be back before the time is over.
                with suppress(Unavailable):
                    if (paid := await _look(reader, payment, transaction, unknown)) is not None:
                        return paid
                await asyncio.sleep(_POLL_SECONDS)
    raise unknown


async def _look(reader: ChainReader, payment: Payment, transaction: str | None, unknown: OutcomeUnknown) -> str | None:
    carried = await reader.carried(transaction, payment) if transaction is not None else Carried.NOT_YET
    if transaction is not None and carried is Carried.THIS:
        return transaction
    # Its word may be wrong where the payment is not: another transaction may have carried it.
    found = await reader.find_settlement(**terms_of(payment))
    match found.fate:
        case Fate.PAID:
            return found.transaction
        case Fate.VOID:
            raise SettlementFailed("the authorization was canceled, or used for something else")
        case Fate.UNUSED if found.chain_time >= payment.authorization.valid_before:
            raise SettlementFailed("the authorization has expired unused")
        case Fate.UNUSED if carried is Carried.REVERTED and isinstance(unknown, Failed):
            # It has given up on the one transaction that it sent, and that one is over.
            raise SettlementFailed("the facilitator's transaction was reverted")
    return None
