"""The Litestar plugin: where a price may stand, what runs before anything is charged, and what a handler receives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from litestar import (
    Controller,
    HttpMethod,
    Litestar,
    MediaType,
    Request,
    Response,
    Router,
    asgi,
    get,
    post,
    route,
    websocket,
)
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import (
    HTTPException,
    ImproperlyConfiguredException,
    NotAuthorizedException,
    PermissionDeniedException,
)
from litestar.handlers.base import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.response import ServerSentEvent
from litestar.static_files import create_static_files_router

from bridge.litestar import Asset, Paid, Payment, PaymentConfig, PaymentPlugin, Price, Settlement
from bridge.payers import Asked, read_402, sign
from bridge.stores import MemoryStore
from bridge.testing import FakeSettler, FixedClock
from tests.bridge.harness import (
    KEY,
    MPP,
    PAYER,
    PROTOCOLS,
    RECIPIENT,
    STRANGER,
    V1,
    V2,
    Answer,
    envelope,
    visit,
)
from translators.payment import Protocol
from translators.wire import x402_v2

pytestmark = pytest.mark.anyio

CELO_USDT = "0x48065fbbe25f71c9282ddf5e1cd6d6a887483d5e"


class Shop:
    """A Litestar application whose gate settles in memory."""

    def __init__(self, handlers: Sequence[Any], *, app: dict[str, Any] | None = None, **settings: Any) -> None:
        self.settler = FakeSettler()
        self.clock = FixedClock()
        self.told: list[tuple[str, dict[str, Any]]] = []
        known = {
            "recipient": RECIPIENT,
            "settler": self.settler,
            "event_store": None,
            "network": "base-sepolia",
            "store": MemoryStore(),
            "secret_keys": [KEY],
            "clock": self.clock,
            "sinks": [lambda event, fields: self.told.append((event, fields))],
        }
        self.plugin = PaymentPlugin(PaymentConfig(**(known | settings)))
        self.app = Litestar(list(handlers), plugins=[self.plugin], **(app or {}))

    @property
    def paid(self) -> int:
        return len(self.settler.settlements)

    async def visit(self, *args: Any, **kwargs: Any) -> Answer:
        return await visit(self.app, *args, **kwargs)

    async def ask(self, protocol: Protocol, *args: Any, **kwargs: Any) -> Asked:
        return read_402(await self.visit(*args, **kwargs), protocol)

    async def pay(
        self, path: str = "/report", method: str = "GET", protocol: Protocol = MPP, headers: Any = (), **kwargs: Any
    ) -> Answer:
        asked = await self.ask(protocol, method, path, headers, **kwargs)
        credential = envelope(sign(asked, PAYER, self.clock()), asked)
        return await self.visit(method, path, [*headers, credential], **kwargs)

    def routes(self) -> list[str]:
        return [fields["route"] for _, fields in self.told]


@get("/report", price="0.01")
async def report() -> str:
    return "the report"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("policy", ["on_success", "first"])
async def test_price_is_one_keyword(protocol: Protocol, policy: str) -> None:
    """`@get("/report", price="0.01")` is asked for and paid in every protocol."""
    shop = Shop([report], settle=policy)
    answer = await shop.pay(protocol=protocol)
    assert (answer.status_code, answer.text, shop.paid) == (200, "the report", 1)
    assert shop.settler.settlements[0].amount == 10_000


@pytest.mark.parametrize(
    ("price", "amount"),
    [
        ("0.01", 10_000),
        ("$0.01", 10_000),
        (Price("0.01"), 10_000),
        (Price(77, asset=Asset(84532, "0x" + "ab" * 20, 6, "Coin", "1")), 77),
        ((77, Asset(84532, "0x" + "ab" * 20, 6, "Coin", "1")), 77),
        ((77, "0x036CbD53842c5426634e7929541eC2318f3dCF7e"), 77),
        (Paid("0.02", recipient=STRANGER.address), 20_000),
        (lambda request: "0.03", 30_000),
    ],
)
async def test_price_is_written_in_several_ways(price: Any, amount: int) -> None:
    """Money as text, a `Price`, atomic units with their asset, a `Paid`, a function."""
    shop = Shop([get("/report", price=price)(_answer)])
    assert (await shop.ask(V2)).offer.amount == amount


async def _answer() -> str:
    return "the answer"


async def _never(request: Request[Any, Any, Any]) -> str:
    raise AssertionError("the handler ran")


async def test_controller_and_router_prices_are_inherited_and_freed() -> None:
    """A price on a Controller or Router holds for its handlers; the closest one counts; `price=None` frees one."""

    class Reports(Controller):
        path = "/reports"
        opt = {"price": "0.02"}  # noqa: RUF012

        @get("/inherited")
        async def inherited(self) -> str:
            return "inherited"

        @get("/own", price="0.03")
        async def own(self) -> str:
            return "own"

        @get("/freed", price=None)
        async def freed(self) -> str:
            return "freed"

    @get("/outer")
    async def outer() -> str:
        return "outer"

    shop = Shop([Router("/r", route_handlers=[Reports, outer], opt={"price": "0.05"})])
    asked = {path: await shop.visit(path=f"/r{path}") for path in ("/reports/inherited", "/reports/own", "/outer")}
    amounts = {path: read_402(answer, V2).offer.amount for path, answer in asked.items()}
    assert amounts == {"/reports/inherited": 20_000, "/reports/own": 30_000, "/outer": 50_000}
    assert (await shop.visit(path="/r/reports/freed")).text == "freed"
    for path in asked:
        assert (await shop.visit("OPTIONS", f"/r{path}")).status_code == 204


async def test_preflight_is_free_even_where_a_handler_takes_options_itself() -> None:
    """OPTIONS is never charged."""

    @route("/both", http_method=[HttpMethod.GET, HttpMethod.OPTIONS], price="0.01")
    async def both() -> str:
        return "both"

    shop = Shop([both])
    assert (await shop.visit("OPTIONS", "/both")).status_code == 200
    assert (await shop.visit("GET", "/both")).status_code == 402
    only = Shop([route("/only", http_method=HttpMethod.OPTIONS, price="0.01")(_answer)])
    assert (await only.visit("OPTIONS", "/only")).status_code == 200


async def test_schema_is_never_charged() -> None:
    """A price on the whole application leaves its schema, and the schema's pages, free; and describes no `payment`."""

    @get("/paid")
    async def paid(payment: Payment) -> str:
        return payment.authorization.payer

    shop = Shop([paid], app={"opt": {"price": "0.01"}})
    for path in ("/schema", "/schema/openapi.json", "/schema/swagger"):
        assert (await shop.visit(path=path)).status_code == 200, path
    assert (await shop.visit(path="/paid")).status_code == 402
    operation = (await shop.visit(path="/schema/openapi.json")).json()["paths"]["/paid"]["get"]
    assert "parameters" not in operation


