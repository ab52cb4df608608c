"""The account that sends our transactions and pays their gas: its nonce, its fees, its balance, its key.

Transactions are handed to the nodes one after another, because their nonces are; nobody waits here for a receipt
(`delivery` does), so any number of them can be under way. Other processes may use the same key: who finds a nonce taken
takes the next one.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from bridge.settlers.base import BeforeBroadcast
from bridge.settlers.broadcast import Broadcast, broadcast
from bridge.settlers.ethereum import LocalAccount
from bridge.settlers.node_errors import NodeError, NodeUnreachable, as_int
from bridge.settlers.nodes import Nodes
from bridge.settlers.transaction import Fees, Sent
from translators.errors import Unavailable

__all__ = ["Relayer"]

_FEES_SECONDS: Final = 2.0
"""How long fees are used before the node is asked again: about a block of the chains that x402 is used on."""

_BALANCE_SECONDS: Final = 5.0
"""How long the relayer's balance is believed."""

_SIGNINGS: Final = 20
"""How often a transaction is signed anew because the key's other users were faster."""

_PAUSE_SECONDS: Final = 0.03
"""Before it is signed anew, at first: nodes behind one address do not see each other's transactions at once."""

_USUAL_GAS: Final = 100_000
"""What a settlement for a plain account takes, and some more."""


