"""What the chain says of an authorization: why the token refuses it, and what became of it, whoever sent it."""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

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
from bridge.stores.base import Record
from translators.errors import AlreadyUsed, InsufficientFunds, PaymentError, SettlementFailed, Unavailable
from translators.payment import Payment

if TYPE_CHECKING:  # web3 takes a second to import
    from bridge.settlers.nodes import Nodes

__all__ = ["Fate", "Found", "explain_refusal", "find_fate", "find_record"]

_CLOCKS_APART: Final = 600
"""By how many seconds a chain's clock may differ from ours."""

_FIRST_WINDOW: Final = 10
_WIDEST_WINDOW: Final = 1_000
"""How many blocks one search for logs covers. Whoever was before us was so a moment ago, and some hosted nodes search
no more than ten blocks at once."""


async def find_fate(
    nodes: "Nodes",
    *,
    asset: str,
    payer: str,
    nonce: str,
    recipient: str,
    value: int,
    from_block: int | None,
    lookback: int,
    confirmations: int,
    to_block: int | None = None,
) -> Found:
    """Ask `nodes` what became of an authorization, as of the newest block that has `confirmations` (1: the newest).

    The transaction is searched for from `to_block`, by default that newest one, back to `from_block`, by default
    `lookback` blocks. Raises `NodeError` or `NodeUnreachable`.
    """
    head = as_int(await nodes.ask("eth_blockNumber"))
    block = await nodes.ask("eth_getBlockByNumber", hex(max(head - (confirmations - 1), 0)), False)
    if not isinstance(block, dict):
        raise NodeUnreachable("no such block", maybe_sent=True)
    number, chain_time = as_int(block.get("number")), as_int(block.get("timestamp"))
    state = await nodes.call(asset, authorization_state_call(payer, nonce), block=hex(number))
    if not any(state):
        return Found(Fate.UNUSED, number, chain_time)
    first = max(number - lookback, 0) if from_block is None else from_block
    for low, high in _windows(first, number if to_block is None else min(number, to_block)):
        query = {
            "address": asset,
            "topics": [[AUTHORIZATION_USED, AUTHORIZATION_CANCELED], address_topic(payer), nonce],
            "fromBlock": hex(low),
            "toBlock": hex(high),
        }
        if logs := await nodes.ask("eth_getLogs", query):
            transaction = str(logs[0]["transactionHash"]).lower()
            receipt = await nodes.ask("eth_getTransactionReceipt", transaction)
            if not isinstance(receipt, dict):
                break
            paid = moved_money(receipt["logs"], asset=asset, payer=payer, nonce=nonce, recipient=recipient, value=value)
            return Found(Fate.PAID if paid else Fate.VOID, number, chain_time, transaction)
    return Found(Fate.UNSEEN, number, chain_time)


async def find_record(nodes: "Nodes", record: Record, *, lookback: int, confirmations: int) -> Found:
    """Ask what became of a journal's row, however long ago that was. Raises `NodeError` or `NodeUnreachable`.

    Where the newest blocks do not say, the transaction that the journal knows is looked at, and then the blocks from
    when the row was made until its authorization could not be used any more.
    """
    terms: dict[str, Any] = {
        "asset": record.asset,
        "payer": record.payer,
        "nonce": record.nonce,
        "recipient": record.recipient,
        "value": record.value,
    }
    found = await find_fate(nodes, **terms, from_block=None, lookback=lookback, confirmations=confirmations)
    if found.fate is not Fate.UNSEEN:
        return found
    if record.transaction:
        receipt = await nodes.ask("eth_getTransactionReceipt", record.transaction)
        if isinstance(receipt, dict) and moved_money(receipt["logs"], **terms):
            return Found(Fate.PAID, found.block, found.chain_time, record.transaction)
    first = await _block_at(nodes, int(record.created_at) - _CLOCKS_APART, found.block)
    last = await _block_at(nodes, record.valid_before + _CLOCKS_APART, found.block)
    return await find_fate(
        nodes, **terms, from_block=first, to_block=last, lookback=lookback, confirmations=confirmations
    )


async def _block_at(nodes: "Nodes", when: int, newest: int) -> int:
    """The first block that is not before `when`, in Unix seconds; `newest` where all are."""
    low, high = 0, newest
    while low < high:
        middle = (low + high) // 2
        block = await nodes.ask("eth_getBlockByNumber", hex(middle), False)
        # What a node has forgotten is older than what it knows.
        if not isinstance(block, dict) or as_int(block.get("timestamp")) < when:
            low = middle + 1
        else:
            high = middle
    return low


def _windows(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Ranges of blocks from the newest backwards, each wider than the one before."""
    width = _FIRST_WINDOW
    while last >= first:
        low = max(first, last - width + 1)
        yield low, last
        last, width = low - 1, min(width * 10, _WIDEST_WINDOW)


async def explain_refusal(nodes: "Nodes", error: NodeError, payment: Payment) -> PaymentError:
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
        nodes.call(payment.asset, authorization_state_call(authorization.payer, authorization.nonce)),
        nodes.call(payment.asset, balance_call(authorization.payer)),
    )
    if any(used):
        return AlreadyUsed("the authorization is used or canceled")
    if int.from_bytes(balance, "big") < authorization.value:
        return InsufficientFunds("the authorization is for more than the payer has")
    return SettlementFailed("the token refuses the authorization")
