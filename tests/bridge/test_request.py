"""A request's body: what is known of it before it is read, and that the application still receives all of it."""

from collections.abc import Sequence

import pytest

from bridge.request import PaidRequest
from tests.bridge.harness import receive_of, scope_of

pytestmark = pytest.mark.anyio

PARTS = (b"one ", b"two")


async def received(request: PaidRequest) -> bytes:
    """What an application gets."""
    body = b""
    while True:
        message = await request.receive()
        assert message["type"] == "http.request"
        body += message["body"]
        if not message["more_body"]:
            return body


@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize(
    ("parts", "limit", "told"),
    [((), 10, b""), ((b"one two",), 10, b"one two"), ((b"one two",), 3, None), (PARTS, 10, None)],
)
async def test_a_body_without_a_length_is_a_body(
    version: str, parts: Sequence[bytes], limit: int, told: bytes | None
) -> None:
    """HTTP/2 and 3 need no `Content-Length`: what came in one part is known; the rest is not read here."""
    request = PaidRequest(scope_of("POST", http_version=version), receive_of(parts), None)
    for _ in range(2):
        assert await request.body(limit) == told
    assert await received(request) == b"".join(parts)


async def test_a_client_that_leaves_before_its_body() -> None:
    """The application hears of it."""

    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    request = PaidRequest(scope_of("POST", http_version="2"), gone, None)
    assert await request.body(10) is None
    assert (await request.receive())["type"] == "http.disconnect"


async def test_http_1_says_that_there_is_a_body() -> None:
    """By a length or by chunks; else there is none, and nothing is read (RFC 9112, section 6.3)."""

    async def never() -> dict[str, str]:
        raise AssertionError("nothing is read")

    assert await PaidRequest(scope_of("POST"), never, None).body(10) == b""
    chunked = scope_of("POST", headers=[("Transfer-Encoding", "chunked")])
    assert await PaidRequest(chunked, never, None).body(10) is None
