"""Who may look: a token where there is one, and only by this machine's own name where there is none."""

import base64
import binascii
import hmac
from collections.abc import Collection, MutableMapping
from typing import Any

__all__ = ["LEAST_TOKEN", "LOOPBACK_NAMES", "check_token", "is_allowed", "is_named"]

LEAST_TOKEN = 16
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""What a browser on this machine calls it. A page elsewhere can bring a name of its own to point here."""

Scope = MutableMapping[str, Any]


def check_token(token: str) -> None:
    """Raise `ValueError` for what is too easy to guess, or no header could carry."""
    if len(token) < LEAST_TOKEN or not (token.isascii() and token.isprintable()):
        raise ValueError(f"token: give at least {LEAST_TOKEN} characters of ASCII")


def is_allowed(scope: Scope, token: str) -> bool:
    """Whether the request carries the token: as a bearer's, or as the password that a browser asks for."""
    scheme, _, sent = _header(scope, b"authorization").partition(" ")
    match scheme.lower():
        case "bearer":
            found = sent.strip()
        case "basic":
            try:
                found = base64.b64decode(sent.strip(), validate=True).decode().partition(":")[2]
            except (binascii.Error, ValueError):
                return False
        case _:
            return False
    return hmac.compare_digest(found.encode(), token.encode())


def is_named(scope: Scope, names: Collection[str]) -> bool:
    """Whether `Host` is one of `names`, on any port."""
    host = _header(scope, b"host")
    name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return name.lower() in names


def _header(scope: Scope, name: bytes) -> str:
    return next((bytes(value).decode("latin-1") for key, value in scope["headers"] if key.lower() == name), "")
