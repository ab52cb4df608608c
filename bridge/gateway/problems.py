"""What a gateway says when it is not the upstream that answers: RFC 9457 problems."""

import msgspec

from bridge.gateway.forward import TooLarge, Unanswered, Unreached
from bridge.responses import Notice, Response

__all__ = ["BASE", "BUSY", "NOT_FOUND", "PAID_UNSERVED", "TOO_LARGE", "for_error", "problem"]

BASE = "urn:x402-mpp-bridge:problem:"
_ENCODER = msgspec.json.Encoder()


def problem(status: int, slug: str, title: str, detail: str, *, retry_after: int | None = None) -> Response:
    """An answer that says what is wrong; `retry_after` is in seconds."""
    body = _ENCODER.encode({"type": BASE + slug, "title": title, "status": status, "detail": detail})
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    return Response(status, headers, body)


NOT_FOUND = problem(404, "no-upstream", "Not Found", "no upstream has this path")
TOO_LARGE = problem(413, "body-too-large", "Content Too Large", "the request's body is longer than is taken here")
BUSY = problem(503, "gateway-busy", "Service Unavailable", "too many requests are under way", retry_after=1)
UNREACHED = problem(
    502, "upstream-unreachable", "Bad Gateway", "the upstream cannot be reached; nothing was sent", retry_after=1
)
BROKEN_OFF = problem(502, "upstream-failed", "Bad Gateway", "the upstream broke off without an answer")
TIMED_OUT = problem(504, "upstream-timeout", "Gateway Timeout", "the upstream did not answer in time")
PAID_UNSERVED = problem(
    502,
    "paid-not-served",
    "Paid, Not Served",
    "this payment was settled, and the upstream refuses to serve it; do not pay again, ask its operator",
)


def for_error(error: Unreached | Unanswered | TooLarge, notice: Notice = ()) -> Response:
    """The answer in the place of one that did not come; `notice` is what levers have it say besides."""
    found = _for_error(error)
    return Response(found.status, [*found.headers, *notice], found.body)


def _for_error(error: Unreached | Unanswered | TooLarge) -> Response:
    match error:
        case TooLarge():
            return TOO_LARGE
        case Unreached():
            return UNREACHED
        case Unanswered():
            return TIMED_OUT if error.timed_out else BROKEN_OFF
