"""Stands between a settler and its node, and spoils what passes."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from aiohttp import web

Forward = Callable[[], Awaitable[Any]]
Spoil = Callable[[str, list[Any], Forward], Awaitable[Any]]


class Drop(Exception):
    """Close the connection without an answer."""


class Status(Exception):
    """Answer with this status and no JSON."""


class RpcError(Exception):
    """Answer with a JSON-RPC error of this code and message."""


@asynccontextmanager
async def proxy(rpc_url: str, spoil: Spoil) -> AsyncIterator[str]:
    """A node at the URL that it yields; `spoil` gets method, parameters and the way to the real node."""

    async def handle(request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.read())

        async def forward() -> Any:
            answer = (await client.post(rpc_url, json=asked)).json()
            if "error" in answer:
                raise RpcError(answer["error"]["code"], answer["error"]["message"])
            return answer["result"]

        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
        try:
            answer["result"] = await spoil(asked["method"], asked["params"], forward)
        except RpcError as error:
            answer["error"] = {"code": error.args[0], "message": error.args[1]}
        except Status as error:
            return web.Response(status=error.args[0], text="<html>")
        except Drop:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.json_response(answer)

    async with httpx.AsyncClient(verify=False) as client:
        application = web.Application()
        application.router.add_post("/", handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            await runner.cleanup()
