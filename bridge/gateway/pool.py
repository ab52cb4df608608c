"""The connections to upstreams that wait for their next request."""

import asyncio
import socket
import ssl
from functools import lru_cache
from typing import Final

from aiohappyeyeballs import start_connection

from bridge.gateway.connection import Connection, Reply
from bridge.gateway.errors import Unanswered, Unreached
from bridge.gateway.headers import Headers
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


class Pool:
    """Sends requests whose body is at hand. `connect`, `timeout` (to the answer's start) and `stall` are in seconds."""

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
        """Send a request and wait for the start of its answer.

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

    def _take(self, upstream: Upstream) -> Connection | None:
        kept = self._idle.get(upstream.origin)
        oldest = asyncio.get_running_loop().time() - KEEPALIVE_SECONDS
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
            kept.append((connection, loop.time()))
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
        oldest = loop.time() - KEEPALIVE_SECONDS
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
    lines = [b"%b %b HTTP/1.1" % (method.encode("latin-1"), target)]
    lines += [name + b": " + value for name, value in headers if name not in _FRAMING]
    if body or method not in _WITHOUT_BODY or any(name == b"content-length" for name, _ in headers):
        lines.append(b"content-length: %d" % len(body))
    head = b"\r\n".join([*lines, b"", b""])
    ends = len(lines) + 1
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head or lines[0].count(b" ") != 2:
        raise Unreached
    return head + body
