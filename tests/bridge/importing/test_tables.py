"""A route table as it stands comes to the same offers, and what is not as it was is said."""

import random
from typing import Any

import pytest

from bridge.asgi import PaymentMiddleware
from bridge.config import ConfigError, PaymentConfig
from bridge.importing.diff import compare, entries_of
from bridge.importing.notes import Kind, Note
from bridge.importing.paths import UnknownPattern, key_from_glob, key_from_sdk, longest_first
from bridge.importing.sources import read_any, read_x402
from bridge.importing.table import Table, build_table
from bridge.pricing import Paid
from bridge.stores import MemoryStore
from bridge.testing import FakeSettler, read_402
from tests.bridge.harness import KEY, V1, V2, reply, visit
from tests.bridge.importing.tables import (
    OTHER,
    OWN,
    PAY_TO,
    TS_V1_ROUTES,
    USDC_SEPOLIA,
    V1_CALLS,
    V2_ROUTES,
    PaymentOption,
    RouteConfig,
    entry,
    lowered,
    option,
)
from translators.wire import x402_v2

pytestmark = pytest.mark.anyio
NULL: dict[str, Any] = {"settler": "null", "event_store": None}


def listed(table: Table, key: str) -> list[dict[str, Any]]:
    return lowered(entries_of(table.offers[key]))


def said(notes: list[Note], *, kind: Kind | None = None) -> set[tuple[str, str]]:
    return {(note.route, note.what) for note in notes if kind in (None, note.kind)}


# The same offers


@pytest.mark.parametrize(("route", "entries"), V2_ROUTES)
def test_a_route_of_v2(route: Any, entries: list[dict[str, Any]]) -> None:
    """Amount, asset, recipient, network, time and domain, entry by entry and in the same order."""
    table = read_x402({"GET /report": route}, None, NULL)
    assert table.refused == {}
    assert listed(table, "GET /report") == lowered(entries)
    assert compare(table).lost == []


def test_a_whole_table_of_v2_at_once() -> None:
    """Whatever most routes have in common becomes a setting, and no offer changes by it, in any order of the routes."""
    for seed in range(10):
        shuffled = random.Random(seed).sample(V2_ROUTES, len(V2_ROUTES))
        routes = {f"GET /{number}": route for number, (route, _) in enumerate(shuffled)}
        table = read_x402(routes, None, NULL)
        for number, (_, entries) in enumerate(shuffled):
            assert listed(table, f"GET /{number}") == lowered(entries)


@pytest.mark.parametrize(("call", "listed_entry"), V1_CALLS)
def test_the_arguments_of_require_payment(call: dict[str, Any], listed_entry: dict[str, Any]) -> None:
    """Those of x402 0.2.1, whose defaults they fall back on."""
    table = read_x402({"pay_to_address": PAY_TO, "path": "/weather", **call}, None, {})
    assert listed(table, "/weather") == lowered([listed_entry])
    assert table.settings["settler"] == "facilitator:https://x402.org/facilitator"


@pytest.mark.parametrize(("route", "listed_entry"), TS_V1_ROUTES)
def test_a_route_of_x402_express(route: Any, listed_entry: dict[str, Any]) -> None:
    """A plain price, or one with its network and `config`."""
    table = build_table(read_any({"GET /weather": route}, pay_to=PAY_TO), {})
    assert listed(table, "GET /weather") == lowered([listed_entry])


def test_settings_that_are_given_win_and_change_no_offer() -> None:
    """A route that says otherwise keeps its own."""
    given = {**NULL, "network": "base", "recipient": OTHER, "max_timeout_seconds": 30}
    table = read_x402({"GET /": RouteConfig(option("$0.01"))}, None, given)
    assert table.settings.items() >= given.items()
    assert listed(table, "GET /") == lowered([entry("10000")])


# from_x402


async def asked(config: PaymentConfig, routes: Any, path: str = "/report", method: str = "GET", **request: Any) -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        for message in reply():
            await send(message)

    app = PaymentMiddleware(application, config=config, routes=routes)
    return await visit(app, method, path, **request)


