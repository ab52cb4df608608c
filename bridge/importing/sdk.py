"""Route tables of the x402 SDKs' second generation, as they stand: of Python's objects, or of TypeScript's JSON.

Nothing of an SDK is imported: a route is whatever has `accepts`, as a member or as a key.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from bridge.importing.context import RequestContext
from bridge.importing.listing import listing_of
from bridge.importing.money import PriceUnknown, TokenAmount, amount_of, as_mapping
from bridge.importing.notes import EVERY_ROUTE, Note, lost
from bridge.importing.offered import Offered, Read, entry_of, network_id
from bridge.importing.paths import UnknownPattern, key_from_sdk
from bridge.request import PaidRequest
from translators.payment import Protocol

__all__ = ["is_route", "read_routes", "read_server"]

DEFAULT_SECONDS = 300
"""The SDKs' `maxTimeoutSeconds` where none is given."""

V2 = frozenset({Protocol.X402_V2})
CALLABLE = "$callable"
"""Stands for a function in a table that came as JSON."""

Reckon = Callable[[str, Any, str], TokenAmount]
"""Scheme, price and network to an amount of a token."""

_BROWSERS = "browsers get the same 402 as programs, no page of their own"
_NO_PLACE = {
    "service_name": "x402's Bazaar lists it; no challenge of ours says it",
    "tags": "x402's Bazaar lists them; no challenge of ours says them",
    "icon_url": "x402's Bazaar lists it; no challenge of ours says it",
    "custom_paywall_html": _BROWSERS,
    "unpaid_response_body": "one 402 body serves all clients, with problem members and x402 v1's",
    "settlement_failed_response_body": "a failed settlement is answered with a problem, in the client's protocol",
    "hook_timeout_seconds": "a price that is a function is waited for",
}
_CAMEL = {
    "pay_to": "payTo",
    "max_timeout_seconds": "maxTimeoutSeconds",
    "mime_type": "mimeType",
    "service_name": "serviceName",
    "icon_url": "iconUrl",
    "custom_paywall_html": "customPaywallHtml",
    "unpaid_response_body": "unpaidResponseBody",
    "settlement_failed_response_body": "settlementFailedResponseBody",
}
_ROUTE = {"accepts", "resource", "description", "mime_type", "extensions", *_NO_PLACE}
_OPTION = {"scheme", "pay_to", "price", "network", "max_timeout_seconds", "extra"}


def is_route(value: Any) -> bool:
    """Whether this is a route of the second generation."""
    return "accepts" in as_mapping(value)


def read_routes(routes: Any, server: Any = None) -> Read:
    """Read a `RoutesConfig`: one route for every path, or a mapping of patterns to routes.

    `server` is the SDK's resource server, whose schemes may have their own idea of what a price means. Raises
    `ValueError` for what is no route table.
    """
    table = {"*": routes} if is_route(routes) else routes
    if not isinstance(table, Mapping) or not all(is_route(route) for route in table.values()):
        raise ValueError("this is no route table of the x402 SDK: every route has `accepts`")
    read = Read()
    if server is not None:
        read_server(server, read)
    reckon = _reckoner(server)
    for pattern, route in table.items():
        try:
            key, notes = key_from_sdk(str(pattern))
            offered, more = _offered(key, str(pattern), _plain(route), reckon)
        except (UnknownPattern, PriceUnknown) as error:
            read.refused[str(pattern)] = str(error)
            continue
        if any(other.key == key for other in read.offered):
            read.notes.append(lost(key, "route", f"{pattern!r} comes after another pattern that takes all of it"))
            continue
        read.offered.append(offered)
        read.notes += notes + more
    return read


def read_server(server: Any, read: Read) -> None:
    """What the SDK's resource server says of its facilitators."""
    clients = getattr(server, "_facilitator_clients", None) or []
    urls = [url for client in clients if isinstance(url := getattr(client, "url", None), str)]
    if urls:
        read.facilitator = ",".join(urls)
    for client in clients:
        if getattr(client, "_auth_provider", None) is not None:
            says = "its requests are authenticated: give the same headers to FacilitatorSettler(URL, headers=...)"
            read.notes.append(lost(EVERY_ROUTE, "facilitator", says))


def _plain(value: Any) -> dict[str, Any]:
    """A route or an option by the names of Python's SDK, without what is not set."""
    said = as_mapping(value)
    snake = {camel: name for name, camel in _CAMEL.items()}
    return {snake.get(name, name): member for name, member in said.items() if member is not None}


