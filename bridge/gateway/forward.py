"""Sending one request on to an upstream and its answer back, both as streams, over pooled connections.

A request whose body is at hand goes by `bridge.gateway.pool`; one whose body is still coming by aiohttp, without wishes
of its own: no cookies, redirects or decoding, and no second try of a request that may move money.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from bridge.gateway.body import Body
from bridge.gateway.errors import ClientGone, TooLarge, Unanswered, Unreached
from bridge.gateway.expect import send_expecting
from bridge.gateway.headers import Headers, response_headers
from bridge.gateway.pool import KEEPALIVE_SECONDS, Pool
from bridge.gateway.source import Source
from bridge.gateway.upstreams import Upstream

__all__ = ["Answer", "Body", "ClientGone", "Forwarder", "TooLarge", "Unanswered", "Unreached", "relay"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_CONNECT_SECONDS: Final = 10.0
_MAX_HEADER_BYTES: Final = 64 * 1024
_NO_AUTO_HEADERS: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class _Response:
    """An aiohttp response as a `Source`."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status: int = response.status
        self.headers = response.raw_headers

    def whole(self) -> bytes | None:
        return None

    async def parts(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._response.content.iter_any():
                yield part
        except aiohttp.ServerTimeoutError:
            raise Unanswered(timed_out=True) from None
        except (aiohttp.ClientError, OSError):
            raise Unanswered(timed_out=False) from None

    async def close(self) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class Answer:
    """An upstream's answer: its start has come, and its body is still to be read."""

    __slots__ = ("_body", "_head", "_parts", "_source", "headers", "status")

    def __init__(self, source: Source, body: Body | None) -> None:
        self._source = source
        self._body = body
        self.status = source.status
        self.headers: Headers = response_headers(source.headers)
        if self.status in (204, 304):
            # Such an answer has no body, and servers take a length for a promise of one.
            self.headers = [item for item in self.headers if item[0].lower() != b"content-length"]
        self._head: list[bytes] = []
        self._parts: AsyncIterator[bytes] | None = None

    @property
    def is_upload_over(self) -> bool:
        """Whether all of the request's body was read; an upstream may answer before it was."""
        return self._body is None or self._body.is_read

    def whole(self) -> bytes | None:
        """All of the body, where it is here already and nothing of it was read; `parts` does not give it again."""
        return self._source.whole() if self._parts is None and not self._head else None

    async def parts(self) -> AsyncIterator[bytes]:
        """The body as it comes, still compressed if it was. Raises `Unanswered` where it breaks off."""
        for part in self._head:
            yield part
        async for part in self._rest():
            yield part

    def _rest(self) -> AsyncIterator[bytes]:
        if self._parts is None:
            self._parts = self._source.parts()
        return self._parts

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
        await self._source.close()


class Forwarder:
    """The pooled connections to every upstream.

    `timeout` is how long an upstream may take to begin its answer, and to take the next part of a body; `stall` how
    long an answer that has begun may pause; both in seconds. `connections` is how many may be open for requests whose
    body is still coming; the others have as many as there are requests under way.
    """

    def __init__(self, *, timeout: float, stall: float, connections: int | None) -> None:
        self._timeout = timeout
        self._stall = stall
        self._connections = connections
        self._pool = Pool(connect=min(timeout, _CONNECT_SECONDS), timeout=timeout, stall=stall)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        self._pool.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _streaming(self) -> aiohttp.ClientSession:
        if self._session is None:
            connect = min(self._timeout, _CONNECT_SECONDS)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections or 0, keepalive_timeout=KEEPALIVE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=_NO_AUTO_HEADERS,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(connect=connect, sock_connect=connect, sock_read=self._timeout),
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
                max_headers=1000,
            )
            # aiohttp sends an idempotent request again, by itself, when a kept connection breaks: a payment never.
            self._session._retry_connection = False
        return self._session

    async def send(
        self,
        upstream: Upstream,
        method: str,
        target: bytes,
        headers: Headers,
        body: Body | bytes = b"",
        *,
        once: bool = True,
        expects: bool = False,
    ) -> Answer:
        """Send a request and wait for the start of its answer.

        It is sent `once`, or else again where its method allows that and a kept connection broke. `expects` a word
        before its body is sent. Raises `Unreached` where nothing was sent, `Unanswered` where something may have been,
        and `TooLarge` or `ClientGone` where its body broke off.
        """
        if not isinstance(body, Body):
            return Answer(await self._pool.send(upstream, method, target, headers, body, once=once), None)
        if expects:
            return Answer(
                await send_expecting(upstream, method, target, headers, body, self._timeout, self._stall), body
            )
        request = self._streaming().request(
            method,
            URL(upstream.origin + _text(target), encoded=True),
            headers=CIMultiDict([(_text(k), _text(v)) for k, v in headers if k != b"transfer-encoding"]),
            data=aiter(body),
            chunked=True if any(name == b"transfer-encoding" for name, _ in headers) else None,
            allow_redirects=False,
        )
        try:
            response = await self._watched(request, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise Unreached from None
        except (aiohttp.ClientError, OSError) as error:
            if body.problem is not None:
                raise body.problem from None
            raise Unanswered(timed_out=isinstance(error, TimeoutError)) from None
        if response.connection is not None and response.connection.protocol is not None:
            response.connection.protocol.read_timeout = self._stall
        return Answer(_Response(response), body)

    async def _watched(self, request: Any, body: Body) -> aiohttp.ClientResponse:
        """The answer to a request with a streamed body, which an upstream must not stop taking for too long."""
        clock = asyncio.get_running_loop().time
        task: asyncio.Task[aiohttp.ClientResponse] = asyncio.ensure_future(request)
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=min(self._timeout, 1.0))
                if done:
                    return task.result()
                if body.taken_at and clock() - body.taken_at > self._timeout:
                    raise Unanswered(timed_out=True)
        finally:
            if not task.done():
                task.cancel()


def _text(data: bytes) -> str:
    """Bytes as aiohttp takes them, which writes UTF-8. Of what is not, which nobody may send, each becomes a letter."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


async def relay(
    answer: Answer, send: Send, receive: Receive, *, keeps: Callable[[], bool] | None = None, patience: float = 0.0
) -> None:
    """Send an answer on, part by part, until the client leaves: then it raises `ClientGone`.

    As long as whoever `keeps` what is sent says that it fits, it is read on for `patience` seconds more.
    Raises `Unanswered` where the upstream broke off: the connection to the client has to be broken off as well.
    """
    watching: asyncio.Task[None] | None = None
    current = asyncio.current_task()
    gone = False

    async def watch() -> None:
        nonlocal gone
        assert current is not None
        while (await receive())["type"] == "http.request":
            pass
        gone = True
        if keeps is not None and keeps():
            await asyncio.sleep(patience)
        current.cancel()

    try:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        whole = answer.whole()
        if whole is not None:
            await send({"type": "http.response.body", "body": whole, "more_body": False})
            return
        async for part in answer.parts():
            await send({"type": "http.response.body", "body": part, "more_body": True})
            # Most answers come in one part, and need nobody to watch; while a body is read, its reader hears.
            if watching is None and answer.is_upload_over:
                watching = asyncio.ensure_future(watch())
            if gone and (keeps is None or not keeps()):
                raise ClientGone
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except asyncio.CancelledError:
        if not gone or current is None:
            raise
        current.uncancel()
        raise ClientGone from None
    finally:
        if watching is not None:
            watching.cancel()
        await answer.close()
