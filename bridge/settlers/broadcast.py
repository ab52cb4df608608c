"""Handing one signed transaction to a chain's nodes, and knowing afterwards whether one of them can have it."""

from enum import Enum, auto
from typing import Final

from bridge.settlers.node_errors import NodeError, NodeUnreachable
from bridge.settlers.nodes import Endpoint, Nodes
from translators.errors import Unavailable

__all__ = ["Broadcast", "broadcast"]

_KNOWN: Final = ("already known", "known transaction", "alreadyknown", "already imported", "already in mempool")
_TAKEN: Final = ("nonce too low", "nonce is too low", "oldnonce", "replacement transaction", "replacement fee")
_AHEAD: Final = ("nonce too high", "nonce gap", "future transaction")
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


class Broadcast(Enum):
    """What came of handing out a transaction."""

    ACCEPTED = auto()
    UNCERTAIN = auto()
    """A node may have it, and none says so."""
    TAKEN = auto()
    """Nobody has it: another transaction of the account has its nonce."""
    AHEAD = auto()
    """Nobody has it: its nonce is too far ahead of the account's."""


async def broadcast(nodes: Nodes, raw: str, transaction: str) -> Broadcast:
    """Hand `raw`, whose hash is `transaction`, to one node after the other until one has it.

    The same bytes are the same transaction, however often they arrive and wherever. Raises `Unavailable` when certainly
    no node kept it.
    """
    refusal = Unavailable("the chain's node does not answer; nothing was sent")
    lost: list[Endpoint] = []
    for endpoint in nodes.order():
        answer = await _hand(endpoint, raw)
        if isinstance(answer, Unavailable):
            refusal = answer
        elif answer is Broadcast.UNCERTAIN:
            lost.append(endpoint)
        elif answer is Broadcast.ACCEPTED:
            nodes.spread(raw, endpoint)
            return answer
        elif answer is not None:
            return await _whose_nonce(nodes, transaction, answer, uncertain=bool(lost))
    # One that lost its answer is asked a second time; who refused clearly, or was not reached, is not.
    for endpoint in lost:
        if await _hand(endpoint, raw) is Broadcast.ACCEPTED:
            nodes.spread(raw, endpoint)
            return Broadcast.ACCEPTED
    if lost:
        return Broadcast.UNCERTAIN
    raise refusal


async def _hand(endpoint: Endpoint, raw: str) -> Broadcast | Unavailable | None:
    """One node's answer: `Unavailable` when it certainly did not keep the transaction, None when it was not reached."""
    try:
        await endpoint.ask("eth_sendRawTransaction", raw)
    except NodeError as error:
        message = error.message.lower()
        if _says(message, _KNOWN):
            return Broadcast.ACCEPTED
        if _says(message, _TAKEN):
            return Broadcast.TAKEN
        if _says(message, _AHEAD):
            return Broadcast.AHEAD
        if _says(message, _NO_GAS):
            return Unavailable("the relayer's account cannot pay for gas; nothing was sent", retry_after=60)
        if error.code in _REFUSED_CODES or _says(message, _REFUSED):
            return Unavailable("the chain's node refuses the transaction; nothing was sent")
        return Broadcast.UNCERTAIN
    except NodeUnreachable as error:
        return Broadcast.UNCERTAIN if error.maybe_sent else None
    return Broadcast.ACCEPTED


async def _whose_nonce(nodes: Nodes, transaction: str, answer: Broadcast, *, uncertain: bool) -> Broadcast:
    """The nonce is spent: by this very transaction, which something on the way sent twice, or by another."""
    try:
        known = await nodes.ask("eth_getTransactionByHash", transaction)
    except (NodeError, NodeUnreachable):
        return Broadcast.UNCERTAIN
    if known is not None:
        return Broadcast.ACCEPTED
    # Where a node lost its answer before, another one's nonce may still turn out to be ours.
    return Broadcast.UNCERTAIN if uncertain else answer


def _says(message: str, signs: tuple[str, ...]) -> bool:
    return any(sign in message for sign in signs)
