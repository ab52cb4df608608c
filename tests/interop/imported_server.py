"""Serves what `x402-mpp import --write` wrote, around an application that answers as the peers' servers do.

python -m tests.interop.imported_server FILE
"""

import asyncio
import json
import runpy
import sys
from typing import Any

from bridge.asgi import PaymentMiddleware
from bridge.serving import listen, serve, server_url

WEATHER = json.dumps({"report": {"weather": "sunny", "temperature": 70}}).encode()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The weather, or what was sent."""
    body = (await receive()).get("body", b"") if scope["method"] == "POST" else WEATHER
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def main(path: str) -> None:
    written = runpy.run_path(path)
    config = written["config"]
    config.store = "memory"
    app = PaymentMiddleware(application, config=config, routes=written["routes"])
    sock = listen("127.0.0.1", 0)
    async with serve(app, sock):
        print(json.dumps({"url": server_url("127.0.0.1", sock.getsockname()[1])}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
