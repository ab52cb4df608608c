"""x402's extension `payment-identifier`: the client's own id for a request, so that it is not charged for twice.

x402, extensions/payment_identifier. The server says in its challenge that it listens; the client echoes that and adds
its id, the same one each time that it tries.
"""

import re
from typing import Any, Final

from translators.errors import MalformedError

__all__ = ["ADVERTISED", "NAME", "identifier_of"]

NAME: Final = "payment-identifier"

ADVERTISED: Final[dict[str, Any]] = {
    NAME: {
        "info": {"required": False},
        "schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "required": {"type": "boolean"},
                "id": {"type": "string", "minLength": 16, "maxLength": 128},
            },
            "required": ["required"],
        },
    }
}
"""What stands among a challenge's `extensions`."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{16,128}")


def identifier_of(extensions: dict[str, Any] | None) -> str | None:
    """The id in a payload's `extensions`, or None. Raises `MalformedError` for one outside its form."""
    extension = (extensions or {}).get(NAME)
    info = extension.get("info") if isinstance(extension, dict) else None
    identifier = info.get("id") if isinstance(info, dict) else None
    if identifier is None:
        return None
    if not isinstance(identifier, str) or _IDENTIFIER.fullmatch(identifier) is None:
        raise MalformedError("the payment identifier is not 16 to 128 letters, digits, hyphens and underscores")
    return identifier
