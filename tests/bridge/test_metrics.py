"""What Prometheus reads: every outcome counted by protocol and route, in bounded series, on a page of its own."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from litestar import Litestar, get
from litestar.testing import AsyncTestClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from bridge.clock import system_clock
from bridge.config import ConfigError
from bridge.events import EVENTS
from bridge.litestar import PaymentConfig, PaymentPlugin
from bridge.metrics import LONGEST, MAX_REASONS, MAX_ROUTES, METRICS, OTHER, Metrics
from bridge.stores import MemoryStore
from bridge.testing import FakeSettler, ask, pay
from tests.bridge.gateway.lab import lab
from tests.bridge.harness import KEY, MPP, PAYER, PROTOCOLS, RECIPIENT, V1, V2, House, reply
from translators.errors import SettlementFailed

pytestmark = pytest.mark.anyio

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str, parse: Any = prometheus) -> Samples:
    """Every sample of a page by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


async def read(house: House) -> Samples:
    return samples((await house.visit("GET", "/metrics")).text)


def at(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


async def test_every_outcome_is_counted_by_protocol_and_route() -> None:
    """Challenge, verification, settlement and delivery in each protocol; a refusal by its reason; a kept answer."""
    house = House(metrics_path="/metrics")
    for protocol in PROTOCOLS:
        credential = await house.credential(protocol)
        assert (await house.visit(headers=[credential])).status_code == 200
        assert (await house.visit(headers=[credential])).status_code == 200  # the kept answer
    await house.visit(headers=[("PAYMENT-SIGNATURE", "bm9uc2Vuc2U=")])
    found = await read(house)
    route = "GET /report"
    for protocol in PROTOCOLS:
        for outcome in ("verified", "settled", "delivered", "replayed"):
            assert at(found, "x402_mpp_payments_total", protocol=protocol, route=route, outcome=outcome) == 1
        for metric in ("verification", "settlement", "request"):
            assert at(found, f"x402_mpp_{metric}_seconds_count", protocol=protocol, route=route) == 1
            assert 0 < at(found, f"x402_mpp_{metric}_seconds_sum", protocol=protocol, route=route) < 60
    assert at(found, "x402_mpp_payments_total", protocol="unknown", route=route, outcome="challenged") == 3
    assert at(found, "x402_mpp_payments_total", protocol=V2, route=route, outcome="rejected") == 1
    (reason,) = [dict(labels)["reason"] for name, labels in found if name == "x402_mpp_rejections_total"]
    assert reason == house.told[-1][1]["reason"]


async def test_what_went_wrong_is_counted() -> None:
    """A settlement that failed is rejected; a settled answer that failed is undelivered."""
    house = House(metrics_path="/metrics", settle="first")
    house.messages = reply(500)
    await house.pay(V1)

    def refuse(_: Any) -> None:
        raise SettlementFailed("no", reason="insufficient_funds")

    other = House(metrics_path="/metrics")
    other.settler.on_settle = refuse
    await other.pay(MPP)
    found, others = await read(house), await read(other)
    assert at(found, "x402_mpp_payments_total", protocol=V1, route="GET /report", outcome="undelivered") == 1
    where = {"protocol": MPP, "route": "GET /report"}
    assert at(others, "x402_mpp_rejections_total", **where, reason="insufficient_funds") == 1
    # Every application counts for itself.
    assert at(found, "x402_mpp_payments_total", **where, outcome="rejected") == 0


async def test_the_page_is_free_and_says_what_is_so_now() -> None:
    """Readiness by part, requests in flight, the version; both text formats; nothing for HEAD; never cached."""
    settler = FakeSettler()
    settler.problem = "no gas"
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await leave.wait()
        for message in reply():
            await send(message)

    house = House({"GET /report": "0.01", "/*": "1"}, metrics_path="/metrics", settler=settler, handler=slow)
    paying = asyncio.ensure_future(house.pay(V2))
    await entered.wait()
    answer = await house.visit("GET", "/metrics")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = samples(answer.text)
    assert at(found, "x402_mpp_ready", part="store") == 1
    assert at(found, "x402_mpp_ready", part="settler") == 0
    assert at(found, "x402_mpp_requests_in_flight") == 1
    leave.set()
    await paying
    accept = [("Accept", "application/openmetrics-text; version=1.0.0, text/plain;q=0.5")]
    answer = await house.visit("GET", "/metrics", accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert at(samples(answer.text, openmetrics), "x402_mpp_requests_in_flight") == 0
    assert (await house.visit("HEAD", "/metrics")).content == b""


async def test_in_litestar() -> None:
    """The plugin mounts the page, without a price that an application inherits."""

    @get("/report", price="0.01")
    async def report() -> str:
        return "the report"

    config = PaymentConfig(
        RECIPIENT,
        FakeSettler(),
        store=MemoryStore(),
        secret_keys=[KEY],
        metrics_path="/metrics",
        network="base",
        event_store=None,
    )
    app = Litestar([report], plugins=[PaymentPlugin(config)], opt={"price": "1"})
    async with AsyncTestClient(app) as client:
        assert (await client.get("/report")).status_code == 402
        page = await client.get("/metrics")
    assert page.status_code == 200
    labels = {"protocol": "unknown", "route": "GET /report", "outcome": "challenged"}
    assert at(samples(page.text), "x402_mpp_payments_total", **labels) == 1


async def test_without_a_path_the_page_is_the_applications() -> None:
    """Off by default."""
    assert (await House().visit("GET", "/metrics")).text == "the report"


def test_a_path_that_cannot_be_asked_for() -> None:
    """The setting says what it wants."""
    with pytest.raises(ConfigError, match="metrics_path: begin it with a slash"):
        House(metrics_path="metrics")


@pytest.mark.parametrize(
    ("setting", "module", "extra"),
    [({"metrics_path": "/metrics"}, "prometheus_client", "metrics"), ({"tracing": True}, "opentelemetry", "otel")],
)
def test_a_missing_extra_is_named(
    setting: dict[str, Any], module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At start-up, with the command that installs it; without the setting it is not missed."""
    monkeypatch.setitem(sys.modules, module, None)
    House()
    with pytest.raises(ConfigError, match=re.escape(f'pip install "x402-mpp-bridge[{extra}]"')):
        House(**setting)


def test_series_are_bounded() -> None:
    """However many routes and reasons are told, the page does not grow without end, and no count is lost."""
    metrics = Metrics()
    for number in range(MAX_ROUTES + 50):
        metrics.sink("payment.rejected", {"protocol": "mpp", "route": f"GET /{number}", "reason": "expired"})
    for number in range(MAX_REASONS + 50):
        metrics.sink("payment.rejected", {"protocol": "mpp", "route": "GET /0", "reason": f"reason_{number}"})
    metrics.sink("payment.rejected", {"protocol": "mpp", "route": "GET /0", "reason": "Said a facilitator: 0xdeadbeef"})
    found = [s for family in metrics._registry.collect() for s in family.samples if s.name.endswith("rejections_total")]
    assert len({s.labels["route"] for s in found}) == MAX_ROUTES + 1
    assert len({s.labels["reason"] for s in found}) == MAX_REASONS + 1
    assert sum(s.value for s in found) == MAX_ROUTES + 50 + MAX_REASONS + 50 + 1
    assert sum(s.value for s in found if s.labels["reason"] == OTHER) == 52


def test_a_label_is_short() -> None:
    """Before a gateway anybody can send a path of sixty thousand characters, five hundred times."""
    metrics = Metrics()
    metrics.sink("payment.rejected", {"protocol": "mpp", "route": "GET /" + "a" * 60_000, "reason": "expired"})
    found = [sample for family in metrics._registry.collect() for sample in family.samples]
    assert max(len(value) for sample in found for value in sample.labels.values()) == LONGEST


def test_every_event_of_a_payment_is_counted() -> None:
    """A new one is not forgotten here."""
    metrics = Metrics()
    for event in EVENTS:
        metrics.sink(event, {"route": "GET /", "protocol": "mpp", "outcome": "settled"})
    names = {event.partition(".")[2] for event in EVENTS if event.startswith("payment.")} - {"reconciled"}
    found = [sample for family in metrics._registry.collect() for sample in family.samples]
    assert {s.labels["outcome"] for s in found if s.name == "x402_mpp_payments_total"} == names
    assert [s.value for s in found if s.name == "x402_mpp_reconciliations_total"] == [1]


class Dropping:
    """A recorder that could not keep up."""

    dropped = 7

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        """Keep nothing."""


async def test_dropped_events_are_shown() -> None:
    """What a sink counts in `dropped`."""
    house = House(metrics_path="/metrics", sinks=[Dropping(), print])
    assert at(await read(house), "x402_mpp_events_dropped") == 7


MANY = """
import asyncio, sys
from tests.bridge.harness import House, V1
async def main():
    house = House(metrics_path="/metrics")
    await house.pay(V1)
    print((await house.visit("GET", "/metrics")).text)
asyncio.run(main())
"""


def test_several_processes_are_counted_together(tmp_path: Path) -> None:
    """With `PROMETHEUS_MULTIPROC_DIR` any process answers for all, those that have ended included."""
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pages = [
        subprocess.run([sys.executable, "-c", MANY], env=env, check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    counts = [
        at(samples(page[page.index("# HELP") :]), "x402_mpp_payments_total", **labels)
        for page in pages
        for labels in [{"protocol": "x402-v1", "route": "GET /report", "outcome": "delivered"}]
    ]
    assert counts == [1, 2]


# The dashboard


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(files("bridge").joinpath("grafana/x402-mpp.json").read_text("utf-8"))
    return loaded


def queries() -> list[str]:
    """Every PromQL expression of the dashboard's panels and variables."""
    board = dashboard()
    panels = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    variables = [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    return panels + variables


_WORD = re.compile(r"x402_mpp_\w+")
_SELECTOR = re.compile(r"(x402_mpp_\w+?)(?:_bucket|_sum|_count)?\{([^}]*)\}")
_GROUP = re.compile(r"\b(?:by|ignoring|on) \(?([\w, ]+?)\)")


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    """Every metric and label of every query is one that the page has, and every metric is shown."""
    named: set[str] = set()
    for query in queries():
        found = {re.sub(r"_(bucket|sum|count)$", "", name) for name in _WORD.findall(query)}
        assert found
        assert found <= METRICS.keys(), query
        named |= found
        known = {label for name in found for label in METRICS[name][1]} | {"le"}
        for selected in _SELECTOR.findall(query):
            asked = {part.partition("=")[0].strip(" ~!") for part in re.split(r",\s*(?=\w+[=!])", selected[1])}
            assert asked <= set(METRICS[selected[0]][1]), query
        for group in _GROUP.findall(query):
            assert {label.strip() for label in group.split(",")} <= known, query
        if variable := re.match(r"label_values\((\w+), (\w+)\)", query):
            assert variable[2] in METRICS[variable[1]][1]
        for outcome in re.findall(r'outcome="(\w+)"', query):
            assert f"payment.{outcome}" in EVENTS
    assert named == METRICS.keys()


async def test_the_page_has_what_is_promised() -> None:
    """Every metric with exactly its labels: `METRICS` is what the dashboard and the docs are held against."""
    house = House(metrics_path="/metrics")
    await house.pay(V1)
    house.config.events.emit("payment.rejected", route="GET /report", protocol="mpp", reason="expired")
    house.config.events.emit("payment.reconciled", route="GET /report", protocol="mpp", outcome="settled")
    text = (await house.visit("GET", "/metrics")).text
    suffix = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    seen: dict[str, set[str]] = {}
    for family in prometheus(text):
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            base = next((s for s in suffix[family.type] if sample.name.endswith(s)), "")
            name = sample.name if family.type != "histogram" else sample.name.removesuffix(base)
            seen.setdefault(name, set()).update(set(sample.labels) - {"le"})
            assert METRICS[name][0] == family.type
    assert seen == {name: set(labels) for name, (_, labels, _) in METRICS.items()}


def test_panels_do_not_lie_on_each_other() -> None:
    """Ids are unique, and each cell of the grid has one panel."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells
        assert max(x for x, _ in own) < 24
        cells |= own


async def test_on_a_live_server() -> None:
    """Over a socket: a payment of each protocol, and the page of the same server."""
    house = House(metrics_path="/metrics", clock=system_clock)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    # A connection waits in the socket's queue until the server takes it: nothing is polled for.
    server = uvicorn.Server(uvicorn.Config(house.app, log_level="warning", lifespan="off"))
    serving = asyncio.ensure_future(server.serve([listening]))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            for protocol in PROTOCOLS:
                asked = await ask(client, "/report", protocol)
                assert (await pay(client, "/report", asked, PAYER)).status == 200
            page = await client.get("/metrics")
    finally:
        server.should_exit = True
        await serving
    found = samples(page.text)
    for protocol in PROTOCOLS:
        where = {"protocol": protocol.value, "route": "GET /report"}
        assert at(found, "x402_mpp_payments_total", **where, outcome="delivered") == 1
    assert at(found, "x402_mpp_ready", part="store") == 1


async def test_the_gateway_has_the_same_page() -> None:
    """Before a server that nobody changes; what it passes on unread is counted like the rest."""
    async with lab(metrics_path="/metrics") as house:
        for protocol in PROTOCOLS:
            assert (await house.pay(protocol, "/report")).status_code == 200
        page = await house.client.get("/metrics")
    found = samples(page.text)
    delivered = {
        dict(labels)["protocol"]
        for (name, labels), value in found.items()
        if name == "x402_mpp_payments_total" and dict(labels)["outcome"] == "delivered" and value == 1
    }
    assert delivered == {protocol.value for protocol in PROTOCOLS}
    assert at(found, "x402_mpp_ready", part="store") == 1
