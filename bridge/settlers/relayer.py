"""The account that sends our transactions and pays their gas: its nonce, its fees, its key.

Transactions are handed to the node one after another, because their nonces are; nobody waits here for a receipt, so
any number of them can be under way.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from eth_account.signers.local import LocalAccount

from bridge.settlers.base import BeforeBroadcast
from bridge.settlers.node import Node
from bridge.settlers.node_errors import NodeError, NodeUnreachable, as_int
from translators.errors import OutcomeUnknown, Unavailable

__all__ = ["Fees", "Relayer"]

_FEES_SECONDS: Final = 2.0
"""How long fees are used before the node is asked again: about a block of the chains that x402 is used on."""

_SIGNINGS: Final = 3
"""How often a transaction is signed anew because the key's other users were faster."""

_PAUSE_SECONDS: Final = 0.05
"""Before it is signed anew: nodes behind one address do not see each other's transactions at once."""

_KNOWN: Final = ("already known", "known transaction", "alreadyknown", "already imported", "already in mempool")
_STALE_NONCE: Final = ("nonce too low", "nonce is too low", "oldnonce", "nonce too high", "replacement transaction")
_NO_GAS: Final = ("insufficient funds",)
_REFUSED: Final = (
    "underpriced",
    "less than block base fee",
    "fee too low",
    "fee cap",
    "intrinsic gas",
    "exceeds block gas limit",
    "gas limit",
    "txpool is full",
    "pool is full",
    "invalid sender",
    "invalid chain id",
    "invalid transaction",
    "rate limit",
    "too many requests",
)
"""Words by which nodes refuse a transaction that they do not keep. What is not listed may have been kept."""

_REFUSED_CODES: Final = frozenset({-32600, -32601, -32602, -32700, -32005})
"""JSON-RPC: a request that was not understood; EIP-1474: the limit is exceeded."""


class Fees(NamedTuple):
    """Wei per unit of gas, as EIP-1559 has them."""

    max_fee: int
    priority: int


