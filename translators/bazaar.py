"""x402's extension `bazaar`: how an endpoint is called, told in its challenge, so that facilitators can list it.

x402, extensions/bazaar: `info` is an example of the call, `schema` the JSON Schema that it holds to.
"""

from typing import Any, Final

import msgspec

__all__ = ["NAME", "Bazaar", "bazaar_extension"]

NAME: Final = "bazaar"

_QUERY_METHODS: Final = ("GET", "HEAD", "DELETE")
_BODY_METHODS: Final = ("POST", "PUT", "PATCH")
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class Bazaar(msgspec.Struct, frozen=True, kw_only=True):
    """How a paid route is called. Examples are JSON values, schemas JSON Schema that refers to nothing elsewhere."""

    query: dict[str, Any] | None = None
    """An example of the query parameters."""
    query_schema: dict[str, Any] | None = None
    """The schema of an object with them as members."""
    body: Any = None
    """An example of the request body; a route with a body has one."""
    body_schema: dict[str, Any] | None = None
    body_type: str = "json"
    """`json`, `form-data` or `text`."""
    output: Any = None
    """An example of the answer."""
    output_type: str = "json"
    method: str | None = None
    """The method to list, for a route that is priced for every method."""


def bazaar_extension(bazaar: Bazaar, method: str) -> dict[str, Any]:
    """What stands among a challenge's `extensions`, by the extension's name.

    Raises `ValueError` where the extension has no words for it: another method, a body without an example.
    """
    called: dict[str, Any] = {"type": "http", "method": method}
    if method in _QUERY_METHODS:
        if bazaar.body is not None or bazaar.body_schema is not None:
            raise ValueError(f"bazaar: a {method} is not listed with a body")
        properties = _input_properties(_QUERY_METHODS, bazaar)
        required = ["type", "method"]
    elif method in _BODY_METHODS:
        if bazaar.body is None:
            raise ValueError(f"bazaar: give an example of the body that a {method} sends")
        if bazaar.body_type not in ("json", "form-data", "text"):
            raise ValueError("bazaar: body_type is json, form-data or text")
        called |= {"bodyType": bazaar.body_type, "body": bazaar.body}
        properties = _input_properties(_BODY_METHODS, bazaar) | {
            "bodyType": {"type": "string", "enum": ["json", "form-data", "text"]},
            "body": bazaar.body_schema or {},
        }
        required = ["type", "method", "bodyType", "body"]
    else:
        raise ValueError(f"bazaar: a {method} cannot be listed")
    if bazaar.query is not None:
        called["queryParams"] = bazaar.query
    schema: dict[str, Any] = {
        "$schema": _DIALECT,
        "type": "object",
        "properties": {
            "input": {
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": False,
            },
        },
        "required": ["input"],
    }
    info: dict[str, Any] = {"input": called}
    if bazaar.output is not None:
        info["output"] = {"type": bazaar.output_type, "example": bazaar.output}
        schema["properties"]["output"] = {
            "type": "object",
            "properties": {"type": {"type": "string"}, "example": {}},
            "required": ["type"],
        }
    return {NAME: {"info": info, "schema": schema}}


def _input_properties(methods: tuple[str, ...], bazaar: Bazaar) -> dict[str, Any]:
    return {
        "type": {"type": "string", "const": "http"},
        "method": {"type": "string", "enum": list(methods)},
        "queryParams": bazaar.query_schema or {"type": "object"},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
    }
