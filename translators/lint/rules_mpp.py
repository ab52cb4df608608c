"""Rules about MPP's challenges: their grammar, their parameters, and the request of an evm charge."""

import re
from collections.abc import Iterator

from translators.encoding import jcs_encode
from translators.errors import MalformedError
from translators.lint.forms import Forms, is_count, is_object, is_text, wrong_members
from translators.lint.known import split_url
from translators.lint.reading import ReadChallenge, Reading
from translators.lint.rule import Kind, Rule, Severity
from translators.wire import mpp

__all__ = ["RULES", "each"]

_CORE = "draft-httpauth-payment-00"
_EVM = "draft-evm-charge-00"
_REQUIRED = ("id", "realm", "method", "intent", "request")
_B64URL = re.compile(r"[A-Za-z0-9_-]+")
_METHOD = re.compile(r"[a-z]+")
_TYPES = ("permit2", "authorization", "transaction", "hash")


def each(reading: Reading) -> Iterator[tuple[str, ReadChallenge]]:
    """Every `Payment` challenge, and what to call it where there are several."""
    several = len(reading.challenges) > 1
    for index, challenge in enumerate(reading.challenges):
        yield (f"challenge {index + 1}: " if several else ""), challenge


def _grammar(reading: Reading) -> Iterator[str]:
    yield from reading.unparsed


def _parameters(reading: Reading) -> Iterator[str]:
    for which, challenge in each(reading):
        for name in _REQUIRED:
            if name not in challenge.params:
                yield f"{which}no {name}"
            elif name == "id" and not challenge.params["id"]:
                yield f"{which}id is empty"


def _method(reading: Reading) -> Iterator[str]:
    for which, challenge in each(reading):
        method = challenge.params.get("method")
        if method is not None and _METHOD.fullmatch(method) is None:
            yield f"{which}method is {method[:40]!r}"


def _request_unreadable(reading: Reading) -> Iterator[str]:
    for which, challenge in each(reading):
        if "request" in challenge.params and not is_object(challenge.request):
            yield f"{which}request is not base64url of a JSON object"


def _base64url(reading: Reading) -> Iterator[str]:
    for which, challenge in each(reading):
        for name in ("request", "opaque"):
            value = challenge.params.get(name)
            if value and _B64URL.fullmatch(value) is None and (name != "request" or is_object(challenge.request)):
                yield f"{which}{name} {'is padded' if value.endswith('=') else 'has another alphabet'}"


def _jcs(reading: Reading) -> Iterator[str]:
    for which, challenge in each(reading):
        if is_object(challenge.request) and challenge.request_bytes is not None:
            try:
                canonical = jcs_encode(challenge.request)
            except ValueError as error:
                yield f"{which}request: {error}"
                continue
            if canonical != challenge.request_bytes:
                yield f"{which}request is not in canonical form (order of members, white space, or numbers)"


def _opaque(reading: Reading) -> Iterator[str]:
    for which, challenge in each(reading):
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
    for which, challenge in each(reading):
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
    for which, challenge in each(reading):
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
    for which, challenge in each(reading):
        details = challenge.request.get("methodDetails") if is_object(challenge.request) else None
        if challenge.is_evm_charge and is_object(details) and details.get("credentialTypes") is None:
            yield f"{which}credentialTypes is missing"


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
    for which, challenge in each(reading):
        realm = challenge.params.get("realm")
        if realm and parts is not None and realm not in (parts.netloc, parts.hostname):
            yield f"{which}realm is {realm[:60]!r}, the host {parts.netloc}"


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
)
