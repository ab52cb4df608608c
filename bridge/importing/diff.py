"""Theirs and ours side by side: what carries over, what does not, and what a client will see change."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from bridge.importing.money import as_mapping
from bridge.importing.notes import EVERY_ROUTE, Kind, Note, changed
from bridge.importing.table import Table
from translators.fields import checksum_address
from translators.payment import Offer, Protocol, Resource
from translators.x402 import to_payment_required_v2

__all__ = ["Diff", "compare", "entries_of"]

_SAME = ("scheme", "network", "amount", "maxTimeoutSeconds")


class Diff(msgspec.Struct):
    """What an import comes to, as a person or a program reads it."""

    settings: dict[str, str]
    carried: dict[str, list[str]]
    """Every route, and its ways to pay that are offered as before."""
    lost: list[Note]
    changed: list[Note]
    refused: dict[str, str]
    """Routes that have no place here: they would be free."""


def compare(table: Table) -> Diff:
    """Hold what the old server offers against what our own 402 would list."""
    notes = [*table.notes, *_protocols(table)]
    carried: dict[str, list[str]] = {}
    for key, offered in table.offered.items():
        ours = entries_of(table.offers[key])
        carried[key] = []
        for number, entry in enumerate(offered.entries):
            match = next((own for own in ours if _is_same(own, entry)), None)
            if match is None:
                # Said already, with its reason.
                continue
            carried[key].append(describe(entry))
            if ours.index(match) != number and not any(n.what == "order" and n.route == key for n in notes):
                notes.append(changed(key, "order", "what every protocol can carry is listed first"))
        if offered.entries_of is not None:
            carried[key].append("a price that is a function of the request")
    return Diff(
        {name: str(value) for name, value in table.settings.items()},
        carried,
        [note for note in notes if note.kind is Kind.LOST],
        [note for note in notes if note.kind is Kind.CHANGED],
        table.refused,
    )


def entries_of(offers: Iterable[Offer]) -> list[dict[str, Any]]:
    """What our own x402 v2 challenge lists."""
    return to_payment_required_v2(list(offers), Resource(""), None).accepts


def describe(entry: Mapping[str, Any]) -> str:
    """One way to pay, in a line."""
    extra = as_mapping(entry.get("extra"))
    method = f" by {extra['assetTransferMethod']}" if extra.get("assetTransferMethod") else ""
    name = f" ({extra['name']})" if extra.get("name") else ""
    asset, pay_to = (_address(str(entry[member])) for member in ("asset", "payTo"))
    return (
        f"{entry['amount']} of {asset}{name} on {entry['network']} to {pay_to}, "
        f"{entry['scheme']}{method}, {entry['maxTimeoutSeconds']} s"
    )


def _address(text: str) -> str:
    return checksum_address(text.lower()) if re.fullmatch(r"0[xX][0-9a-fA-F]{40}", text) else text


def _is_same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two entries move the same money under the same signature."""
    if any(ours.get(name) != theirs.get(name) for name in _SAME):
        return False
    if any(str(ours[name]).lower() != str(theirs[name]).lower() for name in ("asset", "payTo")):
        return False
    own, said = as_mapping(ours.get("extra")), as_mapping(theirs.get("extra"))
    return all(own.get(name) == said[name] for name in ("name", "version") if name in said)


def _protocols(table: Table) -> Iterable[Note]:
    """What every client meets, whatever the routes are."""
    if not table.offered:
        return
    before = frozenset[Protocol]().union(*(offered.protocols for offered in table.offered.values()))
    after = frozenset(Protocol(protocol) for protocol in table.settings.get("protocols", Protocol))
    if after - before:
        added = ", ".join(sorted(after - before))
        yield changed(EVERY_ROUTE, "protocols", f"the 402 asks for payment in {added} as well")
    yield changed(EVERY_ROUTE, "body", "the 402's body is a problem (RFC 9457) with x402 v1's members, for all clients")
    if Protocol.X402_V2 in before and table.settings.get("payment_identifier", True):
        yield changed(EVERY_ROUTE, "extensions", "x402 v2 clients are told that they may name a request")
    yield changed(EVERY_ROUTE, "path", "paths are matched in their own case; the SDKs take any")