def settings(**more: Any) -> dict[str, Any]:
    return {"settler": FakeSettler(), "store": MemoryStore(), "secret_keys": [KEY], "event_store": None, **more}


async def test_from_x402_serves_the_same_offers() -> None:
    """Its config and routes are what the middleware takes; v1's and MPP's clients can pay them as well."""
    config, routes, _ = PaymentConfig.from_x402(
        {"GET /report": RouteConfig(option("$0.01"), description="A report", mime_type="text/plain")}, **settings()
    )
    answer = await asked(config, routes)
    required = x402_v2.decode_payment_required(answer.headers["PAYMENT-REQUIRED"])
    assert lowered(required.accepts) == lowered([entry("10000")])
    assert required.resource["description"] == "A report"
    assert required.resource["mimeType"] == "text/plain"
    assert read_402(answer, V1).offer.amount == 10_000


async def test_a_price_that_is_a_function_is_asked_for_each_request() -> None:
    """With the members of the SDK's context, a coroutine or not, for price and recipient."""
    seen: list[Any] = []

    def price(context: Any) -> str:
        seen.append((context.method, context.path, context.route_pattern, context.adapter.get_url()))
        return "$0.02" if context.adapter.get_query_param("plan") == "pro" else "$0.01"

    async def recipient(context: Any) -> str:
        return OTHER if context.adapter.get_header("X-Partner") else PAY_TO

    route = RouteConfig(PaymentOption("exact", recipient, price, "eip155:84532", 60))
    config, routes, notes = PaymentConfig.from_x402({"GET /[name]": route}, **settings(recipient=PAY_TO))
    answer = await asked(config, routes, query_string=b"plan=pro", headers=[("X-Partner", "1")])
    required = x402_v2.decode_payment_required(answer.headers["PAYMENT-REQUIRED"])
    assert lowered(required.accepts) == lowered([entry("20000", payTo=OTHER, maxTimeoutSeconds=60)])
    assert seen == [("GET", "/report", "GET /[name]", "http://localhost/report?plan=pro")]
    assert ("GET /{name}", "price") in said(notes)


async def test_the_servers_own_facilitator_and_parsers_count() -> None:
    """`server` is the SDK's resource server, by what it looks like."""

    class Scheme:
        _money_parsers = (object(),)

        def parse_price(self, price: Any, network: str) -> Any:
            return {"amount": "42", "asset": OWN, "extra": {"name": "Own", "version": "1"}}

    class Facilitator:
        url = "https://facilitator.example"
        _auth_provider = object()

    class Server:
        _facilitator_clients = (Facilitator(),)
        _schemes = {"eip155:*": {"exact": Scheme()}}  # noqa: RUF012

    config, routes, notes = PaymentConfig.from_x402(
        {"GET /report": RouteConfig(option("$1"))}, server=Server(), store=MemoryStore(), secret_keys=[KEY]
    )
    assert config.settler == "facilitator:https://facilitator.example"
    assert ("", "facilitator") in said(notes, kind=Kind.LOST)
    answer = await asked(PaymentConfig(**settings(recipient=PAY_TO, network="base-sepolia")), routes, headers=[])
    assert read_402(answer, V2).offer.amount == 42