# What comes before money


class Login(AbstractAuthenticationMiddleware):
    """Lets in who brings the word."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        if connection.headers.get("x-word") != "sesame":
            raise NotAuthorizedException
        return AuthenticationResult(user="ali", auth=None)


async def test_authentication_answers_before_a_402() -> None:
    """Who is not logged in hears 401, and is not asked to pay first."""
    shop = Shop([report], app={"middleware": [Login]})
    assert (await shop.visit()).status_code == 401
    assert (await shop.visit(headers=[("X-Word", "sesame")])).status_code == 402
    assert (await shop.pay(headers=[("X-Word", "sesame")])).status_code == 200


@pytest.mark.parametrize("policy", ["on_success", "first"])
async def test_guard_answers_before_any_charge(policy: str) -> None:
    """Who may not enter hears 403 with a good payment in hand, and keeps the money; guards may read the body."""
    bodies: list[bytes] = []

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        bodies.append(await connection.body())  # type: ignore[attr-defined]
        if connection.headers.get("x-vip") is None:
            raise PermissionDeniedException("not for you")

    @post("/echo", price="0.02", guards=[guard], status_code=200)
    async def echo(data: dict[str, Any]) -> dict[str, Any]:
        return data

    shop = Shop([echo], settle=policy)
    headers = [("Content-Type", "application/json"), ("X-Vip", "1")]
    asked = await shop.ask(MPP, "POST", "/echo", headers, b'{"a": 1}')
    credential = envelope(sign(asked, PAYER, shop.clock()), asked)
    refused = await shop.visit("POST", "/echo", [headers[0], credential], b'{"a": 1}')
    assert (refused.status_code, shop.paid, shop.settler.verified) == (403, 0, [])
    paid = await shop.visit("POST", "/echo", [*headers, credential], b'{"a": 1}')
    assert (paid.status_code, paid.json(), shop.paid) == (200, {"a": 1}, 1)
    assert set(bodies) == {b'{"a": 1}'}


# What a handler receives


async def test_handler_takes_the_payment() -> None:
    """`payment: Payment` is the verified payment; the money has not moved yet."""
    seen: list[Any] = []

    @get("/report", price="0.01")
    async def handler(payment: Payment) -> str:
        seen.append((payment, shop.paid))
        return "ok"

    shop = Shop([handler])
    assert (await shop.pay(protocol=V1)).status_code == 200
    ((payment, settled),) = seen
    assert (payment.protocol, payment.authorization.payer, settled) == (V1, PAYER.address, 0)


async def test_handler_that_takes_the_settlement_settles_first() -> None:
    """`settlement: Settlement` exists only once the money moved, so its route settles first."""
    seen: list[Settlement] = []

    @get("/report", price="0.01")
    async def handler(settlement: Settlement) -> str:
        seen.append(settlement)
        raise HTTPException(status_code=418)

    shop = Shop([handler])
    assert (await shop.pay()).status_code == 418
    assert seen == shop.settler.settlements


async def test_dependency_may_take_the_payment() -> None:
    """Another dependency can be built on it."""

    async def customer(payment: Payment) -> str:
        return payment.authorization.payer

    @get("/report", price="0.01", dependencies={"customer": Provide(customer)})
    async def handler(customer: str) -> str:
        return customer

    assert (await Shop([handler]).pay()).text == PAYER.address


async def test_free_request_has_no_payment() -> None:
    """A handler that is free for some takes `Payment | None`."""

    @get("/report", price=lambda request: None if request.headers.get("x-free") else "0.01")
    async def handler(payment: Payment | None) -> str:
        return payment.authorization.payer if payment else "free"

    shop = Shop([handler])
    assert (await shop.visit(headers=[("X-Free", "1")])).text == "free"
    assert (await shop.pay()).text == PAYER.address


async def test_application_may_provide_its_own_payment() -> None:
    """A name that the application has given to something else stays its own."""

    @get("/free")
    async def handler(payment: str) -> str:
        return payment

    async def mine() -> str:
        return "mine"

    shop = Shop([handler], app={"dependencies": {"payment": Provide(mine)}})
    assert (await shop.visit(path="/free")).text == "mine"


# Prices that depend on the request


async def test_price_functions() -> None:
    """Sync or async, of Litestar's own request, with path parameters, query and body; None is free."""

    def by_path(request: Request[Any, Any, Any]) -> str:
        return f"0.0{request.path_params['pages']}"

    async def by_body(request: Request[Any, Any, Any]) -> str | None:
        return (await request.json()).get("price")

    @get("/pages/{pages:int}", price=by_path)
    async def pages(pages: int) -> str:
        return f"{pages} pages"

    @post("/order", price=by_body, status_code=200)
    async def order(data: dict[str, Any]) -> dict[str, Any]:
        return data

    shop = Shop([pages, order])
    assert (await shop.ask(V2, path="/pages/7")).offer.amount == 70_000
    assert (await shop.pay("/pages/7")).text == "7 pages"
    assert set(shop.routes()) == {"GET /pages/{pages}"}
    json = [("Content-Type", "application/json")]
    paid = await shop.pay("/order", "POST", headers=json, body=b'{"price": "0.25"}')
    assert (paid.json(), shop.settler.settlements[-1].amount) == ({"price": "0.25"}, 250_000)
    free = await shop.visit("POST", "/order", json, b'{"size": 1}')
    assert (free.status_code, free.json(), shop.paid) == (200, {"size": 1}, 2)