class Relayer:
    """Signs with `account` on `chain_id` and sends through `node`."""

    def __init__(
        self, node: Node, account: LocalAccount, chain_id: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._node = node
        self._account = account
        self._chain_id = chain_id
        self._clock = clock
        self._lock = asyncio.Lock()
        self._next: int | None = None
        self._fees: tuple[float, Fees] | None = None

    @property
    def address(self) -> str:
        """The account's address, in lower case."""
        return self._account.address.lower()

    async def fees(self) -> Fees:
        """What to offer now. Raises `NodeError` or `NodeUnreachable`, the latter on a chain without EIP-1559."""
        now = self._clock()
        if self._fees is None or now - self._fees[0] > _FEES_SECONDS:
            block, priority = await asyncio.gather(
                self._node.ask("eth_getBlockByNumber", "latest", False),
                self._node.quantity("eth_maxPriorityFeePerGas"),
            )
            base = as_int(block.get("baseFeePerGas") if isinstance(block, dict) else None)
            # The base fee grows by at most an eighth a block, so twice as much lasts for six full blocks.
            self._fees = now, Fees(2 * base + priority, priority)
        return self._fees[1]

    async def send(self, to: str, data: bytes, *, gas: int, fees: Fees, before_broadcast: BeforeBroadcast) -> str:
        """Sign and send a transaction; its hash, lower-case hexadecimal.

        When this returns, the node has the transaction, or may have it: only a receipt tells. `before_broadcast` is
        awaited with the hash before each transaction that is sent. Raises `Unavailable` when certainly none was kept.
        """
        # Held until the node has answered: a nonce that is given out and not used would hold up all later ones.
        async with self._lock:
            for _ in range(_SIGNINGS):
                nonce = await self._nonce()
                signed = self._account.sign_transaction(
                    {
                        "type": 2,
                        "chainId": self._chain_id,
                        "nonce": nonce,
                        "to": bytes.fromhex(to[2:]),
                        "value": 0,
                        "data": data,
                        "gas": gas,
                        "maxFeePerGas": fees.max_fee,
                        "maxPriorityFeePerGas": fees.priority,
                    }
                )
                transaction = "0x" + signed.hash.hex().removeprefix("0x")
                await before_broadcast(transaction)
                # Until the node has taken this one, whether its nonce is spent is for the node to say: also after a
                # cancellation, which can come at any moment from here on.
                self._next = None
                sent = await self._broadcast("0x" + bytes(signed.raw_transaction).hex(), transaction)
                if sent is not _Sent.STALE:
                    self._next = nonce + 1 if sent is _Sent.ACCEPTED else None
                    return transaction
                await asyncio.sleep(_PAUSE_SECONDS)
        raise Unavailable("the relayer's account is in use elsewhere, and its nonces keep changing; nothing was sent")

    async def _broadcast(self, raw: str, transaction: str) -> "_Sent":
        """Hand one signed transaction to the node; raises `Unavailable` when it certainly was not kept."""
        try:
            await self._node.ask("eth_sendRawTransaction", raw)
        except NodeError as error:
            if _says(error, _KNOWN):
                return _Sent.ACCEPTED
            if _says(error, _STALE_NONCE):
                return await self._whose_nonce(transaction)
            if _says(error, _NO_GAS):
                raise Unavailable(
                    "the relayer's account cannot pay for gas; nothing was sent", retry_after=60
                ) from None
            if error.code in _REFUSED_CODES or _says(error, _REFUSED):
                raise Unavailable("the chain's node refuses the transaction; nothing was sent") from None
        except NodeUnreachable as error:
            if not error.maybe_sent:
                raise Unavailable("the chain's node does not answer; nothing was sent") from None
        else:
            return _Sent.ACCEPTED
        # The same bytes once more: they are the same transaction, however often they arrive.
        try:
            await self._node.ask("eth_sendRawTransaction", raw)
        except NodeError as error:
            return _Sent.ACCEPTED if _says(error, _KNOWN) else _Sent.UNCERTAIN
        except NodeUnreachable:
            return _Sent.UNCERTAIN
        return _Sent.ACCEPTED

    async def _whose_nonce(self, transaction: str) -> "_Sent":
        """The nonce is spent: by this very transaction, which something on the way sent twice, or by another."""
        try:
            known = await self._node.ask("eth_getTransactionByHash", transaction)
        except (NodeError, NodeUnreachable):
            return _Sent.UNCERTAIN
        return _Sent.STALE if known is None else _Sent.ACCEPTED

    async def receipt(
        self, transaction: str, *, confirmations: int, timeout_seconds: float, poll_seconds: float
    ) -> dict[str, Any]:
        """The receipt of a transaction that was sent, once it has `confirmations`.

        Raises `OutcomeUnknown` when that takes longer than `timeout_seconds`, for whatever reason.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    # Read anew each time: a reorganisation may move the transaction to another block.
                    with suppress(NodeError, NodeUnreachable):
                        receipt = await self._node.ask("eth_getTransactionReceipt", transaction)
                        if isinstance(receipt, dict) and await self._is_confirmed(receipt, confirmations):
                            return receipt
                    await asyncio.sleep(poll_seconds)
        except TimeoutError:
            # It may have been dropped, and then its nonce is free again and holds up all later ones.
            self._next = None
            raise OutcomeUnknown("the settlement was sent, and the chain has not confirmed it yet") from None

    async def _is_confirmed(self, receipt: dict[str, Any], confirmations: int) -> bool:
        block = as_int(receipt.get("blockNumber"))
        return confirmations == 1 or await self._node.quantity("eth_blockNumber") - block + 1 >= confirmations

    async def _nonce(self) -> int:
        if self._next is None:
            try:
                self._next = await self._node.quantity("eth_getTransactionCount", self.address, "pending")
            except (NodeError, NodeUnreachable):
                raise Unavailable("the chain's node does not answer; nothing was sent") from None
        return self._next


class _Sent(Enum):
    ACCEPTED = auto()
    UNCERTAIN = auto()
    STALE = auto()


def _says(error: NodeError, signs: tuple[str, ...]) -> bool:
    message = error.message.lower()
    return any(sign in message for sign in signs)