@pytest.mark.parametrize(
    ("routes", "problem"),
    [
        ({"GET /": RouteConfig(option("gratis"))}, "GET /: 'gratis' is not money"),
        ({"GET /": RouteConfig(option("$0"))}, "the amount is zero"),
        ({"GET /": RouteConfig(option("$0.0000001"))}, "the amount is zero"),
        ({"GET /": RouteConfig(option("$1", "eip155:999999"))}, "no token is known that '\\$1' means"),
        ({"GET /": RouteConfig([])}, "there is no way to pay"),
        ({"GET /": RouteConfig(option({"amount": "1", "asset": OWN}))}, "lacks the token's EIP-712 name"),
        ({"GET /": RouteConfig(PaymentOption("batch", PAY_TO, "$1", "eip155:8453"))}, "batch on eip155:8453"),
        ({"GET /": RouteConfig(option("$1", extra={"paymentFlow": "escrow"}))}, "paymentFlow 'escrow'"),
        ({"HEAD /": RouteConfig(option("$1"))}, "HEAD costs what GET costs"),
        ({"GET report": RouteConfig(option("$1"))}, "does not begin with a slash"),
        ({"price": "$1", "pay_to_address": PAY_TO, "path": "regex:^/a"}, "a regular expression"),
        ({"price": "$1", "pay_to_address": PAY_TO, "path": "/a?"}, "of globs only"),
        ({"price": "$1", "pay_to_address": PAY_TO, "pth": "/a"}, "require_payment takes no pth"),
        ({"GET /": "$1"}, "does not say who is paid"),
        ({"GET /": {"amount": 1}}, "this is no route table"),
        (7, "this is no route table"),
    ],
)
def test_a_route_that_cannot_be_charged_is_an_error(routes: Any, problem: str) -> None:
    """Never a route that is free."""
    with pytest.raises(ConfigError, match=problem):
        PaymentConfig.from_x402(routes, settler="null")


def test_who_settles_has_to_be_said() -> None:
    """v2's table does not name its facilitator."""
    with pytest.raises(ConfigError, match="settler: the route table does not say"):
        PaymentConfig.from_x402({"GET /": RouteConfig(option("$1"))})


# What is not as it was


def test_everything_without_a_place_is_said(logged: list[Any]) -> None:
    """By route and member; what only some ways to pay need does not take the others with it."""
    route = RouteConfig(
        [
            option("$1", extra={"paymentFlow": "upfront", "campaign": "spring"}),
            PaymentOption("upto", PAY_TO, {"amount": "5", "asset": USDC_SEPOLIA}, "eip155:84532"),
            PaymentOption("exact", "4zMMC9", "$1", "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"),
        ],
        resource="https://api.example.com/old",
        tags=["a"],
        unpaid_response_body=lambda context: None,
        extensions={"bazaar": {}, "payment-identifier": {}, "mine": {}},
        service_name="Weather",
    )
    config, routes, notes = PaymentConfig.from_x402({"GET /report": route}, **NULL)
    key = "GET /report"
    members = ["tags", "unpaid_response_body", "service_name", "accepts", "extra.campaign"]
    members += ["extensions.bazaar", "extensions.mine"]
    assert said(notes, kind=Kind.LOST) == {(key, name) for name in members}
    assert said(notes, kind=Kind.CHANGED) == {(key, "method"), (key, "resource"), (key, "extra.paymentFlow")}
    assert routes == {key: Paid("1", settle="first")}
    told = {(line["route"], line["what"]) for line in logged if line["event"] == "config.not_carried"}
    assert told == said(notes, kind=Kind.LOST)
    assert {note.says.partition(":")[0] for note in notes if note.what == "accepts"} == {
        "upto on eip155",
        "no token is known that '$1' means on solana",
    }
    assert config.network == "base-sepolia"


def test_v1s_members_without_a_place_are_said() -> None:
    """Of Python's arguments and of TypeScript's `config`."""
    call = {"price": "$1", "pay_to_address": PAY_TO, "path": ["/a", "/b/*"], "output_schema": {"x": 1}}
    notes = read_any([call, {**call, "path": "/c", "facilitator_config": {"url": "https://own.example"}}]).notes
    assert {("/a", "output_schema"), ("/b/*", "output_schema"), ("/b/*", "path"), ("", "facilitator")} <= said(notes)
    route = {
        "price": "$1",
        "network": "base",
        "config": {"inputSchema": {}, "discoverable": True, "errorMessages": {"a": 1}},
    }
    notes = read_any({"GET /": route}, pay_to=PAY_TO).notes
    assert {("GET /", "discoverable"), ("GET /", "error_messages")} <= said(notes)


def test_two_middlewares_for_one_path_are_refused() -> None:
    """A client that paid one of them was refused by the other: nobody means that."""
    call = {"price": "$1", "pay_to_address": PAY_TO, "path": "/a"}
    assert "two middlewares" in read_any([call, {**call, "price": "$2"}]).refused["/a"]


