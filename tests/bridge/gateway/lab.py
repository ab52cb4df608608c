"""A gateway on a real socket, and behind it an x402 server that does what a test tells it, on another."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn

from bridge.gateway.app import Gateway
from bridge.gateway.config import GatewayConfig
from bridge.http1 import Http1Protocol
from bridge.payers import Account, Asked, account, credential, read_402
from bridge.serving import listen
from bridge.stores import MemoryStore
from translators import x402
from translators.checks import check_payment
from translators.encoding import b64_encode
from translators.errors import PaymentError
from translators.keccak import keccak256
from translators.networks import default_token
from translators.payment import Asset, Offer, Payment, Protocol
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

KEY = "a secret of the tests, 32 bytes and more"
PAYER = account("payer")
RECIPIENT = account("recipient").address
V1, V2, MPP = Protocol.X402_V1, Protocol.X402_V2, Protocol.MPP
PROTOCOLS = (V1, V2, MPP)
USDC = default_token(84532) or Asset(0, "", 0, "", "")

RECEIPT = {V1: "x-payment-response", V2: "payment-response", MPP: "payment-receipt"}
EXTENSIONS = {"bazaar": {"info": {"input": {"type": "http", "method": "GET"}}, "schema": {"type": "object"}}}

ON_BOTH_LOOPS = pytest.mark.parametrize(
    "anyio_backend",
    [pytest.param(("asyncio", {"use_uvloop": name == "uvloop"}), id=name) for name in ("asyncio", "uvloop")],
)
"""The command runs on uvloop, where that is installed, and an application of one's own on either."""

Script = Callable[["Server", Any, Any, Any], Awaitable[None]]


