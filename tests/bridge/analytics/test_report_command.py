"""`x402-mpp report` and `litestar payments report`: tables, JSON and CSV of the same figures, of a real server too."""

import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import click
import httpx
import msgspec
import pytest
from click.testing import CliRunner, Result

from bridge.analytics import BREAKDOWNS, open_events
from bridge.cli import main
from bridge.demo.accounts import PAYERS
from bridge.litestar import PaymentConfig, PaymentPlugin
from bridge.testing import ask, pay
from tests.bridge.analytics.conftest import write
from tests.bridge.analytics.samples import DAY, START, TOKEN, Event, challenged, paid, rejected
from tests.bridge.harness import RECIPIENT
from translators.payment import Protocol

COMMANDS: list[tuple[str, ...]] = [(), ("shares",), ("journeys",), ("clients",), ("marks",)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty payments by four payers over ten days, with long names, and some that fail."""
    events: list[Event] = []
    for n in range(40):
        at, protocol, payer = START + n * DAY / 4, ("x402-v1", "x402-v2", "mpp")[n % 3], f"0x{n % 4:040x}"
        own = {
            "route": f"GET /a/rather/long/path/for/a/table/{n % 3}",
            "agent": f"a-client-with-a-long-name-{n % 4}/1.2",
        }
        events += [challenged(at, **own), *paid(at, f"p{n}", payer, protocol, **own)]
        events += [rejected(at, protocol, "insufficient_funds", "verify", **own)]
        events += [(at, "lever.changed", {"route": "*", "protocol": protocol, "after": "deprecated", "by": "ann"})]
    path = str(tmp_path_factory.mktemp("events") / "events.sqlite3")
    write(path, events)
    return path


def run(path: str, *arguments: str) -> Result:
    result = CliRunner().invoke(main, ["report", "--events", path, *arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("command", COMMANDS)
def test_tables_fit_into_80_columns(command: tuple[str, ...], path: str) -> None:
    """And say something."""
    lines = run(path, *command).output.splitlines()
    assert len(lines) > 2 or command == ("clients",)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("by", BREAKDOWNS)
def test_breakdowns_fit_as_well(by: str, path: str) -> None:
    """Names give way, figures do not."""
    lines = run(path, "--by", by).output.splitlines()
    assert max(map(len, lines)) <= 80
    groups = json.loads(run(path, "--by", by, "--format", "json").output)["groups"]
    assert sum(group["delivered"] for group in groups.values()) == 40


@pytest.mark.parametrize("command", COMMANDS)
def test_the_other_formats(command: tuple[str, ...], path: str) -> None:
    """JSON parses, and CSV has rows as long as its head."""
    assert json.loads(run(path, *command, "--format", "json").output) is not None
    rows = list(csv.reader(io.StringIO(run(path, *command, "--format", "csv").output)))
    assert {len(row) for row in rows} == {len(rows[0])}
    # Options may stand before the command, too.
    assert run(path, "--format", "csv", *command).output == run(path, *command, "--format", "csv").output


def test_the_same_as_in_python(path: str) -> None:
    """All that is recorded, where no span is said."""
    with open_events(path) as events:
        span = events.recorded()
        assert span is not None
        found = events.report(since=span.since, until=span.until)
    told = json.loads(run(path, "--format", "json").output)
    assert told == msgspec.to_builtins(found)
    assert told["protocols"]["x402-v1"]["revenue"] == {TOKEN: "140000"}
    assert (told["total"]["settled"], told["total"]["payers"]) == (40, 4)


def test_a_cell_is_no_formula(tmp_path: Path) -> None:
    """A client's name that a spreadsheet would run is kept from that."""
    path = str(tmp_path / "events.sqlite3")
    write(path, paid(START, "p", "0x01", "mpp", route="=cmd|' /C calc'!A0"))
    text = run(path, "--by", "route", "--format", "csv").output
    assert "'=cmd" in text
    assert ",=cmd" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "yesterday"], "no moment"),
        (["--window", "soon"], "no length of time"),
        (["--since", "2026-01-01", "--window", "3d"], "not both"),
        (["--by", "payer"], "payer"),
        (["shares", "--step", "often"], "no length of time"),
    ],
)
def test_what_cannot_be_asked(arguments: list[str], message: str, path: str) -> None:
    """A sentence, and no traceback."""
    result = CliRunner().invoke(main, ["report", "--events", path, *arguments])
    assert result.exit_code in (1, 2)
    assert message in result.output


