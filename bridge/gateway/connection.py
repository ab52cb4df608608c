"""One connection to an upstream over HTTP/1.1: a request at a time, and its answer read as it comes.

httptools reads, strictly: what an upstream sends is passed on to somebody else, who may read it in another way.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import httptools

from bridge.gateway.errors import ClientGone, TooLarge, Unanswered
from bridge.gateway.headers import Headers
from bridge.trailers import Collected

__all__ = ["Connection", "Reply"]

_MAX_HEADER_BYTES: Final = 64 * 1024
"""The longest head of an answer, and the most that may come between two parts of a body."""

_MAX_AHEAD: Final = 128 * 1024
"""How much of a body is read ahead of whoever takes it."""


class _Incoming:
    """An answer that is being read: httptools calls it."""

    __slots__ = (
        *("ahead", "continues", "error", "has_begun", "headers", "is_complete", "is_head", "is_reusable", "listener"),
        *("parser", "parts", "quiet", "status", "trailers", "upload", "waiter"),
    )

    def __init__(self, is_head: bool) -> None:
        self.is_head = is_head
        self.status = 0
        self.headers: Headers = []
        self.trailers: Collected | None = None
        self.parts: list[bytes] = []
        self.ahead = 0
        self.quiet = 0
        """Bytes that came since there was a part of a body."""
        self.has_begun = False
        self.is_complete = False
        self.is_reusable = False
        self.error: Unanswered | ClientGone | TooLarge | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.upload: asyncio.Task[None] | None = None
        """Sends the rest of the request; None once all of it has gone."""
        self.continues = False
        """The upstream said that it wants the request's body."""
        self.listener: asyncio.Future[None] | None = None
        """Waits for that, or for an answer."""
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
        elif not self.is_complete:
            # Behind a body in chunks: a trailer, and no header (RFC 9112, section 7.1.2).
            self.trailers = self.trailers or Collected()
            self.trailers.add(name, value)

    def on_headers_complete(self) -> None:
        if self.is_complete:
            return
        status: int = self.parser.get_status_code()
        if status < 200:
            # What is said on the way to an answer.
            self.headers = []
            if status == 100:
                self.continues = True
                self.heard()
            return
        self.status = status
        self.has_begun = True
        self.heard()
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
        if self.upload is not None:
            # Nobody reads it any more.
            self.upload.cancel()
            self.upload = None
        self.wake()

    def wake(self) -> None:
        """Something has come."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def heard(self) -> None:
        """The upstream has said something."""
        if self.listener is not None and not self.listener.done():
            self.listener.set_result(None)


class Connection(asyncio.Protocol):
    """A connection that belongs to whoever holds it; `gives_back` takes it when an answer is over."""

    def __init__(self, gives_back: Callable[["Connection"], None]) -> None:
        self._gives_back = gives_back
        self._transport: Any = None
        self._incoming: _Incoming | None = None
        self._is_paused = False
        self._writable: asyncio.Future[None] | None = None
        """Done when the upstream has taken enough of what was written; None while it takes all."""
        self._loop = asyncio.get_running_loop()

    @property
    def is_open(self) -> bool:
        """Whether it can still carry a request, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes, *, is_head: bool) -> "Reply":
        """Send a request, or its head; its answer begins once `Reply.begin` has returned."""
        self._transport.write(request)
        # The upstream works on it already while this is made.
        incoming = self._incoming = _Incoming(is_head)
        return Reply(self, incoming)

    def write(self, *data: bytes) -> None:
        """More of the request."""
        self._transport.write(b"".join(data) if len(data) > 1 else data[0])

    async def drain(self, seconds: float) -> None:
        """Until the upstream takes what was written. Raises `Unanswered` where that is too late."""
        if self._writable is not None:
            try:
                async with asyncio.timeout(seconds):
                    await asyncio.shield(self._writable)
            except TimeoutError:
                raise Unanswered(timed_out=True) from None

    def end(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    async def wait(self, incoming: _Incoming, seconds: float | None) -> None:
        """Until more has come; too late, it is an error of `incoming`, and the connection ends."""
        incoming.waiter = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(seconds, self._too_late, incoming)
        try:
            await incoming.waiter
        finally:
            if timer is not None:
                timer.cancel()
            incoming.waiter = None

    def _too_late(self, incoming: _Incoming) -> None:
        self.fail(incoming, Unanswered(timed_out=True))

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
                self.fail(incoming, Unanswered(timed_out=False))
                return
        if incoming.is_complete:
            self._finish(incoming)
        elif incoming.quiet > _MAX_HEADER_BYTES:
            self.fail(incoming, Unanswered(timed_out=False))
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
            self.fail(incoming, Unanswered(timed_out=False))

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    def _finish(self, incoming: _Incoming) -> None:
        self._incoming = None
        self.taken()
        # What comes of a request that has not gone whole would be read as the next one.
        is_free = incoming.is_reusable and incoming.upload is None
        if is_free and self.is_open and not self._transport.get_write_buffer_size():
            self._gives_back(self)
        else:
            self.end()
        incoming.end()

    def fail(self, incoming: _Incoming, error: Unanswered | ClientGone | TooLarge) -> None:
        """No answer comes of it, or no more of one."""
        self._incoming = None
        incoming.error = error
        self.end()
        incoming.end()


class Reply:
    """What a request is answered with: its start comes with `begin`, its body after that."""

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
    def trailers(self) -> Headers:
        """What came behind the body, as it came; complete when the body is."""
        trailers = self._incoming.trailers
        return [] if trailers is None else trailers.fields

    @property
    def was_heard(self) -> bool:
        """Whether anything at all came back."""
        return self._incoming.quiet > 0 or self._incoming.has_begun

    async def begin(self, seconds: float) -> None:
        """Wait for the start of the answer, `seconds` from when the whole request has gone.

        Raises `Unanswered`, or `ClientGone` or `TooLarge` where the request broke off.
        """
        incoming = self._incoming
        while not incoming.has_begun:
            if incoming.error is not None:
                raise incoming.error
            await self._connection.wait(incoming, seconds if incoming.upload is None else None)
        self.status = incoming.status

    # For whoever sends the rest of the request

    def comes_with(self, upload: "asyncio.Task[None]") -> None:
        """The rest of the request is sent by `upload`, which ends with the answer."""
        self._incoming.upload = upload

    def has_gone(self) -> None:
        """All of the request has been sent."""
        self._incoming.upload = None
        self._incoming.wake()

    async def wants_body(self) -> bool:
        """Wait until the upstream asks for the request's body, or answers without it."""
        incoming = self._incoming
        if not incoming.continues and not incoming.has_begun:
            incoming.listener = asyncio.get_running_loop().create_future()
            await incoming.listener
        return incoming.continues

    def fail(self, error: Unanswered | ClientGone | TooLarge) -> None:
        """The request broke off."""
        self._incoming.upload = None
        self._connection.fail(self._incoming, error)

    # For whoever takes the answer

    @property
    def problem(self) -> Unanswered | None:
        """Why no more of it comes than is here already, where that is so."""
        error = self._incoming.error
        return Unanswered(timed_out=False) if isinstance(error, ClientGone | TooLarge) else error

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
            elif (problem := self.problem) is not None:
                raise problem
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
