"""The plain ASGI middleware: which requests it charges, under which frameworks, and how it starts and stops."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from bridge.asgi import PaymentMiddleware, payment_of, settlement_of
from bridge.config import ConfigError, PaymentConfig
from bridge.payers import read_402, sign
from bridge.pricing import Paid
from bridge.stores import MemoryStore
from bridge.testing import FakeSettler, FixedClock
from tests.bridge.harness import (
    KEY,
    MPP,
    PAYER,
    PROTOCOLS,
    RECIPIENT,
    V1,
    V2,
    House,
    envelope,
    receive_of,
    scope_of,
    visit,
    visit_raising,
)
from translators.payment import Protocol
from translators.price import PriceError

pytestmark = pytest.mark.anyio


def config_of(**settings: Any) -> PaymentConfig:
    known = {
        "recipient": RECIPIENT,
        "settler": FakeSettler(),
        "event_store": None,
        "network": "base-sepolia",
        "store": MemoryStore(),
        "secret_keys": [KEY],
        "clock": FixedClock(),
    }
    return PaymentConfig(**(known | settings))


PATHS = [
    # pattern, method, path as sent, charged
    ("GET /report", "GET", "/report", True),
    ("GET /report", "GET", "/report/", True),
    ("GET /report", "GET", "//report", True),
    ("GET /report", "GET", "/report//", True),
    ("GET /report", "GET", "/re%70ort", True),
    ("GET /report", "GET", "/report%0A", True),
    ("GET /report", "GET", "/report%2F", True),
    ("GET /report", "HEAD", "/report", True),
    ("GET /report", "get", "/report", True),
    ("GET /report", "POST", "/report", False),
    ("GET /report", "OPTIONS", "/report", False),
    ("GET /report", "GET", "/Report", False),
    ("GET /report", "GET", "/report/1", False),
    ("GET /report", "GET", "/reports", False),
    ("GET /report", "GET", "/", False),
    ("get  /report", "GET", "/report", True),
    ("/report", "DELETE", "/report", True),
    ("/report", "OPTIONS", "/report", False),
    ("GET /report/", "GET", "/report", True),
    ("/", "GET", "/", True),
    ("/", "GET", "/report", False),
    ("GET /item/{id}", "GET", "/item/7", True),
    ("GET /item/{id}", "GET", "/item/7%0A8", True),
    ("GET /item/{id}", "GET", "/item/", False),
    ("GET /item/{id}", "GET", "/item/7/8", False),
    ("GET /item/{id}/raw", "GET", "/item/7/raw", True),
    ("GET /a.b", "GET", "/a.b", True),
    ("GET /a.b", "GET", "/axb", False),
    ("GET /files/*", "GET", "/files/a/b", True),
    ("GET /files/*", "GET", "/files/a%0Ab", True),
    ("GET /files/*", "GET", "/files/", True),
    ("GET /files/*", "GET", "/files", True),
    ("GET /files/*", "GET", "/filesystem", False),
    ("/*", "PUT", "/anything/at/all", True),
    ("/*", "PUT", "/", True),
    ("/a*", "GET", "/abc/d", True),
]


@pytest.mark.parametrize(("pattern", "method", "path", "charged"), PATHS)
async def test_route_pattern(pattern: str, method: str, path: str, charged: bool) -> None:
    """A path costs the same in every spelling under which an application could serve it, and others are free."""
    house = House({pattern: "0.01"})
    answer = await house.visit(method, path)
    assert (answer.status_code, house.runs) == ((402, 0) if charged else (200, 1))


@pytest.mark.parametrize("key", ["report", "", "GET report", "HEAD /report", "OPTIONS /report", "GET"])
def test_route_that_could_never_be_charged_is_refused(key: str) -> None:
    """A key of the table that matches nothing stops the program."""
    with pytest.raises(ConfigError):
        House({key: "0.01"})


def test_bad_price_names_its_route() -> None:
    """A price that cannot be charged stops the program with the route's name."""
    with pytest.raises(PriceError, match="GET /report: "):
        House({"GET /report": "a cent"})


