"""The gateway under a path of a Litestar application, and as plain ASGI under others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from litestar import Litestar, get
from starlette.applications import Starlette
from starlette.routing import Mount

from bridge.gateway.app import Gateway
from bridge.gateway.config import GatewayConfig
from bridge.litestar.gateway import GatewayPlugin
from bridge.payers import credential, read_402
from bridge.stores import MemoryStore
from tests.bridge.gateway.lab import KEY, PAYER, PROTOCOLS, Server, mpp_challenges, running
from tests.bridge.harness import Message, receive_of, scope_of
from translators.payment import Protocol

pytestmark = pytest.mark.anyio


@get("/own")
async def own() -> str:
    return "mine"


@asynccontextmanager
async def behind(version: int = 2, **settings: Any) -> AsyncIterator[tuple[Server, Gateway]]:
    server = Server([version])
    async with running(server) as url:
        server.url = url
        config = GatewayConfig(**({"upstreams": {"/": url + "/"}, "secret_keys": (KEY,), "events": None} | settings))
        yield server, Gateway(config, store=MemoryStore())


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("path", ["/legacy", "/"])
async def test_a_gateway_is_mounted_under_a_path(client: Protocol, path: str) -> None:
    """The upstream sees the rest of the path, the client the public URL, and the application keeps its own routes."""
    prefix = path.rstrip("/")
    async with behind() as (server, gateway):
        app = Litestar([own], plugins=[GatewayPlugin(gateway, path)], logging_config=None)
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            assert (await http.get("/own")).text == "mine"
            answer = await http.get(f"{prefix}/a%2Fb/report?x=1")
            assert answer.status_code == 402
            assert server.last.target == "/a%2Fb/report?x=1"
            assert mpp_challenges(answer)[0].realm == "localhost"
            assert answer.json()["accepts"][0]["resource"].startswith(f"http://localhost{prefix}/a")
            name, value = credential(read_402(answer, client), PAYER)
            paid = await http.get(f"{prefix}/a%2Fb/report?x=1", headers={name: value})
            assert paid.status_code == 200
            assert len(server.settled) == 1


async def test_a_gateway_is_an_asgi_application() -> None:
    """Under Starlette's `Mount`, without a lifespan of its own."""
    async with behind() as (server, gateway):
        app = Starlette(routes=[Mount("/legacy", app=gateway)])
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            answer = await http.get("/legacy/report")
            assert (answer.status_code, server.last.target) == (402, "/report")
        await gateway.close()


@pytest.mark.parametrize("parts", [[b"one two"], [b"one ", b"two"]])
async def test_a_body_of_http_2_reaches_the_upstream(parts: list[bytes]) -> None:
    """Under a server that speaks HTTP/2 a body has no length, and is none the less for it."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async with behind() as (server, gateway):
        await gateway(scope_of("POST", http_version="2"), receive_of(parts), send)
        assert messages[0]["status"] == 402
        assert server.last.body == b"one two"
        await gateway.close()
