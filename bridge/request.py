"""The one request shape that the gate reads, whichever server or framework received it."""

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import quote, urlsplit

__all__ = ["PaidRequest"]

_LOOPBACK = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(r"[0-9]{1,18}")
_WITHOUT_CONTENT = frozenset(("GET", "HEAD", "DELETE", "OPTIONS", "TRACE"))
"""Methods whose requests have no body that means anything in general (RFC 9110, section 9.3)."""
_LONGEST_AGENT = 256
_DEFAULT_PORTS = {"http": 80, "https": 443}

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]


class PaidRequest:
    """An HTTP request as ASGI hands it over, with a body that can be read and still be received by the application."""

    __slots__ = ("_body", "_first", "_receive", "_replayed", "headers", "method", "origin", "path", "scope")

    def __init__(self, scope: Scope, receive: Callable[[], Awaitable[Message]], public_url: str | None) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        raw_path: bytes | None = scope.get("raw_path")
        self.path = raw_path.decode("latin-1") if raw_path else quote(scope["path"], safe="/%:@!$&'()*+,;=~-._")
        """The path as it was sent, percent-encoded and without the query."""
        self.headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
        self._first: dict[bytes, bytes] | None = None
        self.origin = public_url or self._own_origin()
        """Scheme and authority (and a prefix, where one is configured) that clients reach this server under."""
        self._receive = receive
        self._body: bytes | None = None
        self._replayed = False

    @property
    def url(self) -> str:
        """The public URL of the resource, without the query, which may hold secrets."""
        return self.origin + self.path

    @property
    def user_agent(self) -> str | None:
        """What the client calls itself, cut where it is longer than any client's: events wait in memory with it."""
        told = self.header(b"user-agent")
        return told if told is None else told[:_LONGEST_AGENT]

    @property
    def authority(self) -> str:
        """Host and port of the public origin: the default realm."""
        return urlsplit(self.origin).netloc

    def header(self, name: bytes) -> str | None:
        """The first value of a header (`name` in lower case), or None."""
        if self._first is None:
            # Asked for several of them, so gone through once; backwards, so that the first of a name stays.
            self._first = {key.lower(): value for key, value in reversed(tuple(self.headers))}
        value = self._first.get(name)
        return None if value is None else value.decode("latin-1")

    def _own_origin(self) -> str:
        """Where no public URL is configured: the `Host` header if it is loopback, else the address of the socket.

        Anybody can send any `Host`; believed, it would put a stranger's name into what a client pays for.
        """
        scheme = self.scope.get("scheme", "http")
        host = self.header(b"host")
        if host is not None and _LOOPBACK.fullmatch(host):
            return f"{scheme}://{host}"
        address, port = self.scope.get("server") or ("localhost", None)
        if address.startswith("/"):
            # A Unix socket has a path for a name.
            address = "localhost"
        address = f"[{address}]" if ":" in address else address
        return f"{scheme}://{address}" + (f":{port}" if port and port != _DEFAULT_PORTS.get(scheme) else "")

    async def body(self, limit: int) -> bytes | None:
        """The whole body, or None when it is longer than `limit` bytes or its length is not announced.

        Nothing is read unless it will fit, so that the application can still receive all of it.
        """
        if self._body is not None:
            return self._body if len(self._body) <= limit else None
        if self.header(b"transfer-encoding") is not None:
            # Whatever length stands beside it (RFC 9112, section 6.3).
            return None
        length = self.header(b"content-length")
        if length is None:
            # HTTP/2 and 3 frame a body themselves, so a head without a length says nothing (RFC 9113, section 8.1.1).
            is_unsaid = not self.scope.get("http_version", "1.1").startswith("1")
            return None if is_unsaid and self.method not in _WITHOUT_CONTENT else b""
        if _LENGTH.fullmatch(length) is None or int(length) > limit:
            return None
        return await self._read()

    async def _read(self) -> bytes | None:
        parts = []
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                break
        self._body = b"".join(parts)
        return self._body

    async def peek(self) -> Message:
        """ASGI's `receive` for whoever asks before the application, which still receives all of it."""
        body = self._body if self._body is not None else await self._read()
        if body is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": False}

    async def receive(self) -> Message:
        """ASGI's `receive` for the application: a body that was read here is handed over first."""
        if self._body is not None and not self._replayed:
            self._replayed = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        return await self._receive()
