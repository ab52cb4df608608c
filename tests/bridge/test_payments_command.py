"""`payments list|show|reconcile|migrate`: the journal by hand, alone and under Litestar."""

import asyncio
import json
import sqlite3
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from litestar import Litestar, get

from bridge.analytics import open_events
from bridge.cli import main
from bridge.litestar import PaymentConfig, PaymentPlugin
from bridge.payments import open_store, payments_group, told_to
from bridge.settlers.base import Fate, Found
from bridge.stores import store_from_url
from bridge.testing import FakeSettler
from tests.bridge.harness import RECIPIENT
from tests.bridge.stores.rows import fresh, put
from translators.lifecycle import State


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A journal with four payments in it."""
    url = f"sqlite:{tmp_path}/payments.sqlite3"

    async def fill() -> None:
        async with open_store(store_from_url(url)) as store:
            for number, state in enumerate((State.CLAIMED, State.UNKNOWN, State.SETTLED, State.DELIVERED), 1):
                await put(store, state, number)

    asyncio.run(fill())
    return url


def run(url: str, *arguments: str) -> Result:
    """`x402-mpp payments` on that journal."""
    return CliRunner().invoke(main, ["payments", "--store", url, *arguments])


def test_list(url: str) -> None:
    """A line each, in 100 columns, and what is narrowed is narrowed."""
    result = run(url, "list")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) == 5
    assert all(len(line) <= 120 for line in lines)
    assert [line.split()[0] for line in run(url, "list", "--state", "unknown").output.splitlines()[1:]] == ["unknown"]
    assert len(run(url, "list", "--limit", "2").output.splitlines()) == 3


def test_list_for_machines(url: str) -> None:
    """One JSON object a line, with every field of the journal and nothing more."""
    rows = [json.loads(line) for line in run(url, "list", "--json").output.splitlines()]
    assert len(rows) == 4
    assert set(rows[0]) == set(fresh().__struct_fields__)


def test_show(url: str) -> None:
    """By id, and by correlation id (here all have one, and the last touched is shown); what is not there is said."""
    for name, state in ((fresh(2).id, "unknown"), (fresh().correlation_id, "claimed")):
        result = run(url, "show", name)
        assert result.exit_code == 0, result.output
        assert f"state           {state}" in result.output
    missing = run(url, "show", "nothing")
    assert (missing.exit_code, missing.output.strip()) == (1, "Error: no such payment in the journal")


def test_an_empty_journal(tmp_path: Path) -> None:
    """`list` says so, and `migrate` makes the schema."""
    url = f"sqlite:{tmp_path}/new.sqlite3"
    assert run(url, "migrate").output == "The store is up to date.\n"
    with closing(sqlite3.connect(tmp_path / "new.sqlite3")) as connection:
        assert connection.execute("SELECT count(*) FROM payments").fetchone() == (0,)
    assert run(url, "list").output == "No payments.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--store", "nonsense", "list"], "names no store"),
        (["list"], "say which journal, with --store before the command"),
        (["--store", "sqlite:/nowhere/at/all.db", "list"], "cannot be opened"),
        (["--store", "memory:", "reconcile"], "--rpc-url"),
    ],
)
def test_errors(arguments: list[str], said: str) -> None:
    """One line that says what to mend, and no traceback."""
    result = CliRunner().invoke(main, ["payments", *arguments])
    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output


class Paid(FakeSettler):
    """A chain on which everything was paid."""

    async def find(self, record: Any) -> Found | None:
        return Found(Fate.PAID, 7, 1, "0x" + "ab" * 32)


def test_reconcile(url: str) -> None:
    """What was left behind is looked into and put right; a second round finds nothing."""

    @asynccontextmanager
    async def settler() -> Any:
        yield Paid()

    group = payments_group(lambda: open_store(store_from_url(url)), settler, lambda: told_to(None))
    result = CliRunner().invoke(group, ["reconcile"])
    # What other tests made of structlog decides whether its lines stand before these.
    assert result.stdout.endswith(f"settled     {fresh(2).id}\n1 looked into\n")
    assert CliRunner().invoke(group, ["reconcile"]).stdout.endswith("0 looked into\n")
    assert "0xabab..abab" in CliRunner().invoke(group, ["list", "--state", "settled"]).output


def test_under_litestar(url: str, tmp_path: Path) -> None:
    """`litestar payments` reads the application's own store, and what it finds out is in the application's reports."""

    @get("/report", price="0.01")
    async def report() -> str:
        return "the report"

    kept = f"sqlite:{tmp_path}/events.sqlite3"
    config = PaymentConfig(recipient=RECIPIENT, settler=Paid(), network="base-sepolia", store=url, event_store=kept)
    plugin = PaymentPlugin(config)
    Litestar([report], plugins=[plugin], logging_config=None)
    cli = click.Group()
    plugin.on_cli_init(cli)
    assert len(CliRunner().invoke(cli, ["payments", "list"]).output.splitlines()) == 5
    assert "1 looked into" in CliRunner().invoke(cli, ["payments", "reconcile"]).output
    with open_events(kept) as events:
        found = events.report(since=0, until=4e9).total
    assert (found.settled, found.delivered) == (1, 0)
