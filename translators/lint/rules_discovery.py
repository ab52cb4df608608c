"""Rules about the discovery document, `/openapi.json` with `x-payment-info`; a server may do without one."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from translators.lint.forms import is_object, is_text
from translators.lint.reading import Reading
from translators.lint.rule import Kind, Rule, Severity

__all__ = ["RULES"]

_DRAFT = "draft-payment-discovery-00"
_AMOUNT = re.compile(r"0|[1-9][0-9]*")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.")
_METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
_CRAWLED_BYTES = 64 * 1024


def _document(reading: Reading) -> dict[str, Any]:
    return reading.openapi or {}


def _is_there(reading: Reading) -> bool:
    exchange = reading.probe.openapi
    return exchange is not None and exchange.status == 200


def _operations(reading: Reading) -> Iterator[tuple[str, str, dict[str, Any]]]:
    paths = _document(reading).get("paths")
    for path, item in paths.items() if is_object(paths) else ():
        for method, operation in item.items() if is_object(item) else ():
            if method in _METHODS and is_object(operation):
                yield path, method, operation


def _payable(reading: Reading) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, method, operation in _operations(reading):
        if "x-payment-info" in operation:
            yield f"{method.upper()} {path}", operation


def _unreadable(reading: Reading) -> Iterator[str]:
    if _is_there(reading) and reading.openapi is None:
        exchange = reading.probe.openapi
        told = exchange.value("Content-Type") if exchange is not None else None
        yield f"/openapi.json is no JSON object (Content-Type {told or 'absent'})"


def _fields(reading: Reading) -> Iterator[str]:
    document = reading.openapi
    if document is None:
        return
    if not str(document.get("openapi", "")).startswith("3."):
        yield f"openapi is {document.get('openapi')!r}, not 3.x"
    info = document.get("info")
    for name in ("title", "version"):
        if not is_object(info) or not is_text(info.get(name)):
            yield f"info.{name} is missing"
    if not any(True for _ in _operations(reading)):
        yield "paths has no operation"


def _content_type(reading: Reading) -> Iterator[str]:
    exchange = reading.probe.openapi
    if exchange is not None and reading.openapi is not None:
        told = (exchange.value("Content-Type") or "").partition(";")[0].strip().lower()
        if told != "application/json":
            yield f"Content-Type is {told or 'absent'}"


def _offers(info: Any) -> list[Any] | None:
    """The offers of either form; None where it has neither."""
    if not is_object(info):
        return None
    if "offers" in info:
        return info["offers"] if isinstance(info["offers"], list) else None
    return [info]


def _offer_problems(offer: Any) -> Iterator[str]:
    if not is_object(offer):
        yield "an offer is not an object"
        return
    if offer.get("intent") not in ("charge", "session"):
        yield f"intent is {str(offer.get('intent'))[:30]!r}"
    if not is_text(offer.get("method")):
        yield "method is missing"
    amount = offer.get("amount", "")
    if "amount" not in offer:
        yield "amount is missing"
    elif amount is not None and not (is_text(amount) and _AMOUNT.fullmatch(amount)):
        yield f"amount is {str(amount)[:30]!r}"
    for name in ("currency", "description"):
        if name in offer and not is_text(offer[name]):
            yield f"{name} is no string"
    if unknown := sorted(set(offer) - {"intent", "method", "amount", "currency", "description"}):
        yield f"members that the schema does not have: {', '.join(unknown)[:60]}"


def _payment_info(reading: Reading) -> Iterator[str]:
    for name, operation in _payable(reading):
        info = operation["x-payment-info"]
        offers = _offers(info)
        if not offers:
            yield f"{name}: no offers"
            continue
        if "offers" in info and set(info) != {"offers"}:
            yield f"{name}: members beside offers"
        for offer in offers:
            for problem in _offer_problems(offer):
                yield f"{name}: {problem}"


def _no_402(reading: Reading) -> Iterator[str]:
    for name, operation in _payable(reading):
        responses = operation.get("responses")
        if not is_object(responses) or not ({"402", "4XX", "default"} & set(responses)):
            yield name


def _no_schema(reading: Reading) -> Iterator[str]:
    for name, operation in _payable(reading):
        if name.startswith(("POST", "PUT", "PATCH")) and "requestBody" not in operation:
            yield name


def _this_operation(reading: Reading) -> tuple[str, dict[str, Any]] | None:
    asked = urlsplit(reading.probe.answer.url).path or "/"
    found = []
    for path, method, operation in _operations(reading):
        pattern = re.sub(r"\\\{[^/{}]+\\\}", "[^/]+", re.escape(path))
        if method == reading.probe.method.lower() and re.fullmatch(pattern, asked):
            found.append((path, operation))
    exact = [entry for entry in found if entry[0] == asked]
    return next(iter(exact or found), None)


def _names_prices(reading: Reading) -> bool:
    """Whether the document is meant for discovery: a framework's own describes the API and knows of no prices."""
    return "x-service-info" in _document(reading) or any(True for _ in _payable(reading))


def _unpriced(reading: Reading) -> Iterator[str]:
    if reading.openapi is not None and not _names_prices(reading):
        yield "/openapi.json has no x-payment-info anywhere"


def _undeclared(reading: Reading) -> Iterator[str]:
    found = _this_operation(reading)
    if found is not None and "x-payment-info" not in found[1] and _names_prices(reading):
        yield f"{reading.probe.method} {found[0]} answers 402"


