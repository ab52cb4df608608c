"""The gateway's OpenAPI document: the upstream's own, with what MPP clients pay and servers that they reach."""

import gzip
import json
from typing import Any

import jsonschema
import pytest

from tests.bridge.gateway.lab import Server, gateway_before, lab, running
from tests.translators.test_discovery import PAYMENT_INFO
from translators.discovery import relocate

pytestmark = pytest.mark.anyio


def operation(**more: Any) -> dict[str, Any]:
    return {"responses": {"200": {"description": "ok"}}, **more}


def document(**more: Any) -> dict[str, Any]:
    declared = operation(responses={"402": {"description": "Pay first"}})
    return {
        "openapi": "3.0.3",
        "info": {"title": "Upstream", "version": "7"},
        "paths": {
            "/report": {"get": declared},
            "/items/{id}": {"get": operation()},
            "/orders": {"post": operation()},
            "/free": {"get": operation()},
        },
        **more,
    }


def serving(
    given: Any, *, kind: bytes = b"application/json", headers: list[tuple[bytes, bytes]] | None = None
) -> Server:
    content = given if isinstance(given, bytes) else json.dumps(given).encode()
    server = Server()

    async def reply(_: Server, scope: Any, receive: Any, send: Any) -> None:
        named = [(b"content-type", kind), (b"content-length", str(len(content)).encode()), (b"etag", b'"1"')]
        await send({"type": "http.response.start", "status": 200, "headers": named + (headers or [])})
        await send({"type": "http.response.body", "body": content})

    server.free["/openapi.json"] = reply
    return server


async def test_what_a_document_declares_to_be_paid_has_its_price() -> None:
    """Asked of the upstream where nobody has asked yet; what it declares itself stays."""
    server = serving(document())
    async with lab(server) as at:
        answer = await at.client.get("/openapi.json", headers={"if-none-match": '"1"'})
        made = answer.json()
        again = (await at.client.get("/openapi.json")).json()
    info = made["paths"]["/report"]["get"]["x-payment-info"]
    jsonschema.validate(info, PAYMENT_INFO)
    assert (info["offers"][0]["amount"], made["info"]["title"]) == ("10000", "Upstream")
    assert made["paths"]["/report"]["get"]["responses"]["402"] == {"description": "Pay first"}
    assert "etag" not in answer.headers
    assert again == made
    asked = [seen.target for seen in server.seen]
    assert (asked.count("/report"), asked.count("/orders"), asked.count("/free")) == (1, 0, 0)
    assert server.seen[0].header("if-none-match") is None


async def test_what_was_seen_to_cost_is_told_without_being_declared() -> None:
    """By the path's template; and a POST is never asked for on its own."""
    server = serving(document())
    async with lab(server) as at:
        await at.client.get("/items/7")
        await at.client.post("/orders", json={})
        made = (await at.client.get("/openapi.json")).json()
    assert "x-payment-info" in made["paths"]["/items/{id}"]["get"]
    assert made["paths"]["/orders"]["post"]["responses"]["402"]["description"] == "Payment Required"
    assert "x-payment-info" not in made["paths"]["/free"]["get"]


@pytest.mark.parametrize(
    ("headers", "told"),
    [([], "max-age=60"), ([(b"cache-control", b"no-cache")], "no-cache")],
)
async def test_a_document_with_prices_says_how_long_it_is_good(headers: list[tuple[bytes, bytes]], told: str) -> None:
    """As the upstream says, or a minute (draft-payment-discovery-00, section "Caching")."""
    async with lab(serving(document(), headers=headers)) as at:
        assert (await at.client.get("/openapi.json")).headers.get_list("cache-control") == [told]


async def test_the_servers_of_a_document_are_where_clients_reach_them() -> None:
    """Behind a prefix, and an upstream that names itself."""
    server = serving(document())
    async with running(server, server_header=False, date_header=False) as url:
        server.url = url
        given = document(servers=[{"url": url}, {"url": "https://elsewhere.example"}])
        server.free["/openapi.json"] = serving(given).free["/openapi.json"]
        async with gateway_before({"/api": f"{url}/"}, server) as at:
            made = (await at.client.get("/api/openapi.json")).json()
            assert (await at.client.get("/api/report")).status_code == 402
            assert [one["url"] for one in made["servers"]] == [f"{at.url}/api", "https://elsewhere.example"]
    assert "x-payment-info" in made["paths"]["/report"]["get"]


@pytest.mark.parametrize(
    ("own", "given", "servers"),
    [
        ("http://up", {}, None),
        ("http://up", {"servers": [{"url": "/"}]}, ["/api"]),
        ("http://up", {"servers": [{"url": "/v1"}, {}]}, ["/api/v1", None]),
        ("http://up/x", {"servers": [{"url": "http://up/x/v1/"}]}, ["https://gate/api/v1"]),
        ("http://up", {"servers": [{"url": "http://upper"}]}, ["http://upper"]),
    ],
)
def test_servers_are_moved(own: str, given: dict[str, Any], servers: list[Any] | None) -> None:
    """Those of the upstream and those without a host; the draft's default is the document's own place."""
    made = relocate(given, own, "https://gate/api")
    assert [one.get("url") for one in made["servers"]] == (servers or ["/api"])
    assert relocate({}, "http://up", "https://gate") == {}


@pytest.mark.parametrize(
    "server",
    [
        serving(b"{not json"),
        serving([1, 2]),
        serving(b"<html>", kind=b"text/html"),
        serving({"swagger": "2.0"}),
        serving(gzip.compress(b"{}"), headers=[(b"content-encoding", b"gzip")]),
    ],
    ids=["broken", "list", "html", "swagger", "compressed all the same"],
)
async def test_anything_else_goes_on_as_it_is(server: Server) -> None:
    """An upstream may serve what it likes under that name."""
    async with lab(server) as at, at.client.stream("GET", "/openapi.json") as answer:
        assert answer.status_code == 200
        content = b"".join([part async for part in answer.aiter_raw()])
    assert len(content) == int(answer.headers["content-length"])
