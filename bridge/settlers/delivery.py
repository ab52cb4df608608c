"""Seeing a transaction into a block: it is waited for, given to the nodes again, paid better, or found displaced."""

import asyncio
from contextlib import suppress
from typing import Any, Final, NamedTuple

from bridge.settlers.base import BeforeBroadcast
from bridge.settlers.node_errors import NodeError, NodeUnreachable
from bridge.settlers.relayer import Relayer
from bridge.settlers.transaction import Sent
from translators.errors import OutcomeUnknown

__all__ = ["Displaced", "Mined", "Patience", "deliver"]

_LONGEST_PAUSE: Final = 1.0
_POLLS_A_LOOK: Final = 5
"""How many times a receipt is asked for between two looks at what keeps the transaction out of a block."""


class Patience(NamedTuple):
    """How long is waited, in seconds, and for what: see `ChainSettler`."""

    confirmations: int
    poll_seconds: float
    replace_after_seconds: float
    max_replacements: int


class Mined(NamedTuple):
    """A transaction of ours that a block includes, and its receipt."""

    transaction: str
    receipt: dict[str, Any]


class Displaced(Exception):
    """Another transaction of the account has the nonce, so ours is in no block and never will be, as of `block`."""

    def __init__(self, block: int) -> None:
        super().__init__(block)
        self.block = block


async def deliver(
    relayer: Relayer, sent: Sent, before_broadcast: BeforeBroadcast, patience: Patience, deadline: float
) -> Mined:
    """Wait until one of the transactions of `sent` has its confirmations.

    A block that is reorganised away is waited for again. Raises `Displaced`, and `OutcomeUnknown` when it takes longer
    than until `deadline`, by the event loop's clock.
    """
    relayer.under_way.add(sent.nonce)
    try:
        async with asyncio.timeout_at(deadline):
            return await _Delivery(relayer, sent, before_broadcast, patience).run()
    except TimeoutError:
        relayer.forget_nonce()
        raise OutcomeUnknown("the settlement was sent, and the chain has not confirmed it yet") from None
    finally:
        relayer.under_way.discard(sent.nonce)


class _Delivery:
    def __init__(self, relayer: Relayer, sent: Sent, before_broadcast: BeforeBroadcast, patience: Patience) -> None:
        self._relayer = relayer
        self._sent = sent
        self._before_broadcast = before_broadcast
        self._patience = patience
        self._clock = asyncio.get_running_loop().time
        self._moved = self._clock()
        self._replacements = 0
        self._missing = 0

    async def run(self) -> Mined:
        pause = self._patience.poll_seconds
        polls = 0
        while True:
            # A node that does not answer now is asked again.
            with suppress(NodeError, NodeUnreachable):
                mined, included = await self._receipt()
                if mined is not None:
                    return mined
                polls = 0 if included else polls + 1
                if polls >= _POLLS_A_LOOK:
                    polls = 0
                    await self._look()
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, max(self._patience.poll_seconds, _LONGEST_PAUSE))

    async def _receipt(self) -> tuple[Mined | None, bool]:
        """The receipt that is confirmed, and whether any block includes us. Read anew each time: blocks may vanish."""
        for transaction in reversed(self._sent.transactions):
            receipt = await self._relayer.nodes.ask("eth_getTransactionReceipt", transaction)
            if isinstance(receipt, dict):
                confirmed = await self._is_confirmed(transaction, receipt)
                return (Mined(transaction, receipt) if confirmed else None), True
        return None, False

    async def _is_confirmed(self, transaction: str, receipt: dict[str, Any]) -> bool:
        return await self._relayer.nodes.is_deep(transaction, receipt, self._patience.confirmations)

    async def _look(self) -> None:
        """Find out why no block includes us, and do something about it."""
        sent, nodes = self._sent, self._relayer.nodes
        mined = await self._relayer.mined_nonce()
        if all(nonce < mined for nonce, _ in sent.transactions.values()):
            # Said twice, with receipts asked for between: nodes behind one address do not see each block at once.
            self._missing += 1
            if self._missing > 1:
                raise Displaced(await nodes.quantity("eth_blockNumber"))
            return
        self._missing = 0
        if await nodes.ask("eth_getTransactionByHash", sent.newest) is None:
            await self._relayer.repeat(sent)
        nonce = self._stuck_at(mined)
        if nonce is not None and self._replacements < self._patience.max_replacements:
            self._moved = self._clock()
            self._replacements += 1
            # A journal that does not take the new hash keeps it from being sent; the old one is still under way.
            with suppress(Exception):
                await self._relayer.replace(sent, nonce, self._before_broadcast)

    def _stuck_at(self, mined: int) -> int | None:
        """The nonce of the transaction that has to be paid better for ours to get on; None where that is not known."""
        waited = self._clock() - self._moved
        if waited < self._patience.replace_after_seconds:
            return None
        if mined == self._sent.nonce:
            return mined
        # Another's is before ours. If nobody here waits for it, whoever sent it may be gone, and then it stays there
        # for ever, and so do all after it. So ours takes its place; where its sender does live, he sends it anew.
        if mined not in self._relayer.under_way and waited > 2 * self._patience.replace_after_seconds:
            return mined
        return None
