"""Rules about the answer as HTTP: its status, its headers, its caching, and what browsers and proxies make of it."""

from collections.abc import Iterator

from translators.lint.known import HEADER_LIMITS, is_loopback, split_url
from translators.lint.probe import Exchange
from translators.lint.reading import PROBLEM_BASE, Reading
from translators.lint.rule import Kind, Rule, Severity
from translators.payment import Protocol
from translators.wire import mpp, x402_v1, x402_v2

__all__ = ["BEFORE_402", "RULES"]

_CORE = "draft-httpauth-payment-00"
_FETCH = "Fetch standard (fetch.spec.whatwg.org)"

_CHALLENGE_HEADERS = (mpp.CHALLENGE_HEADER, x402_v2.CHALLENGE_HEADER, x402_v1.CHALLENGE_HEADER)
_CREDENTIAL_HEADERS = {
    Protocol.X402_V1: x402_v1.CREDENTIAL_HEADER,
    Protocol.X402_V2: x402_v2.CREDENTIAL_HEADER,
    Protocol.MPP: mpp.CREDENTIAL_HEADER,
}
_SAFELISTED = {"cache-control", "content-language", "content-length", "content-type", "expires", "last-modified"}

_STATUS_WORDS = {
    401: "authentication comes before payment: send what the server wants to know with --header",
    403: "the server does not let this client in at all",
    404: "there is nothing at this path",
    405: "the path exists for another method: say which with --method",
    415: "the body has a type that is not taken: say which with --header",
    422: "the request is checked before it is charged: send a body that is accepted, with --data",
}


def _no_402(reading: Reading) -> Iterator[str]:
    status = reading.probe.answer.status
    if status == 402 or 300 <= status < 400:
        return
    if status < 300:
        said = "the route answers without payment"
    else:
        said = _STATUS_WORDS.get(status, "the request fails before payment is asked")
    yield f"{reading.probe.method} answers {status}: {said}"


def _redirect(reading: Reading) -> Iterator[str]:
    answer = reading.probe.answer
    if 300 <= answer.status < 400:
        yield f"{answer.status} to {answer.value('Location') or 'nowhere'}"


def _expected(reading: Reading) -> Iterator[str]:
    for protocol in reading.probe.expected:
        if protocol not in reading.speaks:
            yield f"nothing in the answer is meant for {protocol.value} clients"


def _nothing_readable(reading: Reading) -> Iterator[str]:
    if not reading.speaks and not _claims_mpp(reading) and reading.v1_version not in (2, "2"):
        yield "no WWW-Authenticate: Payment, no PAYMENT-REQUIRED, and no x402Version in the body"


def _claims_mpp(reading: Reading) -> bool:
    return str(reading.members.get("type", "")).startswith(PROBLEM_BASE)


def _mpp_challenge_missing(reading: Reading) -> Iterator[str]:
    if _claims_mpp(reading) and not reading.speaks_mpp and not {"x402Version", "accepts"} & set(reading.members):
        yield "the body is MPP's problem, and no WWW-Authenticate header has a Payment challenge"


def _is_public(answer: Exchange) -> list[str]:
    names = ("public", "immutable")
    return [
        directive
        for directive in answer.elements("Cache-Control")
        if directive in names or (directive.startswith(("max-age=", "s-maxage=")) and not directive.endswith("=0"))
    ]


def _mpp_no_store(reading: Reading) -> Iterator[str]:
    answer = reading.probe.answer
    stored = "no-store" not in answer.elements("Cache-Control") and not _is_public(answer)
    if reading.speaks_mpp and stored:
        yield f"Cache-Control is {answer.value('Cache-Control') or 'absent'}"


def _x402_no_store(reading: Reading) -> Iterator[str]:
    answer = reading.probe.answer
    stored = "no-store" not in answer.elements("Cache-Control") and not _is_public(answer)
    if (reading.speaks_v1 or reading.speaks_v2) and not reading.speaks_mpp and stored:
        yield f"Cache-Control is {answer.value('Cache-Control') or 'absent'}"


def _cacheable(reading: Reading) -> Iterator[str]:
    answer = reading.probe.answer
    if "no-store" not in answer.elements("Cache-Control") and (told := _is_public(answer)):
        yield f"Cache-Control says {', '.join(told)}"