async def test_price_of_one_request_does_not_pay_for_another() -> None:
    """A payment of a cheaper request's price is refused on a dearer one."""

    @get("/pages/{pages:int}", price=lambda request: f"0.0{request.path_params['pages']}")
    async def pages(pages: int) -> str:
        return f"{pages} pages"

    shop = Shop([pages])
    for protocol in PROTOCOLS:
        asked = await shop.ask(protocol, path="/pages/1")
        credential = envelope(sign(asked, PAYER, shop.clock()), asked)
        assert (await shop.visit(path="/pages/9", headers=[credential])).status_code == 402
    assert shop.paid == 0


async def test_price_function_that_answers_for_itself() -> None:
    """What it raises is the answer, and a price that it cannot mean is our fault, not a free answer."""

    def none_such(request: Request[Any, Any, Any]) -> str:
        raise HTTPException(status_code=404, detail="no such thing")

    shop = Shop([get("/a", price=none_such)(_never), get("/b", price=lambda _: "a cent")(_never)])
    assert (await shop.visit(path="/a")).status_code == 404
    assert (await shop.visit(path="/b")).status_code == 500


async def test_several_offers() -> None:
    """Each offer is a `WWW-Authenticate` line and an entry of both `accepts`; any of them can be paid."""
    dollars = [Price("0.01"), Price("0.02", recipient=STRANGER.address)]
    shop = Shop([get("/report", price=dollars)(_answer)])
    answer = await shop.visit()
    assert len(answer.headers.get_list("www-authenticate")) == 2
    required = x402_v2.decode_payment_required(answer.headers["payment-required"])
    assert [entry["amount"] for entry in required.accepts] == ["10000", "20000"]
    assert [entry["maxAmountRequired"] for entry in answer.json()["accepts"]] == ["10000", "20000"]
    for protocol in PROTOCOLS:
        assert (await shop.pay(protocol=protocol)).status_code == 200