async def test_first_matching_route_counts() -> None:
    """Order decides between patterns that both match."""
    house = House({"GET /item/free-ish": "0.01", "GET /item/{id}": "0.05"})
    assert (await house.ask(V2, path="/item/free-ish")).offer.amount == 10_000
    assert (await house.ask(V2, path="/item/9")).offer.amount == 50_000


@pytest.mark.parametrize(
    ("root_path", "path"),
    [("/api", "/api/report"), ("/api", "/report"), ("/api/", "/api/report"), ("/api", "/api//report")],
)
async def test_root_path_does_not_open_a_way_around(root_path: str, path: str) -> None:
    """Under `--root-path` or a mount the application sees the rest of the path, and that is what has the price."""
    house = House()
    assert (await house.visit("GET", path, root_path=root_path)).status_code == 402


async def test_root_path_alone_is_the_root() -> None:
    """`/api` under root path `/api` is `/`."""
    house = House({"/": "0.01"})
    assert (await house.visit("GET", "/api", root_path="/api")).status_code == 402
    assert (await house.visit("GET", "/apiary", root_path="/api")).status_code == 200


def starlette_routes(**more: Any) -> list[Any]:
    async def report(request: Any) -> PlainTextResponse:
        paid = payment_of(request.scope)
        return PlainTextResponse(f"paid by {paid.authorization.payer if paid else 'nobody'}")

    return [Route("/report", report), Route("/item/{id}", report), Mount("/sub", routes=[Route("/deep", report)])]


@pytest.mark.parametrize("path", ["/report", "/report%0A", "/re%70ort", "/item/7", "/sub/deep"])
async def test_starlette_serves_no_spelling_for_free(path: str) -> None:
    """Whatever Starlette itself routes to the handler is charged first."""
    config = config_of()
    routes = {"GET /report": "0.01", "GET /item/{id}": "0.01", "GET /sub/deep": "0.01"}
    app = PaymentMiddleware(Starlette(routes=starlette_routes()), config=config, routes=routes)
    assert (await visit(Starlette(routes=starlette_routes()), "GET", path)).status_code == 200
    assert (await visit(app, "GET", path)).status_code == 402


async def test_mounted_application_with_its_own_middleware() -> None:
    """A sub-application is priced by its own paths, and its resource has the whole public URL."""
    inner = PaymentMiddleware(Starlette(routes=starlette_routes()), config=config_of(), routes={"GET /report": "0.01"})
    app = Starlette(routes=[Mount("/inner", app=inner)])
    answer = await visit(app, "GET", "/inner/report")
    assert answer.status_code == 402
    asked = read_402(answer, V2)
    assert asked.required is not None
    assert asked.required.resource == {"url": "http://localhost/inner/report"}
    paid = await visit(app, "GET", "/inner/report", [envelope(sign(asked, PAYER, FixedClock()()), asked)])
    assert (paid.status_code, paid.text) == (200, f"paid by {PAYER.address}")


def fastapi_app(config: PaymentConfig, seen: list[str]) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        seen.append("up")
        yield
        seen.append("down")

    app = FastAPI(lifespan=lifespan)

    @app.get("/report")
    async def report() -> dict[str, str]:
        return {"report": "sunny"}

    @app.post("/echo")
    async def echo(data: dict[str, Any]) -> dict[str, Any]:
        return data

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404, "nothing here")

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the handler is broken")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def events() -> Any:
            for n in range(3):
                yield f"data: {n}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    app.add_middleware(
        PaymentMiddleware,
        config=config,
        routes={
            "GET /report": "0.01",
            "POST /echo": "0.02",
            "GET /missing": "0.01",
            "GET /broken": Paid("0.01"),
            "GET /dear": Paid("0.05", settle="first"),
            "GET /stream": "0.01",
        },
    )

    @app.get("/dear")
    async def dear() -> None:
        raise RuntimeError("the handler is broken")

    return app


