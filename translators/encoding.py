"""Base64, JSON and JCS as the three protocols use them: bounded, strict, and raising `MalformedError` only."""

import binascii
import json
import math
import re
from typing import Any, TypeVar

import msgspec

from translators.errors import MalformedError

__all__ = [
    "MAX_DEPTH",
    "MAX_HEADER_BYTES",
    "b64_decode",
    "b64_encode",
    "b64url_encode",
    "jcs_encode",
    "json_decode",
]

MAX_HEADER_BYTES = 16 * 1024
"""The longest header value that is read, in bytes. Node and nginx stop at this size or before."""

MAX_DEPTH = 32
"""The deepest nesting of JSON that is read; the deepest in any of the specifications is below ten."""

T = TypeVar("T")

_DASH, _UNDERSCORE, _PLUS, _SLASH, _BACKSLASH = b"-_+/\\"
"""As numbers: looked for among bytes, a string of one byte takes four times as long."""
_URL_SAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_BASE64 = msgspec.json.Decoder(bytes)
_CONTAINERS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


def b64_encode(data: bytes) -> str:
    """Standard base64 with padding, as x402 writes it."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def b64url_encode(data: bytes) -> str:
    """base64url without padding, as MPP writes it (RFC 4648, section 5)."""
    standard = binascii.b2a_base64(data, newline=False)
    return standard.rstrip(b"=").replace(b"+", b"-").replace(b"/", b"_").decode("ascii")


def b64_decode(text: str | bytes, what: str) -> bytes:
    """Decode base64 in the standard or the url-safe alphabet, padded or not.

    Implementations differ in both, so both are read; anything else is refused: other characters, white space, an
    impossible length, stray padding, bits that a decoder would drop. `what` names the field in the error.
    """
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if len(data) > MAX_HEADER_BYTES:
        raise MalformedError(f"{what} is longer than {MAX_HEADER_BYTES} bytes")
    if not data:
        raise MalformedError(f"{what} is empty")
    bare = data.rstrip(b"=")
    padding = -len(bare) % 4
    if padding == 3 or len(data) - len(bare) not in (0, padding):
        raise MalformedError(f"{what} is not base64")
    if _DASH in bare or _UNDERSCORE in bare:
        if _PLUS in bare or _SLASH in bare:
            raise MalformedError(f"{what} mixes the two base64 alphabets")
        bare = bare.translate(_URL_SAFE_TO_STANDARD)
    if _BACKSLASH in bare:
        # It would begin an escape in the JSON string below.
        raise MalformedError(f"{what} is not base64")
    padded = bare + b"=" * padding
    try:
        # As strict as `binascii` in its strict mode, in half its time.
        decoded = _BASE64.decode(b'"%b"' % padded)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedError(f"{what} is not base64") from None
    # Dropped bits would let two texts stand for the same bytes (RFC 4648, section 3.5).
    if padding and binascii.b2a_base64(decoded[padding - 3 :], newline=False) != padded[-4:]:
        raise MalformedError(f"{what} is not canonical base64")
    return decoded


def json_decode(data: bytes, decoder: "msgspec.json.Decoder[T]", what: str, *, is_part: bool = False) -> T:
    """Decode JSON with `decoder`, refusing what is nested deeper than `MAX_DEPTH`.

    The error names the member and the expected type, never the value that was found. A part of what was decoded here
    before (`is_part`) is not nested more deeply than that.
    """
    # Counting is enough for every honest message; only one with many containers is walked.
    if not is_part and data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        raise MalformedError(f"{what} is nested too deeply")
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise MalformedError(f"{what}: {_without_values(str(error))}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        raise MalformedError(f"{what} is not JSON") from None


def _without_values(message: str) -> str:
    """What msgspec says of a bad member, without the offending value (an enumeration error quotes it)."""
    return re.sub(r"Invalid (enum )?value .* - at", "Invalid value - at", message, flags=re.DOTALL)


def _depth(data: bytes) -> int:
    depth = deepest = 0
    for match in _CONTAINERS.finditer(data):
        character = match[0][:1]
        if character in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in b"]}":
            depth -= 1
    return deepest


def jcs_encode(value: Any) -> bytes:
    """Serialise by the JSON Canonicalization Scheme (RFC 8785).

    Raises `ValueError` for what JSON cannot say: NaN, infinities, lone surrogates, keys that are not strings, integers
    beyond 2**53 (which other implementations would round).
    """
    return _jcs(value).encode("utf-8")


def _jcs(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case int():
            if abs(value) > 2**53:
                raise ValueError("an integer beyond 2**53 has no canonical form: write it as a string")
            return str(value)
        case float():
            return _jcs_number(value)
        case dict():
            if not all(isinstance(name, str) for name in value):
                raise ValueError("a JSON object's names are strings")
            # RFC 8785, section 3.2.3: members are ordered by their names' UTF-16 code units.
            members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
            return "{" + ",".join(f"{_jcs(name)}:{_jcs(item)}" for name, item in members) + "}"
        case list() | tuple():
            return "[" + ",".join(_jcs(item) for item in value) + "]"
        case _:
            raise ValueError(f"{type(value).__name__} is not a JSON type")


def _jcs_number(value: float) -> str:
    """A double as ECMAScript writes it (RFC 8785, section 3.2.2.3)."""
    if not math.isfinite(value):
        raise ValueError("JSON has no NaN and no infinity")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    # repr gives the shortest digits that round-trip, as ECMAScript does; only the layout differs.
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    power = point - 1
    return sign + digits[0] + ("." + digits[1:] if digits[1:] else "") + f"e{'+' if power > 0 else '-'}{abs(power)}"
