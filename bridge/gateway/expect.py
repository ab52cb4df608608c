"""`Expect: 100-continue`, passed through: a body is not asked for before the upstream wants it (RFC 9110, 10.1.1).

aiohttp waits for that word without end, and many servers do not know it. So a request that expects has a connection of
its own, on which the answer's first bytes are looked at before the body's first byte is read from the client.
"""

import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import httpcore

from bridge.gateway.body import Body
from bridge.gateway.errors import Unanswered, Unreached
from bridge.gateway.headers import Headers
from bridge.gateway.source import Source
from bridge.gateway.upstreams import Upstream

__all__ = ["send_expecting"]

_PATIENCE_SECONDS: Final = 1.0
"""How long an upstream is waited for that says nothing: many do not know `Expect`, and want the body all the same."""


class _Stream(httpcore.AsyncNetworkStream):
    """A connection whose next bytes can be looked at."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._ahead = b""

    async def look(self, seconds: float) -> bytes:
        """What comes within `seconds`; nothing of it is taken away."""
        with suppress(httpcore.ReadTimeout):
            self._ahead += await self._stream.read(4096, seconds)
        return self._ahead

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """See httpcore."""
        if self._ahead:
            data, self._ahead = self._ahead[:max_bytes], self._ahead[max_bytes:]
            return data
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """See httpcore."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """See httpcore."""
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        """See httpcore."""
        return self._stream.get_extra_info(info)


class _Backend(httpcore.AsyncNetworkBackend):
    """Connects, and keeps the connection in sight."""

    def __init__(self) -> None:
        self._backend = httpcore.AnyIOBackend()
        self.stream: _Stream | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore."""
        stream = await self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Connecting(stream, self)


class _Connecting(_Stream):
    """A connection that may still become an encrypted one."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, backend: _Backend) -> None:
        super().__init__(stream)
        self._backend = backend
        backend.stream = self

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore."""
        return _Connecting(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._backend)


async def _patient(body: Body, backend: _Backend) -> AsyncIterator[bytes]:
    """The body, read from the client once the upstream wants it."""
    assert backend.stream is not None
    said = await backend.stream.look(_PATIENCE_SECONDS)
    if said and not said.startswith(b"HTTP/1.1 1"):
        # It has answered without the body. httpcore takes this for a server that stopped listening, and reads on.
        raise httpcore.WriteError
    async for part in body:
        yield part


class _Response:
    """An answer whose connection ends with it."""

    def __init__(self, response: httpcore.Response, connection: httpcore.AsyncHTTPConnection) -> None:
        self._response = response
        self._connection = connection
        self.status: int = response.status
        self.headers = response.headers

    def whole(self) -> bytes | None:
        return None

    async def parts(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._response.aiter_stream():
                yield part
        except httpcore.TimeoutException:
            raise Unanswered(timed_out=True) from None
        except (httpcore.NetworkError, httpcore.ProtocolError):
            raise Unanswered(timed_out=False) from None

    async def close(self) -> None:
        await self._connection.aclose()


@lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()


async def send_expecting(
    upstream: Upstream, method: str, target: bytes, headers: Headers, body: Body, seconds: float, stall: float
) -> Source:
    """Send a request with `Expect: 100-continue` on a connection of its own; raises as `Forwarder.send` does.

    An upstream that answers at once gets no body, and the client is not asked for it. `seconds` is for the start of the
    answer and for each part of the body, `stall` for a pause in the answer.
    """
    backend = _Backend()
    scheme = b"https" if upstream.is_tls else b"http"
    host = upstream.hostname.encode("ascii")
    connection = httpcore.AsyncHTTPConnection(
        httpcore.Origin(scheme, host, upstream.port),
        ssl_context=_context() if upstream.is_tls else None,
        network_backend=backend,
    )
    timeout = {"connect": min(seconds, 10.0), "read": seconds, "write": seconds, "pool": seconds}
    request = httpcore.Request(
        method,
        httpcore.URL(scheme=scheme, host=host, port=upstream.port, target=target),
        headers=[*headers, (b"expect", b"100-continue")],
        content=_patient(body, backend),
        extensions={"timeout": timeout},
    )
    try:
        response = await connection.handle_async_request(request)
    except (httpcore.ConnectError, httpcore.ConnectTimeout):
        raise Unreached from None
    except httpcore.TimeoutException:
        raise Unanswered(timed_out=True) from None
    except (httpcore.NetworkError, httpcore.ProtocolError):
        raise Unanswered(timed_out=False) from None
    # httpcore reads it anew when the body is read.
    timeout["read"] = stall
    return _Response(response, connection)
