"""Rules about the envelopes of x402: v1 in the body, v2 in `PAYMENT-REQUIRED`."""

from collections.abc import Iterator
from typing import Any

from translators.encoding import b64_decode
from translators.errors import MalformedError
from translators.lint.forms import Forms, is_count, is_object, is_text, wrong_members
from translators.lint.reading import Reading
from translators.lint.rule import Kind, Rule, Severity
from translators.networks import V1_NETWORKS
from translators.wire import x402_v1, x402_v2

__all__ = ["RULES"]

_V1 = "x402 specification v1"
_V2 = "x402 specification v2"
_V1_HTTP = "x402 transports-v1/http, Payment Required Signaling"
_V2_HTTP = "x402 transports-v2/http, Payment Required Signaling"

_V1_ENTRY: Forms = {
    "scheme": is_text,
    "network": is_text,
    "maxAmountRequired": is_text,
    "asset": is_text,
    "payTo": is_text,
    "resource": is_text,
    "description": is_text,
    "maxTimeoutSeconds": is_count,
}
_V1_ENTRY_OPTIONAL: Forms = {"mimeType": is_text, "outputSchema": is_object, "extra": is_object}
_V2_ENTRY: Forms = {
    "scheme": is_text,
    "network": is_text,
    "amount": is_text,
    "asset": is_text,
    "payTo": is_text,
    "maxTimeoutSeconds": is_count,
}
_V2_ENTRY_OPTIONAL: Forms = {"extra": is_object}


def _v1_header_only(reading: Reading) -> Iterator[str]:
    if isinstance(reading.v1_header, dict) and not reading.speaks_v1:
        yield f"{x402_v1.CHALLENGE_HEADER} has the challenge, and the body has not"


def _v1_header_differs(reading: Reading) -> Iterator[str]:
    value = reading.probe.answer.value(x402_v1.CHALLENGE_HEADER)
    if value is None or not reading.speaks_v1:
        return
    if not isinstance(reading.v1_header, dict):
        yield f"{x402_v1.CHALLENGE_HEADER} is not base64 of a JSON object"
    elif reading.v1_header.get("accepts") != reading.members.get("accepts"):
        yield f"accepts in {x402_v1.CHALLENGE_HEADER} is not the body's"


def _v1_version(reading: Reading) -> Iterator[str]:
    if reading.speaks_v1 and reading.v1_version != 1:
        said = "absent" if reading.v1_version is None else repr(reading.v1_version)
        yield f"x402Version is {said}, not the number 1"


def _v1_error(reading: Reading) -> Iterator[str]:
    if not reading.speaks_v1 or is_text(reading.members.get("error")):
        return
    yield "error is null, which v1's own client refuses" if "error" in reading.members else "error is missing"


def _accepts(members: dict[str, Any]) -> Iterator[str]:
    accepts = members.get("accepts")
    if not isinstance(accepts, list):
        yield "accepts is missing" if accepts is None else "accepts is not an array"
    elif not accepts:
        yield "accepts is empty"
    else:
        for index, entry in enumerate(accepts):
            if not isinstance(entry, dict):
                yield f"accepts[{index}] is not an object"


def _v1_accepts(reading: Reading) -> Iterator[str]:
    if reading.speaks_v1:
        yield from _accepts(reading.members)


def _v1_words(reading: Reading) -> Iterator[str]:
    for index, entry in enumerate(reading.v1_entries):
        if "amount" in entry and "maxAmountRequired" not in entry:
            yield f"accepts[{index}] has amount, and no maxAmountRequired"
        if is_text(entry.get("network")) and ":" in entry["network"]:
            yield f"accepts[{index}] has network {entry['network']}, where v1 has names such as base-sepolia"
    if reading.speaks_v1 and is_object(reading.members.get("resource")):
        yield "resource stands once beside accepts, where v1 has it in each entry"


def _v1_entry(reading: Reading) -> Iterator[str]:
    for index, entry in enumerate(reading.v1_entries):
        for problem in wrong_members(entry, _V1_ENTRY, _V1_ENTRY_OPTIONAL):
            foreign_word = problem == "maxAmountRequired is missing" and "amount" in entry
            moved = problem == "resource is missing" and is_object(reading.members.get("resource"))
            if not foreign_word and not moved:
                yield f"accepts[{index}]: {problem}"


def _v1_network(reading: Reading) -> Iterator[str]:
    for index, entry in enumerate(reading.v1_entries):
        network = entry.get("network")
        if is_text(network) and ":" not in network and network not in (*V1_NETWORKS, "solana", "solana-devnet"):
            yield f"accepts[{index}] has network {network[:60]!r}"