LISTED = {
    "info": {
        "input": {"type": "http", "method": "POST", "bodyType": "json", "body": {"q": "SF"}},
        "output": {"type": "json", "example": {"a": 1}},
    },
    "schema": {
        "properties": {"input": {"properties": {"body": {"properties": {"q": {"type": "string"}}, "required": ["q"]}}}}
    },
}


async def test_a_bazaar_declaration_comes_over() -> None:
    """How the route is called stands in our 402 as it did in theirs; one that says more is told to be lost."""
    route = RouteConfig(option("$1"), extensions={"bazaar": LISTED})
    config, routes, notes = PaymentConfig.from_x402({"POST /report": route}, **settings())
    assert said(notes, kind=Kind.LOST) == set()
    answer = await asked(config, routes, method="POST")
    told = x402_v2.decode_payment_required(answer.headers["PAYMENT-REQUIRED"]).extensions["bazaar"]  # type: ignore[index]
    assert told["info"] == LISTED["info"]
    assert told["schema"]["properties"]["input"]["properties"]["body"] == {
        "properties": {"q": {"type": "string"}},
        "required": ["q"],
    }
    more = {**LISTED, "info": {"input": {"type": "mcp", "tool": "search"}}}
    _, _, notes = PaymentConfig.from_x402(
        {"POST /report": RouteConfig(option("$1"), extensions={"bazaar": more})}, **settings()
    )
    assert said(notes, kind=Kind.LOST) == {("POST /report", "extensions.bazaar")}


# Patterns


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("GET /weather", "GET /weather"),
        ("get   /weather", "GET /weather"),
        ("/weather", "/weather"),
        ("* /weather", "/weather"),
        ("*", "/*"),
        ("GET /users/[id]/report", "GET /users/{id}/report"),
        ("GET /users/:id/report", "GET /users/{id}/report"),
        ("POST /api/*", "POST /api/*"),
        ("GET /a/*/b", "GET /a/*/b"),
        ("GET /[...rest]", "GET /{_rest}"),
    ],
)
def test_a_pattern_of_the_sdk(theirs: str, ours: str) -> None:
    """As our route table writes it."""
    assert key_from_sdk(theirs)[0] == ours


def test_a_pattern_that_never_matched_is_said() -> None:
    """FastAPI's braces mean nothing to the SDK: such a route was free."""
    _, notes = key_from_sdk("POST /items/{id}")
    assert "free so far" in notes[0].says


@pytest.mark.parametrize("pattern", ["OPTIONS /a", "HEAD /a", "a", "GET a", ""])
def test_a_pattern_without_a_place(pattern: str) -> None:
    """Is refused, with the reason."""
    with pytest.raises(UnknownPattern):
        key_from_sdk(pattern)


def test_globs() -> None:
    """Of v1's globs `*` is known."""
    assert key_from_glob("*")[0] == "/*"
    assert key_from_glob("/a/*/b")[0] == "/a/*/b"
    with pytest.raises(UnknownPattern):
        key_from_glob("/a/[0-9]")


def test_the_longest_of_v1s_patterns_comes_first() -> None:
    """As x402-express chooses; of two as long, the first."""
    assert longest_first(["/*", "GET /a/*", "GET /a/report", "GET /b/report"]) == [
        "GET /a/report",
        "GET /b/report",
        "GET /a/*",
        "/*",
    ]


# The diff


def test_the_diff_holds_theirs_against_our_own_402() -> None:
    """What is the same is carried; the order of ways to pay that v1 and MPP cannot carry is told."""
    permit2 = option("$2", extra={"assetTransferMethod": "permit2"})
    diff = compare(read_x402({"GET /": RouteConfig([permit2, option("$1")])}, None, NULL))
    assert len(diff.carried["GET /"]) == 2
    assert ("GET /", "order") in said(diff.changed)
    assert {("", "protocols"), ("", "body"), ("", "extensions"), ("", "path")} <= said(diff.changed)
    alone = compare(read_x402({"GET /": RouteConfig(option("$1"))}, None, {**NULL, "protocols": ["x402-v2"]}))
    assert ("", "protocols") not in said(alone.changed)
