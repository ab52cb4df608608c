"""Priced operations of an OpenAPI document, by its extension `x-payment-info` (draft-payment-discovery-00).

The draft has one offer an operation; mppx writes several, under `offers`. Neither says who is paid, nor on which chain:
those are given beside the document.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from bridge.importing.money import PriceUnknown, amount_of, as_mapping
from bridge.importing.notes import EVERY_ROUTE, changed, lost
from bridge.importing.offered import Offered, Read, entry_of, network_id
from bridge.importing.tokens import token_at
from translators.networks import chain_id_from_network, default_token
from translators.payment import Protocol

__all__ = ["EXTENSION", "read_openapi"]

EXTENSION = "x-payment-info"
SECONDS = 300
_METHODS = ("get", "put", "post", "delete", "patch", "trace")
MPP = frozenset({Protocol.MPP})


def read_openapi(document: Any, *, pay_to: str, network: str) -> Read:
    """Read a document that was parsed already. Raises `ValueError` for what is none, or has no priced operation."""
    paths = as_mapping(document).get("paths")
    if not isinstance(paths, Mapping):
        raise ValueError("this is no OpenAPI document: it has no paths")
    read = Read()
    prefix = _server(document, read)
    says = "the document names neither recipient nor chain: they are those that were given"
    read.notes.append(changed(EVERY_ROUTE, "payTo", says))
    for key, operation in _operations(paths, prefix):
        info = operation[EXTENSION]
        description = operation.get("summary") or operation.get("description") or ""
        offered = Offered(key, [], MPP, description=str(description))
        reasons = []
        for offer in _offers(info):
            try:
                offered.entries.append(_entry(offer, pay_to, network_id(network)))
            except PriceUnknown as error:
                reasons.append(str(error))
        if not offered.entries:
            read.refused[key] = "; ".join(reasons) or f"{EXTENSION} has no offer"
            continue
        read.offered.append(offered)
        read.notes += [lost(key, EXTENSION, reason) for reason in reasons]
    if not read.offered and not read.refused:
        raise ValueError(f"no operation of the document has {EXTENSION}")
    return read


def _server(document: Mapping[str, Any], read: Read) -> str:
    """The path that stands before all others, where the document's first server has one."""
    servers = document.get("servers")
    url = as_mapping(servers[0]).get("url") if isinstance(servers, list) and servers else None
    if not isinstance(url, str) or "{" in url:
        return ""
    parts = urlsplit(url)
    if parts.scheme and parts.netloc:
        read.public_url = f"{parts.scheme}://{parts.netloc}"
    return parts.path.rstrip("/")


def _operations(paths: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in paths.items():
        for method in _METHODS:
            operation = as_mapping(as_mapping(item).get(method))
            if EXTENSION in operation:
                yield f"{method.upper()} {prefix}{path}", operation


def _offers(info: Any) -> list[dict[str, Any]]:
    said = as_mapping(info)
    several = said.get("offers")
    return [as_mapping(offer) for offer in several] if isinstance(several, list) else [said]


def _entry(offer: Mapping[str, Any], pay_to: str, network: str) -> dict[str, Any]:
    method, intent, amount, currency = (offer.get(name) for name in ("method", "intent", "amount", "currency"))
    if method not in (None, "evm"):
        raise PriceUnknown(f"method {method} is not taken here, only evm")
    if intent not in (None, "charge"):
        raise PriceUnknown(f"intent {intent} is not taken here, only charge")
    if amount is None:
        raise PriceUnknown("the amount depends on the request: give a function as the price")
    chain_id = chain_id_from_network(network) or 0
    token = token_at(chain_id, currency.lower()) if isinstance(currency, str) else default_token(chain_id)
    if token is None:
        raise PriceUnknown(f"token {currency} is not known on {network}: its EIP-712 domain is not in the document")
    price = amount_of({"amount": amount, "asset": currency or token.address}, network)
    return entry_of("exact", network, price, pay_to, SECONDS, {"name": token.name, "version": token.version})