def _v2_in_body(reading: Reading) -> Iterator[str]:
    if not reading.speaks_v2 and reading.v1_version in (2, "2"):
        yield f"the body has x402Version 2, and there is no {x402_v2.CHALLENGE_HEADER}"


def _v2_unreadable(reading: Reading) -> Iterator[str]:
    if reading.speaks_v2 and not isinstance(reading.v2, dict):
        yield f"{x402_v2.CHALLENGE_HEADER} is not base64 of a JSON object"


def _v2_base64(reading: Reading) -> Iterator[str]:
    value = reading.v2_value
    if value is None or not isinstance(reading.v2, dict):
        return
    if "-" in value or "_" in value:
        yield f"{x402_v2.CHALLENGE_HEADER} is base64url"
    elif len(value) % 4:
        yield f"{x402_v2.CHALLENGE_HEADER} lacks its padding"
    else:
        try:
            b64_decode(value[: 16 * 1024], "")
        except MalformedError:
            yield f"{x402_v2.CHALLENGE_HEADER} is base64 that decoders read in different ways"


def _v2_version(reading: Reading) -> Iterator[str]:
    if reading.v2_members and reading.v2_members.get("x402Version") != 2:
        yield f"x402Version is {reading.v2_members.get('x402Version')!r}, not the number 2"


def _v2_accepts(reading: Reading) -> Iterator[str]:
    if reading.v2_members:
        yield from _accepts(reading.v2_members)


def _v2_words(reading: Reading) -> Iterator[str]:
    for index, entry in enumerate(reading.v2_entries):
        if "maxAmountRequired" in entry and "amount" not in entry:
            yield f"accepts[{index}] has maxAmountRequired, and no amount"
        if is_text(entry.get("network")) and ":" not in entry["network"]:
            yield f"accepts[{index}] has network {entry['network'][:60]}, where v2 has CAIP-2 ids"


def _v2_entry(reading: Reading) -> Iterator[str]:
    for index, entry in enumerate(reading.v2_entries):
        for problem in wrong_members(entry, _V2_ENTRY, _V2_ENTRY_OPTIONAL):
            if not (problem == "amount is missing" and "maxAmountRequired" in entry):
                yield f"accepts[{index}]: {problem}"


def _v2_resource(reading: Reading) -> Iterator[str]:
    if not reading.v2_members:
        return
    resource = reading.v2_members.get("resource")
    if resource is None:
        yield "resource is missing"
    elif not is_object(resource):
        yield "resource is not an object"
    elif not is_text(resource.get("url")):
        yield "resource has no url"


def _extensions(reading: Reading) -> dict[str, Any]:
    extensions = reading.v2_members.get("extensions")
    return extensions if isinstance(extensions, dict) else {}


def _v2_extensions(reading: Reading) -> Iterator[str]:
    extensions = reading.v2_members.get("extensions")
    if extensions is not None and not is_object(extensions):
        yield "extensions is not an object"
    for name, extension in _extensions(reading).items():
        if name == "bazaar":
            continue
        if not is_object(extension):
            yield f"extensions.{name[:40]} is not an object"
        elif missing := [word for word in ("info", "schema") if not is_object(extension.get(word))]:
            yield f"extensions.{name[:40]} has no {' and no '.join(missing)}"


def _bazaar(reading: Reading) -> Iterator[str]:
    if "bazaar" not in _extensions(reading):
        return
    bazaar = _extensions(reading)["bazaar"]
    info = bazaar.get("info") if is_object(bazaar) else None
    if not is_object(info) or not is_object(bazaar.get("schema")):
        yield "bazaar lacks info or schema"
        return
    entry = info.get("input")
    if not is_object(entry) or entry.get("type") not in ("http", "mcp"):
        yield "bazaar's info.input has no type http or mcp"
    elif entry["type"] == "http":
        method = entry.get("method")
        if method is not None and str(method).upper() != reading.probe.method.upper():
            yield f"bazaar says {str(method)[:20]}, and the route was asked by {reading.probe.method}"
        if str(method).upper() in ("POST", "PUT", "PATCH") and not is_text(entry.get("bodyType")):
            yield f"bazaar's info.input of a {method} has no bodyType"
    elif not is_text(entry.get("tool")) or not is_object(entry.get("inputSchema")):
        yield "bazaar's info.input of type mcp has no tool or no inputSchema"