def _plain_http(reading: Reading) -> Iterator[str]:
    parts = split_url(reading.probe.answer.url)
    if reading.speaks and parts is not None and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        yield f"{parts.scheme}://{parts.netloc} can be read and changed on the way"


def block_size(answer: Exchange) -> int:
    """The bytes of the header block as HTTP/1.1 writes it, the status line left out."""
    return sum(len(name) + len(value.encode("utf-8", "replace")) + 4 for name, value in answer.headers) + 2


def _too_large(index: int, reading: Reading) -> Iterator[str]:
    size = block_size(reading.probe.answer)
    limits = [limit for limit, _ in HEADER_LIMITS]
    above = limits[index + 1] if index + 1 < len(limits) else None
    if size > limits[index] and (above is None or size <= above):
        yield f"{size} bytes of headers, over {limits[index]}: {HEADER_LIMITS[index][1]}"


def _challenge_8k(reading: Reading) -> Iterator[str]:
    for line in reading.probe.answer.values(mpp.CHALLENGE_HEADER):
        if len(line) > 8 * 1024 and reading.challenges:
            yield f"a WWW-Authenticate of {len(line)} bytes"


def _repeated(reading: Reading) -> Iterator[str]:
    for name in (x402_v2.CHALLENGE_HEADER, x402_v1.CHALLENGE_HEADER):
        if (count := len(reading.probe.answer.values(name))) > 1:
            yield f"{name} stands {count} times"


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


def _problem_missing(reading: Reading) -> Iterator[str]:
    if reading.speaks_mpp and not isinstance(reading.members.get("type"), str):
        yield "the body has no problem's `type`"


def _problem_type(reading: Reading) -> Iterator[str]:
    kind = reading.members.get("type")
    if reading.speaks_mpp and isinstance(kind, str) and not kind.startswith(PROBLEM_BASE):
        yield f"type is {kind[:80]}"


def _problem_status(reading: Reading) -> Iterator[str]:
    status = reading.members.get("status")
    if isinstance(reading.members.get("type"), str) and status is not None and status != 402:
        yield f"the problem's status is {status!r}, the answer's 402"


def _problem_content_type(reading: Reading) -> Iterator[str]:
    told = _media_type(reading.probe.answer)
    if reading.speaks_mpp and isinstance(reading.members.get("type"), str) and told != "application/problem+json":
        yield f"Content-Type is {told or 'absent'}"


def _media_type(answer: Exchange) -> str:
    return (answer.value("Content-Type") or "").partition(";")[0].strip().lower()


def _json_content_type(reading: Reading) -> Iterator[str]:
    told = _media_type(reading.probe.answer)
    if reading.speaks_v1 and told != "application/json" and not told.endswith("+json"):
        yield f"Content-Type is {told or 'absent'}"


BEFORE_402 = (
    Rule(
        "no-402",
        Severity.ERROR,
        Kind.MUST,
        "the route asks for no payment",
        f"x402 transports/http, Payment Required Signaling; {_CORE}, When to Return 402",
        "price the route, or ask it as its clients do (--method, --header, --data)",
        _no_402,
    ),
    Rule(
        "redirect",
        Severity.WARNING,
        Kind.ADVICE,
        "the route answers elsewhere",
        "RFC 9110, 15.4; Fetch standard, HTTP-redirect fetch: Authorization does not cross origins",
        "publish the final URL, or check that one (--follow goes along)",
        _redirect,
    ),
)
"""Rules that say why there was no 402; where one of them finds something, no other rule is asked."""

