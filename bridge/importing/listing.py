"""How a route is called, from x402's extension `bazaar` as the SDKs declare it, to the listing of ours that says it."""

from collections.abc import Mapping
from typing import Any

from bridge.importing.money import as_mapping
from translators.bazaar import Bazaar, bazaar_extension

__all__ = ["listing_of"]

_INPUT = {"type", "method", "queryParams", "bodyType", "body"}


def listing_of(declared: Any, key: str) -> Bazaar | None:
    """The listing that a declaration comes to on a route; None where ours has no words for some of it."""
    info, schema = as_mapping(as_mapping(declared).get("info")), as_mapping(as_mapping(declared).get("schema"))
    called = as_mapping(info.get("input"))
    if called.get("type") != "http" or called.keys() - _INPUT or info.keys() - {"input", "output"}:
        return None
    inputs = _properties(_properties(schema).get("input"))
    output = as_mapping(info.get("output"))
    verb = key.partition(" ")[0] if " " in key else called.get("method")
    bazaar = Bazaar(
        query=called.get("queryParams"),
        query_schema=inputs.get("queryParams") if "queryParams" in called else None,
        body=called.get("body"),
        body_schema=inputs.get("body") if "body" in called else None,
        body_type=called.get("bodyType", "json"),
        output=output.get("example"),
        output_type=output.get("type", "json"),
        method=None if " " in key else verb,
    )
    try:
        bazaar_extension(bazaar, str(verb))
    except ValueError:
        return None
    return bazaar


def _properties(schema: Any) -> Mapping[str, Any]:
    return as_mapping(as_mapping(schema).get("properties"))