class Relayer:
    """Signs with `account` on `chain_id` and sends through `nodes`.

    `max_fee_per_gas` is the most that is offered, in wei. `clock` is in seconds, from whenever.
    """

    def __init__(
        self,
        nodes: Nodes,
        account: LocalAccount,
        chain_id: int,
        *,
        max_fee_per_gas: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.nodes = nodes
        self._account = account
        self._chain_id = chain_id
        self._ceiling = max_fee_per_gas
        self._clock = clock
        self._lock = asyncio.Lock()
        self._next: int | None = None
        self._fees: tuple[float, Fees] | None = None
        self._balance: tuple[float, int] | None = None
        self._dry = False
        self.under_way: set[int] = set()
        """Nonces of transactions that this process waits for."""

    @property
    def address(self) -> str:
        """The account's address, in lower case."""
        return self._account.address.lower()

    async def fees(self) -> Fees:
        """What to offer now.

        Raises `NodeError` or `NodeUnreachable` (the latter on a chain without EIP-1559 as well), and `Unavailable` when
        the chain asks for more than the ceiling.
        """
        now = self._clock()
        if self._fees is None or now - self._fees[0] > _FEES_SECONDS:
            block, priority = await asyncio.gather(
                self.nodes.ask("eth_getBlockByNumber", "latest", False),
                self.nodes.quantity("eth_maxPriorityFeePerGas"),
            )
            base = as_int(block.get("baseFeePerGas") if isinstance(block, dict) else None)
            # The base fee grows by at most an eighth a block, so twice as much lasts for six full blocks.
            fees = Fees(2 * base + priority, priority)
            if self._ceiling is not None and fees.max_fee > self._ceiling:
                if base + priority > self._ceiling:
                    raise Unavailable("gas costs more now than this server pays; nothing was sent", retry_after=60)
                fees = Fees(self._ceiling, priority)
            self._fees = now, fees
        return self._fees[1]

    async def check_balance(self, gas: int | None = None) -> None:
        """Raise `Unavailable` when the account cannot pay for `gas` (by default a usual settlement) once more.

        Everything under way is counted in, as nodes do. Raises `NodeError` or `NodeUnreachable`.
        """
        now = self._clock()
        if self._balance is None or now - self._balance[0] > _BALANCE_SECONDS:
            self._balance = now, await self.nodes.quantity("eth_getBalance", self.address, "latest")
        fees = await self.fees()
        needed = ((gas or _USUAL_GAS) + len(self.under_way) * _USUAL_GAS) * fees.max_fee
        dry = self._balance[1] < needed
        if dry and not self._dry:
            # Once, when it begins: every request would say the same.
            structlog.get_logger("x402_mpp").error(
                "settler.no_gas", relayer=self.address, balance=str(self._balance[1]), needed=str(needed)
            )
        self._dry = dry
        if dry:
            raise Unavailable("the relayer's account cannot pay for gas; nothing was sent", retry_after=60)

    def settlements_left(self) -> int | None:
        """How many usual settlements the account can pay for, by what was last heard; None where nothing was."""
        if self._balance is None or self._fees is None:
            return None
        return self._balance[1] // (_USUAL_GAS * max(1, self._fees[1].max_fee))

    async def send(self, sent: Sent, before_broadcast: BeforeBroadcast) -> None:
        """Sign and send the next transaction of `sent`, with a nonce of its own.

        When this returns, a node has the transaction, or may have it: only a receipt tells. `before_broadcast` is
        awaited with the hash before each transaction that is sent. Raises `Unavailable` when certainly none was kept.
        """
        # Held until the node has answered: a nonce that is given out and not used would hold up all later ones.
        async with self._lock:
            at_least = 0
            for signing in range(_SIGNINGS):
                nonce = max(await self._nonce(), at_least)
                transaction, raw = self._sign(sent, nonce)
                await before_broadcast(transaction)
                # Until the node has taken this one, whether its nonce is spent is for the node to say: also after a
                # cancellation, which can come at any moment from here on.
                self._next = None
                outcome = await broadcast(self.nodes, raw, transaction)
                if outcome not in (Broadcast.TAKEN, Broadcast.AHEAD):
                    self._next = nonce + 1 if outcome is Broadcast.ACCEPTED else None
                    sent.nonce, sent.transactions[transaction] = nonce, (nonce, raw)
                    return
                at_least = nonce + 1 if outcome is Broadcast.TAKEN else 0
                # Two processes that collided would collide again if both waited equally long.
                await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS * (1 + signing / 2)))  # noqa: S311
        raise Unavailable("the relayer's account is in use elsewhere, and its nonces keep changing; nothing was sent")

    async def replace(self, sent: Sent, nonce: int, before_broadcast: BeforeBroadcast) -> bool:
        """Send `sent` once more for higher fees, in place of whatever transaction has `nonce` now.

        False when that would be above the ceiling, or no node takes it. Raises what `before_broadcast` raises.
        """
        try:
            fees = sent.fees.raised(await self.fees())
        except (NodeError, NodeUnreachable, Unavailable):
            return False
        if self._ceiling is not None and fees.max_fee > self._ceiling:
            return False
        before, sent.fees = sent.fees, fees
        transaction, raw = self._sign(sent, nonce)
        await before_broadcast(transaction)
        # Kept from here on: what comes of a broadcast that is broken off is not known.
        sent.transactions[transaction] = nonce, raw
        structlog.get_logger("x402_mpp").warning(
            "settler.replaced", transaction=transaction, nonce=nonce, max_fee=fees.max_fee
        )
        try:
            outcome = await broadcast(self.nodes, raw, transaction)
        except Unavailable:
            sent.fees = before
            return False
        return outcome in (Broadcast.ACCEPTED, Broadcast.UNCERTAIN)

    async def repeat(self, sent: Sent) -> None:
        """Give the nodes the newest transaction again: they forget what no block includes, and when they restart."""
        try:
            await broadcast(self.nodes, sent.transactions[sent.newest][1], sent.newest)
        except Unavailable:
            return

    async def mined_nonce(self) -> int:
        """The nonce of the account's next transaction in a block. Raises `NodeError` or `NodeUnreachable`."""
        return await self.nodes.quantity("eth_getTransactionCount", self.address, "latest")

    def forget_nonce(self) -> None:
        """Ask for the next nonce: a transaction may have been dropped, and its nonce holds up all later ones."""
        self._next = None

    def _sign(self, sent: Sent, nonce: int) -> tuple[str, str]:
        """The hash and the bytes of a transaction, in hexadecimal."""
        call = sent.call
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": nonce,
            "to": b"" if call.to is None else bytes.fromhex(call.to[2:]),
            "value": 0,
            "data": call.data,
            "gas": call.gas,
            "maxFeePerGas": sent.fees.max_fee,
            "maxPriorityFeePerGas": sent.fees.priority,
        }
        signed = self._account.sign_transaction(fields)
        return "0x" + signed.hash.hex().removeprefix("0x"), "0x" + bytes(signed.raw_transaction).hex()

    async def _nonce(self) -> int:
        if self._next is None:
            try:
                self._next = await self.nodes.quantity("eth_getTransactionCount", self.address, "pending")
            except (NodeError, NodeUnreachable):
                raise Unavailable("the chain's node does not answer; nothing was sent") from None
        return self._next
