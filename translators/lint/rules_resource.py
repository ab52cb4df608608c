"""Rules about the URL that x402 says is paid for: it should be the one that was asked."""

from collections.abc import Iterator
from urllib.parse import SplitResult, unquote

from translators.lint.known import is_internal, is_loopback, origin_of, split_url
from translators.lint.reading import Reading
from translators.lint.rule import Kind, Rule, Severity
from translators.wire import x402_v2

__all__ = ["RULES"]

_CLAUSE = "x402 specification v1 and v2, 5.1.2: the URL of the protected resource"
_REMEDY = "set the server's public URL (here: public_url), or have the proxy say it and the server believe the proxy"


def _resources(reading: Reading) -> Iterator[tuple[str, str]]:
    for index, entry in enumerate(reading.v1_entries):
        if isinstance(entry.get("resource"), str):
            yield f"body accepts[{index}]", entry["resource"]
    resource = reading.v2_members.get("resource")
    if isinstance(resource, dict) and isinstance(resource.get("url"), str):
        yield x402_v2.CHALLENGE_HEADER, resource["url"]


def _invalid(reading: Reading) -> Iterator[str]:
    for where, url in _resources(reading):
        if split_url(url) is None:
            yield f"{where}: {url[:80]!r}"


def _compared(reading: Reading) -> Iterator[tuple[str, SplitResult, SplitResult]]:
    asked = split_url(reading.probe.answer.url)
    for where, url in _resources(reading):
        told = split_url(url)
        if told is not None and asked is not None:
            yield where, told, asked


def _same_host(told: SplitResult, asked: SplitResult) -> bool:
    ours, theirs = (asked.hostname or "").lower(), (told.hostname or "").lower()
    return ours == theirs or (is_loopback(ours) and is_loopback(theirs))


def _scheme(reading: Reading) -> Iterator[str]:
    for where, told, asked in _compared(reading):
        if _same_host(told, asked) and told.scheme != asked.scheme:
            yield f"{where}: {told.scheme}, and it was asked over {asked.scheme}"


def _internal(reading: Reading) -> Iterator[str]:
    for where, told, asked in _compared(reading):
        if not _same_host(told, asked) and is_internal(told.hostname or ""):
            yield f"{where}: {told.netloc}, and it was asked of {asked.netloc}"


def _other_host(reading: Reading) -> Iterator[str]:
    for where, told, asked in _compared(reading):
        if _same_host(told, asked):
            if told.scheme == asked.scheme and origin_of(told)[2] != origin_of(asked)[2]:
                yield f"{where}: {told.netloc}, and it was asked of {asked.netloc}"
        elif not is_internal(told.hostname or ""):
            yield f"{where}: {told.netloc}, and it was asked of {asked.netloc}"


def _path(reading: Reading) -> Iterator[str]:
    for where, told, asked in _compared(reading):
        if unquote(told.path or "/") != unquote(asked.path or "/"):
            yield f"{where}: {told.path[:60] or '/'}, and {asked.path[:60] or '/'} was asked"


RULES = (
    Rule(
        "resource-invalid",
        Severity.WARNING,
        Kind.MUST,
        "the resource is no URL",
        _CLAUSE,
        _REMEDY,
        _invalid,
    ),
    Rule(
        "resource-scheme",
        Severity.WARNING,
        Kind.MUST,
        "the resource has another scheme",
        _CLAUSE,
        _REMEDY,
        _scheme,
    ),
    Rule(
        "resource-internal",
        Severity.WARNING,
        Kind.MUST,
        "the resource names an internal host",
        _CLAUSE,
        _REMEDY,
        _internal,
    ),
    Rule(
        "resource-host",
        Severity.WARNING,
        Kind.MUST,
        "the resource is on another host",
        _CLAUSE,
        _REMEDY,
        _other_host,
    ),
    Rule(
        "resource-path",
        Severity.INFO,
        Kind.MUST,
        "the resource has another path",
        _CLAUSE,
        "name the path that clients ask for, the proxy's prefix included",
        _path,
    ),
)