RULES = (
    Rule(
        "v1-header-only",
        Severity.ERROR,
        Kind.MUST,
        "v1's challenge is not in the body",
        _V1_HTTP,
        f"send the JSON of {x402_v1.CHALLENGE_HEADER} as the body; v1 clients read nothing else",
        _v1_header_only,
    ),
    Rule(
        "v1-header-differs",
        Severity.WARNING,
        Kind.ADVICE,
        "two v1 challenges that differ",
        "by custom X-PAYMENT-REQUIRED is base64 of the v1 body; no text of x402 has it",
        "make both from one value, or leave the header out",
        _v1_header_differs,
    ),
    Rule(
        "v1-version",
        Severity.ERROR,
        Kind.MUST,
        "the body's x402Version is wrong",
        f"{_V1}, 5.1.2",
        "write the number 1",
        _v1_version,
    ),
    Rule(
        "v1-error",
        Severity.INFO,
        Kind.MUST,
        "the body has no error text",
        f"{_V1}, 5.1.2: all fields are required",
        'write a string, such as "X-PAYMENT header is required"',
        _v1_error,
    ),
    Rule(
        "v1-accepts",
        Severity.ERROR,
        Kind.MUST,
        "no way to pay in accepts (v1)",
        f"{_V1}, 5.1.2",
        "write at least one entry, or leave v1 out altogether",
        _v1_accepts,
    ),
    Rule(
        "v1-v2-words",
        Severity.ERROR,
        Kind.MUST,
        "words of v2 in the v1 body",
        f"{_V1}, 5.1.2; x402-foundation/x402#2953",
        "write maxAmountRequired, a network's name, and resource in each entry",
        _v1_words,
    ),
    Rule(
        "v1-entry",
        Severity.ERROR,
        Kind.MUST,
        "an entry of accepts is malformed (v1)",
        f"{_V1}, 5.1.2",
        "write every required member with its type",
        _v1_entry,
    ),
    Rule(
        "v1-network",
        Severity.ERROR,
        Kind.ADVICE,
        "a network that v1 clients do not know",
        "npm x402 1.2.0, types/shared/network: one unknown name and the whole 402 is refused",
        "offer this network to v2 and MPP clients only",
        _v1_network,
    ),
    Rule(
        "v2-in-body",
        Severity.ERROR,
        Kind.MUST,
        "v2's challenge is not in its header",
        _V2_HTTP,
        f"send it as base64 in {x402_v2.CHALLENGE_HEADER}; see that no proxy strips it",
        _v2_in_body,
    ),
    Rule(
        "v2-unreadable",
        Severity.ERROR,
        Kind.MUST,
        f"{x402_v2.CHALLENGE_HEADER} cannot be read",
        _V2_HTTP,
        "send base64 of the JSON, on one line",
        _v2_unreadable,
    ),
    Rule(
        "v2-base64",
        Severity.WARNING,
        Kind.MUST,
        f"{x402_v2.CHALLENGE_HEADER} is not standard base64",
        f"{_V2_HTTP}; RFC 4648, 4",
        "use the standard alphabet with padding: atob and strict decoders take nothing else",
        _v2_base64,
    ),
    Rule(
        "v2-version",
        Severity.ERROR,
        Kind.MUST,
        "x402Version in the header is wrong",
        f"{_V2}, 5.1.2",
        "write the number 2",
        _v2_version,
    ),
    Rule(
        "v2-accepts",
        Severity.ERROR,
        Kind.MUST,
        "no way to pay in accepts (v2)",
        f"{_V2}, 5.1.2",
        "write at least one entry, or leave the header out",
        _v2_accepts,
    ),
    Rule(
        "v2-v1-words",
        Severity.ERROR,
        Kind.MUST,
        "words of v1 in the v2 challenge",
        f"{_V2}, 5.1.2",
        "write amount, and the network as a CAIP-2 id",
        _v2_words,
    ),
    Rule(
        "v2-entry",
        Severity.ERROR,
        Kind.MUST,
        "an entry of accepts is malformed (v2)",
        f"{_V2}, 5.1.2",
        "write every required member with its type",
        _v2_entry,
    ),
    Rule(
        "v2-resource",
        Severity.WARNING,
        Kind.MUST,
        "v2's challenge does not say what is paid for",
        f"{_V2}, 5.1.2",
        "write resource with its url",
        _v2_resource,
    ),
    Rule(
        "v2-extension",
        Severity.INFO,
        Kind.MUST,
        "an extension has another shape",
        f"{_V2}, 5.1.2, Extensions",
        "give each extension an info and a schema",
        _v2_extensions,
    ),
    Rule(
        "bazaar",
        Severity.WARNING,
        Kind.MUST,
        "the bazaar extension describes another route",
        "x402 extensions/bazaar, Discovery Info Structure",
        "write the route's own method and input",
        _bazaar,
    ),
)
