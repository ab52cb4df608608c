"""Rules about MPP's challenges: their grammar, their parameters, and the request of an evm charge."""

import hashlib
import re
from collections.abc import Iterator

from translators.binding import parse_time
from translators.encoding import b64_encode, jcs_encode
from translators.errors import MalformedError
from translators.lint.forms import Forms, is_count, is_object, is_text, wrong_members
from translators.lint.known import split_url
from translators.lint.reading import ReadChallenge, Reading
from translators.lint.rule import Kind, Rule, Severity
from translators.wire import mpp

__all__ = ["RULES"]

_CORE = "draft-httpauth-payment-00"
_EVM = "draft-evm-charge-00"
_REQUIRED = ("id", "realm", "method", "intent", "request")
_B64URL = re.compile(r"[A-Za-z0-9_-]+")
_METHOD = re.compile(r"[a-z]+")
_HMAC_ID = re.compile(r"[A-Za-z0-9_-]{43}")
_TYPES = ("permit2", "authorization", "transaction", "hash")
_SOON = 30.0
"""Seconds in which a client can hardly ask its wallet, sign, and come back."""


def _each(reading: Reading) -> Iterator[tuple[str, ReadChallenge]]:
    several = len(reading.challenges) > 1
    for index, challenge in enumerate(reading.challenges):
        yield (f"challenge {index + 1}: " if several else ""), challenge


def _grammar(reading: Reading) -> Iterator[str]:
    yield from reading.unparsed