class Seen(msgspec.Struct):
    """A request as the upstream got it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    paid: bool = False

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)

    def count(self, name: str) -> int:
        """How often a header came."""
        return sum(key == name for key, _ in self.headers)


class Server:
    """An x402 server: it verifies and settles on a ledger of its own, where an authorization moves money once.

    `versions` are those of x402 that it speaks. `paid` answers a request whose payment is good, by default settling it
    and serving it; `free` are paths that cost nothing, with what answers them.
    """

    def __init__(self, versions: Sequence[int] = (2,), *, price: int = 10_000, paid: Script | None = None) -> None:
        self.versions = versions
        self.price = price
        self.url = ""
        self.seen: list[Seen] = []
        self.settled: dict[str, Payment] = {}
        self.on_paid: Script = paid or serve_paid
        self.free: dict[str, Script] = {"/free": lambda s, scope, receive, send: s.reply(send, 200, b"free")}
        self.says_public_urls = True
        self.extensions: dict[str, Any] | None = None
        self.entry_more: dict[str, Any] = {}
        self.more_accepts: list[dict[str, Any]] = []
        self.body_402: tuple[str, bytes] | None = None
        self.headers_402: list[tuple[bytes, bytes]] = []
        self.authorization: Payment | None = None
        self.clock: Callable[[], float] = time.time

    @property
    def offer(self) -> Offer:
        """What every path but the free ones costs."""
        return Offer(USDC, self.price, RECIPIENT, 300)

    @property
    def last(self) -> Seen:
        """The last request."""
        return self.seen[-1]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self.free["websocket"](self, scope, receive, send)
            return
        if scope["path"] in self.free:
            self.seen.append(self._seen(scope, b""))
            await self.free[scope["path"]](self, scope, receive, send)
            return
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        seen = self._seen(scope, bytes(body))
        self.seen.append(seen)
        try:
            payment = self._payment(seen)
            if payment is None:
                await self.ask(scope, send, None)
                return
            check_payment(payment, [self.offer], self.clock())
            if payment.id in self.settled:
                raise PaymentError("used", reason="invalid_exact_evm_nonce_already_used")
        except PaymentError as error:
            await self.ask(scope, send, error.reason)
            return
        seen.paid = True
        self.authorization = payment
        await self.on_paid(self, scope, receive, send)

    def _seen(self, scope: Any, body: bytes) -> Seen:
        target = scope["raw_path"].decode() + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]]
        return Seen(scope["method"], target, headers, body)

    def _payment(self, seen: Seen) -> Payment | None:
        v2, v1 = seen.header("payment-signature"), seen.header("x-payment")
        if v2 is not None and 2 in self.versions:
            payload = x402_v2.decode_payment_payload(v2)
            # As the SDKs do: the echo is the entry itself.
            if payload.accepted != self.entry_v2():
                raise PaymentError("accepted", reason="invalid_payment_requirements")
            return x402.from_payload_v2(payload)
        if v1 is not None and 1 in self.versions:
            return x402.from_payload_v1(x402_v1.decode_payment_payload(v1), [self.offer])
        return None

    def entry_v2(self) -> dict[str, Any]:
        """Its entry of v2, with a member that nobody knows."""
        return msgspec.to_builtins(x402.to_requirements_v2(self.offer)) | {"x-own": [1, {"b": 2}]} | self.entry_more

    def resource(self, scope: Any) -> str:
        """Its URL of what is asked for."""
        host = dict(scope["headers"])[b"host"].decode() if self.says_public_urls else self.url.partition("//")[2]
        return f"http://{host}{scope['path']}"

    async def ask(self, scope: Any, send: Any, error: str | None) -> None:
        """Answer 402."""
        headers: list[tuple[bytes, bytes]] = [(b"x-upstream", b"kept"), *self.headers_402]
        kind, body = self.body_402 or ("application/json", b"{}")
        url = self.resource(scope)
        if 2 in self.versions:
            required: dict[str, Any] = {
                "x402Version": 2,
                "error": error or "Payment required",
                "resource": {"url": url, "description": "A report", "mimeType": "application/json", "x-more": True},
                "accepts": [self.entry_v2(), *self.more_accepts],
            }
            if self.extensions is not None:
                required["extensions"] = self.extensions
            headers.append((b"payment-required", b64_encode(json.dumps(required).encode()).encode()))
        if 1 in self.versions:
            entry = msgspec.to_builtins(
                x402.to_requirements_v1(self.offer, msgspec.convert({"url": url, "description": "A report"}, _Resource))
            )
            content = {
                "x402Version": 1,
                "error": error or "X-PAYMENT header is required",
                "accepts": [entry | {"outputSchema": {"type": "object"}, "x-own": 1} | self.entry_more],
                "x-top": "kept",
            }
            kind, body = self.body_402 or ("application/json", json.dumps(content).encode())
        headers.append((b"content-type", kind.encode()))
        await self.reply(send, 402, body, headers)

    def receipt(self, *, success: bool = True, reason: str | None = None) -> list[tuple[bytes, bytes]]:
        """Settle the payment (unless not `success`), and say so."""
        assert self.authorization is not None
        payment = self.authorization
        if success:
            self.settled[payment.id] = payment
        content = {
            "success": success,
            "transaction": transaction_of(payment) if success else "",
            "network": payment.network if 2 in self.versions else "base-sepolia",
            "payer": payment.authorization.payer,
        }
        if reason is not None:
            content["errorReason"] = reason
        name = b"PAYMENT-RESPONSE" if 2 in self.versions else b"X-PAYMENT-RESPONSE"
        return [(name, b64_encode(json.dumps(content).encode()).encode())]

    async def reply(self, send: Any, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """A whole answer."""
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": body})


class _Resource(msgspec.Struct):
    url: str
    description: str = ""
    mime_type: str = ""


def transaction_of(payment: Payment) -> str:
    """What the server calls the transaction of a payment."""
    return "0x" + keccak256(payment.id.encode()).hex()


async def serve_paid(server: Server, scope: Any, receive: Any, send: Any) -> None:
    """Settle, and serve."""
    await server.reply(send, 200, b"the report: " + server.last.body, server.receipt())


async def settle_and_refuse(server: Server, scope: Any, receive: Any, send: Any) -> None:
    """Settle, say so, and ask for payment all the same."""
    server.headers_402 = server.receipt()
    await server.ask(scope, send, "again")


class Lab:
    """A gateway before a `Server`, and a client of it."""

    def __init__(self, server: Server, gateway: Gateway, client: httpx.AsyncClient, url: str) -> None:
        self.server = server
        self.gateway = gateway
        self.client = client
        self.url = url
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.store: Any = gateway.gate.store

    @property
    def events(self) -> list[str]:
        """The names of the events so far."""
        return [event for event, _ in self.told]

    def event(self, name: str) -> dict[str, Any]:
        """The fields of the last event of this name."""
        return [fields for event, fields in self.told if event == name][-1]

    async def ask(self, protocol: Protocol, path: str = "/report", method: str = "GET", **more: Any) -> Asked:
        """What a client of `protocol` reads in the 402."""
        return read_402(await self.client.request(method, path, **more), protocol)

    async def credential(
        self, protocol: Protocol, path: str = "/report", method: str = "GET", payer: Account = PAYER, **more: Any
    ) -> tuple[str, str]:
        """A good credential: header and value."""
        return credential(await self.ask(protocol, path, method, **more), payer)

    async def pay(self, protocol: Protocol, path: str = "/report", method: str = "GET", **more: Any) -> httpx.Response:
        """Pay as it should be done."""
        header, value = await self.credential(protocol, path, method, **more)
        headers = {**more.pop("headers", {}), header: value}
        return await self.client.request(method, path, headers=headers, **more)

    def rows(self) -> list[Any]:
        """The journal."""
        return list(self.store._rows.values())


@asynccontextmanager
async def running(app: Any, *, port: int = 0, **settings: Any) -> AsyncIterator[str]:
    """Serve an application on a port of this machine, by default a free one; gives its URL.

    With uvicorn's protocols, and without its server, which takes a fifth of a second to start and to stop.
    """
    config = uvicorn.Config(app, log_level="critical", lifespan="off", **settings)
    config.load()
    state = uvicorn.server.ServerState()
    protocol: Any = config.http_protocol_class
    sock = listen("127.0.0.1", port)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol(config=config, server_state=state, app_state={}), sock=sock)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def lab(server: Server | None = None, **settings: Any) -> AsyncIterator[Lab]:
    """A gateway with these settings before `server`."""
    server = server or Server()
    async with running(server, server_header=False, date_header=False) as upstream_url:
        server.url = upstream_url
        async with gateway_before({"/": upstream_url}, server, **settings) as found:
            yield found


@asynccontextmanager
async def gateway_before(upstreams: dict[str, str], server: Server, **settings: Any) -> AsyncIterator[Lab]:
    """A gateway with these settings before these upstreams."""
    told: list[tuple[str, dict[str, Any]]] = []
    known: dict[str, Any] = {
        "upstreams": upstreams,
        "secret_keys": (KEY,),
        "wait_seconds": 0.0,
        "timeout": 5.0,
        "events": None,
    }
    store = settings.pop("store", None) or MemoryStore()
    http = settings.pop("http", Http1Protocol)
    clock = {"clock": settings.pop("clock")} if "clock" in settings else {}
    gateway = Gateway(
        GatewayConfig(**(known | settings)),
        store=store,
        sinks=[lambda event, fields: told.append((event, fields))],
        **clock,
    )
    await gateway.start()
    try:
        async with (
            running(gateway, http=http, server_header=False, date_header=False, proxy_headers=False) as url,
            httpx.AsyncClient(base_url=url, timeout=20) as client,
        ):
            found = Lab(server, gateway, client, url)
            found.told = told
            yield found
    finally:
        await gateway.close()


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something is so; fails when it is not in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def mpp_challenges(response: httpx.Response) -> list[mpp_wire.Challenge]:
    """The MPP challenges of a 402."""
    return mpp_wire.decode_challenges(response.headers.get_list("www-authenticate"))
