"""What the chain says of an authorization: why the token refuses it, and what became of it, whoever sent it."""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from bridge.settlers.base import Fate, Found
from bridge.settlers.eip3009_calls import (
    AUTHORIZATION_CANCELED,
    AUTHORIZATION_USED,
    address_topic,
    authorization_state_call,
    balance_call,
    moved_money,
    refusal,
    revert_reason,
)
from bridge.settlers.node_errors import NodeError, NodeUnreachable, as_int
from translators.errors import AlreadyUsed, InsufficientFunds, PaymentError, SettlementFailed, Unavailable
from translators.payment import Payment

if TYPE_CHECKING:
    from bridge.settlers.node import Node

__all__ = ["Fate", "Found", "explain_refusal", "find_fate"]

_FIRST_WINDOW: Final = 10
_WIDEST_WINDOW: Final = 1_000
"""How many blocks one search for logs covers. Whoever was before us was so a moment ago, and some hosted nodes search
no more than ten blocks at once."""


async def find_fate(
    node: "Node",
    *,
    asset: str,
    payer: str,
    nonce: str,
    recipient: str,
    value: int,
    from_block: int | None,
    lookback: int,
    confirmations: int,
) -> Found:
    """Ask `node` what became of an authorization, as of the newest block that has `confirmations` (1: the newest).

    Searches back to `from_block`, by default `lookback` blocks. Raises `NodeError` or `NodeUnreachable`.
    """
    head = as_int(await node.ask("eth_blockNumber"))
    block = await node.ask("eth_getBlockByNumber", hex(max(head - (confirmations - 1), 0)), False)
    if not isinstance(block, dict):
        raise NodeUnreachable("no such block", maybe_sent=True)
    number, chain_time = as_int(block.get("number")), as_int(block.get("timestamp"))
    state = await node.call(asset, authorization_state_call(payer, nonce), block=hex(number))
    if not any(state):
        return Found(Fate.UNUSED, number, chain_time)
    first = max(number - lookback, 0) if from_block is None else from_block
    for low, high in _windows(first, number):
        query = {
            "address": asset,
            "topics": [[AUTHORIZATION_USED, AUTHORIZATION_CANCELED], address_topic(payer), nonce],
            "fromBlock": hex(low),
            "toBlock": hex(high),
        }
        if logs := await node.ask("eth_getLogs", query):
            transaction = str(logs[0]["transactionHash"]).lower()
            receipt = await node.ask("eth_getTransactionReceipt", transaction)
            if not isinstance(receipt, dict):
                break
            paid = moved_money(receipt["logs"], asset=asset, payer=payer, nonce=nonce, recipient=recipient, value=value)
            return Found(Fate.PAID if paid else Fate.VOID, number, chain_time, transaction)
    return Found(Fate.UNSEEN, number, chain_time)


def _windows(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Ranges of blocks from the newest backwards, each wider than the one before."""
    width = _FIRST_WINDOW
    while last >= first:
        low = max(first, last - width + 1)
        yield low, last
        last, width = low - 1, min(width * 10, _WIDEST_WINDOW)


async def explain_refusal(node: "Node", error: NodeError, payment: Payment) -> PaymentError:
    """The payment's error for a refused `transferWithAuthorization`.

    Words that are not known are asked after, and not repeated: anybody may have written them. `Unavailable` when it was
    the node that refused and not the token. Raises `NodeError` or `NodeUnreachable`.
    """
    if not error.code_failed:
        return Unavailable("the chain's node cannot tell whether the payment is good")
    known = refusal(revert_reason(error.message, error.data))
    if known is not None:
        return known
    authorization = payment.authorization
    used, balance = await asyncio.gather(
        node.call(payment.asset, authorization_state_call(authorization.payer, authorization.nonce)),
        node.call(payment.asset, balance_call(authorization.payer)),
    )
    if any(used):
        return AlreadyUsed("the authorization is used or canceled")
    if int.from_bytes(balance, "big") < authorization.value:
        return InsufficientFunds("the authorization is for more than the payer has")
    return SettlementFailed("the token refuses the authorization")
