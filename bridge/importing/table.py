"""From what the old server offers to settings and a route table of ours that make the same offers."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec

from bridge.importing.money import as_mapping
from bridge.importing.notes import Note, changed, lost
from bridge.importing.offered import UPFRONT, Offered, Read, is_upfront
from bridge.importing.tokens import token_at
from bridge.pricing import OnePrice, Paid, PriceDefaults, compile_route
from bridge.request import PaidRequest
from bridge.routes import ALL_PROTOCOLS, SettlePolicy
from translators.errors import MalformedError
from translators.foreign import X402Only, to_foreign_offer
from translators.networks import chain_id_from_network, default_token, v1_network
from translators.payment import Asset, Offer
from translators.price import Price, PriceError

__all__ = ["Table", "build_table"]

ASSUMED_DECIMALS = 6
DEFAULT_SECONDS = 300
_OWN_EXTRA = {"name", "version", "decimals", "assetTransferMethod", "paymentFlow"}
"""What we write into `extra`, or act on."""


class Table(msgspec.Struct):
    """What an import comes to."""

    settings: dict[str, Any]
    """Fields of `PaymentConfig`."""
    routes: dict[str, Paid]
    """The route table of `bridge.asgi.PaymentMiddleware`."""
    notes: list[Note]
    """What is not as it was."""
    refused: dict[str, str]
    """Routes that have no place here, by the pattern that they had, and why."""
    offered: dict[str, Offered]
    """What the old server offers, by our key."""
    offers: dict[str, tuple[Offer, ...]]
    """What we offer on the same routes; nothing where a price is a function."""


def build_table(read: Read, given: Mapping[str, Any]) -> Table:
    """Settings and routes for what was read; `given` are settings that stand already, and win.

    A route for which nothing is left is `refused`, as one that the source could not read is.
    """
    entries = [entry for offered in read.offered for entry in offered.entries]
    settings = dict(given)
    _settle_common(settings, entries)
    if "settler" not in settings and read.facilitator is not None:
        settings["settler"] = f"facilitator:{read.facilitator}"
    table = Table(settings, {}, list(read.notes), dict(read.refused), {}, {})
    for offered in read.offered:
        try:
            _add(table, offered)
        except ValueError as error:
            table.refused[offered.key] = str(error)
    return table


def _settle_common(settings: dict[str, Any], entries: Iterable[dict[str, Any]]) -> None:
    """What most ways to pay have in common becomes a setting, so that a route says only what is its own."""
    evm = [entry for entry in entries if chain_id_from_network(entry["network"])]
    if evm:
        settings.setdefault("recipient", _most_common(entry["payTo"] for entry in evm))
        network = _most_common(entry["network"] for entry in evm)
        settings.setdefault("network", v1_network(chain_id_from_network(network) or 0) or network)
        seconds = int(_most_common(str(entry["maxTimeoutSeconds"]) for entry in evm))
        if seconds != DEFAULT_SECONDS:
            settings.setdefault("max_timeout_seconds", seconds)


def _most_common(values: Iterable[str]) -> str:
    return Counter(values).most_common(1)[0][0]


def _add(table: Table, offered: Offered) -> None:
    defaults = _defaults(table.settings)
    kept, prices = [], []
    for entry in offered.entries:
        try:
            price = _price(entry, offered.key, defaults, table.notes)
        except (PriceError, MalformedError, ValueError) as error:
            table.notes.append(lost(offered.key, "accepts", f"{_named(entry)}: {_says(error)}"))
            continue
        if price in prices:
            table.notes.append(changed(offered.key, "accepts", f"{_named(entry)} stood twice, and stands once"))
            continue
        prices.append(price)
        kept.append(entry)
    if not prices and offered.entries_of is None:
        reasons = [note.says for note in table.notes if (note.route, note.what) == (offered.key, "accepts")]
        raise PriceError("; ".join(reasons))
    paid = Paid(
        prices[0] if len(prices) == 1 else prices,
        settle=_settle(offered, kept, table),
        description=offered.description,
        mime_type=offered.mime_type,
        bazaar=offered.bazaar or False,
    )
    if offered.entries_of is not None:
        paid = _dynamic(offered, paid, table, defaults)
    if offered.resource:
        says = f"clients read the request's own URL, under public_url, no longer {offered.resource}"
        table.notes.append(changed(offered.key, "resource", says))
    route = compile_route(offered.key, paid, defaults)
    table.routes[offered.key] = paid
    table.offered[offered.key] = offered
    table.offers[offered.key] = route.offers if isinstance(route.offers, tuple) else ()


def _defaults(settings: Mapping[str, Any]) -> PriceDefaults:
    if "recipient" not in settings:
        raise PriceError("no EVM recipient is named anywhere: give one, as recipient")
    return PriceDefaults(
        recipient=settings["recipient"],
        network=settings.get("network", "base"),
        asset=settings.get("asset"),
        settle=SettlePolicy(settings.get("settle", SettlePolicy.ON_SUCCESS)),
        protocols=frozenset(settings.get("protocols", ALL_PROTOCOLS)),
        max_timeout_seconds=settings.get("max_timeout_seconds", DEFAULT_SECONDS),
    )


def _settle(offered: Offered, entries: list[dict[str, Any]], table: Table) -> str | None:
    upfront = {is_upfront(entry) for entry in entries}
    if upfront == {True}:
        says = "extra.paymentFlow is not written; the money moves before the handler runs all the same"
        table.notes.append(changed(offered.key, "extra.paymentFlow", says))
        return SettlePolicy.FIRST.value
    if len(upfront) == 2:
        says = "some ways to pay settle before the handler and some after it: here all of a route do after it"
        table.notes.append(changed(offered.key, "extra.paymentFlow", says))
    return None


def _price(entry: dict[str, Any], key: str, defaults: PriceDefaults, notes: list[Note]) -> OnePrice:
    """One entry of `accepts` as a price of ours. Raises `PriceError` or `MalformedError`."""
    extra = as_mapping(entry.get("extra"))
    chain_id = chain_id_from_network(entry["network"])
    if entry["scheme"] != "exact" or not chain_id or extra.get("assetTransferMethod") not in (None, "eip3009"):
        foreign = X402Only(entry)
        to_foreign_offer(foreign)
        return foreign
    if extra.get("paymentFlow") not in (None, "authorization", UPFRONT):
        raise PriceError(f"paymentFlow {extra['paymentFlow']!r} is not known here")
    amount = int(entry["amount"])
    if amount == 0:
        raise PriceError("the amount is zero")
    asset = _asset(entry, chain_id, extra, key, notes)
    notes += [
        lost(key, f"extra.{name}", "no challenge of ours carries it") for name in sorted(extra.keys() - _OWN_EXTRA)
    ]
    money = format(Decimal(amount).scaleb(-asset.decimals), "f")
    money = money.rstrip("0").rstrip(".") if "." in money else money
    is_default = asset == default_token(chain_id) and defaults.asset is None
    price = Price(
        money if is_default else amount,
        asset=None if is_default else asset,
        network=None if _same_network(defaults.network, chain_id) else entry["network"],
        recipient=None if entry["payTo"].lower() == defaults.recipient.lower() else entry["payTo"],
        max_timeout_seconds=(
            None if entry["maxTimeoutSeconds"] == defaults.max_timeout_seconds else entry["maxTimeoutSeconds"]
        ),
    )
    return money if price == Price(money) else price


def _asset(entry: dict[str, Any], chain_id: int, extra: Mapping[str, Any], key: str, notes: list[Note]) -> Asset:
    address = str(entry["asset"]).lower()
    known = token_at(chain_id, address)
    name, version = extra.get("name"), extra.get("version")
    if known is not None and (name, version) in ((known.name, known.version), (None, None)):
        return known
    if not isinstance(name, str) or not isinstance(version, str):
        raise PriceError("extra lacks the token's EIP-712 name and version")
    decimals = extra.get("decimals", known.decimals if known is not None else None)
    if not isinstance(decimals, int):
        decimals = ASSUMED_DECIMALS
        says = f"how many decimals {entry['asset']} has is not said: {decimals} is assumed, which MPP clients are shown"
        notes.append(changed(key, "decimals", says))
    return Asset(chain_id, address, decimals, name, version, known.symbol if known is not None else "")


def _same_network(network: str | int, chain_id: int) -> bool:
    return (network if isinstance(network, int) else chain_id_from_network(network)) == chain_id


def _dynamic(offered: Offered, paid: Paid, table: Table, defaults: PriceDefaults) -> Paid:
    entries_of = offered.entries_of
    assert entries_of is not None

    async def price(request: PaidRequest) -> list[OnePrice]:
        # What is not as it was has been said at start-up, as far as it could be known.
        return [_price(entry, offered.key, defaults, []) for entry in await entries_of(request)]

    says = "the price is a function: it is asked for each request, and its own differences cannot be told now"
    table.notes.append(changed(offered.key, "price", says))
    return replace(paid, price=price)


def _named(entry: Mapping[str, Any]) -> str:
    return f"{entry.get('scheme')} on {entry.get('network')}"


def _says(error: Exception) -> str:
    return error.detail if isinstance(error, MalformedError) else str(error)
