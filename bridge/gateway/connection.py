"""One connection to an upstream over HTTP/1.1: a request at a time, written whole, and its answer read as it comes.

httptools reads, strictly: what an upstream sends is passed on to somebody else, who may read it in another way.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import httptools

from bridge.gateway.errors import Unanswered
from bridge.gateway.headers import Headers

__all__ = ["Connection", "Reply"]

_MAX_HEADER_BYTES: Final = 64 * 1024
"""The longest head of an answer, and the most that may come between two parts of a body."""

_MAX_AHEAD: Final = 128 * 1024
"""How much of a body is read ahead of whoever takes it."""


class _Incoming:
    """An answer that is being read: httptools calls it."""

    __slots__ = (
        *("ahead", "error", "has_begun", "headers", "is_complete", "is_head", "is_reusable", "parser", "parts"),
        *("quiet", "status", "waiter"),
    )

    def __init__(self, is_head: bool) -> None:
        self.is_head = is_head
        self.status = 0
        self.headers: Headers = []
        self.parts: list[bytes] = []
        self.ahead = 0
        self.quiet = 0
        """Bytes that came since there was a part of a body."""
        self.has_begun = False
        self.is_complete = False
        self.is_reusable = False
        self.error: Unanswered | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.parser: Any = httptools.HttpResponseParser(self)
        # As common clients are: servers that end lines by a line feed alone are old, and are there.
        self.parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)

    def on_message_begin(self) -> None:
        if self.is_complete:
            # A second answer to one request: whose it is, nobody can tell.
            self.is_reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_begun:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.is_complete:
            return
        status: int = self.parser.get_status_code()
        if status < 200:
            # What is said on the way to an answer.
            self.headers = []
            return
        self.status = status
        self.has_begun = True
        self.quiet = 0
        if self.is_head:
            # Its head says how long a body would be, and none comes.
            self._complete()

    def on_body(self, part: bytes) -> None:
        if self.is_complete:
            # The body of an answer that has none.
            self.is_reusable = False
            return
        self.parts.append(part)
        self.ahead += len(part)
        self.quiet = 0

    def on_message_complete(self) -> None:
        if self.has_begun and not self.is_complete:
            self._complete()

    def _complete(self) -> None:
        self.is_complete = True
        self.is_reusable = self.parser.should_keep_alive()

    @property
    def ends_by_closing(self) -> bool:
        """Whether the end of the connection is the end of the body (RFC 9112, section 6.3)."""
        names = {name.lower() for name, _ in self.headers}
        return self.has_begun and b"content-length" not in names and b"transfer-encoding" not in names

    def end(self) -> None:
        """Nothing more comes: whoever waits is told, and the parser, which knows of this, is let go."""
        self.parser = None
        self.wake()

    def wake(self) -> None:
        """Something has come."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Connection(asyncio.Protocol):
    """A connection that belongs to whoever holds it; `gives_back` takes it when an answer is over."""

    def __init__(self, gives_back: Callable[["Connection"], None]) -> None:
        self._gives_back = gives_back
        self._transport: Any = None
        self._incoming: _Incoming | None = None
        self._is_paused = False
        self._loop = asyncio.get_running_loop()

    @property
    def is_open(self) -> bool:
        """Whether it can still carry a request, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes, *, is_head: bool) -> "Reply":
        """Send a whole request; its answer begins once `Reply.begin` has returned."""
        incoming = self._incoming = _Incoming(is_head)
        self._transport.write(request)
        return Reply(self, incoming)

    def end(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    async def wait(self, incoming: _Incoming, seconds: float) -> None:
        """Until more has come; too late, it is an error of `incoming`, and the connection ends."""
        incoming.waiter = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._too_late, incoming)
        try:
            await incoming.waiter
        finally:
            timer.cancel()
            incoming.waiter = None

    def _too_late(self, incoming: _Incoming) -> None:
        self._fail(incoming, timed_out=True)

    def taken(self) -> None:
        """What was read ahead has been taken."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    # As asyncio's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        incoming = self._incoming
        if incoming is None:
            # Nobody asked: what comes now would be taken for the next answer.
            self.end()
            return
        had_begun = incoming.has_begun
        incoming.quiet += len(data)
        try:
            incoming.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if incoming.is_complete:
                incoming.is_reusable = False
            else:
                self._fail(incoming, timed_out=False)
                return
        if incoming.is_complete:
            self._finish(incoming)
        elif incoming.quiet > _MAX_HEADER_BYTES:
            self._fail(incoming, timed_out=False)
        else:
            if incoming.ahead > _MAX_AHEAD and not self._is_paused:
                self._is_paused = True
                self._transport.pause_reading()
            if incoming.parts or incoming.has_begun is not had_begun:
                incoming.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        incoming = self._incoming
        if incoming is None:
            return
        if exc is None and incoming.ends_by_closing:
            incoming.is_complete = True
            self._finish(incoming)
        else:
            self._fail(incoming, timed_out=False)

    def _finish(self, incoming: _Incoming) -> None:
        self._incoming = None
        self.taken()
        if incoming.is_reusable and self.is_open and not self._transport.get_write_buffer_size():
            self._gives_back(self)
        else:
            self.end()
        incoming.end()

    def _fail(self, incoming: _Incoming, *, timed_out: bool) -> None:
        self._incoming = None
        incoming.error = Unanswered(timed_out=timed_out)
        self.end()
        incoming.end()


class Reply:
    """What a request is answered with, as a `Source`."""

    __slots__ = ("_connection", "_incoming", "stall", "status")

    def __init__(self, connection: Connection, incoming: _Incoming) -> None:
        self._connection = connection
        self._incoming = incoming
        self.status = 0
        self.stall = 0.0
        """How long the body may pause, in seconds."""

    @property
    def headers(self) -> Headers:
        """The headers as they came."""
        return self._incoming.headers

    @property
    def was_heard(self) -> bool:
        """Whether anything at all came back."""
        return self._incoming.quiet > 0 or self._incoming.has_begun

    async def begin(self, seconds: float) -> None:
        """Wait for the start of the answer. Raises `Unanswered`."""
        incoming = self._incoming
        while not incoming.has_begun:
            if incoming.error is not None:
                raise incoming.error
            await self._connection.wait(incoming, seconds)
        self.status = incoming.status

    def whole(self) -> bytes | None:
        """The whole body, where all of it is here already; it is not given a second time."""
        incoming = self._incoming
        return self._taken() if incoming.is_complete else None

    async def parts(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises `Unanswered` where it breaks off."""
        incoming = self._incoming
        while True:
            if incoming.parts:
                yield self._taken()
            elif incoming.is_complete:
                return
            elif incoming.error is not None:
                raise incoming.error
            else:
                await self._connection.wait(incoming, self.stall)

    def _taken(self) -> bytes:
        incoming = self._incoming
        data = incoming.parts[0] if len(incoming.parts) == 1 else b"".join(incoming.parts)
        incoming.parts = []
        incoming.ahead = 0
        if not incoming.is_complete:
            self._connection.taken()
        return data

    async def close(self) -> None:
        """Let the connection go, whatever is still to come."""
        self._let_go()

    def __del__(self) -> None:
        # A request that was cancelled may leave its answer behind.
        self._let_go()

    def _let_go(self) -> None:
        incoming = self._incoming
        if not incoming.is_complete and incoming.error is None:
            self._connection.end()
