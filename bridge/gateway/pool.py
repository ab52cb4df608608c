"""The connections to upstreams that wait for their next request."""

import asyncio
import re
import socket
import ssl
from functools import lru_cache
from time import monotonic
from typing import Final

from aiohappyeyeballs import start_connection

from bridge.gateway.body import Body
from bridge.gateway.connection import Connection, Reply
from bridge.gateway.errors import Unanswered, Unreached
from bridge.gateway.headers import Headers
from bridge.gateway.upload import upload
from bridge.gateway.upstreams import Upstream

__all__ = ["KEEPALIVE_SECONDS", "Pool"]

KEEPALIVE_SECONDS: Final = 3.0
"""How long an idle connection is kept: less than the five seconds after which common servers close theirs, so that a
payment is not sent into a connection that is just being closed."""

_HAPPY_SECONDS: Final = 0.25
"""How long the first address of a host is tried before the next one is as well (RFC 8305, section 5)."""

_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
_WITHOUT_BODY = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_LENGTH = re.compile(rb"[0-9]{1,18}")


class Pool:
    """Sends requests.

    `connect` is how long a connection may take, `timeout` how long an upstream may take to begin its answer and to take
    the next part of a body, and `stall` how long an answer that has begun may pause: in seconds.
    """

    def __init__(self, *, connect: float, timeout: float, stall: float) -> None:
        self._connect = connect
        self._timeout = timeout
        self._stall = stall
        self._idle: dict[str, list[tuple[Connection, float]]] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Close the connections that wait."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for kept in self._idle.values():
            for connection, _ in kept:
                connection.end()
        self._idle.clear()

    async def send(
        self, upstream: Upstream, method: str, target: bytes, headers: Headers, body: bytes, *, once: bool
    ) -> Reply:
        """Send a request whose body is at hand, and wait for the start of its answer.

        It is sent `once`, or else a second time where its method allows that and a kept connection broke before a byte
        of an answer came. Raises `Unreached` where nothing was sent, and `Unanswered` where something may have been.
        """
        request = _request(method, target, headers, body)
        again = not once and not body and method in _IDEMPOTENT
        connection = self._take(upstream)
        if connection is None:
            connection, again = await self._open(upstream), False
        while True:
            reply = connection.ask(request, is_head=method == "HEAD")
            reply.stall = self._stall
            try:
                await reply.begin(self._timeout)
            except Unanswered as error:
                if not again or error.timed_out or reply.was_heard:
                    raise
            except BaseException:
                connection.end()
                raise
            else:
                return reply
            connection, again = await self._open(upstream), False

    async def send_streaming(
        self, upstream: Upstream, method: str, target: bytes, headers: Headers, body: Body, *, expects: bool
    ) -> Reply:
        """Send a request whose body is still coming, once, and wait for the start of its answer.

        Its body goes on beside the answer, which may begin first; where it `expects` a word, when the upstream asks for
        it. Raises as `send` does, and `TooLarge` or `ClientGone` where the body broke off.
        """
        length = _announced(headers)
        framing = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
        head = _head(method, target, headers, framing, *([b"expect: 100-continue"] if expects else []))
        connection = self._take(upstream) or await self._open(upstream)
        reply = connection.ask(head, is_head=method == "HEAD")
        reply.stall = self._stall
        sending = upload(connection, reply, body, length=length, expects=expects, seconds=self._timeout)
        reply.comes_with(asyncio.ensure_future(sending))
        try:
            await reply.begin(self._timeout)
        except BaseException:
            connection.end()
            raise
        return reply

    def _take(self, upstream: Upstream) -> Connection | None:
        kept = self._idle.get(upstream.origin)
        oldest = monotonic() - KEEPALIVE_SECONDS
        while kept:
            connection, since = kept.pop()
            if connection.is_open and since > oldest:
                return connection
            connection.end()
        return None

    async def _open(self, upstream: Upstream) -> Connection:
        kept = self._idle.setdefault(upstream.origin, [])
        loop = asyncio.get_running_loop()

        def gives_back(connection: Connection) -> None:
            if self._idle.get(upstream.origin) is not kept:
                # Closed meanwhile.
                connection.end()
                return
            kept.append((connection, monotonic()))
            if self._sweeping is None:
                self._sweeping = loop.call_later(KEEPALIVE_SECONDS, self._sweep, loop)

        try:
            async with asyncio.timeout(self._connect):
                found = await loop.getaddrinfo(upstream.hostname, upstream.port, type=socket.SOCK_STREAM)
                # A host whose IPv6 leads nowhere is reached all the same.
                sock = await start_connection(found, happy_eyeballs_delay=_HAPPY_SECONDS, interleave=1, loop=loop)
                _, connection = await loop.create_connection(
                    lambda: Connection(gives_back),
                    sock=sock,
                    ssl=_context() if upstream.is_tls else None,
                    server_hostname=upstream.hostname if upstream.is_tls else None,
                )
        except (OSError, TimeoutError, UnicodeError):
            raise Unreached from None
        return connection

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what waited too long."""
        self._sweeping = None
        oldest = monotonic() - KEEPALIVE_SECONDS
        for kept in self._idle.values():
            # The one that was used last stands last, and is taken first.
            while kept and kept[0][1] <= oldest:
                kept.pop(0)[0].end()
        if any(self._idle.values()):
            self._sweeping = loop.call_later(KEEPALIVE_SECONDS / 3, self._sweep, loop)


@lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _request(method: str, target: bytes, headers: Headers, body: bytes) -> bytes:
    """A request on the wire. Raises `Unreached` for what would be read as more than one line."""
    if body or method not in _WITHOUT_BODY or b"content-length" in [name for name, _ in headers]:
        return _head(method, target, headers, b"content-length: %d" % len(body)) + body
    return _head(method, target, headers)


def _announced(headers: Headers) -> int | None:
    """How long a body says that it is; None for one in chunks. Raises `Unreached` for what says nothing."""
    if any(name == b"transfer-encoding" for name, _ in headers):
        return None
    said = {value for name, value in headers if name == b"content-length"}
    if not said:
        return None
    length = said.pop()
    if said or _LENGTH.fullmatch(length) is None:
        raise Unreached
    return int(length)


def _head(method: str, target: bytes, headers: Headers, *more: bytes) -> bytes:
    """A request's head on the wire, with `more` lines; raises as `_request` does."""
    first = b"%b %b HTTP/1.1" % (method.encode("latin-1"), target)
    lines = [first, *[b"%b: %b" % field for field in headers if field[0] not in _FRAMING], *more, b"", b""]
    head = b"\r\n".join(lines)
    ends = len(lines) - 1
    if head.count(b"\n") != ends or head.count(b"\r") != ends or 0 in head or first.count(b" ") != 2:
        raise Unreached
    return head
