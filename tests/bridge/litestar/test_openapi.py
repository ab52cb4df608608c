"""Payment in Litestar's OpenAPI document, whoever renders it, and in the documents of other frameworks."""

import base64
import json
from typing import Any, ClassVar

import jsonschema
import msgspec
import pytest
from fastapi import FastAPI
from litestar import Controller, Litestar, get, post
from litestar.exceptions import ImproperlyConfiguredException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import (
    JsonRenderPlugin,
    RapidocRenderPlugin,
    RedocRenderPlugin,
    ScalarRenderPlugin,
    StoplightRenderPlugin,
    SwaggerRenderPlugin,
    YamlRenderPlugin,
)
from litestar.testing import TestClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from bridge.asgi import PaymentMiddleware, openapi
from bridge.discovery import Discovery, ServiceInfo
from bridge.litestar import Bazaar, Paid, PaymentConfig, PaymentPlugin, PriceError
from bridge.testing import FakeSettler
from tests.bridge.harness import KEY, RECIPIENT, V2, House, visit
from tests.translators.test_discovery import PAYMENT_INFO

RENDERERS = [
    ScalarRenderPlugin(),
    JsonRenderPlugin(),
    YamlRenderPlugin(),
    SwaggerRenderPlugin(),
    RedocRenderPlugin(),
    StoplightRenderPlugin(),
    RapidocRenderPlugin(),
]


class Order(msgspec.Struct):
    city: str


@get("/report", price="0.01", summary="The report")
async def report() -> dict[str, str]:
    return {}


@post("/orders/{number:int}", price=["0.02", "0.03"])
async def order(number: int, data: Order) -> Order:
    return data


@get("/dynamic", price=lambda request: "0.01")
async def dynamic() -> str:
    return ""


@get("/old", price="0.01", protocols=["x402-v2"])
async def old() -> str:
    return ""


@get("/free")
async def free() -> str:
    return ""


class Shop(Controller):
    path = "/shop"
    opt: ClassVar = {"price": "0.05"}

    @get("/dear")
    async def dear(self) -> str:
        return ""

    @get("/gift", price=None)
    async def gift(self) -> str:
        return ""


def config() -> PaymentConfig:
    return PaymentConfig(
        RECIPIENT, FakeSettler(), network="base-sepolia", store="memory", secret_keys=[KEY], event_store=None
    )


def app(discovery: Discovery | None = None, **options: Any) -> Litestar:
    handlers = [report, order, dynamic, old, free, Shop]
    plugins = [PaymentPlugin(config(), discovery=discovery)]
    return Litestar(handlers, plugins=plugins, logging_config=None, **options)


def schema(made: Litestar) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(made.openapi_schema.to_schema()))
    return document


def test_every_paid_operation_says_its_price_and_its_402() -> None:
    """From the one price on the handler, its own or its Controller's; what is free says nothing."""
    made = schema(app())
    OpenAPIV31SpecValidator(made).validate()
    prices = {
        path: [offer["amount"] for offer in operation.get("x-payment-info", {}).get("offers", [])]
        for path, item in made["paths"].items()
        for operation in item.values()
    }
    assert prices == {
        "/report": ["10000"],
        "/orders/{number}": ["20000", "30000"],
        "/dynamic": [None],
        "/old": [],
        "/free": [],
        "/shop/dear": ["50000"],
        "/shop/gift": [],
    }
    for path, item in made["paths"].items():
        for operation in item.values():
            assert ("402" in operation["responses"]) == (path not in ("/free", "/shop/gift"))
            if "x-payment-info" in operation:
                jsonschema.validate(operation["x-payment-info"], PAYMENT_INFO)


def test_every_page_of_litestar_renders_it() -> None:
    """All its renderers, and its JSON and YAML have the prices."""
    made = app(openapi_config=OpenAPIConfig("t", "1", render_plugins=RENDERERS))
    with TestClient(made) as client:
        for renderer in RENDERERS:
            for path in renderer.paths:
                answer = client.get(f"/schema{path}")
                assert answer.status_code == 200, path
                # Some pages hold the document, and some fetch it.
                assert "x-payment-info" in answer.text or "openapi.json" in answer.text, path


