"""The way from x402 to MPP as the guide tells it: its commands are run, and its answers are what a client gets.

The screens of reports are held by the simulated fleet that they come from, in `examples/migration-fleet`.
"""

import asyncio
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from bridge.cli import main
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


async def _pay_at(moment: float, levers: str) -> httpx.Response:
    house = House({"GET /weather": "0.01"}, levers=parse_document(levers).levers)
    house.clock.now = BEFORE
    asked = await house.ask(V1, "GET", "/weather")
    # It has kept what it was asked for, and pays that.
    house.clock.now = moment
    return await house.visit("GET", "/weather", [envelope(sign(asked, PAYER, moment), asked)])
