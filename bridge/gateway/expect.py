"""`Expect: 100-continue`, passed through: a body is not asked for before the upstream wants it (RFC 9110, 10.1.1).

httpx sends a body without waiting. So a request that expects has a connection of its own, on which the answer's first
bytes are looked at before the body's first byte is read from the client.
"""

import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import httpcore
import httpx

from bridge.gateway.headers import Headers

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


class _Patient(httpx.AsyncByteStream):
    """A body that is read from the client once the upstream wants it."""

    def __init__(self, body: httpx.AsyncByteStream, backend: _Backend) -> None:
        self._body = body
        self._backend = backend

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert self._backend.stream is not None
        said = await self._backend.stream.look(_PATIENCE_SECONDS)
        if said and not said.startswith(b"HTTP/1.1 1"):
            # It has answered without the body. httpcore takes this for a server that stopped listening, and reads on.
            raise httpcore.WriteError
        async for part in self._body:
            yield part


class _Answer(httpx.AsyncByteStream):
    """An answer's body; its connection ends with it."""

    def __init__(self, parts: Any, connection: httpcore.AsyncHTTPConnection) -> None:
        self._parts = parts
        self._connection = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._parts:
                yield part
        except httpcore.TimeoutException as error:
            raise httpx.ReadTimeout(str(error)) from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise httpx.ReadError(str(error)) from None

    async def aclose(self) -> None:
        await self._connection.aclose()


@lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


async def send_expecting(
    method: str, url: httpx.URL, headers: Headers, body: httpx.AsyncByteStream, extensions: dict[str, Any]
) -> httpx.Response:
    """Send a request with `Expect: 100-continue` on a connection of its own. Raises httpx' errors, and `body`'s own.

    An upstream that answers at once gets no body, and the client is not asked for it.
    """
    backend = _Backend()
    origin = httpcore.Origin(url.raw_scheme, url.raw_host, url.port or (443 if url.scheme == "https" else 80))
    connection = httpcore.AsyncHTTPConnection(
        origin, ssl_context=_context() if url.scheme == "https" else None, network_backend=backend
    )
    request = httpcore.Request(
        method,
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/"),
        headers=[*headers, (b"expect", b"100-continue")],
        content=_Patient(body, backend),
        extensions=extensions,
    )
    try:
        response = await connection.handle_async_request(request)
    except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        raise httpx.ConnectError(str(error)) from None
    except httpcore.TimeoutException as error:
        raise httpx.ReadTimeout(str(error)) from None
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise httpx.ReadError(str(error)) from None
    return httpx.Response(response.status, headers=response.headers, stream=_Answer(response.stream, connection))
