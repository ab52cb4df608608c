"""A server for the gateway to stand in front of, as its own process.

    python -m tests.gateway.upstream

What stands under `/paid/` costs a cent in x402 v2 and nothing else, by our own middleware with a settler that charges
nobody: what is at stake here is what a proxy carries. Its first line on standard output is where it is; it lives while
its standard input is open.
"""

import argparse
import asyncio
import gzip
import hashlib
import json
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import uvicorn

from bridge.asgi import PaymentMiddleware
from bridge.config import PaymentConfig
from bridge.demo.app import TOKEN
from bridge.logs import configure_logs

RECIPIENT = "0x" + "44" * 20
BLOCK = bytes(range(256)) * 256
"""What downloads are made of: 64 KiB."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Every route, free or behind `/paid`."""
    match scope["type"]:
        case "lifespan":
            await _lifespan(receive, send)
        case "websocket":
            await _websocket(scope, receive, send)
        case "http":
            await _http(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _websocket(scope: Message, receive: Receive, send: Send) -> None:
    """Say what was asked for, then echo; `/refuses` closes before it accepts."""
    await receive()
    if scope["path"] == "/refuses":
        await send({"type": "websocket.close", "code": 1008})
        return
    protocols = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": protocols[0] if protocols else None})
    await send({"type": "websocket.send", "text": json.dumps(_described(scope))})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4321, "reason": "as you wish"})
            return
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


async def _http(scope: Message, receive: Receive, send: Send) -> None:
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    path = "/" + scope["path"].rpartition("/")[2]
    match path:
        case "/headers":
            await _answer(send, 200, json.dumps(_described(scope)).encode())
        case "/upload":
            await _answer(send, 200, json.dumps(await _digested(receive)).encode())
        case "/download":
            await _download(send, int(query["bytes"]))
        case "/events":
            await _events(send, int(query["count"]), float(query["pause"]))
        case "/slow":
            await asyncio.sleep(float(query["seconds"]))
            await _answer(send, 200, b'{"slow": true}')
        case "/gzip":
            body = gzip.compress(b"squeezed " * 1000, mtime=0)
            await _answer(send, 200, body, [(b"content-encoding", b"gzip"), (b"etag", b'"squeezed"')])
        case "/hop":
            hop = [(b"connection", b"x-secret"), (b"x-secret", b"for the next hop"), (b"keep-alive", b"timeout=99")]
            await _answer(send, 200, b"{}", [*hop, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])
        case "/teapot":
            await _answer(send, 418, b'{"short": "stout"}')
        case "/dies":
            os._exit(1)
        case _:
            await _answer(send, 404, b"{}")


def _described(scope: Message) -> dict[str, Any]:
    """The request as it arrived here."""
    return {
        "method": scope.get("method"),
        "target": scope["raw_path"].decode() + ("?" + scope["query_string"].decode() if scope["query_string"] else ""),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "subprotocols": scope.get("subprotocols"),
        "port": scope["server"][1],
    }


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    fields = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def _digested(receive: Receive) -> dict[str, Any]:
    """The length and hash of a body that is never held whole, and when its pieces came."""
    digest, length, pieces = hashlib.sha256(), 0, 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return {"disconnected": True}
        if body := message.get("body", b""):
            digest.update(body)
            length, pieces = length + len(body), pieces + 1
        if not message.get("more_body", False):
            return {"bytes": length, "pieces": pieces, "sha256": digest.hexdigest()}


async def _download(send: Send, size: int) -> None:
    fields = [(b"content-type", b"application/octet-stream"), (b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    left = size
    while left > 0:
        await send({"type": "http.response.body", "body": BLOCK[:left], "more_body": True})
        left -= len(BLOCK)
    await send({"type": "http.response.body", "body": b""})


async def _events(send: Send, count: int, pause: float) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for number in range(count):
        if number:
            await asyncio.sleep(pause)
        await send({"type": "http.response.body", "body": f"data: {number}\n\n".encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def priced() -> Any:
    """The application with a cent on everything under `/paid`."""
    config = PaymentConfig(
        RECIPIENT,
        "null",
        network=TOKEN.chain_id,
        asset=TOKEN,
        store="memory",
        protocols=["x402-v2"],
        bind_body_bytes=0,
        event_store=None,
    )
    return PaymentMiddleware(app, config=config, routes={"/paid/*": "0.01"})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    configure_logs(json=True)
    listener = socket.create_server(("127.0.0.1", options.port), backlog=512)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)

    def leave() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=leave, daemon=True).start()
    uvicorn.Server(uvicorn.Config(priced(), log_level="warning", access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    main()
