"""Known secrets are fed through what stands around the gate: gateway, client, commands, spans, metrics, databases."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bridge import config as config_module
from bridge.analytics import EventStore, Recorder
from bridge.check.network import Network, Request
from bridge.check.paying import Purse
from bridge.cli import main
from bridge.client import Ledger, PaymentAuth, Policy, Wallet, outcome_of
from bridge.client.signers import CommandSigner, KeySigner, RpcSigner
from bridge.config import ConfigError
from bridge.gateway.app import Gateway
from bridge.gateway.config import GatewayConfig
from bridge.stores import MemoryStore
from bridge.tracing import OpenTelemetry
from tests.bridge.client.shop import URL, Script, a_402, credential_of
from tests.bridge.gateway import lab as gateways
from tests.bridge.gateway.lab import Server, lab
from tests.bridge.gateway.test_outcomes import answering, refusing
from tests.bridge.harness import PROTOCOLS, House
from tests.bridge.test_secrets import ALWAYS, PATHS, Net, net, secrets_in
from translators.payment import Protocol

__all__ = ["net"]
"""A fixture, which pytest finds by its name here."""

pytestmark = pytest.mark.anyio

PASSWORD = "hunter2-in-a-url"
PAYER_KEY = "a payer key of the tests"


def everything_in(folder: Path) -> str:
    """What files and databases hold, as it stands there and as hexadecimal: a blob may hold it as bytes."""
    content = b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())
    return content.decode("latin-1") + content.hex()


def assert_none(header: tuple[str, str], text: str, *more: str) -> None:
    for secret in (*ALWAYS, *secrets_in([header]), PASSWORD, PAYER_KEY, *more):
        assert secret not in text


async def settle_and_lose(server: Server, scope: Any, receive: Any, send: Any) -> None:
    server.receipt()
    send.__self__.transport.abort()


async def quoting(server: Server, scope: Any, receive: Any, send: Any) -> None:
    """An upstream that says what it was given, where a reason belongs."""
    given = next(value for name, value in server.last.headers if name in ("x-payment", "payment-signature"))
    server.headers_402 = server.receipt(success=False, reason=f"cannot settle {given}")
    await server.ask(scope, send, f"cannot settle {given}")


UPSTREAMS: dict[str, Any] = {
    "serves": None,
    "breaks": answering(500),
    "refuses": refusing("insufficient_funds", receipt=True),
    "is silent": settle_and_lose,
    "settles and refuses": refusing("unexpected_settle_error", receipt=True, settles=True),
    "quotes": quoting,
}


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_no_secret_comes_out_of_a_gateway(
    client: Protocol, version: int, upstream: str, net: Net, tmp_path: Path
) -> None:
    """Translated or as it came: in logs, events, the event store, metrics, the journal and what reports read."""
    settings = {
        "store": MemoryStore(),
        "events": f"sqlite:{tmp_path / 'events.sqlite3'}",
        "payer_key": PAYER_KEY,
        "metrics_path": "/metrics",
        "rpc_url": None,
    }
    async with lab(Server([version], paid=UPSTREAMS[upstream]), **settings) as at:
        header = await at.credential(client)
        for _ in range(2):
            await at.client.get("/report?api_key=hunter2", headers={header[0]: header[1], "cookie": "a=hunter2"})
        doubled = [header, (header[0], header[1][:-8] + "AAAAAAAA")]
        await at.client.get("/report", headers=doubled)
        page = (await at.client.get("/metrics")).text
        assert at.gateway._parts.recorder is not None
        at.gateway._parts.recorder.flush()
        kept = repr(vars(at.store)) + repr(at.gateway.config) + repr(at.gateway)
        kept += "".join(repr(part) for name, part in vars(at.gateway._parts).items() if name != "keys")
        text = page + repr(at.told) + net.caught + kept
    assert "payment." in net.caught
    report = "".join(
        CliRunner().invoke(main, ["report", "--events", settings["events"], *more], catch_exceptions=False).output
        for more in (["--exact"], ["--format", "json"], ["journeys"], ["clients"])
    )
    assert "GET /report" in report or client.value in report
    files = everything_in(tmp_path)
    # What the upstream says in its answer is its own; in the receipt that is kept with it, too.
    assert_none(header, text + files + report, gateways.KEY)
    # The client of this test tells what it asks for.
    logged = "".join(line for line in net.caught.splitlines() if not line.startswith("HTTP Request: "))
    assert "hunter2" not in repr(at.told) + logged + files + page


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("path", PATHS)
async def test_no_secret_in_spans_metrics_and_events(
    protocol: Protocol, path: str, net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the settler, the handler and the store do; with payers in clear and by their hash."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(config_module, "OpenTelemetry", lambda: OpenTelemetry(provider))
    kept = [
        EventStore(url=f"sqlite:{tmp_path / name}.sqlite3", payer_key=key)
        for name, key in (("clear", None), ("hashed", PAYER_KEY))
    ]
    recorders = [Recorder(settings) for settings in kept]
    house = House(tracing=True, metrics_path="/metrics")
    for recorder in recorders:
        recorder.start()
    PATHS[path](house)
    header = await house.credential(protocol)
    try:
        for _ in range(2):
            await house.visit(headers=[header])
    except ZeroDivisionError:
        pass
    for event, fields in house.told:
        for recorder in recorders:
            recorder(event, fields)
    for recorder in recorders:
        recorder.close()
    spans = "".join(span.to_json() for span in exporter.get_finished_spans())
    page = (await house.visit("GET", "/metrics")).text
    assert "payment.verify" in spans
    files = everything_in(tmp_path)
    assert "sqlite" in files.lower()
    assert_none(header, spans + page + files + net.caught + repr(kept) + repr(recorders))
    hashed = (tmp_path / "hashed.sqlite3").read_bytes()
    assert json.loads(json.dumps(house.told, default=str))
    assert ALWAYS[2].encode() not in hashed


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("answer", [200, 402, 500, 503, 0])
async def test_no_secret_of_a_payer_is_kept(protocol: Protocol, answer: int, net: Net, tmp_path: Path) -> None:
    """The ledger, what is told while it pays, the outcome, and what is logged: no key, signature or credential."""
    asked = await a_402(protocols=[protocol])
    sent: list[tuple[str, str]] = []

    def reply(request: httpx.Request, _: int) -> httpx.Response:
        value = credential_of(request)
        if value is None:
            return httpx.Response(402, headers=asked.headers.multi_items(), content=asked.content)
        sent.append((next(name for name, found in request.headers.items() if found == value), value))
        if not answer:
            raise httpx.ReadError("reset")
        return httpx.Response(answer, headers=asked.headers.multi_items() if answer == 402 else {})

    told: list[Any] = []
    wallet = Wallet(
        KeySigner(ALWAYS[2]),
        Policy(max_amount="1"),
        ledger=Ledger(tmp_path / "ledger.sqlite3"),
        rpc_url=None,
        on_progress=told.append,
        patience=0.0,
        clock=lambda: 1_900_000_000.0,
    )
    said = ""
    async with httpx.AsyncClient(transport=Script(reply), auth=PaymentAuth(wallet)) as client:
        try:
            response = await client.get(URL + "?api_key=hunter2")
            said = repr(outcome_of(response)) + repr(response.request.headers) + repr(response.request)
        except httpx.ReadError as error:
            said = repr(error) + repr(error.request.headers)
    files = everything_in(tmp_path)
    (tmp_path / "closed").touch()
    wallet.ledger.close()
    assert sent
    everything = said + repr([(p.step, p.asked, p.seconds, p.outcome) for p in told]) + repr(wallet) + files
    assert_none(sent[0], everything + everything_in(tmp_path) + net.caught)
    assert "hunter2" not in files + everything_in(tmp_path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_decode_shows_no_signature_unasked(protocol: Protocol) -> None:
    """As a bare value, in a dump of curl, for a person and as JSON; a bearer token beside it neither."""
    header = await House().credential(protocol)
    dump = f"> GET / HTTP/1.1\n> Authorization: Bearer hunter2-hunter2\n> {header[0]}: {header[1]}\n>\n"
    for form in ([], ["--json"]):
        for paste in (header[1], f"{header[0]}: {header[1]}", dump):
            ran = CliRunner().invoke(main, ["decode", *form], input=paste)
            assert "0x" in ran.output, ran.output
            assert_none(header, ran.output)
            assert "hunter2" not in ran.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["levers", "--at", "{url}", "show"],
        ["levers", "--at", "{url}", "set", "x402-v1", "off"],
        ["report", "--events", "{url}"],
        ["payments", "list", "--store", "{url}"],
        ["payments", "migrate", "--store", "{url}"],
    ],
)
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ann:{PASSWORD}@127.0.0.1:9/shop?timeout=1",
        f"redis://ann:{PASSWORD}@127.0.0.1:9/0?timeout=1",
        f"postgresql://ann:{PASSWORD}%@127.0.0.1:9/shop?timeout=1",
        f"postgresql://ann:{PASSWORD}@[bad/shop",
        f"postgresql://ann:{PASSWORD}@127.0.0.1:port/shop",
        f"mysql://ann:{PASSWORD}@127.0.0.1/shop",
    ],
)
def test_a_password_in_a_url_is_not_told(arguments: list[str], url: str) -> None:
    """By a command that cannot reach its database, or cannot read the URL."""
    ran = CliRunner().invoke(main, [argument.replace("{url}", url) for argument in arguments])
    assert ran.exit_code != 0
    assert isinstance(ran.exception, SystemExit), repr(ran.exception)
    assert PASSWORD not in ran.output


@pytest.mark.parametrize("command", ["check", "pay"])
def test_a_header_that_is_mistaken_is_not_quoted(command: str) -> None:
    """It may hold a token; and a log of CI keeps what is printed."""
    ran = CliRunner().invoke(main, [command, "http://127.0.0.1:9/", "--header", "Authorization Bearer hunter2"])
    assert ran.exit_code == 2
    assert "hunter2" not in ran.output


def test_reprs_of_what_pays() -> None:
    """What ends up in a traceback or a debugger's log shows no key and no URL of a node."""
    key, node = ALWAYS[2], f"https://node.example/{PASSWORD}"
    address = "0x" + "11" * 20
    signer = KeySigner(key)
    things: list[Any] = [signer, CommandSigner(["sign"], address), RpcSigner(node, address), Purse(key, "0.10")]
    wallet = Wallet(signer, Policy(max_amount="1"), rpc_url=node)
    things += [wallet, wallet.chain, PaymentAuth(wallet), Network(timeout_seconds=1), Request("http://a/", "GET")]
    shown = "".join(map(repr, things)) + "".join(map(str, things))
    assert key[2:] not in shown
    assert PASSWORD not in shown


@pytest.mark.parametrize(
    "settings",
    [
        {"upstreams": {"/": f"http://ann:{PASSWORD}@shop"}},
        {"upstreams": {"/": f"ftp://ann:{PASSWORD}@shop"}},
        {"upstreams": {"/": f"http://shop/?key={PASSWORD}"}},
        {"public_url": f"https://ann:{PASSWORD}@shop"},
        {"store": f"mysql://ann:{PASSWORD}@shop/x"},
        {"secret_keys": (PASSWORD,)},
        {"payer_key": PASSWORD[:7], "events": "sqlite:events.sqlite3"},
    ],
)
def test_a_gateways_setting_that_cannot_work_is_not_quoted(settings: dict[str, Any]) -> None:
    """What does not belong into a URL may be a password, and the error is logged by whatever starts a gateway."""
    with pytest.raises(ConfigError) as refused:
        Gateway(GatewayConfig(**({"upstreams": {"/": "http://127.0.0.1:9"}, "events": None} | settings)))
    assert PASSWORD[:7] not in str(refused.value)