RULES = (
    Rule(
        "protocol-missing",
        Severity.ERROR,
        Kind.ADVICE,
        "a protocol that you expect is not spoken",
        "--expect",
        "offer the route in this protocol, or do not expect it",
        _expected,
    ),
    Rule(
        "nothing-readable",
        Severity.ERROR,
        Kind.MUST,
        "a 402 that tells nobody how to pay",
        f"{_CORE}, When NOT to Return 402; x402 transports-v1/http and transports-v2/http, Payment Required Signaling",
        "send a challenge of at least one protocol",
        _nothing_readable,
    ),
    Rule(
        "mpp-challenge-missing",
        Severity.ERROR,
        Kind.MUST,
        "an MPP problem without a challenge",
        f"{_CORE}, When NOT to Return 402",
        "send WWW-Authenticate: Payment with every 402; see that no proxy strips it",
        _mpp_challenge_missing,
    ),
    Rule(
        "cacheable",
        Severity.ERROR,
        Kind.MUST,
        "caches may keep the 402",
        f"{_CORE}, Caching; RFC 9111, 3",
        "send Cache-Control: no-store with every 402: a cached challenge is used twice",
        _cacheable,
    ),
    Rule(
        "mpp-no-store",
        Severity.WARNING,
        Kind.MUST,
        "nothing forbids caches to keep the challenge",
        f"{_CORE}, Caching",
        "send Cache-Control: no-store with every 402",
        _mpp_no_store,
    ),
    Rule(
        "x402-no-store",
        Severity.INFO,
        Kind.ADVICE,
        "nothing forbids caches to keep the 402",
        "RFC 9111, 3 and 4.2.2: a 402 is kept where something says so, and proxies are configured to",
        "send Cache-Control: no-store with every 402",
        _x402_no_store,
    ),
    Rule(
        "plain-http",
        Severity.ERROR,
        Kind.MUST,
        "payment is asked over plain http",
        f"{_CORE}, Transport Security",
        "serve the route over https only",
        _plain_http,
    ),
    Rule(
        "headers-4k",
        Severity.INFO,
        Kind.ADVICE,
        "headers over 4 KiB",
        "nginx, ngx_http_proxy_module, proxy_buffer_size",
        "raise proxy_buffer_size where nginx stands in front, or offer fewer ways to pay",
        lambda reading: _too_large(0, reading),
    ),
    Rule(
        "headers-8k",
        Severity.WARNING,
        Kind.ADVICE,
        "headers over 8 KiB",
        "nginx, proxy_buffer_size and large_client_header_buffers; Apache, LimitRequestFieldSize",
        "shorten descriptions and schemas, or offer fewer ways to pay",
        lambda reading: _too_large(1, reading),
    ),
    Rule(
        "headers-16k",
        Severity.ERROR,
        Kind.ADVICE,
        "headers over 16 KiB",
        "Node, --max-http-header-size: clients fail with HPE_HEADER_OVERFLOW",
        "shorten descriptions and schemas, or offer fewer ways to pay",
        lambda reading: _too_large(2, reading),
    ),
    Rule(
        "mpp-challenge-8k",
        Severity.WARNING,
        Kind.SHOULD,
        "a challenge over 8 KB",
        f"{_CORE}, Size Considerations",
        "keep request and opaque short: the client sends them back in one header",
        _challenge_8k,
    ),
    Rule(
        "header-repeated",
        Severity.ERROR,
        Kind.ADVICE,
        "a challenge header stands more than once",
        "RFC 9110, 5.3: repeated lines are joined by a comma, and base64 with a comma is no base64",
        "send it once; see that application and proxy do not both add it",
        _repeated,
    ),
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
    Rule(
        "problem-missing",
        Severity.INFO,
        Kind.SHOULD,
        "the body is no problem",
        f"{_CORE}, Error Response Format",
        "answer with RFC 9457 problem details; v1's members may stand beside them",
        _problem_missing,
    ),
    Rule(
        "problem-type",
        Severity.INFO,
        Kind.SHOULD,
        "the problem's type is not one of MPP's",
        f"{_CORE}, Error Response Format and Error Codes",
        f"write {PROBLEM_BASE}payment-required",
        _problem_type,
    ),
    Rule(
        "problem-status",
        Severity.WARNING,
        Kind.MUST,
        "the problem names another status",
        "RFC 9457, 3.1.2",
        "write the answer's own status into the problem, or none",
        _problem_status,
    ),
    Rule(
        "problem-content-type",
        Severity.INFO,
        Kind.SHOULD,
        "the problem does not say that it is one",
        "RFC 9457, 3",
        "send Content-Type: application/problem+json",
        _problem_content_type,
    ),
    Rule(
        "v1-content-type",
        Severity.WARNING,
        Kind.ADVICE,
        "the v1 challenge does not say that it is JSON",
        "x402 transports-v1/http, Payment Required Signaling",
        "send Content-Type: application/json, or application/problem+json",
        _json_content_type,
    ),
)
