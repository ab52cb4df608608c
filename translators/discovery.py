"""What an OpenAPI document says of payment (draft-payment-discovery-00), made from a route's own offers.

A document is a JSON object, and comes back as another one: what stands in it stays.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from translators import mpp
from translators.fields import checksum_address
from translators.networks import v1_network
from translators.payment import Offer, Protocol

__all__ = [
    "METHODS",
    "Priced",
    "ServiceInfo",
    "annotate",
    "annotate_operation",
    "payment_info",
    "relocate",
    "response_402",
]

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""The members of an OpenAPI path item that are operations."""

_OFFER_MEMBERS: Final = frozenset({"intent", "method", "amount", "currency", "description"})

_HEADERS: Final[dict[Protocol, tuple[str, str]]] = {
    Protocol.MPP: ("WWW-Authenticate", "MPP: one `Payment` challenge for each way to pay."),
    Protocol.X402_V2: ("PAYMENT-REQUIRED", "x402 v2: base64 of the `PaymentRequired` object."),
    Protocol.X402_V1: ("X-PAYMENT-REQUIRED", "x402 v1: base64 of the same JSON as in the body."),
}


class ServiceInfo(msgspec.Struct, frozen=True, rename="camel"):
    """What a service says of itself as a whole: `x-service-info`. The links are URIs."""

    categories: tuple[str, ...] = ()
    """Free words; the draft begins with communication, compute, data, developer-tools, media, search, social, storage
    and travel. Registries list five at most."""
    api_reference: str | None = None
    homepage: str | None = None
    llms: str | None = None
    """Documentation for language models (llms.txt)."""

    def __post_init__(self) -> None:
        for name in ("api_reference", "homepage", "llms"):
            link = getattr(self, name)
            if link is not None and not link.startswith(("https://", "http://")):
                raise ValueError(f"{name}: give a URI, such as https://api.example.com/docs")

    def to_json(self) -> dict[str, Any]:
        """The extension; what is not said is left out."""
        links = {"apiReference": self.api_reference, "homepage": self.homepage, "llms": self.llms}
        docs = {name: link for name, link in links.items() if link is not None}
        said: dict[str, Any] = {"categories": list(self.categories)} if self.categories else {}
        return said | ({"docs": docs} if docs else {})


class Priced(msgspec.Struct, frozen=True):
    """What one paid operation asks for; `offers` is None where that depends on the request."""

    offers: tuple[Offer, ...] | None
    protocols: frozenset[Protocol]


def payment_info(priced: Priced) -> dict[str, Any] | None:
    """`x-payment-info` in its multi-offer form; None where nothing can be paid in MPP, whose extension it is."""
    if Protocol.MPP not in priced.protocols:
        return None
    if priced.offers is None:
        offer = {"intent": mpp.INTENT, "method": mpp.METHOD, "amount": None}
        return {"offers": [offer | {"description": "The price depends on the request."}]}
    offers = [_offer(offer) for offer in priced.offers if offer.foreign is None]
    return {"offers": offers} if offers else None


def _offer(offer: Offer) -> dict[str, Any]:
    asset = offer.asset
    network = v1_network(asset.chain_id)
    return {
        "intent": mpp.INTENT,
        "method": mpp.METHOD,
        "amount": str(offer.amount),
        "currency": checksum_address(asset.address),
        # The extension has no member for the chain.
        "description": f"{asset.symbol or 'Token'} on {network or 'chain'} ({asset.chain_id})",
    }


