"""Payments in Redis: how a record becomes the fields of a hash, and those a record."""

from collections.abc import Callable
from typing import Any

from bridge.stores.base import Record
from translators.lifecycle import State
from translators.payment import Protocol

__all__ = ["from_fields", "number", "pairs", "to_fields", "to_record"]

_READ: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("chain_id", "value", "valid_after", "valid_before"), int),
    **dict.fromkeys(("lease_until", "created_at", "updated_at"), float),
    "state": State,
    "protocol": Protocol,
}
"""How those fields of `Record` are read that are not just text."""


def number(number: float) -> bytes:
    """A number as text that is read back as the same number, to the last bit."""
    return repr(number).encode()


def pairs(fields: dict[str, Any]) -> list[bytes]:
    """Fields and their values in turn, as commands take them."""
    texts: list[bytes] = []
    for name, value in fields.items():
        texts += (name.encode(), number(value) if isinstance(value, float) else str(value).encode())
    return texts


def to_fields(record: Record) -> list[bytes]:
    """A record as the fields of a hash."""
    return pairs({name: getattr(record, name) for name in Record.__struct_fields__})


def from_fields(stored: list[bytes]) -> Record:
    """The record in a hash, as scripts return it: fields and values in turn."""
    return to_record(dict(zip(stored[::2], stored[1::2], strict=True)))


def to_record(fields: dict[bytes, bytes]) -> Record:
    """The record in a hash."""
    values: dict[str, Any] = {name.decode(): value.decode() for name, value in fields.items()}
    return Record(**{name: _READ[name](value) if name in _READ else value for name, value in values.items()})
