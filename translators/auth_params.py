"""Challenges of `WWW-Authenticate`, out of one adversarial grammar (RFC 9110, section 11).

One header line may hold several challenges of several schemes, and an intermediary may fold several lines into one.
A comma separates both parameters and challenges, so only what follows tells which it was: `token =` is a parameter,
`token` before a space or a comma is the next scheme. Values may be tokens or quoted strings with escapes; the blob
after a scheme (`token68`) belongs to other schemes, and is kept so that they can be passed over.
"""

import re
from typing import NamedTuple

from translators.encoding import MAX_HEADER_BYTES
from translators.errors import MalformedError

__all__ = ["AuthChallenge", "format_challenge", "parse_challenges"]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|\Z))")
_PARAM_NAME = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*=[ \t]*(?=[^=,\s])")
_QUOTED = re.compile(r'"((?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*)"')
_ESCAPE = re.compile(r"\\(.)")
_OWS = re.compile(r"[ \t]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SEPARATORS = re.compile(r"[ \t,]*")

MAX_CHALLENGES = 64
MAX_PARAMS = 64


class AuthChallenge(NamedTuple):
    """One challenge: the scheme as written, its parameters by lower-case name, or its token68."""

    scheme: str
    params: dict[str, str]
    token68: str | None = None


def parse_challenges(header: str) -> list[AuthChallenge]:
    """Every challenge of one field value, in order.

    Raises `MalformedError` for what the grammar does not produce, a parameter that stands twice in one challenge, and
    a value longer than 16 KiB.
    """
    if len(header) > MAX_HEADER_BYTES:
        raise MalformedError(f"WWW-Authenticate is longer than {MAX_HEADER_BYTES} bytes")
    if _SURROGATE.search(header):
        # Python's stand-ins for bytes that it could not decode: no text, and nothing can hash them.
        raise MalformedError("WWW-Authenticate is not text")
    challenges: list[AuthChallenge] = []
    position = _end(_SEPARATORS, header, 0)
    while position < len(header):
        scheme = _TOKEN.match(header, position)
        if scheme is None:
            raise MalformedError("WWW-Authenticate: a scheme was expected")
        if len(challenges) == MAX_CHALLENGES:
            raise MalformedError("WWW-Authenticate has too many challenges")
        position = scheme.end()
        if position < len(header) and header[position] not in " \t,":
            raise MalformedError("WWW-Authenticate: a scheme ends with a space or a comma")
        separated = position
        position = _end(_OWS, header, position)
        if position > separated:
            # `#auth-param` may begin with empty elements (RFC 9110, section 5.6.1.2).
            first = _end(_SEPARATORS, header, position)
            position = first if _PARAM_NAME.match(header, first) else position
        blob = _TOKEN68.match(header, position)
        if blob is not None and _PARAM_NAME.match(header, position) is None:
            challenges.append(AuthChallenge(scheme[0], {}, blob[0]))
            position = blob.end()
        else:
            params, position = _params(header, position)
            challenges.append(AuthChallenge(scheme[0], params))
        end = _end(_SEPARATORS, header, position)
        if end < len(header) and "," not in header[position:end]:
            raise MalformedError("WWW-Authenticate: challenges are separated by commas")
        position = end
    return challenges


def _params(header: str, position: int) -> tuple[dict[str, str], int]:
    """The parameters from `position` on, and where they end: before the comma that starts another challenge."""
    params: dict[str, str] = {}
    end = position
    while (name := _PARAM_NAME.match(header, position)) is not None:
        key = name[1].lower()
        if key in params:
            raise MalformedError("WWW-Authenticate: a parameter stands twice in one challenge")
        if len(params) == MAX_PARAMS:
            raise MalformedError("WWW-Authenticate: a challenge has too many parameters")
        position = name.end()
        if header.startswith('"', position):
            quoted = _QUOTED.match(header, position)
            if quoted is None:
                raise MalformedError("WWW-Authenticate: a quoted string does not end")
            params[key] = _ESCAPE.sub(r"\1", quoted[1]) if "\\" in quoted[1] else quoted[1]
            end = quoted.end()
        else:
            value = _TOKEN.match(header, position)
            if value is None:
                raise MalformedError("WWW-Authenticate: a parameter has no value")
            params[key] = value[0]
            end = value.end()
        comma = _end(_OWS, header, end)
        if comma < len(header) and header[comma] != ",":
            raise MalformedError("WWW-Authenticate: parameters are separated by commas")
        position = _end(_SEPARATORS, header, comma)
    return params, end


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def format_challenge(scheme: str, params: dict[str, str]) -> str:
    """One challenge as a field value, every parameter a quoted string.

    Raises `ValueError` for a value with control characters or characters beyond Latin-1, which no header can carry.
    """
    return scheme + " " + ", ".join(f'{name}="{_quote(value)}"' for name, value in params.items())


def _quote(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError("a header parameter holds a character beyond Latin-1") from None
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
            raise ValueError("a header parameter holds a control character")
    return value.replace("\\", "\\\\").replace('"', '\\"') if '"' in value or "\\" in value else value