def _disagrees(reading: Reading) -> Iterator[str]:
    found = _this_operation(reading)
    offers = _offers(found[1].get("x-payment-info")) if found is not None else None
    by_currency: dict[str, set[str]] = {}
    for offer in offers or []:
        if is_object(offer) and is_text(offer.get("amount")) and is_text(offer.get("currency")):
            by_currency.setdefault(offer["currency"].lower(), set()).add(offer["amount"])
    asked: dict[str, set[str]] = {}
    for term in reading.terms:
        asked.setdefault(term.asset.lower(), set()).add(term.amount)
    for currency, amounts in by_currency.items():
        if currency in asked and not amounts & asked[currency]:
            told, true = ", ".join(sorted(amounts)), ", ".join(sorted(asked[currency]))
            yield f"{currency}: {told} in the document, {true} in the 402"


def _service_info(reading: Reading) -> Iterator[str]:
    info = _document(reading).get("x-service-info")
    if info is None:
        return
    if not is_object(info):
        yield "x-service-info is no object"
        return
    categories, docs = info.get("categories"), info.get("docs")
    if categories is not None and not (isinstance(categories, list) and all(map(is_text, categories))):
        yield "categories is no list of strings"
    if docs is not None and not is_object(docs):
        yield "docs is no object"
    for name in ("apiReference", "homepage", "llms"):
        value = docs.get(name) if is_object(docs) else None
        if value is not None and not (is_text(value) and _URI.match(value)):
            yield f"docs.{name} is no URI"


def _uncached(reading: Reading) -> Iterator[str]:
    exchange = reading.probe.openapi
    if exchange is not None and any(True for _ in _payable(reading)) and not exchange.value("Cache-Control"):
        yield "/openapi.json has no Cache-Control"


def _too_large(reading: Reading) -> Iterator[str]:
    exchange = reading.probe.openapi
    if exchange is not None and any(True for _ in _payable(reading)) and len(exchange.body) > _CRAWLED_BYTES:
        yield f"/openapi.json has {len(exchange.body)} bytes"


RULES = (
    Rule(
        "openapi-unreadable",
        Severity.WARNING,
        Kind.MUST,
        "the discovery document cannot be read",
        f"{_DRAFT}, Document Location",
        "serve OpenAPI as JSON at /openapi.json, or answer 404 there",
        _unreadable,
    ),
    Rule(
        "openapi-fields",
        Severity.WARNING,
        Kind.MUST,
        "the discovery document lacks a field",
        f"{_DRAFT}, Required Top-Level Fields",
        "write openapi 3.x, info.title, info.version and paths",
        _fields,
    ),
    Rule(
        "openapi-content-type",
        Severity.WARNING,
        Kind.MUST,
        "the discovery document has another content type",
        f"{_DRAFT}, Document Location",
        "send Content-Type: application/json",
        _content_type,
    ),
    Rule(
        "openapi-unpriced",
        Severity.INFO,
        Kind.ADVICE,
        "the API's document names no prices",
        f"{_DRAFT}, OpenAPI Discovery; discovery is optional",
        "write x-payment-info into what costs: agents and registries find you by it",
        _unpriced,
    ),
    Rule(
        "openapi-undeclared",
        Severity.WARNING,
        Kind.MUST,
        "the discovery document does not say that this route costs",
        f"{_DRAFT}, Payment Extension: x-payment-info",
        "write x-payment-info into the operation",
        _undeclared,
    ),
    Rule(
        "openapi-payment-info",
        Severity.WARNING,
        Kind.MUST,
        "an x-payment-info is malformed",
        f"{_DRAFT}, Payment Offer Object and JSON Schema for x-payment-info",
        'write {"offers": [{intent, method, amount, currency, description}]}, amounts as text',
        _payment_info,
    ),
    Rule(
        "openapi-no-402",
        Severity.WARNING,
        Kind.MUST,
        "a paid operation does not declare its 402",
        f"{_DRAFT}, 402 Response Declaration",
        "write a response 402 into the operation",
        _no_402,
    ),
    Rule(
        "openapi-disagrees",
        Severity.WARNING,
        Kind.ADVICE,
        "the discovery document names another price",
        f"{_DRAFT}, Relationship to the 402 Challenge: the 402 takes precedence",
        "make both from one price",
        _disagrees,
    ),
    Rule(
        "openapi-service-info",
        Severity.WARNING,
        Kind.MUST,
        "x-service-info is malformed",
        f"{_DRAFT}, Service Extension: x-service-info",
        "write categories as a list of strings and docs as an object of URIs",
        _service_info,
    ),
    Rule(
        "openapi-no-schema",
        Severity.INFO,
        Kind.SHOULD,
        "a paid operation does not say what it takes",
        f"{_DRAFT}, Input Schema",
        "write a requestBody with a schema",
        _no_schema,
    ),
    Rule(
        "openapi-cache",
        Severity.INFO,
        Kind.SHOULD,
        "the discovery document does not say how long it is good",
        f"{_DRAFT}, Caching",
        "send Cache-Control: max-age=300",
        _uncached,
    ),
    Rule(
        "openapi-large",
        Severity.INFO,
        Kind.ADVICE,
        "the discovery document is too long for registries",
        f"{_DRAFT}, Registry and Aggregator Guidance: crawlers stop at 64 KB",
        "keep it under 64 KB",
        _too_large,
    ),
)