def response_402(protocols: Iterable[Protocol]) -> dict[str, Any]:
    """The response object of a paid operation: which headers it has, and what its body is."""
    speaks = frozenset(protocols)
    headers = {
        name: {"description": what, "schema": {"type": "string"}}
        for protocol, (name, what) in _HEADERS.items()
        if protocol in speaks
    }
    properties: dict[str, Any] = {
        "type": {"type": "string", "description": "What kind of problem it is: a URI (RFC 9457)."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error": {"type": "string", "description": "x402's word for the problem."},
    }
    if Protocol.X402_V1 in speaks:
        properties["x402Version"] = {"type": "integer"}
        properties["accepts"] = {
            "type": "array",
            "items": {"type": "object"},
            "description": "x402 v1: the ways to pay.",
        }
    schema = {"type": "object", "properties": properties, "required": ["type", "title", "status"]}
    return {
        "description": "Payment Required",
        "headers": headers,
        "content": {"application/problem+json": {"schema": schema}},
    }


def annotate(
    document: Mapping[str, Any],
    find: Callable[[str, str], Priced | None],
    service: ServiceInfo | None = None,
) -> dict[str, Any]:
    """The document with every paid operation's price and 402 in it.

    `find` is asked with a method in upper case and a path as the document writes it. What the document says of payment
    itself stays: offers are added to its own, and a 402 that it describes is left as it is. A document that is not
    OpenAPI 3 comes back as it was.
    """
    made = dict(document)
    if not str(document.get("openapi", "")).startswith("3."):
        return made
    paths = document.get("paths")
    if isinstance(paths, Mapping):
        made["paths"] = {path: _item(str(path), item, find) for path, item in paths.items()}
    if service is not None:
        own = document.get("x-service-info")
        made["x-service-info"] = (own if isinstance(own, dict) else {}) | service.to_json()
    return made


def relocate(document: Mapping[str, Any], own: str, public: str) -> dict[str, Any]:
    """The document with its servers where clients reach them: those at `own`, and those that name no host.

    Both are origins with a path, without a slash at their end.
    """
    servers = document.get("servers")
    prefix = "/" + public.partition("://")[2].partition("/")[2]
    if not isinstance(servers, list) or not servers:
        return dict(document) if prefix == "/" else {**document, "servers": [{"url": prefix}]}
    return {**document, "servers": [_server(server, own, public, prefix) for server in servers]}


def _server(server: Any, own: str, public: str, prefix: str) -> Any:
    url = server.get("url") if isinstance(server, Mapping) else None
    if not isinstance(url, str):
        return server
    if url.startswith("/"):
        return {**server, "url": (prefix.rstrip("/") + url).rstrip("/") or "/"}
    base = url.rstrip("/")
    if base == own or base.startswith(own + "/"):
        return {**server, "url": public + base[len(own) :]}
    return server


def _item(path: str, item: Any, find: Callable[[str, str], Priced | None]) -> Any:
    if not isinstance(item, Mapping):
        return item
    made = dict(item)
    for method in METHODS:
        operation = item.get(method)
        # A browser's preflight is never charged.
        priced = find(method.upper(), path) if isinstance(operation, Mapping) and method != "options" else None
        if priced is not None and isinstance(operation, Mapping):
            made[method] = annotate_operation(operation, priced)
    return made


def annotate_operation(operation: Mapping[str, Any], priced: Priced) -> dict[str, Any]:
    """The operation object with its price and its 402; what it says of either already stays."""
    made = dict(operation)
    responses = operation.get("responses")
    described = dict(responses) if isinstance(responses, Mapping) else {}
    # YAML writes the status as a number.
    if 402 not in described:
        described.setdefault("402", response_402(priced.protocols))
    made["responses"] = described
    info = payment_info(priced)
    if info is not None:
        made["x-payment-info"] = _merged(operation.get("x-payment-info"), info["offers"])
    return made


def _merged(said: Any, offers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The multi-offer form of what stood there, with `offers` added; members of no draft stay beside it."""
    if not isinstance(said, Mapping):
        return {"offers": list(offers)}
    own = said.get("offers")
    kept = list(own) if isinstance(own, list) else []
    shorthand = {name: value for name, value in said.items() if name in _OFFER_MEMBERS}
    if "offers" not in said and {"intent", "method", "amount"} <= shorthand.keys():
        kept.append(shorthand)
    known = {_key(offer) for offer in kept if isinstance(offer, Mapping)}
    kept += [offer for offer in offers if _key(offer) not in known]
    rest = {name: value for name, value in said.items() if name != "offers" and name not in _OFFER_MEMBERS}
    return rest | {"offers": kept}


def _key(offer: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(offer.get(name)).lower() for name in ("intent", "method", "amount", "currency"))