def test_the_document_is_where_registries_look() -> None:
    """`/openapi.json`, free, cacheable, with what the service says of itself; and on no other application."""
    service = ServiceInfo(categories=("data",), homepage="https://example.com", llms="https://example.com/llms.txt")
    with TestClient(app(Discovery(service=service), opt={"price": "1"})) as client:
        answer = client.get("/openapi.json")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "max-age=300")
        assert answer.headers["content-type"] == "application/json"
        document = answer.json()
        assert document["x-service-info"]["categories"] == ["data"]
        assert "/openapi.json" not in document["paths"]
        assert client.get("/schema/openapi.json").json() == document
    with TestClient(app()) as client:
        assert client.get("/openapi.json").status_code == 404
        assert "x-service-info" not in client.get("/schema/openapi.json").json()


def test_discovery_needs_a_document() -> None:
    """And says so at the start."""
    with pytest.raises(ImproperlyConfiguredException, match="no OpenAPI document"):
        app(Discovery(), openapi_config=None)
    with pytest.raises(ValueError, match="slash"):
        Discovery(path="openapi.json")


def test_a_free_app_is_as_it_was() -> None:
    """No price, no word of payment."""
    made = Litestar([free], plugins=[PaymentPlugin(config())], logging_config=None)
    assert "402" not in json.dumps(schema(made))


@pytest.mark.anyio
async def test_a_fastapi_document_says_the_same() -> None:
    """By a function over the framework's own document; path parameters may have other names."""
    fastapi = FastAPI()

    @fastapi.get("/orders/{number}")
    def show(number: int) -> int:
        return number

    @fastapi.get("/free")
    def nothing() -> str:
        return ""

    settings = config()
    own = fastapi.openapi
    paid = PaymentMiddleware(fastapi, config=settings, routes={"GET /orders/{order}": "0.01", "/files/*": "0.02"})
    fastapi.openapi = lambda: openapi(settings, own())  # type: ignore[method-assign]
    document = (await visit(paid, path="/openapi.json")).json()
    OpenAPIV31SpecValidator(document).validate()
    assert document["paths"]["/orders/{number}"]["get"]["x-payment-info"]["offers"][0]["amount"] == "10000"
    assert "x-payment-info" not in document["paths"]["/free"]["get"]


def test_an_app_without_a_document_gets_one() -> None:
    """Of its priced routes."""
    house = House({"GET /orders/{id}": "0.01", "POST /orders": "0.02", "/any": "0.03", "/files/*": "0.04"})
    document = openapi(house.config, title="House", service=ServiceInfo(categories=("data",)))
    OpenAPIV31SpecValidator(document).validate()
    assert {path: list(item) for path, item in document["paths"].items()} == {
        "/orders/{id}": ["get"],
        "/orders": ["post"],
        "/any": ["get"],
    }
    assert all("x-payment-info" in op for item in document["paths"].values() for op in item.values())
    assert document["x-service-info"] == {"categories": ["data"]}


# The bazaar


def extensions(answer: Any) -> dict[str, Any]:
    required = json.loads(base64.b64decode(answer.headers["payment-required"]))
    found: dict[str, Any] = required["extensions"]
    return found


def test_routes_that_ask_for_it_are_listed_in_the_bazaar() -> None:
    """By a keyword of the handler, beside the identifier; the others are not."""

    @get("/listed", price="0.01", bazaar=Bazaar(query={"city": "Zürich"}, output={"weather": "sunny"}))
    async def listed() -> str:
        return ""

    @get("/plain", price="0.01", bazaar=True)
    async def plain() -> str:
        return ""

    made = Litestar([listed, plain, report], plugins=[PaymentPlugin(config())], logging_config=None)
    with TestClient(made) as client:
        told = extensions(client.get("/listed"))
        assert told.keys() == {"bazaar", "payment-identifier"}
        assert told["bazaar"]["info"] == {
            "input": {"type": "http", "method": "GET", "queryParams": {"city": "Zürich"}},
            "output": {"type": "json", "example": {"weather": "sunny"}},
        }
        assert extensions(client.get("/plain"))["bazaar"]["info"] == {"input": {"type": "http", "method": "GET"}}
        assert "bazaar" not in extensions(client.get("/report"))


@pytest.mark.anyio
async def test_a_payment_that_echoes_the_listing_is_taken() -> None:
    """Clients echo what they were told."""
    house = House({"GET /report": Paid("0.01", bazaar=Bazaar(output="x", output_type="text"))})
    assert (await house.pay(V2)).status_code == 200


def test_a_listing_that_says_too_little_stops_the_program() -> None:
    """A route for every method, and a body without an example."""
    for routes in ({"/report": Paid("0.01", bazaar=True)}, {"POST /report": Paid("0.01", bazaar=True)}):
        with pytest.raises(PriceError, match="bazaar"):
            House(routes)
    House({"/report": Paid("0.01", bazaar=Bazaar(method="GET"))})
