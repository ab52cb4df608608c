"""A WebSocket, passed through: two connections, and every message from one to the other. Nothing is charged for it."""

import asyncio
from contextlib import suppress
from typing import Any, Final

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bridge.gateway import problems
from bridge.gateway.headers import Headers, response_headers
from bridge.gateway.upstreams import Upstream
from bridge.responses import Response

__all__ = ["MAX_MESSAGE", "decline", "pass_through"]

MAX_MESSAGE: Final = 16 * 1024 * 1024
"""The longest message, in bytes: one is held whole. It is the server's own limit, too."""

_OF_THE_HANDSHAKE = frozenset(
    (
        *(b"host", b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions"),
        *(b"sec-websocket-protocol", b"sec-websocket-accept", b"content-length"),
    )
)
_UNSAYABLE = (1004, 1005, 1006, 1015)
"""Close codes that stand for what happened and are never sent (RFC 6455, section 7.4.1)."""


class _Connect(connect):
    """Follows no redirect: that is the client's to do, which may not want its credentials sent there."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def pass_through(
    upstream: Upstream, target: bytes, headers: Headers, scope: Any, receive: Any, send: Any, *, seconds: float
) -> None:
    """Open the same WebSocket at the upstream, and join the two until one of them closes.

    `headers` are the request's, as they go to the upstream; `seconds` is for its handshake. An upstream that declines
    is quoted to the client.
    """
    await receive()  # websocket.connect
    host = next(value.decode("latin-1") for name, value in headers if name == b"host")
    scheme = "wss" if upstream.is_tls else "ws"
    options: dict[str, Any] = {"server_hostname": upstream.hostname} if upstream.is_tls else {}
    try:
        connection = await _Connect(
            f"{scheme}://{host}{target.decode('latin-1')}",
            additional_headers=[
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in headers
                if name not in _OF_THE_HANDSHAKE
            ],
            subprotocols=scope.get("subprotocols") or None,
            # The connection goes to the upstream, whatever it is called by.
            host=upstream.hostname,
            port=upstream.port,
            compression=None,
            user_agent_header=None,
            proxy=None,
            open_timeout=seconds,
            ping_interval=None,
            max_size=MAX_MESSAGE,
            **options,
        )
    except InvalidStatus as declined:
        said = declined.response
        kept = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in said.headers.raw_items()]
        kept = [item for item in response_headers(kept) if item[0] not in _OF_THE_HANDSHAKE]
        await decline(scope, send, Response(said.status_code, kept, bytes(said.body or b"")))
        return
    except TimeoutError:
        await decline(scope, send, problems.TIMED_OUT)
        return
    except OSError:
        await decline(scope, send, problems.UNREACHED)
        return
    except websockets.exceptions.WebSocketException:
        await decline(scope, send, problems.BROKEN_OFF)
        return
    async with connection:
        answered = response_headers(
            [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in _headers_of(connection)]
        )
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": connection.subprotocol,
                "headers": [item for item in answered if item[0] not in _OF_THE_HANDSHAKE],
            }
        )
        await _join(connection, receive, send)


def _headers_of(connection: ClientConnection) -> list[tuple[str, str]]:
    return list(connection.response.headers.raw_items()) if connection.response is not None else []


async def decline(scope: Any, send: Any, response: Response) -> None:
    """Answer the handshake with something else, where the server can; else close."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1011})
        return
    headers = [item for item in response.headers if item[0] != b"content-length"]
    length = (b"content-length", str(len(response.body)).encode())
    await send({"type": "websocket.http.response.start", "status": response.status, "headers": [*headers, length]})
    await send({"type": "websocket.http.response.body", "body": response.body, "more_body": False})


async def _join(connection: ClientConnection, receive: Any, send: Any) -> None:
    """Pass messages both ways; what one side closes, the other hears of."""
    up = asyncio.ensure_future(_up(connection, receive))
    try:
        async for message in connection:
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})
    except ConnectionClosed:
        pass
    finally:
        is_client_gone = up.done()
        up.cancel()
        with suppress(asyncio.CancelledError, ConnectionClosed):
            await up
    if not is_client_gone:
        code = connection.close_code or 1006
        with suppress(RuntimeError):
            await send(
                {
                    "type": "websocket.close",
                    "code": 1011 if code == 1006 else 1000 if code in _UNSAYABLE else code,
                    "reason": connection.close_reason or "",
                }
            )


async def _up(connection: ClientConnection, receive: Any) -> None:
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            code = message.get("code", 1005)
            await connection.close(1000 if code in _UNSAYABLE else code, message.get("reason") or "")
            return
        text = message.get("text")
        await connection.send(text if text is not None else message["bytes"])
