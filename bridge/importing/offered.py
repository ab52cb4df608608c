"""A route as the old server offers it: what every source is read into, whatever it was written in."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from bridge.importing.money import PriceUnknown, TokenAmount, as_mapping
from bridge.importing.notes import Note
from bridge.importing.tokens import PERMIT2_TOKENS, token_at
from bridge.request import PaidRequest
from translators.bazaar import Bazaar
from translators.errors import MalformedError
from translators.networks import caip2, chain_id_from_network
from translators.payment import Protocol

__all__ = ["UPFRONT", "EntriesOf", "Offered", "Read", "entry_of", "is_upfront", "network_id"]

EntriesOf = Callable[[PaidRequest], Awaitable[list[dict[str, Any]]]]
"""The entries for one request, where price or recipient is a function of it."""

UPFRONT = "upfront"


class Offered(msgspec.Struct):
    """One priced route of the old server."""

    key: str
    """Its key in our route table."""
    entries: list[dict[str, Any]]
    """What its 402 lists, each as an entry of x402 v2's `accepts`."""
    protocols: frozenset[Protocol]
    """What it is paid in so far."""
    description: str = ""
    mime_type: str = ""
    resource: str | None = None
    """The URL that it says it sells, where that is not the request's own."""
    bazaar: Bazaar | None = None
    """How it is called, where it says so."""
    entries_of: EntriesOf | None = None


class Read(msgspec.Struct):
    """All that a source says."""

    offered: list[Offered] = msgspec.field(default_factory=list)
    notes: list[Note] = msgspec.field(default_factory=list)
    refused: dict[str, str] = msgspec.field(default_factory=dict)
    """Routes that have no place here, by the pattern that they had, and why."""
    facilitator: str | None = None
    """The URL of the facilitator that settles so far."""
    public_url: str | None = None


def network_id(network: Any) -> str:
    """The CAIP-2 id of a network by either name; raises `PriceUnknown`."""
    if not isinstance(network, str) or not network:
        raise PriceUnknown("a way to pay needs its network")
    try:
        chain_id = chain_id_from_network(network)
    except MalformedError as error:
        raise PriceUnknown(error.detail) from None
    if chain_id is not None:
        return caip2(chain_id)
    if ":" not in network:
        raise PriceUnknown(f"network {network!r} is not known here: give its CAIP-2 id")
    return network


def entry_of(
    scheme: str, network: str, price: TokenAmount, pay_to: str, seconds: int, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The entry of `accepts` that an SDK's server makes of these terms, as far as no facilitator has a word in it."""
    amount, asset, own = price
    said = {**own, **extra}
    chain_id = chain_id_from_network(network)
    token = token_at(chain_id, asset.lower()) if chain_id else None
    if token is not None and scheme == "exact":
        if PERMIT2_TOKENS.get(token, True):
            said = {"name": token.name, "version": token.version, **said}
        if token in PERMIT2_TOKENS:
            said.setdefault("assetTransferMethod", "permit2")
    return {
        "scheme": scheme,
        "network": network,
        "amount": str(amount),
        "asset": asset,
        "payTo": pay_to,
        "maxTimeoutSeconds": seconds,
        "extra": said,
    }


def is_upfront(entry: Mapping[str, Any]) -> bool:
    """Whether the money moves before the handler runs (x402: `paymentFlow`)."""
    return as_mapping(entry.get("extra")).get("paymentFlow") == UPFRONT
