"""Rules about the answer as HTTP: its status, its headers, its caching, and what browsers and proxies make of it."""

from collections.abc import Iterator

from translators.lint.known import HEADER_LIMITS, is_loopback, split_url
from translators.lint.probe import Exchange
from translators.lint.reading import PROBLEM_BASE, Reading
from translators.lint.rule import Kind, Rule, Severity
from translators.wire import mpp, x402_v1, x402_v2

__all__ = ["BEFORE_402", "RULES"]

_CORE = "draft-httpauth-payment-00"


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


def _plain_http_mpp(reading: Reading) -> Iterator[str]:
    if reading.speaks_mpp:
        yield from _plain_http(reading)


def _plain_http_x402(reading: Reading) -> Iterator[str]:
    if not reading.speaks_mpp and reading.speaks:
        yield from _plain_http(reading)


def _plain_http(reading: Reading) -> Iterator[str]:
    parts = split_url(reading.probe.answer.url)
    if parts is not None and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
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
        _plain_http_mpp,
    ),
    Rule(
        "x402-plain-http",
        Severity.ERROR,
        Kind.ADVICE,
        "payment is asked over plain http",
        "nothing in an x402 payload says what it pays for: who takes it off the wire can spend it elsewhere",
        "serve the route over https only",
        _plain_http_x402,
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
)