async def test_route_differs_in_recipient_network_asset_policy_and_protocols() -> None:
    """What stands beside a price holds for that route."""
    handler = get(
        "/report",
        price="0.01",
        recipient=STRANGER.address,
        network="eip155:42220",
        asset=CELO_USDT,
        settle="first",
        protocols=["x402-v2"],
    )(_answer)
    shop = Shop([handler, get("/other", price="0.01")(_answer)])
    answer = await shop.visit()
    offer = read_402(answer, V2).offer
    assert (offer.recipient, offer.asset.chain_id, offer.asset.address) == (STRANGER.address, 42220, CELO_USDT)
    assert "www-authenticate" not in answer.headers
    assert "x-payment-required" not in answer.headers
    assert "accepts" not in answer.json()
    assert (await shop.ask(V2, path="/other")).offer.recipient == RECIPIENT


# Start-up


@pytest.mark.parametrize(
    "options",
    [
        {"price": "a cent"},
        {"price": 0.01},
        {"price": 1},
        {"price": True},
        {"price": "0"},
        {"price": "0.0000001"},
        {"price": []},
        {"price": ["0.01", "0.01"]},
        {"price": {"amount": "0.01"}},
        {"price": Price(5)},
        {"price": "0.01", "recipient": "0x1"},
        {"price": "0.01", "network": "atlantis"},
        {"price": "0.01", "network": 4242},
        {"price": "0.01", "asset": "0x" + "ab" * 20},
        {"price": "0.01", "settle": "later"},
        {"price": "0.01", "protocols": ["x402-v9"]},
        {"price": "0.01", "protocols": []},
        {"price": lambda request: "0.01", "recipient": "0x1"},
        {"price": lambda request: "0.01", "network": "atlantis"},
        {"price": lambda request: "0.01", "asset": "0x1"},
    ],
)
def test_bad_price_stops_the_start_with_the_handlers_name(options: dict[str, Any]) -> None:
    """What could never be charged is found when the application is made."""
    with pytest.raises(ImproperlyConfiguredException, match=r"_answer.*GET /report: "):
        Shop([get("/report", **options)(_answer)])


