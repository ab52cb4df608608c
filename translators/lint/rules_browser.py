"""Rules about what browsers may do with the route: read its challenge, send a payment, and ask without one."""

from collections.abc import Iterator

from translators.lint.probe import Exchange
from translators.lint.reading import Reading
from translators.lint.rule import Kind, Rule, Severity
from translators.payment import Protocol
from translators.wire import mpp, x402_v1, x402_v2

__all__ = ["RULES"]

_FETCH = "Fetch standard (fetch.spec.whatwg.org)"
_SAFELISTED = {"cache-control", "content-language", "content-length", "content-type", "expires", "last-modified"}
_CREDENTIAL_HEADERS = {
    Protocol.X402_V1: x402_v1.CREDENTIAL_HEADER,
    Protocol.X402_V2: x402_v2.CREDENTIAL_HEADER,
    Protocol.MPP: mpp.CREDENTIAL_HEADER,
}
_CHALLENGE_HEADERS = (mpp.CHALLENGE_HEADER, x402_v2.CHALLENGE_HEADER, x402_v1.CHALLENGE_HEADER)


def _allowed_origin(exchange: Exchange | None) -> bool:
    return exchange is not None and bool(exchange.value("Access-Control-Allow-Origin"))


def _cors_expose(reading: Reading) -> Iterator[str]:
    again = reading.probe.again
    if again is None or again.status != 402 or not _allowed_origin(again):
        return
    exposed = set(again.elements("Access-Control-Expose-Headers"))
    if "*" in exposed and again.value("Access-Control-Allow-Credentials") != "true":
        return
    hidden = [name for name in _CHALLENGE_HEADERS if again.values(name) and name.lower() not in exposed | _SAFELISTED]
    if hidden:
        yield f"a page of another origin may read the body and not {', '.join(hidden)}"


def _cors_allow(reading: Reading) -> Iterator[str]:
    preflight = reading.probe.preflight
    if preflight is None or not _allowed_origin(preflight) or preflight.status == 402:
        return
    allowed = set(preflight.elements("Access-Control-Allow-Headers"))
    wanted = [_CREDENTIAL_HEADERS[protocol] for protocol in reading.speaks]
    # The wildcard does not stand for Authorization.
    missing = [
        name for name in wanted if name.lower() not in allowed and ("*" not in allowed or name == "Authorization")
    ]
    if missing:
        yield f"Access-Control-Allow-Headers leaves out {', '.join(missing)}"


def _options_402(reading: Reading) -> Iterator[str]:
    if reading.probe.preflight is not None and reading.probe.preflight.status == 402:
        yield "OPTIONS answers 402, and a browser's preflight carries no payment"


def _head(reading: Reading) -> Iterator[str]:
    head = reading.probe.head
    if head is None:
        return
    if head.status == 402:
        named = {name.lower() for name, _ in reading.probe.answer.headers}
        missing = [name for name in _CHALLENGE_HEADERS if name.lower() in named and not head.values(name)]
        if missing:
            yield f"HEAD answers 402 without {', '.join(missing)}"
    elif head.status >= 500:
        yield f"HEAD answers {head.status}"


def _head_free(reading: Reading) -> Iterator[str]:
    head = reading.probe.head
    if head is not None and head.status < 300:
        yield f"HEAD answers {head.status} without payment, where GET answers 402"


RULES = (
    Rule(
        "cors-expose",
        Severity.WARNING,
        Kind.ADVICE,
        "browsers hide the challenge",
        f"{_FETCH}, Access-Control-Expose-Headers",
        "name the challenge and receipt headers in Access-Control-Expose-Headers",
        _cors_expose,
    ),
    Rule(
        "cors-allow-headers",
        Severity.WARNING,
        Kind.ADVICE,
        "browsers may not send the payment",
        f"{_FETCH}, CORS-preflight fetch",
        "name the credential headers in Access-Control-Allow-Headers",
        _cors_allow,
    ),
    Rule(
        "options-402",
        Severity.WARNING,
        Kind.ADVICE,
        "OPTIONS is charged",
        f"{_FETCH}, CORS-preflight fetch: only an ok status passes",
        "answer OPTIONS without payment",
        _options_402,
    ),
    Rule(
        "head-differs",
        Severity.WARNING,
        Kind.SHOULD,
        "HEAD is not answered as GET is",
        "RFC 9110, 9.3.2",
        "send the headers of GET with the answer to HEAD",
        _head,
    ),
    Rule(
        "head-free",
        Severity.INFO,
        Kind.ADVICE,
        "HEAD does the work without payment",
        "RFC 9110, 9.3.2",
        "charge HEAD as GET, or answer it before the handler runs",
        _head_free,
    ),
)
