"""Sending one request on to an upstream and its answer back, both as streams, over pooled connections.

httpx's transport does the work, below its client: no cookies, redirects, decoding or other wishes of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final

import httpx

from bridge.gateway.expect import send_expecting
from bridge.gateway.headers import Headers, response_headers
from bridge.gateway.upstreams import Upstream

__all__ = ["Answer", "Body", "ClientGone", "Forwarder", "TooLarge", "Unanswered", "Unreached", "relay"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_KEEPALIVE_SECONDS: Final = 3.0
"""How long an idle connection is kept: less than the five seconds after which common servers close theirs, so that a
payment is not sent into a connection that is just being closed."""


class Unreached(Exception):
    """No connection: nothing was sent."""


class Unanswered(Exception):
    """Something was sent, and no answer came; `timed_out` says whether it was waited for in vain."""

    def __init__(self, *, timed_out: bool) -> None:
        super().__init__("timed out" if timed_out else "broken off")
        self.timed_out = timed_out


class TooLarge(Exception):
    """The request's body is longer than the limit."""


class ClientGone(Exception):
    """The client left while it was sending."""


class Body(httpx.AsyncByteStream):
    """A request's body as it comes from the server, at most `limit` bytes of it."""

    def __init__(self, receive: Receive, limit: int | None = None) -> None:
        self._receive = receive
        self._limit = limit
        self.too_large = False
        self.gone = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The parts, none of them kept."""
        size = 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                self.gone = True
                raise ClientGone
            if part := message.get("body", b""):
                size += len(part)
                if self._limit is not None and size > self._limit:
                    self.too_large = True
                    raise TooLarge
                yield part
            if not message.get("more_body", False):
                return


class _Nothing(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        return
        yield b""


NOTHING: Final = _Nothing()


class Answer:
    """An upstream's answer: its start has come, and its body is still to be read."""

    __slots__ = ("_head", "_parts", "_response", "headers", "status")

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Headers = response_headers(response.headers.raw)
        if self.status in (204, 304):
            # Such an answer has no body, and servers take a length for a promise of one.
            self.headers = [item for item in self.headers if item[0].lower() != b"content-length"]
        self._head: list[bytes] = []
        self._parts: AsyncIterator[bytes] | None = None

    async def parts(self) -> AsyncIterator[bytes]:
        """The body as it comes, still compressed if it was. Raises `Unanswered` where it breaks off."""
        for part in self._head:
            yield part
        async for part in self._rest():
            yield part

    def _rest(self) -> AsyncIterator[bytes]:
        if self._parts is None:
            self._parts = aiter(self._response.stream)  # type: ignore[arg-type]
        return _translated(self._parts)

    async def read(self, limit: int) -> bytes | None:
        """The whole body, or None where it is longer than `limit` bytes; `parts` still gives all of it."""
        size = 0
        async for part in self._rest():
            self._head.append(part)
            size += len(part)
            if size > limit:
                return None
        return b"".join(self._head)

    def replace(self, content: bytes) -> None:
        """Have `parts` give this instead of what has been read, all of it."""
        self._head = [content]

    async def close(self) -> None:
        """Let the connection go, whatever is still to come."""
        with suppress(httpx.HTTPError):
            await self._response.stream.aclose()  # type: ignore[union-attr]


async def _translated(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for part in parts:
            yield part
    except httpx.TimeoutException:
        raise Unanswered(timed_out=True) from None
    except httpx.HTTPError:
        raise Unanswered(timed_out=False) from None


class Forwarder:
    """The pooled connections to every upstream.

    `timeout` is how long an upstream may take to begin its answer, and to take or give the next part of a body;
    `stall` how long an answer that has begun may pause; both in seconds. `connections` is how many may be open.
    """

    def __init__(self, *, timeout: float, stall: float, connections: int | None) -> None:
        self._timeout = timeout
        self._stall = stall
        limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_KEEPALIVE_SECONDS
        )
        self._transport = httpx.AsyncHTTPTransport(limits=limits)
        self._urls: dict[str, httpx.URL] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    def _url(self, origin: str) -> httpx.URL:
        url = self._urls.get(origin)
        if url is None:
            url = self._urls[origin] = httpx.URL(origin)
        return url

    async def send(
        self,
        upstream: Upstream,
        method: str,
        target: bytes,
        headers: Headers,
        body: httpx.AsyncByteStream = NOTHING,
        *,
        expects: bool = False,
    ) -> Answer:
        """Send a request and wait for the start of its answer; `expects` a word before its body is sent.

        Raises `Unreached` where nothing was sent, `Unanswered` where something may have been, and whatever `body` does.
        """
        seconds = self._timeout
        timeout = {"connect": min(seconds, 10.0), "read": seconds, "write": seconds, "pool": min(seconds, 10.0)}
        # The target goes as the client wrote it: a URL that is parsed is not always written the same way again.
        extensions = {"timeout": timeout, "target": target}
        url = self._url(upstream.origin)
        try:
            if expects:
                response = await send_expecting(method, url, headers, body, extensions)
            else:
                request = httpx.Request(method, url, headers=headers, stream=body, extensions=extensions)
                response = await self._transport.handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            raise Unreached from None
        except httpx.TimeoutException:
            raise Unanswered(timed_out=True) from None
        except httpx.HTTPError:
            raise Unanswered(timed_out=False) from None
        # httpcore reads it anew for every part.
        timeout["read"] = self._stall
        return Answer(response)


async def relay(answer: Answer, send: Send, receive: Receive | None = None) -> None:
    """Send an answer on, part by part. A client that leaves ends it, where `receive` is given to hear of that.

    Raises `Unanswered` where the upstream broke off: the connection to the client has to be broken off as well.
    """
    try:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await relay_body(answer.parts(), send, receive)
    finally:
        await answer.close()


async def relay_body(parts: AsyncIterator[bytes], send: Send, receive: Receive | None = None) -> None:
    """Send the parts of a body on."""
    watching: asyncio.Task[None] | None = None
    current = asyncio.current_task()
    gone = False

    async def watch() -> None:
        nonlocal gone
        assert receive is not None
        assert current is not None
        while (await receive())["type"] == "http.request":
            pass
        gone = True
        current.cancel()

    try:
        async for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            if watching is None and receive is not None:
                # Most answers come in one part, and need nobody to watch.
                watching = asyncio.ensure_future(watch())
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except asyncio.CancelledError:
        if not gone or current is None:
            raise
        current.uncancel()
        raise ClientGone from None
    finally:
        if watching is not None:
            watching.cancel()
