"""What a paste holds: headers by their names, whole dumps of curl, or a bare value that says itself what it is."""

import json
import re
from enum import StrEnum
from typing import Any

import msgspec

from translators.errors import MalformedError
from translators.lint.reading import as_json, unbase64
from translators.wire import mpp, x402_v1, x402_v2

__all__ = ["MAX_PASTE", "Form", "Piece", "find_pieces"]

MAX_PASTE = 1024 * 1024
"""The longest paste that is read, in characters."""


class Form(StrEnum):
    """What a piece is; the value is what a person is told."""

    V1_REQUIRED = "x402 v1 challenge"
    V1_PAYMENT = "x402 v1 payment"
    V1_RECEIPT = "x402 v1 receipt"
    V2_REQUIRED = "x402 v2 challenge"
    V2_PAYMENT = "x402 v2 payment"
    V2_RECEIPT = "x402 v2 receipt"
    MPP_CHALLENGE = "MPP challenge"
    MPP_CREDENTIAL = "MPP credential"
    MPP_RECEIPT = "MPP receipt"
    MPP_REQUEST = "MPP charge request"
    PROBLEM = "problem (RFC 9457)"


HEADERS: dict[str, Form] = {
    x402_v1.CHALLENGE_HEADER: Form.V1_REQUIRED,
    x402_v1.CREDENTIAL_HEADER: Form.V1_PAYMENT,
    x402_v1.RECEIPT_HEADER: Form.V1_RECEIPT,
    x402_v2.CHALLENGE_HEADER: Form.V2_REQUIRED,
    x402_v2.CREDENTIAL_HEADER: Form.V2_PAYMENT,
    x402_v2.RECEIPT_HEADER: Form.V2_RECEIPT,
    mpp.CHALLENGE_HEADER: Form.MPP_CHALLENGE,
    mpp.CREDENTIAL_HEADER: Form.MPP_CREDENTIAL,
    mpp.ALTERNATIVE_CREDENTIAL_HEADER: Form.MPP_CREDENTIAL,
    mpp.RECEIPT_HEADER: Form.MPP_RECEIPT,
}
_BY_NAME = {name.lower(): (name, form) for name, form in HEADERS.items()}
_LINE = re.compile(r"^(?:[<>] ?)?(?P<name>[A-Za-z][A-Za-z-]*)[ \t]*:[ \t]*(?P<value>.*)$")
_START = re.compile(r"^(?:[<>] ?)?(?:HTTP/[0-9.]+ [0-9]{3}\b|[A-Z]+ \S+ HTTP/[0-9.]+)")
_CREDENTIAL = re.compile(r"payment[ \t]+[A-Za-z0-9+/_-]+=*", re.IGNORECASE)
_CHALLENGE = re.compile(r"(?:payment[ \t]|(?:id|realm|method)[ \t]*=[ \t]*\")", re.IGNORECASE)


class Piece(msgspec.Struct, frozen=True):
    """One thing to explain: what it is, where it stood (a header's name, or `body`), and its value as it stood."""

    form: Form
    where: str
    value: str


def find_pieces(paste: str) -> list[Piece]:
    """Everything in a paste that can be explained, in order. Raises `MalformedError` where there is nothing."""
    text = paste.strip("\ufeff \t\r\n")
    if not text:
        raise MalformedError("nothing was given")
    if len(text) > MAX_PASTE:
        raise MalformedError(f"more than {MAX_PASTE} characters were given")
    if text[0] in "{[":
        return [_from_json(text, "body")]
    pieces = _from_lines(text)
    if pieces is not None:
        return pieces
    return [_from_value(text)]


def _from_lines(text: str) -> list[Piece] | None:
    """The pieces of header lines or of a whole dump; None where it is neither."""
    lines = _unfolded(text)
    found: list[Piece] = []
    is_dump = any(_START.match(line) for line in lines)
    named = 0
    for number, line in enumerate(lines):
        match = _LINE.match(line)
        if match is None:
            # The body of a dump, or of what a browser's tools copied: from a brace on.
            if (is_dump or named) and line.startswith("{"):
                found += _body("\n".join(lines[number:]))
                break
            continue
        named += 1
        name, form = _BY_NAME.get(match["name"].lower(), ("", None))
        value = match["value"].strip()
        if form is not None and value and _is_ours(form, value):
            found.append(Piece(form, name, value))
    if found:
        return found
    if is_dump or named == len(lines):
        raise MalformedError("none of these headers belongs to a payment, and no JSON body follows")
    return None


def _is_ours(form: Form, value: str) -> bool:
    """Whether a header of HTTP's own is about a payment: `Authorization: Bearer` is nobody's business here."""
    if form is Form.MPP_CHALLENGE:
        return re.search(r"(?:^|,)\s*payment(?:\s|$)", value, re.IGNORECASE) is not None
    return form is not Form.MPP_CREDENTIAL or not re.match(r"(?!payment\b)[A-Za-z0-9-]+[ \t]+\S", value, re.IGNORECASE)


def _unfolded(text: str) -> list[str]:
    lines: list[str] = []
    for line in text.splitlines():
        folded = line[:1] in (" ", "\t") and lines and _LINE.match(lines[-1]) and line.strip()
        if folded:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line.rstrip())
    return lines


def _body(text: str) -> list[Piece]:
    try:
        _, end = json.JSONDecoder().raw_decode(text)
        return [_from_json(text[:end], "body")]
    except (ValueError, RecursionError, MalformedError):
        # The body of a paid answer is whatever was bought.
        return []


def _from_value(text: str) -> Piece:
    if _CREDENTIAL.fullmatch(text):
        return Piece(Form.MPP_CREDENTIAL, mpp.CREDENTIAL_HEADER, text)
    if _CHALLENGE.match(text):
        return Piece(Form.MPP_CHALLENGE, mpp.CHALLENGE_HEADER, text)
    bare = re.sub(r"\s", "", text).strip("'\"")
    data = unbase64(bare) if re.fullmatch(r"[A-Za-z0-9+/_=-]+", bare) else None
    if as_json(data) is None:
        raise MalformedError("this is no header, JSON or base64 of a payment protocol")
    form = guess(as_json(data))
    if form is None:
        raise MalformedError("this is base64 of JSON, and of no message of a payment protocol")
    where = next((name for name, of in HEADERS.items() if of is form), "request")
    return Piece(form, where, bare)


def _from_json(text: str, where: str) -> Piece:
    value = as_json(text.encode("utf-8", "replace"))
    if value is None:
        raise MalformedError("this begins like JSON, and is not")
    form = guess(value)
    if form is None:
        raise MalformedError("this is JSON, and no message of a payment protocol")
    return Piece(form, where, text)


def guess(value: Any) -> Form | None:
    """What a JSON value is, by its members."""
    if not isinstance(value, dict):
        return None
    has = value.keys().__contains__
    if has("accepts"):
        return Form.V2_REQUIRED if value.get("x402Version") == 2 else Form.V1_REQUIRED
    if has("payload"):
        if has("challenge"):
            return Form.MPP_CREDENTIAL
        return Form.V2_PAYMENT if has("accepted") else Form.V1_PAYMENT
    if has("success") and (has("transaction") or has("network")):
        return Form.V2_RECEIPT if ":" in str(value.get("network")) else Form.V1_RECEIPT
    if has("reference") and has("status"):
        return Form.MPP_RECEIPT
    if has("amount") and has("currency"):
        return Form.MPP_REQUEST
    return Form.PROBLEM if has("type") and has("title") else None