def _offered(key: str, pattern: str, route: dict[str, Any], reckon: Reckon) -> tuple[Offered, list[Note]]:
    accepts = route["accepts"]
    options = [_plain(option) for option in (accepts if isinstance(accepts, list | tuple) else [accepts])]
    if not options:
        raise PriceUnknown("there is no way to pay: the SDK answers 402 to everybody")
    notes = [lost(key, name, _NO_PLACE[name]) for name in _NO_PLACE if route.get(name)]
    notes += [lost(key, name, "not known here") for name in sorted(route.keys() - _ROUTE)]
    extensions = as_mapping(route.get("extensions"))
    listing = listing_of(extensions["bazaar"], key) if "bazaar" in extensions else None
    notes += [
        lost(key, f"extensions.{name}", _extension(name))
        for name in extensions
        if name != "payment-identifier" and (name != "bazaar" or listing is None)
    ]
    for option in options:
        notes += [lost(key, f"accepts.{name}", "not known here") for name in sorted(option.keys() - _OPTION)]
    offered = Offered(
        key,
        [],
        V2,
        description=str(route.get("description") or ""),
        mime_type=str(route.get("mime_type") or ""),
        resource=route.get("resource"),
        bazaar=listing,
    )
    if any(callable(option.get(name)) for option in options for name in ("price", "pay_to")):
        offered.entries_of = _entries_of(options, pattern, reckon)
        return offered, notes
    reasons = []
    for option in options:
        try:
            offered.entries.append(_entry(option, option.get("price"), option.get("pay_to"), reckon))
        except PriceUnknown as error:
            reasons.append(str(error))
    if not offered.entries:
        raise PriceUnknown("; ".join(reasons))
    return offered, notes + [lost(key, "accepts", reason) for reason in reasons]


def _extension(name: str) -> str:
    if name == "bazaar":
        return "its declaration says more of the call than bridge.pricing.Paid.bazaar can: write that yourself"
    return "no challenge of ours carries this extension"


def _entry(option: Mapping[str, Any], price: Any, pay_to: Any, reckon: Reckon) -> dict[str, Any]:
    for name, value in (("price", price), ("pay_to", pay_to)):
        if isinstance(value, Mapping) and CALLABLE in value:
            raise PriceUnknown(f"{name} is a function of the request: hand the table to PaymentConfig.from_x402 itself")
    if not isinstance(pay_to, str) or not pay_to:
        raise PriceUnknown("a way to pay needs its recipient")
    scheme, network = str(option.get("scheme") or "exact"), network_id(option.get("network"))
    seconds = option.get("max_timeout_seconds") or DEFAULT_SECONDS
    return entry_of(scheme, network, reckon(scheme, price, network), pay_to, seconds, as_mapping(option.get("extra")))


def _entries_of(options: list[dict[str, Any]], pattern: str, reckon: Reckon) -> Any:
    async def entries_of(request: PaidRequest) -> list[dict[str, Any]]:
        context = RequestContext(request, pattern)
        entries = []
        for option in options:
            price, pay_to = [await _resolved(option.get(name), context) for name in ("price", "pay_to")]
            entries.append(_entry(option, price, pay_to, reckon))
        return entries

    return entries_of


async def _resolved(value: Any, context: RequestContext) -> Any:
    if not callable(value):
        return value
    made = value(context)
    return await made if inspect.isawaitable(made) else made


def _reckoner(server: Any) -> Reckon:
    """What a price means: by the server's own scheme, which may have parsers for money, else as the SDK has it."""
    schemes: Any = getattr(server, "_schemes", None) or {}

    def reckon(scheme: str, price: Any, network: str) -> TokenAmount:
        registered = _registered(schemes, network).get(scheme)
        if registered is None or not getattr(registered, "_money_parsers", None):
            return amount_of(price, network)
        try:
            return amount_of(registered.parse_price(price, network), network)
        except PriceUnknown:
            raise
        except Exception as error:
            raise PriceUnknown(f"the server's own scheme cannot read {price!r}: {error}") from None

    return reckon


def _registered(schemes: Mapping[str, Any], network: str) -> Mapping[str, Any]:
    found = schemes.get(network)
    if found is None:
        # `eip155:*` stands for every network of the kind.
        found = next((s for name, s in schemes.items() if name.endswith(":*") and network.startswith(name[:-1])), {})
    return dict(found)