def test_no_events(tmp_path: Path) -> None:
    """A file that is not there is said, and is not made; one that is no store is said as well."""
    missing = tmp_path / "none.sqlite3"
    result = CliRunner().invoke(main, ["report", "--events", str(missing)])
    assert (result.exit_code, missing.exists()) == (1, False)
    assert "there are no events" in result.output
    other = tmp_path / "other.sqlite3"
    other.write_bytes(b"something else" * 100)
    assert CliRunner().invoke(main, ["report", "--events", str(other)]).exit_code == 1


def test_under_litestar(path: str) -> None:
    """`litestar payments report` reads the application's own store."""
    cli = click.Group()
    config = PaymentConfig(RECIPIENT, "null", store="memory", secret_keys=["k" * 32], event_store=path)
    PaymentPlugin(config).on_cli_init(cli)
    told = CliRunner().invoke(cli, ["payments", "report", "--format", "json"])
    assert json.loads(told.output) == json.loads(run(path, "--format", "json").output)
    assert CliRunner().invoke(cli, ["payments", "report", "readiness", "--protocol", "mpp"]).exit_code == 0


async def _pay_everything(url: str) -> dict[str, dict[str, Any]]:
    """Pay in every protocol, and keep books: what was asked, paid, delivered and refused."""
    books: dict[str, dict[str, Any]] = {}
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        for protocol in Protocol:
            own = books[protocol.value] = {"delivered": 0, "failed": 0, "revenue": 0, "payers": set()}
            for payer in PAYERS[:2]:
                for path, price in (("/weather", 10_000), ("/dear", 50_000)):
                    paid = await pay(client, path, await ask(client, path, protocol), payer)
                    assert paid.status == 200
                    own["delivered"] += 1
                    own["revenue"] += price
                    own["payers"].add(payer.address)
            refused = await pay(client, "/fails", await ask(client, "/fails", protocol), PAYERS[0])
            assert refused.status == 500
            own["failed"] += 1
    return books


async def _both_noted(events: str) -> list[dict[str, Any]]:
    """How the two processes do; the server is ready as soon as one of them is, and the other may still be starting."""
    deadline = time.monotonic() + 20
    while True:
        health: list[dict[str, Any]] = json.loads(run(events, "health", "--format", "json").output)
        if len(health) >= 2 or time.monotonic() > deadline:
            return health
        await anyio.sleep(0.1)


@pytest.mark.anyio
async def test_a_real_server(tmp_path: Path) -> None:
    """The report of a demo server, on a chain and in two processes, equals what was paid to it."""
    events = tmp_path / "events.sqlite3"
    command = [sys.executable, "-c", "from bridge.cli import main; main()", "demo", "--serve", "--json"]
    command += ["--events", str(events), "--store", f"sqlite:{tmp_path}/payments.sqlite3", "--workers", "2"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: ASYNC220
    assert server.stdout is not None
    try:
        ready = json.loads(server.stdout.readline())
        books = await _pay_everything(ready["url"])
        health = await _both_noted(str(events))
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
        server.stdout.close()
    # Each of the two processes; both are known to have ended as they should.
    assert len({worker["name"] for worker in health}) == 2
    assert {part["state"] for worker in health for part in worker["parts"]} == {"ok"}
    assert not any(worker["silent"] for worker in health)
    assert run(str(events), "health").output == "No server has noted how it does.\n"
    told = json.loads(run(str(events), "--format", "json").output)
    token = ready["token"]["address"].lower()
    for protocol, own in books.items():
        found = told["protocols"][protocol]
        assert found["challenged"] == 15
        assert found["attempted"] == own["delivered"] + own["failed"]
        assert (found["delivered"], found["failed"]) == (own["delivered"], own["failed"])
        assert found["payers"] == len(own["payers"])
        assert found["revenue"] == {token: str(own["revenue"])}
    assert told["dropped"] == 0
