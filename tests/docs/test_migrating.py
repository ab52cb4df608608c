"""The way from x402 to MPP as the guide tells it: its commands are run, and its answers are what a client gets.

The screens of reports are held by the simulated fleet that they come from, in `examples/migration-fleet`.
"""

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from bridge.cli import main
from bridge.testing import FixedClock
from tests.bridge.gateway.lab import Lab, Server, lab
from tests.bridge.harness import PAYER, V1, House, envelope, sign
from tests.layers import ROOT
from translators.levers_toml import parse_document

GUIDE = (ROOT / "docs" / "migrating.md").read_text("utf-8")
BEFORE = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
"""When the guide's owner sits at the terminal: before the dates of the plan."""


def file(name: str) -> str:
    """The file that the guide's reader is told to make."""
    found = re.search(rf"`{re.escape(name)}`:\n\n```text\n(.*?)```", GUIDE, re.DOTALL)
    assert found is not None, name
    return found[1]


@pytest.fixture
def at_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files, on that day."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bridge.levers.commands.system_clock", lambda: BEFORE)
    for name in ("levers.toml", "plan.toml"):
        Path(name).write_text(file(name))
    return tmp_path


def follow() -> list[tuple[str, str, str]]:
    """Each command on levers from top to bottom: the line, what the guide shows, and what it said."""
    done = []
    for block in re.findall(r"<!-- levers -->\n```console\n(.*?)```", GUIDE, re.DOTALL):
        for step in block.removeprefix("$ ").split("\n$ "):
            line, _, shown = step.partition("\n")
            result = CliRunner().invoke(main, shlex.split(line)[1:])
            done.append((line, shown.strip(), result.output.strip()))
    return done


def test_the_steps(at_the_terminal: Path) -> None:
    """Every command says what the guide shows, and each step can be taken back, to where it began."""
    done = follow()
    for line, shown, said in done:
        assert said == shown, line
    steps = sum(" set " in line or " apply " in line for line, _, _ in done)
    assert steps == 5
    for _ in range(steps):
        assert CliRunner().invoke(main, ["levers", "--at", "levers.toml", "undo"]).exit_code == 0
    text = (at_the_terminal / "levers.toml").read_text()
    assert parse_document(text).levers == parse_document(file("levers.toml")).levers


ANSWERS = re.findall(r"<!-- answer: (\S+) -->\n```text\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize(("moment", "shown"), ANSWERS, ids=[moment for moment, _ in ANSWERS])
def test_what_a_client_gets(moment: str, shown: str, at_the_terminal: Path) -> None:
    """Who pays in x402 v1 at each stage, with the levers that the guide's commands have made."""
    follow()
    answer = asyncio.run(_pay_at(datetime.fromisoformat(moment).timestamp(), Path("levers.toml").read_text()))
    told = ("deprecation", "sunset", "link", "retry-after")
    lines = [
        f"HTTP/1.1 {answer.status_code}",
        *(f"{name}: {answer.headers[name]}" for name in told if name in answer.headers),
    ]
    assert "\n".join([*lines, *([answer.text] if answer.is_error else [])]) == shown.strip()


def begin_as_the_server_was(version: int) -> None:
    """The line that is more at a gateway, and the step that takes it back."""
    other = f"x402-v{3 - version}"
    assert f'`{other} = "off"`' in GUIDE
    Path("levers.toml").write_text(f'{file("levers.toml")}{other} = "off"\n')
    assert CliRunner().invoke(main, ["levers", "--at", "levers.toml", "set", other, "on"]).exit_code == 0


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("moment", "shown"), ANSWERS, ids=[moment for moment, _ in ANSWERS])
def test_what_a_client_of_a_gateway_gets(moment: str, shown: str, version: int, at_the_terminal: Path) -> None:
    """The same, in front of a server of either version of x402 that knows nothing of it."""
    begin_as_the_server_was(version)
    follow()
    answer = asyncio.run(_pay_a_gateway_at(datetime.fromisoformat(moment).timestamp(), version))
    *lines, last = shown.strip().splitlines()
    if last[:1] != "{":
        lines, last = [*lines, last], "{}"
    assert lines[0] == f"HTTP/1.1 {answer.status_code}"
    assert [f"{line.partition(': ')[0]}: {answer.headers[line.partition(': ')[0]]}" for line in lines[1:]] == lines[1:]
    assert json.loads(last).items() <= (answer.json().items() if answer.is_error else {}.items())


def test_what_a_gateway_asks_for_in_the_end(at_the_terminal: Path) -> None:
    """An unpaid request, in front of a server whose own version is refused by then."""
    ((moment, shown),) = re.findall(r"<!-- gateway: (\S+) -->\n```text\n(.*?)```", GUIDE, re.DOTALL)
    begin_as_the_server_was(1)
    follow()
    answer = asyncio.run(_ask_a_gateway_at(datetime.fromisoformat(moment).timestamp()))
    _, status, *headers, body = shown.strip().splitlines()
    assert status == f"HTTP/1.1 {answer.status_code}"
    for line in headers:
        name, _, value = line.partition(": ")
        assert answer.headers[name].startswith(value.removesuffix("..."))
    assert "x-payment-required" not in answer.headers
    assert json.loads(body).items() <= answer.json().items()


@asynccontextmanager
async def _gateway(version: int) -> AsyncIterator[tuple[Lab, FixedClock]]:
    clock = FixedClock(BEFORE)
    server = Server([version])
    server.clock = clock
    async with lab(server, levers="levers.toml", levers_seconds=3600.0, clock=clock) as at:
        yield at, clock


async def _pay_a_gateway_at(moment: float, version: int) -> httpx.Response:
    async with _gateway(version) as (at, clock):
        asked = await at.ask(V1, "/weather")
        clock.now = moment
        return await at.client.get("/weather", headers=[envelope(sign(asked, PAYER, moment), asked)])


async def _ask_a_gateway_at(moment: float) -> httpx.Response:
    async with _gateway(1) as (at, clock):
        clock.now = moment
        return await at.client.get("/weather")


async def _pay_at(moment: float, levers: str) -> httpx.Response:
    house = House({"GET /weather": "0.01"}, levers=parse_document(levers).levers)
    house.clock.now = BEFORE
    asked = await house.ask(V1, "GET", "/weather")
    # It has kept what it was asked for, and pays that.
    house.clock.now = moment
    return await house.visit("GET", "/weather", [envelope(sign(asked, PAYER, moment), asked)])
