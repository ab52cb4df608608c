"""Route tables of the x402 SDKs' first generation: `require_payment`'s arguments (Python 0.2.1), and the table of
`paymentMiddleware(payTo, routes, facilitator)` (`x402-express` and its like)."""

from collections.abc import Iterable, Mapping
from typing import Any

from bridge.importing.money import PriceUnknown, amount_of, as_mapping
from bridge.importing.notes import EVERY_ROUTE, Note, changed, lost
from bridge.importing.offered import Offered, Read, entry_of, network_id
from bridge.importing.paths import UnknownPattern, key_from_glob, key_from_sdk, longest_first
from translators.payment import Protocol

__all__ = ["is_call", "is_table", "read_calls", "read_table"]

DEFAULT_SECONDS = 60
DEFAULT_NETWORK = "base-sepolia"
DEFAULT_FACILITATOR = "https://x402.org/facilitator"
V1 = frozenset({Protocol.X402_V1})
AVALANCHE_USDC = ("eip155:43114", "0xb97ef9ef8734c71904d8002f8b6bc66dd9c48a6e")

_SCHEMA = "v1's `outputSchema` is not written; an OpenAPI document says it"
_BROWSERS = "browsers get the same 402 as programs, no page of their own"
_NO_PLACE = {
    "input_schema": _SCHEMA,
    "output_schema": _SCHEMA,
    "discoverable": "x402's Bazaar does not list what has no `outputSchema`",
    "paywall_config": _BROWSERS,
    "custom_paywall_html": _BROWSERS,
    "error_messages": "an error is a problem, with a title and detail of its own",
}
_CALL = {"price", "pay_to_address", "path", "description", "mime_type", "max_deadline_seconds", "facilitator_config"}
_CALL |= {"network", "resource", *_NO_PLACE}
_CONFIG = {
    "inputSchema": "input_schema",
    "outputSchema": "output_schema",
    "customPaywallHtml": "custom_paywall_html",
    "errorMessages": "error_messages",
    "discoverable": "discoverable",
}


def is_call(value: Any) -> bool:
    """Whether these are the arguments of one `require_payment`."""
    return isinstance(value, Mapping) and {"price", "pay_to_address"} <= value.keys()


def read_calls(calls: Iterable[Mapping[str, Any]]) -> Read:
    """Read the arguments of every `require_payment` (or of Flask's `PaymentMiddleware.add`), by their names."""
    read = Read()
    for call in calls:
        if unknown := sorted(call.keys() - _CALL):
            raise ValueError(f"require_payment takes no {', '.join(unknown)}")
        _read_facilitator(call.get("facilitator_config"), read)
        paths = call.get("path") or "*"
        for path in [paths] if isinstance(paths, str) else paths:
            try:
                key, notes = key_from_glob(path)
                offered = _offered(key, call, call.get("network") or DEFAULT_NETWORK)
            except (UnknownPattern, PriceUnknown) as error:
                read.refused[path] = str(error)
                continue
            if any(other.key == key for other in read.offered):
                read.refused[path] = (
                    "two middlewares charge for it, and a client that paid one was refused by the other"
                )
                continue
            read.offered.append(offered)
            read.notes += notes + _no_place(key, call)
            read.notes += _mend_avalanche(key, call, offered.entries[0])
    return read


def _mend_avalanche(key: str, call: Mapping[str, Any], entry: dict[str, Any]) -> list[Note]:
    """0.2.1 names this one token wrongly, wherever it made the price itself."""
    if (entry["network"], entry["asset"].lower()) != AVALANCHE_USDC:
        return []
    if as_mapping(call["price"]) and entry["extra"]["name"] != "USDC":
        return []
    entry["extra"]["name"] = "USD Coin"
    says = "0.2.1 calls Avalanche's token USDC, and no signature under that name is good: it is USD Coin"
    return [changed(key, "extra.name", says)]


def _offered(key: str, call: Mapping[str, Any], network: str) -> Offered:
    seconds = call.get("max_deadline_seconds") or DEFAULT_SECONDS
    identified = network_id(network)
    price = call.get("price")
    if isinstance(price, float) and not price.is_integer():
        # 0.2.1 takes text and whole numbers only; what TypeScript takes besides is read the same way.
        price = repr(price)
    entry = entry_of("exact", identified, amount_of(price, identified), str(call["pay_to_address"]), seconds, {})
    return Offered(
        key,
        [entry],
        V1,
        description=str(call.get("description") or ""),
        mime_type=str(call.get("mime_type") or ""),
        resource=call.get("resource"),
    )


def _no_place(key: str, call: Mapping[str, Any]) -> list[Note]:
    # `discoverable` is true by default: that it is gone is said where somebody wrote it.
    return [lost(key, name, says) for name, says in _NO_PLACE.items() if call.get(name)]


def _read_facilitator(config: Any, read: Read) -> None:
    said = as_mapping(config)
    url = str(said.get("url") or DEFAULT_FACILITATOR).rstrip("/")
    if read.facilitator is None:
        read.facilitator = url
    elif read.facilitator != url:
        says = f"other routes are settled by {url}: all are by the first that is named, {read.facilitator}"
        read.notes.append(lost(EVERY_ROUTE, "facilitator", says))
    if said.get("create_headers") or said.get("createAuthHeaders"):
        says = "its requests are authenticated: give the same headers to FacilitatorSettler(URL, headers=...)"
        read.notes.append(lost(EVERY_ROUTE, "facilitator", says))


def is_table(value: Any) -> bool:
    """Whether this is a table of `paymentMiddleware`: a price for each pattern, plain or with its network."""

    def is_entry(entry: Any) -> bool:
        return isinstance(entry, str | int | float) or (isinstance(entry, Mapping) and "price" in entry)

    return isinstance(value, Mapping) and bool(value) and all(is_entry(entry) for entry in value.values())


def read_table(pay_to: str, routes: Mapping[str, Any], facilitator: Any = None) -> Read:
    """Read the arguments of `paymentMiddleware`; the longest pattern that matches counts, as there."""
    read = Read()
    _read_facilitator(facilitator, read)
    for pattern in longest_first(list(routes)):
        said = routes[pattern]
        route = dict(said) if isinstance(said, Mapping) else {"price": said}
        config = as_mapping(route.get("config"))
        call = {
            "price": route["price"],
            "pay_to_address": pay_to,
            "description": config.get("description"),
            "mime_type": config.get("mimeType"),
            "max_deadline_seconds": config.get("maxTimeoutSeconds"),
            "resource": config.get("resource"),
        } | {ours: config.get(theirs) for theirs, ours in _CONFIG.items()}
        try:
            key, notes = key_from_sdk(pattern, v1=True)
            offered = _offered(key, call, route.get("network") or DEFAULT_NETWORK)
        except (UnknownPattern, PriceUnknown) as error:
            read.refused[pattern] = str(error)
            continue
        read.offered.append(offered)
        read.notes += notes + _no_place(key, call)
    return read