@pytest.mark.parametrize("price", ["0.01", Paid("0.01")])
def test_settlement_on_success_cannot_be_had(price: Any) -> None:
    """A handler that runs before the settlement cannot take it."""

    async def handler(settlement: Settlement) -> str:
        return settlement.transaction

    options = {"settle": "on_success"} if price == "0.01" else {}
    price = Paid("0.01", settle="on_success") if options == {} else price
    with pytest.raises(ImproperlyConfiguredException, match="settlement"):
        Shop([get("/report", price=price, **options)(handler)])


def test_websocket_cannot_carry_a_price() -> None:
    """It would be served for free."""

    @websocket("/ws", price="0.01")
    async def handler(socket: Any) -> None:
        pass

    with pytest.raises(ImproperlyConfiguredException, match="WebSocket"):
        Shop([handler])


# Other kinds of handler


async def test_handler_on_two_paths_and_beside_another() -> None:
    """It is charged once a request, under the path it was asked by; a handler that joins a path changes nothing."""
    handler = get(["/a", "/b/{n:int}"], price="0.01")(_answer)
    joining = post("/a", price="0.02", status_code=200)(_answer)
    shop = Shop([handler, joining])
    assert (await shop.pay("/a")).status_code == 200
    assert (await shop.pay("/b/3")).status_code == 200
    assert (await shop.pay("/a", "POST")).status_code == 200
    assert [s.amount for s in shop.settler.settlements] == [10_000, 10_000, 20_000]
    assert list(dict.fromkeys(shop.routes())) == ["GET /a", "GET /b/{n}", "POST /a"]


async def test_registered_later() -> None:
    """A handler that joins a running application is charged like the others."""
    shop = Shop([report])
    shop.app.register(get("/late", price="0.01")(_answer))
    assert (await shop.visit(path="/late")).status_code == 402
    assert (await shop.pay("/late")).status_code == 200


async def test_same_path_is_charged_in_every_spelling() -> None:
    """Litestar serves `/report/` and `//report` too."""
    shop = Shop([report])
    for path in ("/report/", "//report", "/re%70ort"):
        assert (await shop.visit(path=path)).status_code == 402, path
    assert (await shop.visit(path="/api/report", root_path="/api")).status_code == 402


async def test_mounted_asgi_application() -> None:
    """A price on a mount holds for everything below it, whatever the method, but OPTIONS."""

    @asgi("/mounted", is_mount=True, price="0.01")
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    shop = Shop([mounted])
    assert (await shop.visit("OPTIONS", "/mounted/x")).status_code == 200
    for method, path in (("GET", "/mounted/x"), ("PUT", "/mounted/x/y"), ("GET", "/mounted")):
        assert (await shop.visit(method, path)).status_code == 402
        assert (await shop.pay(path, method)).status_code == 200
    assert shop.paid == 3


async def test_challenge_of_one_mounted_path_does_not_pay_for_another() -> None:
    """MPP's challenge is for one path, also below a mount."""

    @asgi("/mounted", is_mount=True, price="0.01")
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it ran")

    shop = Shop([mounted])
    asked = await shop.ask(MPP, path="/mounted/x")
    credential = envelope(sign(asked, PAYER, shop.clock()), asked)
    assert (await shop.visit(path="/mounted/y", headers=[credential])).status_code == 402


async def test_static_files(tmp_path: Path) -> None:
    """Files can be sold; HEAD costs what GET costs."""
    (tmp_path / "song.txt").write_text("la la la")
    shop = Shop([create_static_files_router("/static", [tmp_path], opt={"price": "0.01"})])
    assert (await shop.visit(path="/static/song.txt")).status_code == 402
    assert (await shop.visit("HEAD", "/static/song.txt")).status_code == 402
    assert (await shop.pay("/static/song.txt")).text == "la la la"
    missing = await shop.pay("/static/nothing.txt")
    assert (missing.status_code, shop.paid) == (404, 1)


