"""HTTP/1.1 as uvicorn speaks it, and trailers both ways, which uvicorn does not.

    uvicorn app:app --http bridge.http1:Http1Protocol

Trailers of an answer are ASGI's extension `http.response.trailers`; those of a request are shown as
`bridge.trailers` says. uvicorn would put these among the headers, where whoever reads them late, or all at once, takes
them for such: a recipient must not (RFC 9112, section 7.1.2).
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from bridge.trailers import REQUEST, RESPONSE, Collected, is_well_formed

__all__ = ["Http1Protocol"]

_TOO_LARGE = b"the request's trailers are longer than is taken here"


class _HeadAndBody:
    """A connection as one answer writes to it: the head waits for the body, and both go at once.

    Each write is a system call, and may wake the client for half of what it waits for. A body that does not come before
    the loop turns is not waited for.
    """

    __slots__ = ("_head", "_late", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._head: bytes | None = None
        """None before there is one, empty when it has gone."""
        self._late: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        """The head first, then parts of the body."""
        if self._head is None:
            self._head = data
            self._late = asyncio.get_running_loop().call_soon(self._flush)
        elif self._head:
            self._transport.writelines((self._taken(), data))
        else:
            self._transport.write(data)

    def _taken(self) -> bytes:
        """The head, which is on its way then."""
        head, self._head = self._head or b"", b""
        if self._late is not None:
            self._late.cancel()
            # It leads back here.
            self._late = None
        return head

    def _flush(self) -> None:
        head = self._taken()
        if head and not self._transport.is_closing():
            self._transport.write(head)

    def close(self) -> None:
        """Send what is here, and close the connection."""
        self._flush()
        self._transport.close()


class _Cycle(RequestResponseCycle):
    """A request and its answer, which may end with trailers. It has no state of its own: uvicorn makes it."""

    _is_more = False
    """It goes beyond what uvicorn sends."""
    _says_trailers = False
    """The application said that trailers will come."""
    _has_trailer_section = False
    """They can be sent: to HEAD, with a length, or in HTTP/1.0 they cannot, and are let go."""
    _is_body_over = False
    _ends_by_closing = False
    """An answer without a length in HTTP/1.0, which has no chunks (RFC 9112, section 6.1)."""
    _lines: tuple[bytes, ...] = ()

    def send(self, message: Any) -> Coroutine[Any, Any, None]:
        """ASGI's `send`. Most answers are uvicorn's affair, but for how they are written."""
        if not self._is_more and message["type"] == "http.response.start" and not self.response_started:
            self._is_more = message.get("trailers", False) or self.scope["http_version"] == "1.0"
            if not self._is_more and self.scope["method"] != "HEAD":
                together: Any = _HeadAndBody(self.transport)
                self.transport = together
        return self._send(message) if self._is_more else super().send(message)

    async def _send(self, message: Any) -> None:
        kind = message["type"]
        if kind == "http.response.start" and not self.response_started:
            await self._start(message)
        elif kind == "http.response.body" and not self._is_body_over:
            await self._send_body(message)
        elif self._is_body_over:
            if kind != "http.response.trailers":
                raise RuntimeError(f"Unexpected ASGI message '{kind}' sent, after the response's body.")
            await self._send_trailers(message)
        elif kind != "http.response.trailers" or not self._says_trailers or not self.response_complete:
            await super().send(message)

    async def _start(self, message: Any) -> None:
        if self.scope["http_version"] == "1.0":
            names = {name.lower() for name, _ in message.get("headers", ())}
            if b"content-length" not in names:
                self.chunked_encoding = False
                self._ends_by_closing = True
        await super().send(message)
        self._says_trailers = message.get("trailers", False)
        self._has_trailer_section = (
            self._says_trailers and self.chunked_encoding is True and self.scope["method"] != "HEAD"
        )

    async def _send_body(self, message: Any) -> None:
        if self._ends_by_closing:
            self.expected_content_length = len(message.get("body", b""))
        if not self._has_trailer_section or message.get("more_body", False):
            await super().send(message)
            return
        if message.get("body"):
            await super().send({"type": "http.response.body", "body": message["body"], "more_body": True})
        self._is_body_over = True

    async def _send_trailers(self, message: Any) -> None:
        for name, value in message.get("headers", ()):
            if not is_well_formed(name, value):
                raise RuntimeError("Invalid HTTP trailer.")
            self._lines = (*self._lines, name, b": ", value, b"\r\n")
        if message.get("more_trailers", False):
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.transport.write(b"".join((b"0\r\n", *self._lines, b"\r\n")))
        # As uvicorn ends an answer.
        self._is_body_over = False
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class Http1Protocol(HttpToolsProtocol):
    """A connection of uvicorn's, read by httptools."""

    _trailers: Collected | None = None
    """Of the request that is being read; None until its head is over."""
    _has_too_many = False

    def on_message_begin(self) -> None:
        """See httptools."""
        self._trailers = None
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools. Behind the body it is a trailer, and no header."""
        name = name.lower()
        if self._trailers is None:
            # As uvicorn does it.
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))
            return
        try:
            self._trailers.add(name, value)
        except ValueError:
            self._has_too_many = True
            raise

    def on_headers_complete(self) -> None:
        """See httptools."""
        trailers = self._trailers = Collected()
        scope: Any = self.scope
        super().on_headers_complete()
        scope["extensions"] = {REQUEST: {"headers": trailers.fields}}
        if scope["http_version"] != "1.0":
            scope["extensions"][RESPONSE] = {}
        cycle: Any = self.cycle
        if cycle is not None and cycle.scope is scope:
            # uvicorn makes it itself, and asks nobody of which class; its task has not begun.
            cycle.__class__ = _Cycle

    def send_400_response(self, msg: str) -> None:
        """What cannot be read ends the connection: with a word, unless an answer is on its way already."""
        cycle: Any = self.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            # Written now, it would be read as a part of that answer.
            self.transport.close()
        elif self._has_too_many:
            head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[431] + head % len(_TOO_LARGE) + _TOO_LARGE)
            self.transport.close()
        else:
            super().send_400_response(msg)
