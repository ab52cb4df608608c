"""Rules about what an MPP challenge is bound to: a time, a body, itself."""

import hashlib
import re
from collections.abc import Iterator

from translators.binding import parse_time
from translators.encoding import b64_encode
from translators.errors import MalformedError
from translators.lint.reading import ReadChallenge, Reading
from translators.lint.rule import Kind, Rule, Severity
from translators.lint.rules_mpp import each

__all__ = ["RULES"]

_CORE = "draft-httpauth-payment-00"
_EVM = "draft-evm-charge-00"
_HMAC_ID = re.compile(r"[A-Za-z0-9_-]{43}")
_SOON = 30.0
"""Seconds in which a client can hardly ask its wallet, sign, and come back."""


def _expires(challenge: ReadChallenge) -> int | None:
    try:
        return parse_time(challenge.params["expires"])
    except (KeyError, MalformedError):
        return None


def _expires_form(reading: Reading) -> Iterator[str]:
    for which, challenge in each(reading):
        if "expires" in challenge.params and _expires(challenge) is None:
            yield f"{which}expires is {challenge.params['expires'][:40]!r}"


def _expired(reading: Reading) -> Iterator[str]:
    for which, challenge in each(reading):
        expires = _expires(challenge)
        if expires is not None and expires < reading.probe.at:
            yield f"{which}expired {reading.probe.at - expires:.0f} s before it came"


def _expires_soon(reading: Reading) -> Iterator[str]:
    for which, challenge in each(reading):
        expires = _expires(challenge)
        if expires is not None and 0 <= expires - reading.probe.at < _SOON:
            yield f"{which}good for {expires - reading.probe.at:.0f} s"


def _expires_missing(reading: Reading) -> Iterator[str]:
    for which, challenge in each(reading):
        if "expires" not in challenge.params:
            yield f"{which}no expires"


def _id_shape(reading: Reading) -> Iterator[str]:
    for which, challenge in each(reading):
        identifier = challenge.params.get("id")
        if identifier and _HMAC_ID.fullmatch(identifier) is None:
            yield f"{which}id is not 32 bytes of base64url ({len(identifier)} characters)"


def _reused(reading: Reading) -> Iterator[str]:
    again = reading.again.challenges if reading.again is not None else []
    ids = [challenge.params.get("id") for challenge in (*reading.challenges, *again)]
    for repeated in sorted({i for i in ids if i and ids.count(i) > 1}):
        yield f"the id {repeated[:12]}... was given twice"


def _digest(reading: Reading) -> Iterator[str]:
    expected = b64_encode(hashlib.sha256(reading.probe.sent).digest())
    for which, challenge in each(reading):
        digest = challenge.params.get("digest")
        if digest is not None and digest not in (f"sha-256=:{expected}:", f"sha-256={expected}"):
            algorithm = digest.partition("=")[0].lower()
            if algorithm == "sha-256":
                yield f"{which}digest is not that of the body that was sent"


def _digest_form(reading: Reading) -> Iterator[str]:
    for which, challenge in each(reading):
        digest = challenge.params.get("digest")
        if digest is not None and re.fullmatch(r"[a-z0-9-]+=:[A-Za-z0-9+/]+=*:", digest) is None:
            yield f"{which}digest is {digest[:24]}..., where RFC 9530 has sha-256=:...:"


def _digest_missing(reading: Reading) -> Iterator[str]:
    if reading.probe.sent:
        for which, challenge in each(reading):
            if "digest" not in challenge.params:
                yield f"{which}no digest, and the request has a body"


RULES = (
    Rule(
        "mpp-expires-form",
        Severity.ERROR,
        Kind.MUST,
        "expires is not a time",
        f"{_CORE}, Optional Parameters; RFC 3339, 5.6",
        "write RFC 3339, such as 2026-01-15T12:05:00Z",
        _expires_form,
    ),
    Rule(
        "mpp-expired",
        Severity.ERROR,
        Kind.MUST,
        "a challenge had expired when it came",
        f"{_CORE}, Optional Parameters: clients must not answer an expired challenge",
        "look at the server's clock, and at caches between",
        _expired,
    ),
    Rule(
        "mpp-expires-soon",
        Severity.WARNING,
        Kind.ADVICE,
        "a challenge expires too soon",
        "a wallet that asks a person, and a chain that is busy, take longer than 30 s",
        "give at least a minute; five are usual",
        _expires_soon,
    ),
    Rule(
        "mpp-expires-missing",
        Severity.WARNING,
        Kind.SHOULD,
        "a challenge never expires",
        f"{_CORE}, Optional Parameters",
        "send expires",
        _expires_missing,
    ),
    Rule(
        "mpp-id-shape",
        Severity.INFO,
        Kind.SHOULD,
        "id is no HMAC-SHA256",
        f"{_CORE}, Recommended: HMAC-SHA256 Binding",
        "bind the id to the challenge by HMAC, unless the server keeps every challenge that it gives",
        _id_shape,
    ),
    Rule(
        "mpp-challenge-reused",
        Severity.ERROR,
        Kind.MUST,
        "one challenge is given twice",
        f"{_CORE}, Required Parameters and Caching; {_EVM}, Challenge Binding: a nonce pays once",
        "put something random into every challenge, and see that nothing caches the 402",
        _reused,
    ),
    Rule(
        "mpp-digest",
        Severity.ERROR,
        Kind.MUST,
        "digest is of another body",
        f"{_CORE}, Request Body Digest Binding",
        "hash the bytes of the body as they arrive",
        _digest,
    ),
    Rule(
        "mpp-digest-form",
        Severity.INFO,
        Kind.MUST,
        "digest is not written as RFC 9530 has it",
        f"{_CORE}, Optional Parameters; RFC 9530, 2",
        "write sha-256=:base64:, colons included",
        _digest_form,
    ),
    Rule(
        "mpp-digest-missing",
        Severity.INFO,
        Kind.SHOULD,
        "a challenge is not bound to the body",
        f"{_CORE}, Request Body Digest Binding",
        "send digest where the request has a body",
        _digest_missing,
    ),
)