async def fastapi_pay(
    app: Any, protocol: Protocol, method: str, path: str, body: bytes = b"", raising: bool = False
) -> Any:
    headers = [("Content-Type", "application/json")] if body else []
    asked = read_402(await visit(app, method, path, headers, body), protocol)
    headers = [*headers, envelope(sign(asked, PAYER, FixedClock()()), asked)]
    if raising:
        return await visit_raising(app, method, path, headers, body)
    return await visit(app, method, path, headers, body)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_fastapi(protocol: Protocol) -> None:
    """GET, POST with a body, a stream, an HTTPException and a crash behave alike in every protocol."""
    settler = FakeSettler()
    app = fastapi_app(config_of(settler=settler), [])
    assert (await fastapi_pay(app, protocol, "GET", "/report")).json() == {"report": "sunny"}
    echoed = await fastapi_pay(app, protocol, "POST", "/echo", b'{"a": [1, 2]}')
    assert echoed.json() == {"a": [1, 2]}
    assert (await fastapi_pay(app, protocol, "GET", "/stream")).text.count("data:") == 3
    assert len(settler.settlements) == 3
    assert (await fastapi_pay(app, protocol, "GET", "/missing")).status_code == 404
    answer, error = await fastapi_pay(app, protocol, "GET", "/broken", raising=True)
    assert isinstance(error, RuntimeError)
    assert len(settler.settlements) == 3
    assert answer is not None
    assert answer.status_code == 500


@pytest.mark.parametrize("protocol", [V1, V2])
async def test_crash_after_charging_says_so_though_the_framework_answers_outside(protocol: Protocol) -> None:
    """Starlette answers a crash outside all middleware, where nobody knows of the receipt: so it is answered here."""
    settler = FakeSettler()
    app = fastapi_app(config_of(settler=settler), [])
    answer, error = await fastapi_pay(app, protocol, "GET", "/dear", raising=True)
    assert isinstance(error, RuntimeError)
    assert (answer.status_code, len(settler.settlements)) == (500, 1)
    assert answer.headers["X-PAYMENT-RESPONSE" if protocol is V1 else "PAYMENT-RESPONSE"]
    assert answer.headers["cache-control"] == "private"