async def test_cached_handler_is_paid_each_time_and_keeps_no_receipt() -> None:
    """The handler runs once, everybody pays, and each gets the receipt of the own payment."""
    runs: list[int] = []

    @get("/report", price="0.01", cache=60)
    async def handler() -> str:
        runs.append(1)
        return "costly"

    shop = Shop([handler])
    first = await shop.pay(protocol=V2)
    assert (await shop.visit()).status_code == 402
    second, third = await shop.pay(protocol=V2), await shop.pay(protocol=MPP)
    assert [answer.text for answer in (first, second, third)] == ["costly"] * 3
    assert (len(runs), shop.paid) == (1, 3)
    receipts = [x402_v2.decode_settlement_response(a.headers["payment-response"]) for a in (first, second)]
    assert [r.transaction for r in receipts] == [s.transaction for s in shop.settler.settlements[:2]]
    assert "payment-response" not in third.headers


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_exceptions_cost_nothing_and_keep_their_handlers(protocol: Protocol) -> None:
    """HTTP exceptions, crashes and the application's own exception handlers answer as ever; nobody is charged."""

    def teapot(_: Request[Any, Any, Any], error: Exception) -> Response[str]:
        return Response(str(error), status_code=418, media_type=MediaType.TEXT)

    @get("/missing", price="0.01")
    async def missing() -> None:
        raise HTTPException(status_code=404, detail="not here")

    @get("/crash", price="0.01")
    async def crash() -> None:
        raise ZeroDivisionError

    @get("/teapot", price="0.01", exception_handlers={ValueError: teapot})
    async def pot() -> None:
        raise ValueError("short and stout")

    shop = Shop([missing, crash, pot])
    assert (await shop.pay("/missing", protocol=protocol)).json()["detail"] == "not here"
    assert (await shop.pay("/crash", protocol=protocol)).status_code == 500
    answer = await shop.pay("/teapot", protocol=protocol)
    assert (answer.status_code, answer.text, shop.paid) == (418, "short and stout", 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_refused_settlement_replaces_the_whole_answer(protocol: Protocol) -> None:
    """Nothing of what the handler made reaches a client whose payment failed."""
    from translators.errors import SettlementFailed

    def fail(_: Payment) -> None:
        raise SettlementFailed("reverted")

    shop = Shop([report])
    shop.settler.on_settle = fail
    answer = await shop.pay(protocol=protocol)
    assert answer.status_code == 402
    assert "the report" not in answer.text_of_everything
    assert answer.json()["detail"] == "reverted"


async def test_server_sent_events() -> None:
    """A stream is settled before its first byte and delivered after its last."""
    settled: list[int] = []

    async def events() -> Any:
        for n in range(3):
            settled.append(shop.paid)
            yield str(n)

    @get("/stream", price="0.01")
    async def stream() -> ServerSentEvent:
        return ServerSentEvent(events())

    shop = Shop([stream])
    answer = await shop.pay("/stream")
    assert (answer.text.count("data:"), shop.paid) == (3, 1)
    assert [event for event, _ in shop.told][-2:] == ["payment.settled", "payment.delivered"]


async def test_lifespan_starts_the_settler_with_every_offer() -> None:
    """Start-up asks the settler about each distinct offer, and stand-ins for prices that are functions."""
    shop = Shop([report, get("/two", price=["0.02", Price("0.03", network="base")])(_answer)])
    async with shop.app.lifespan():
        pass
    assert sorted((o.amount, o.asset.chain_id) for o in shop.settler.offers) == [
        (10_000, 84532),
        (20_000, 84532),
        (30_000, 8453),
    ]


async def test_function_prices_are_stood_in_for_on_their_own_network() -> None:
    """The settler is asked about the network that a function's prices will be on."""
    priced = get("/far", price=lambda request: "0.01", network="base", recipient=STRANGER.address)(_answer)
    shop = Shop([priced], network=4242)
    async with shop.app.lifespan():
        pass
    (offer,) = shop.settler.offers
    assert (offer.asset.chain_id, offer.recipient) == (8453, STRANGER.address)
