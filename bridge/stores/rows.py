"""A record as a row of a SQL table, and back: both databases hold the fields of `Record`, in their order."""

from collections.abc import Callable
from typing import Any

from bridge.stores.base import Record
from translators.lifecycle import State
from translators.payment import Protocol

__all__ = ["COLUMNS", "from_row", "to_row"]

COLUMNS = """id, state, protocol, route, correlation_id, chain_id, asset, payer, recipient, value, nonce, valid_after,
    valid_before, owner, lease_until, created_at, updated_at, "transaction", reason"""
"""The fields of `Record`, in their order."""


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


def to_row(record: Record, text: Callable[[str], str] = str) -> tuple[str | float, ...]:
    """What `from_row` makes a record of; `text` writes what others have said as the database can hold it.

    Integers go as text: 256 bits fit no type of SQLite's, and psycopg would choose a type by size, and prepare the same
    statement once for each.
    """
    return (
        record.id,
        record.state.value,
        record.protocol.value,
        text(record.route),
        text(record.correlation_id),
        str(record.chain_id),
        record.asset,
        record.payer,
        record.recipient,
        str(record.value),
        record.nonce,
        str(record.valid_after),
        str(record.valid_before),
        record.owner,
        record.lease_until,
        record.created_at,
        record.updated_at,
        text(record.transaction),
        text(record.reason),
    )