async def lifespan_of(app: Any, seen: list[Any]) -> tuple[Any, asyncio.Queue[Any], asyncio.Task[None]]:
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    outbox: asyncio.Queue[Any] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task = asyncio.create_task(app(scope, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    seen.append(await outbox.get())
    return inbox, outbox, task


class WatchedSettler(FakeSettler):
    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    async def start(self, offers: Any) -> None:
        self.seen.append("gate up")
        await super().start(offers)

    async def close(self) -> None:
        self.seen.append("gate down")


async def test_lifespan_opens_and_closes_the_gate_around_the_application() -> None:
    """The gate is open before the application starts, closed after it stopped, and can be started again."""
    seen: list[str] = []
    app = fastapi_app(config_of(settler=WatchedSettler(seen)), seen)
    for _ in range(2):
        said: list[Any] = []
        inbox, outbox, task = await lifespan_of(app, said)
        assert said[0]["type"] == "lifespan.startup.complete"
        assert (await visit(app)).status_code == 402
        await inbox.put({"type": "lifespan.shutdown"})
        assert (await outbox.get())["type"] == "lifespan.shutdown.complete"
        await task
    assert seen == ["gate up", "up", "down", "gate down"] * 2


async def test_without_lifespan_the_first_request_opens_the_gate_once() -> None:
    """A server or a test client that runs no lifespan still charges; two first requests open one gate."""
    seen: list[str] = []
    app = fastapi_app(config_of(settler=WatchedSettler(seen)), seen)
    await asyncio.gather(visit(app), visit(app))
    assert seen == ["gate up"]


async def test_gate_that_cannot_open_fails_the_startup() -> None:
    """The server is told, so that it stops; an exception alone would pass for 'knows no lifespan' and be served."""

    class Broken(FakeSettler):
        async def start(self, offers: Any) -> None:
            raise ValueError("the chain is another one")

    app = fastapi_app(config_of(settler=Broken()), [])
    said: list[Any] = []
    _, _, task = await lifespan_of(app, said)
    assert said == [{"type": "lifespan.startup.failed", "message": "ValueError: the chain is another one"}]
    with pytest.raises(ValueError, match="another one"):
        await task
    with pytest.raises(ValueError, match="another one"):
        await visit(app)


async def test_application_that_knows_no_lifespan() -> None:
    """Its refusal reaches the server as it is."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

    house = House(handler=app)
    with pytest.raises(AssertionError):
        await house.app({"type": "lifespan"}, receive_of([]), None)
    assert (await house.visit()).status_code == 402


async def test_websocket_goes_through() -> None:
    """What cannot be paid for is not asked to pay."""
    house = House({"/report": "0.01"})

    async def send(_: Any) -> None:
        pass

    await house.app({"type": "websocket", "path": "/report", "headers": []}, receive_of([]), send)
    assert house.runs == 1


async def test_head_has_the_headers_of_a_402_and_no_body() -> None:
    """HEAD costs what GET costs, and its 402 has the same header fields."""
    house = House()
    got, headed = await house.visit(), await house.visit("HEAD")
    assert (headed.status_code, headed.content) == (402, b"")
    assert set(headed.headers) == set(got.headers)
    assert abs(int(headed.headers["content-length"]) - len(got.content)) < 2


# What the public URL and the realm are made of


@pytest.mark.parametrize(
    ("settings", "scope", "url", "realm"),
    [
        ({}, {}, "http://localhost/report", "localhost"),
        ({}, {"host": "127.0.0.1:8000"}, "http://127.0.0.1:8000/report", "127.0.0.1:8000"),
        ({}, {"host": "[::1]:80"}, "http://[::1]:80/report", "[::1]:80"),
        ({}, {"host": "evil.example"}, "http://127.0.0.1:8000/report", "127.0.0.1:8000"),
        ({}, {"host": "localhost.evil.example"}, "http://127.0.0.1:8000/report", "127.0.0.1:8000"),
        ({}, {"host": "localhost:80@evil.example"}, "http://127.0.0.1:8000/report", "127.0.0.1:8000"),
        ({}, {"host": None}, "http://127.0.0.1:8000/report", "127.0.0.1:8000"),
        ({}, {"host": None, "server": ("::1", 9)}, "http://[::1]:9/report", "[::1]:9"),
        ({}, {"host": None, "server": ("10.0.0.1", 443), "scheme": "https"}, "https://10.0.0.1/report", "10.0.0.1"),
        ({}, {"host": "x", "server": None}, "http://localhost/report", "localhost"),
        ({}, {"host": "x", "server": ("/run/app.sock", None)}, "http://localhost/report", "localhost"),
        ({"public_url": "https://x.example"}, {"host": "evil"}, "https://x.example/report", "x.example"),
        ({"public_url": "https://x.example/v1/"}, {}, "https://x.example/v1/report", "x.example"),
        ({"realm": "the shop"}, {}, "http://localhost/report", "the shop"),
    ],
)
async def test_resource_and_realm(settings: dict[str, Any], scope: dict[str, Any], url: str, realm: str) -> None:
    """They come from the configuration; `Host` is believed on loopback only."""
    house = House(**settings)
    answer = await house.visit(**scope)
    v2, mpp = read_402(answer, V2), read_402(answer, MPP)
    assert v2.required is not None
    assert mpp.challenge is not None
    assert v2.required.resource == {"url": url}
    assert answer.json()["accepts"][0]["resource"] == url
    assert mpp.challenge.realm == realm


async def test_query_is_no_part_of_the_resource() -> None:
    """A query may hold secrets, and pays for the same thing."""
    house = House()
    scope = scope_of("GET", "/report")
    answer = await house.visit(query_string=b"token=hunter2")
    assert scope["raw_path"] == b"/report"
    assert "hunter2" not in answer.text_of_everything


async def test_settlement_is_in_the_scope_only_once_the_money_moved() -> None:
    """Under `first` the application finds both; under `on_success` it finds the payment."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((payment_of(scope), settlement_of(scope)))
        for message in [{"type": "http.response.start", "status": 200}, {"type": "http.response.body"}]:
            await send(message)

    for policy in ("on_success", "first"):
        await House(handler=app, settle=policy).pay(MPP)
    (payment, none), (_, settlement) = seen
    assert (payment.protocol, none) == (MPP, None)
    assert settlement.payer == PAYER.address


def test_httpx_agrees_on_what_a_path_is() -> None:
    """The harness decodes a path as servers do."""
    assert httpx.URL("http://x/re%70ort%2F").path == "/report/"
