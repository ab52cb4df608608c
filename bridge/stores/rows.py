"""A row of a SQL table as a record: both databases hand out the fields of `Record`, in their order."""

from typing import Any

from bridge.stores.base import Record
from translators.lifecycle import State
from translators.payment import Protocol

__all__ = ["from_row"]


def from_row(row: tuple[Any, ...]) -> Record:
    """What a statement returned; 256-bit numbers stand there as text, or as decimals."""
    (id_, state, protocol, route, correlation_id, chain_id, asset, payer, recipient, value, nonce, *rest) = row
    valid_after, valid_before, *last = rest
    return Record(
        id_,
        State(state),
        Protocol(protocol),
        route,
        correlation_id,
        chain_id,
        asset,
        payer,
        recipient,
        int(value),
        nonce,
        int(valid_after),
        int(valid_before),
        *last,
    )