def _parameters(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        for name in _REQUIRED:
            if name not in challenge.params:
                yield f"{which}no {name}"
            elif name == "id" and not challenge.params["id"]:
                yield f"{which}id is empty"


def _method(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        method = challenge.params.get("method")
        if method is not None and _METHOD.fullmatch(method) is None:
            yield f"{which}method is {method[:40]!r}"


def _request_unreadable(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        if "request" in challenge.params and not is_object(challenge.request):
            yield f"{which}request is not base64url of a JSON object"


def _base64url(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        for name in ("request", "opaque"):
            value = challenge.params.get(name)
            if value and _B64URL.fullmatch(value) is None and (name != "request" or is_object(challenge.request)):
                yield f"{which}{name} {'is padded' if value.endswith('=') else 'has another alphabet'}"


def _jcs(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        if is_object(challenge.request) and challenge.request_bytes is not None:
            try:
                canonical = jcs_encode(challenge.request)
            except ValueError as error:
                yield f"{which}request: {error}"
                continue
            if canonical != challenge.request_bytes:
                yield f"{which}request is not in canonical form (order of members, white space, or numbers)"


def _opaque(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        value = challenge.params.get("opaque")
        if value is None:
            continue
        try:
            mpp.decode_opaque(value.rstrip("="))
        except MalformedError:
            yield f"{which}opaque is not base64url of a flat map of strings"
            continue
        decoded = mpp.decode_opaque(value.rstrip("="))
        if mpp.encode_opaque(decoded).rstrip("=") != value.rstrip("=").replace("+", "-").replace("/", "_"):
            yield f"{which}opaque is not in canonical form"


def _evm_request(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        if not challenge.is_evm_charge or not is_object(challenge.request):
            continue
        required: Forms = {"amount": is_text, "currency": is_text, "recipient": is_text, "methodDetails": is_object}
        for problem in wrong_members(challenge.request, required, {"description": is_text, "externalId": is_text}):
            yield f"{which}{problem}"
        details = challenge.request.get("methodDetails")
        if is_object(details):
            for problem in wrong_members(details, {"chainId": is_count}, {"decimals": is_count}):
                yield f"{which}methodDetails: {problem}"


def _credential_types(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        details = challenge.request.get("methodDetails") if is_object(challenge.request) else None
        if not challenge.is_evm_charge or not is_object(details):
            continue
        types = details.get("credentialTypes")
        if types is None:
            continue
        if not isinstance(types, list) or not types:
            yield f"{which}credentialTypes is not a list of types"
        elif unknown := [str(word)[:40] for word in types if word not in _TYPES]:
            yield f"{which}credentialTypes has {', '.join(unknown)}"
        elif "permit2" in types and not is_text(details.get("permit2Address")):
            yield f"{which}permit2 is accepted, and permit2Address is missing"
        elif details.get("splits") and types != ["permit2"]:
            yield f"{which}splits are asked for, and {', '.join(types)} accepted: only permit2 can carry them"


def _types_missing(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        details = challenge.request.get("methodDetails") if is_object(challenge.request) else None
        if challenge.is_evm_charge and is_object(details) and details.get("credentialTypes") is None:
            yield f"{which}credentialTypes is missing"


def _expires(challenge: ReadChallenge) -> int | None:
    try:
        return parse_time(challenge.params["expires"])
    except (KeyError, MalformedError):
        return None


def _expires_form(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        if "expires" in challenge.params and _expires(challenge) is None:
            yield f"{which}expires is {challenge.params['expires'][:40]!r}"


def _expired(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        expires = _expires(challenge)
        if expires is not None and expires < reading.probe.at:
            yield f"{which}expired {reading.probe.at - expires:.0f} s before it came"


def _expires_soon(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        expires = _expires(challenge)
        if expires is not None and 0 <= expires - reading.probe.at < _SOON:
            yield f"{which}good for {expires - reading.probe.at:.0f} s"


def _expires_missing(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        if "expires" not in challenge.params:
            yield f"{which}no expires"


def _id_shape(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
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
    for which, challenge in _each(reading):
        digest = challenge.params.get("digest")
        if digest is not None and digest not in (f"sha-256=:{expected}:", f"sha-256={expected}"):
            algorithm = digest.partition("=")[0].lower()
            if algorithm == "sha-256":
                yield f"{which}digest is not that of the body that was sent"


def _digest_form(reading: Reading) -> Iterator[str]:
    for which, challenge in _each(reading):
        digest = challenge.params.get("digest")
        if digest is not None and re.fullmatch(r"[a-z0-9-]+=:[A-Za-z0-9+/]+=*:", digest) is None:
            yield f"{which}digest is {digest[:24]}..., where RFC 9530 has sha-256=:...:"


def _digest_missing(reading: Reading) -> Iterator[str]:
    if reading.probe.sent:
        for which, challenge in _each(reading):
            if "digest" not in challenge.params:
                yield f"{which}no digest, and the request has a body"


def _folded(reading: Reading) -> Iterator[str]:
    lines = [line for line, challenge in reading.schemes if challenge.scheme.lower() == mpp.SCHEME.lower()]
    for line in sorted({line for line in lines if lines.count(line) > 1}):
        yield f"{lines.count(line)} Payment challenges in one WWW-Authenticate line"


def _not_first(reading: Reading) -> Iterator[str]:
    for index, (_, challenge) in enumerate(reading.schemes):
        if challenge.scheme.lower() == mpp.SCHEME.lower():
            if index:
                yield f"{reading.schemes[0][1].scheme[:40]} stands before Payment"
            elif challenge.scheme != mpp.SCHEME:
                yield f"the scheme is written {challenge.scheme}"
            return


def _realm(reading: Reading) -> Iterator[str]:
    parts = split_url(reading.probe.answer.url)
    for which, challenge in _each(reading):
        realm = challenge.params.get("realm")
        if realm and parts is not None and realm not in (parts.netloc, parts.hostname):
            yield f"{which}realm is {realm[:60]!r}, the host {parts.netloc}"


def _problem_challenge(reading: Reading) -> Iterator[str]:
    told = reading.members.get("challengeId")
    ids = [challenge.params.get("id") for challenge in reading.challenges]
    if ids and told is not None and told not in ids:
        yield "the problem's challengeId is no challenge's id"


RULES = (
    Rule(
        "mpp-grammar",
        Severity.ERROR,
        Kind.MUST,
        "WWW-Authenticate cannot be parsed",
        "RFC 9110, 11.2 and 11.6.1",
        "quote every value, separate parameters by commas, and name each once",
        _grammar,
    ),
    Rule(
        "mpp-parameter-missing",
        Severity.ERROR,
        Kind.MUST,
        "a challenge lacks a parameter",
        f"{_CORE}, Required Parameters",
        "send id, realm, method, intent and request",
        _parameters,
    ),
    Rule(
        "mpp-method",
        Severity.ERROR,
        Kind.MUST,
        "a payment method's name is malformed",
        f"{_CORE}, Method Identifier Format",
        "write lower-case letters only",
        _method,
    ),
    Rule(
        "mpp-request-unreadable",
        Severity.ERROR,
        Kind.MUST,
        "a challenge's request cannot be read",
        f"{_CORE}, Required Parameters",
        "send base64url of the JSON object",
        _request_unreadable,
    ),
    Rule(
        "mpp-base64url",
        Severity.WARNING,
        Kind.MUST,
        "request or opaque is not base64url without padding",
        f"{_CORE}, Required Parameters and Optional Parameters",
        "use the url-safe alphabet and leave the padding out",
        _base64url,
    ),
    Rule(
        "mpp-jcs",
        Severity.WARNING,
        Kind.MUST,
        "request is not canonical JSON",
        f"{_CORE}, Required Parameters; RFC 8785",
        "serialise by JCS before encoding: a client that serialises again changes the id",
        _jcs,
    ),
    Rule(
        "mpp-opaque",
        Severity.WARNING,
        Kind.MUST,
        "opaque has another shape",
        f"{_CORE}, Optional Parameters",
        "send base64url of the JCS of a flat map of strings",
        _opaque,
    ),
    Rule(
        "mpp-evm-request",
        Severity.ERROR,
        Kind.MUST,
        "the request of an evm charge is malformed",
        f"{_EVM}, Request Schema",
        "write amount, currency, recipient and methodDetails.chainId with their types",
        _evm_request,
    ),
    Rule(
        "mpp-credential-types",
        Severity.ERROR,
        Kind.MUST,
        "credentialTypes cannot be fulfilled",
        f"{_EVM}, Credential Type Negotiation, Method Details and Payment Splits",
        "name known types only, permit2Address beside permit2, and permit2 alone where there are splits",
        _credential_types,
    ),
    Rule(
        "mpp-types-missing",
        Severity.WARNING,
        Kind.ADVICE,
        "credentialTypes is not said",
        f"{_EVM}, Credential Type Negotiation: without it a signed transaction is asked for; mppx 0.11.0 refuses",
        'write credentialTypes, such as ["authorization"]',
        _types_missing,
    ),
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
    Rule(
        "mpp-folded",
        Severity.WARNING,
        Kind.ADVICE,
        "several challenges in one header line",
        "RFC 9110, 11.6.1, which allows it and warns of it",
        "send one line a challenge, and see that no proxy joins them",
        _folded,
    ),
    Rule(
        "mpp-not-first",
        Severity.INFO,
        Kind.ADVICE,
        "Payment is not the first scheme",
        "RFC 9110, 11.6.1 allows any order and case; some parsers read what comes first, and in this case",
        "write Payment, and write it first",
        _not_first,
    ),
    Rule(
        "mpp-realm",
        Severity.INFO,
        Kind.ADVICE,
        "realm is not the host",
        "mppx 0.11.0, validate; RFC 9110, 11.5 lets a realm be anything",
        "name the public host, and the same behind every address",
        _realm,
    ),
    Rule(
        "problem-challenge-id",
        Severity.WARNING,
        Kind.ADVICE,
        "the body speaks of another challenge",
        f"{_CORE}, Examples, One-Time Charge",
        "write the id of a challenge that is sent with it; see that no cache mixes answers",
        _problem_challenge,
    ),
)
