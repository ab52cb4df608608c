"""Sending one request on to an upstream and its answer back, both as streams, over pooled connections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

from bridge.gateway.body import Body
from bridge.gateway.connection import Reply
from bridge.gateway.errors import ClientGone, TooLarge, Unanswered, Unreached
from bridge.gateway.headers import Headers, named_in_connection, response_headers
from bridge.gateway.pool import Pool
from bridge.gateway.upstreams import Upstream
from bridge.trailers import announcement, passable

__all__ = ["Answer", "Body", "ClientGone", "Forwarder", "TooLarge", "Unanswered", "Unreached", "relay"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_CONNECT_SECONDS: Final = 10.0


class Answer:
    """An upstream's answer: its start has come, and its body is still to be read."""

    __slots__ = ("_body", "_head", "_is_replaced", "_parts", "_source", "headers", "status")

    def __init__(self, source: Reply, body: Body | None) -> None:
        self._source = source
        self._body = body
        self.status = source.status
        self.headers: Headers = response_headers(source.headers)
        if self.status in (204, 304):
            # Such an answer has no body, and servers take a length for a promise of one.
            self.headers = [item for item in self.headers if item[0].lower() != b"content-length"]
        self._head: list[bytes] = []
        self._parts: AsyncIterator[bytes] | None = None
        self._is_replaced = False

    @property
    def is_upload_over(self) -> bool:
        """Whether nobody reads the request's body any more; an upstream may answer before all of it was read."""
        return self._body is None or self._body.is_over

    @property
    def problem(self) -> Unanswered | None:
        """Why it will not be whole, where that is known already."""
        return self._source.problem

    @property
    def may_trail(self) -> bool:
        """Whether it may end with trailers: only a body in chunks has any (RFC 9110, section 6.5)."""
        return not self._is_replaced and any(name.lower() == b"transfer-encoding" for name, _ in self._source.headers)

    @property
    def trailers(self) -> Headers:
        """The trailers that go on, once all of the body was given; none where they were another body's."""
        came = () if self._is_replaced else self._source.trailers
        return passable(came, named_in_connection(self._source.headers)) if came else []

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
        self._is_replaced = True

    def announcing(self, start: Message) -> Message:
        """The message that begins it, for a server that waits for its trailers."""
        headers = [*self.headers, *announcement(self._source.headers)]
        return {**start, "headers": headers, "trailers": True}

    async def close(self) -> None:
        """Let the connection go, whatever is still to come."""
        await self._source.close()


class Forwarder:
    """The pooled connections to every upstream: as many as there are requests under way.

    `timeout` is how long an upstream may take to begin its answer, and to take the next part of a body; `stall` how
    long an answer that has begun may pause; both in seconds.
    """

    def __init__(self, *, timeout: float, stall: float) -> None:
        self._pool = Pool(connect=min(timeout, _CONNECT_SECONDS), timeout=timeout, stall=stall)

    async def close(self) -> None:
        """Close the connections."""
        self._pool.close()

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
        return Answer(await self._pool.send_streaming(upstream, method, target, headers, body, expects=expects), body)


async def relay(
    answer: Answer,
    send: Send,
    receive: Receive,
    *,
    trails: bool,
    keeps: Callable[[], bool] | None = None,
    patience: float = 0.0,
) -> None:
    """Send an answer on, part by part, until the client leaves: then it raises `ClientGone`.

    Its trailers go along where the server of this request `trails`. Whether there are any, is known with its last part.

    As long as whoever `keeps` what is sent says that it fits, it is read on for `patience` seconds more.
    Raises `Unanswered` where the upstream broke off: the connection to the client has to be broken off as well.
    """
    watching: asyncio.Task[None] | None = None
    current: asyncio.Task[Any] | None = None
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
        if keeps is None and answer.problem is not None:
            # Nothing of it is due to anybody: an error says more than half an answer.
            raise answer.problem
        whole = answer.whole()
        trails = trails and (answer.may_trail if whole is None else answer.trailers != [])
        start: Message = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        await send(answer.announcing(start) if trails else start)
        whole = answer.whole() if whole is None else whole
        if whole is not None:
            await send({"type": "http.response.body", "body": whole, "more_body": False})
            if trails:
                await send({"type": "http.response.trailers", "headers": answer.trailers, "more_trailers": False})
            return
        async for part in answer.parts():
            await send({"type": "http.response.body", "body": part, "more_body": True})
            # Most answers come in one part, and need nobody to watch; while a body is read, its reader hears.
            if watching is None and answer.is_upload_over:
                current = asyncio.current_task()
                watching = asyncio.ensure_future(watch())
            if gone and (keeps is None or not keeps()):
                raise ClientGone
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if trails:
            await send({"type": "http.response.trailers", "headers": answer.trailers, "more_trailers": False})
    except asyncio.CancelledError:
        if not gone or current is None:
            raise
        current.uncancel()
        raise ClientGone from None
    finally:
        if watching is not None:
            watching.cancel()
        await answer.close()
