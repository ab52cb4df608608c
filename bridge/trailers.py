"""Trailers: fields that come behind a body in chunks (RFC 9110, section 6.5), and which of them are passed on.

An intermediary may pass a trailer on or drop it, and must not make a header of it (RFC 9112, section 7.1.2). What
tells a recipient how to frame, route, authorize or process a message comes too late there, and whoever merges trailers
into headers would be led by it: such fields stop here, in both directions (RFC 9110, section 6.5.1).
"""

import re
from collections.abc import Iterable
from typing import Any, Final

__all__ = [
    "MAX_BYTES",
    "MAX_FIELDS",
    "REQUEST",
    "RESPONSE",
    "Collected",
    "announcement",
    "is_well_formed",
    "passable",
    "request_trailers",
    "takes_trailers",
]

Fields = list[tuple[bytes, bytes]]

RESPONSE: Final = "http.response.trailers"
"""ASGI's extension: where a scope has it, an answer may end with a message of this type."""

REQUEST: Final = "x402_mpp.request_trailers"
"""Our own extension, for ASGI has none: `scope["extensions"][REQUEST]["headers"]` is a list of pairs of bytes, names in
lower case, that is complete as soon as the last message of the body has been received."""

MAX_FIELDS: Final = 100
MAX_BYTES: Final = 16 * 1024
"""How many trailers a message may have, and how long they may be together: names, values, and four bytes for each."""

_FIELD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_IN_A_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_FRAMING = (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
_ROUTING = (b"host", b"forwarded", b"max-forwards", b"via", b"x-real-ip", b"x-original-url", b"x-rewrite-url")
_AUTHENTICATION = (b"authorization", b"www-authenticate", b"proxy-authenticate", b"proxy-authorization")
_REQUEST_MODIFIERS = (
    *(b"cache-control", b"expect", b"pragma", b"range", b"idempotency-key", b"x-http-method-override"),
    *(b"accept", b"cookie", b"origin", b"prefer", b"priority", b"referer", b"user-agent"),
)
_RESPONSE_CONTROL = (b"age", b"date", b"expires", b"location", b"retry-after", b"set-cookie", b"vary", b"warning")
_RESPONSE_POLICY = (b"alt-svc", b"clear-site-data", b"refresh", b"strict-transport-security", b"x-frame-options")

_FORBIDDEN: Final = frozenset(
    (
        *(*_FRAMING, *_ROUTING, *_AUTHENTICATION, *_REQUEST_MODIFIERS, *_RESPONSE_CONTROL, *_RESPONSE_POLICY),
        # Of the hop before.
        b"proxy-authentication-info",
    )
)
_FORBIDDEN_PREFIXES: Final = (
    *(b"content-", b"if-", b"accept-", b"access-control-", b"sec-", b"x-forwarded-"),
    # A payment, what asks for one, and what says that it was made: x402's of both versions, and MPP's.
    *(b"payment-", b"x-payment"),
)
_ALLOWED: Final = frozenset((b"content-digest",))
"""Fields of those prefixes whose definition has them in a trailer: RFC 9530, section 2."""


def _may_pass(name: bytes) -> bool:
    name = name.lower()
    if name in _ALLOWED:
        return True
    return name not in _FORBIDDEN and not name.startswith(_FORBIDDEN_PREFIXES)


def is_well_formed(name: bytes, value: bytes) -> bool:
    """Whether this is one field, and stays one: RFC 9110, sections 5.1 and 5.5."""
    return _FIELD.fullmatch(name) is not None and _NOT_IN_A_VALUE.search(value) is None


def passable(fields: Iterable[tuple[bytes, bytes]], hop_by_hop: Iterable[bytes] = ()) -> Fields:
    """The trailers that go on.

    `hop_by_hop` are the names, in lower case, that the message's `Connection` has (RFC 9110, section 7.6.1).
    """
    return [
        (name, value)
        for name, value in fields
        if _may_pass(name) and name.lower() not in hop_by_hop and is_well_formed(name, value)
    ]


def announcement(headers: Iterable[tuple[bytes, bytes]]) -> Fields:
    """The `Trailer` header (RFC 9110, section 6.6.2) of a message that goes on, without what does not go on."""
    told = b",".join(value for name, value in headers if name.lower() == b"trailer")
    names = [name for part in told.split(b",") if _may_pass(name := part.strip()) and is_well_formed(name, b"")]
    return [(b"trailer", b", ".join(names))] if names else []


class Collected:
    """The trailers of one message, as they come."""

    __slots__ = ("_left", "fields")

    def __init__(self) -> None:
        self.fields: Fields = []
        self._left = MAX_BYTES

    def add(self, name: bytes, value: bytes) -> None:
        """One more. Raises `ValueError` where these are more than a message may have."""
        self._left -= len(name) + len(value) + 4
        if self._left < 0 or len(self.fields) >= MAX_FIELDS:
            raise ValueError("more trailers than a message may have")
        self.fields.append((name, value))


def takes_trailers(scope: Any) -> bool:
    """Whether the answer to this request can have trailers: its server passes them on."""
    return scope["type"] == "http" and RESPONSE in (scope.get("extensions") or ())


def request_trailers(scope: Any) -> Fields:
    """A request's trailers: the list that its server fills; an empty one where that shows none."""
    extension: dict[str, Fields] = (scope.get("extensions") or {}).get(REQUEST) or {"headers": []}
    return extension["headers"]
