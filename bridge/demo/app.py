"""The demo's application: six routes, five of them priced with one keyword each."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from litestar import Litestar, get, post
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.response import ServerSentEvent

from bridge.demo import token
from bridge.demo.accounts import RECIPIENT, RELAYER
from bridge.events import Sink
from bridge.litestar import Asset, Bazaar, Discovery, PaymentConfig, PaymentPlugin, ServiceInfo, Settlement
from bridge.settlers import settler_from_spec
from bridge.stores import store_from_url

__all__ = ["ROUTES", "TOKEN", "DemoSettings", "create_app"]

TOKEN = Asset(
    chain_id=token.CHAIN_ID,
    address=token.TOKEN_ADDRESS.lower(),
    decimals=token.TOKEN_DECIMALS,
    name=token.TOKEN_NAME,
    version=token.TOKEN_VERSION,
    symbol="USDC",
)

ROUTES: list[dict[str, str | None]] = [
    {"method": "GET", "path": "/weather", "price": "0.01", "settle": "on_success"},
    {"method": "POST", "path": "/echo", "price": "0.02", "settle": "on_success"},
    {"method": "GET", "path": "/stream", "price": "0.01", "settle": "on_success"},
    {"method": "GET", "path": "/fails", "price": "0.01", "settle": "on_success"},
    {"method": "GET", "path": "/dear", "price": "0.05", "settle": "first"},
    {"method": "GET", "path": "/free", "price": None, "settle": None},
]


DISCOVERY = Discovery(service=ServiceInfo(categories=("data", "developer-tools")))


class DemoSettings(msgspec.Struct, frozen=True):
    """What a demo server is started with; handed to each worker as JSON."""

    rpc_url: str
    settler: str
    store: str
    secret_keys: list[str]
    public_url: str | None = None
    levers: str | None = None
    events: str | None = None


@get("/weather", price="0.01", description="The weather, for a cent", bazaar=Bazaar(output={"weather": "sunny"}))
async def weather() -> dict[str, Any]:
    """Answer with the weather."""
    return {"weather": "sunny", "temperature": 21}


@post("/echo", price="0.02", status_code=200, description="The JSON body that you sent")
async def echo(data: dict[str, Any]) -> dict[str, Any]:
    """Answer with the body."""
    return data


@get("/stream", price="0.01", description="Five server-sent events over two seconds")
async def stream() -> ServerSentEvent:
    """Answer with events, one every half a second."""

    async def events() -> AsyncIterator[str]:
        for number in range(1, 6):
            yield f"event {number} of 5"
            if number < 5:
                await asyncio.sleep(0.5)

    return ServerSentEvent(events())


@get("/fails", price="0.01", description="Always fails, and so costs nothing")
async def fails() -> None:
    """Fail."""
    raise HTTPException(status_code=500, detail="this route always fails")


@get("/dear", price="0.05", settle="first", description="Paid before the work is done")
async def dear(settlement: Settlement) -> dict[str, Any]:
    """Answer with the transaction that paid for this very request."""
    return {"transaction": settlement.transaction, "amount": str(settlement.amount)}


@get("/free")
async def free() -> dict[str, str]:
    """Answer anybody."""
    return {"price": "none"}


def create_app(settings: DemoSettings, sinks: Sequence[Sink] = ()) -> Litestar:
    """The application. Raises `ValueError` for a settler or store that is not known."""
    config = PaymentConfig(
        recipient=RECIPIENT.address,
        network=token.CHAIN_ID,
        asset=TOKEN,
        settler=settler_from_spec(settings.settler, rpc_url=settings.rpc_url, private_key=RELAYER.private_key),
        store=store_from_url(settings.store),
        secret_keys=settings.secret_keys,
        public_url=settings.public_url,
        sinks=sinks,
        event_store=settings.events,
        health_path="/health",
        levers=settings.levers,
        levers_seconds=0.2,
    )
    return Litestar(
        [weather, echo, stream, fails, dear, free],
        plugins=[PaymentPlugin(config, discovery=DISCOVERY)],
        openapi_config=OpenAPIConfig("x402-mpp demo", "1"),
        logging_config=None,
    )
