"""A request's body: what is known of it before it is read, and that the application still receives all of it."""

from collections.abc import Sequence

import pytest

from bridge.request import PaidRequest
from tests.bridge.harness import receive_of, scope_of

pytestmark = pytest.mark.anyio


async def never() -> dict[str, str]:
    """ASGI's `receive` where nothing is to be read."""
    raise AssertionError("nothing is read")


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
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "QUERY"])
@pytest.mark.parametrize("parts", [(), (b"one two",), (b"one ", b"two")])
async def test_a_body_without_a_length_may_be_one(version: str, method: str, parts: Sequence[bytes]) -> None:
    """HTTP/2 and 3 need no `Content-Length`. In how many parts it comes is luck, and decides nothing."""
    request = PaidRequest(scope_of(method, http_version=version), receive_of(parts), None)
    assert await request.body(10) is None
    assert await received(request) == b"".join(parts)


async def test_a_request_that_has_no_content_has_none() -> None:
    """A GET over HTTP/2 is like any other, and its answer is kept as any other's."""
    assert await PaidRequest(scope_of("GET", http_version="2"), never, None).body(10) == b""


async def test_http_1_says_that_there_is_a_body() -> None:
    """By a length or by chunks; else there is none (RFC 9112, section 6.3)."""
    assert await PaidRequest(scope_of("POST"), never, None).body(10) == b""
    chunked = scope_of("POST", headers=[("Transfer-Encoding", "chunked")])
    assert await PaidRequest(chunked, never, None).body(10) is None
