"""`x402-mpp levers`: the steps of an owner, each checked before it is written, each to be taken back."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from litestar import get

from bridge.cli import main
from bridge.litestar import PaymentConfig, PaymentPlugin
from translators.levers_toml import parse_document

PAGE = "https://api.example.com/moving"


class Owner:
    """Somebody at a terminal, with a file of levers."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "levers.toml"
        self.file.write_text("# mine\n")
        self.plan = folder / "plan.toml"

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["levers", "--at", str(self.file), *arguments])

    def says(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def is_told(self, *arguments: str) -> str:
        before = self.file.read_text()
        result = self.run(*arguments)
        assert result.exit_code in (1, 2)
        assert self.file.read_text() == before
        return result.stderr

    def stages(self) -> dict[tuple[str, str], str]:
        rows = [json.loads(line) for line in self.says("show", "--json").splitlines()]
        return {(row["route"], row["protocol"]): row["stage"] for row in rows}


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return Owner(tmp_path)


def test_every_stage_is_set_and_taken_back(owner: Owner) -> None:
    """Each step shows what it came to; comments and history stay."""
    steps: list[tuple[str, ...]] = [
        ("canary", "--share", "10%"),
        ("canary", "--share", "20%", "--header", "X-Try", "--by-header", "X-Customer"),
        ("canary", "--share", "20%", "--by-payer"),
        ("on",),
        ("preferred",),
        ("deprecated", "--sunset", "2040-03-01", "--refused-from", "2040-04-01", "--migration", PAGE),
        (
            "brownout",
            "--brownout",
            "2039-03-01T10:00:00Z/2039-03-01T11:00:00+00:00",
            "--brownout",
            "2039-04-01/2039-04-02",
        ),
        ("refused",),
        ("off",),
    ]
    shown = []
    for stage, *options in steps:
        said = owner.says("set", "mpp", stage, *options, "--by", "olga")
        assert "*  mpp  " in said
        shown.append(owner.says("show", "--json"))
    # Until its hours have come, a brownout is a deprecation.
    assert owner.stages()["*", "mpp"] == "off"
    for before in reversed(shown[:-1]):
        owner.says("undo")
        assert owner.says("show", "--json") == before
    owner.says("undo")
    assert owner.stages()["*", "mpp"] == "on"
    assert owner.file.read_text().startswith("# mine\n")
    history = [json.loads(line) for line in owner.says("history", "--json").splitlines()]
    assert len(history) == 2 * len(steps)
    assert {change["by"] for change in history[: len(steps)]} == {"olga"}
    assert "deprecated, migration" in owner.says("history")
    assert "nothing to undo" in owner.is_told("undo")


def test_a_route_has_its_own_lever_until_it_gives_it_up(owner: Owner) -> None:
    """`inherit` is back to what every route does."""
    owner.says("set", "x402-v1", "off", "--route", "GET /report/{id}")
    assert owner.stages()["GET /report/{id}", "x402-v1"] == "off"
    assert owner.says("set", "x402-v1", "inherit", "--route", "GET /report/{id}") == (
        "GET /report/{id}  x402-v1  off -> on\n"
    )
    assert ("GET /report/{id}", "x402-v1") not in owner.stages()
    assert "Nothing is different" in owner.says("set", "x402-v1", "inherit", "--route", "GET /report/{id}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "mpp", "canary"), "nobody"),
        (("set", "mpp", "canary", "--share", "0.1"), "percentage"),
        (("set", "mpp", "on", "--share", "10%"), "belong to a canary"),
        (("set", "mpp", "on", "--by-payer"), "belong to a canary"),
        (("set", "mpp", "canary", "--header", "X-Try", "--by-payer"), "give one"),
        (("set", "mpp", "canary", "--share", "10%", "--by-payer", "--by-header", "X-Id"), "give one of"),
        (("set", "mpp", "deprecated"), "migration"),
        (("set", "mpp", "brownout", "--migration", PAGE), "announced"),
        (("set", "mpp", "brownout", "--brownout", "2039-01-01"), "slash"),
        (("set", "mpp", "deprecated", "--sunset", "soon"), "not a date"),
        (("set", "mpp", "deprecated", "--sunset", "2039-01-01T10:00:00"), "no offset"),
        (("set", "mpp", "on", "--refused-from", "2039-01-01"), "without deprecated_from"),
        (("set", "mpp", "inherit", "--share", "10%"), "nothing else"),
        (("set", "mpp", "on", "--migration", "javascript:x"), "URL"),
    ],
)
def test_a_step_that_makes_no_sense_is_not_taken(arguments: tuple[str, ...], said: str, owner: Owner) -> None:
    """The file stays as it was, and the message says why."""
    assert said in owner.is_told(*arguments)


def test_the_last_protocol_is_not_switched_off(owner: Owner) -> None:
    """The step that would leave nobody to pay is refused."""
    owner.says("set", "mpp", "off")
    owner.says("set", "x402-v1", "refused")
    assert "nobody could be sure to pay: mpp off, x402-v1 refused, x402-v2 off" in owner.is_told(
        "set", "x402-v2", "off"
    )


PLAN = f"""
migration = "{PAGE}"
shadow = ["*"]
[levers."*".x402-v1]
on_until = 2039-01-01
refused_from = 2039-02-01
brownouts = [{{ from = 2039-01-05, until = 2039-01-07, daily = "10:00-11:00" }}]
[[clients]]
product = "agentcash"
without = ["mpp"]
"""


def test_a_plan_is_checked_then_applied_then_taken_back(owner: Owner) -> None:
    """Checking changes nothing; applying is one step."""
    owner.plan.write_text(PLAN)
    before = owner.file.read_text()
    calendar = owner.says("plan", "check", str(owner.plan)).splitlines()
    assert calendar[0] == "now                   *  x402-v1  on"
    assert calendar[1] == "2039-01-01T00:00:00Z  *  x402-v1  deprecated"
    assert [line.rpartition(" ")[2] for line in calendar[2:]] == [
        *("brownout", "deprecated", "brownout", "deprecated", "refused"),
    ]
    assert owner.file.read_text() == before
    said = owner.says("plan", "apply", str(owner.plan), "--by", "olga")
    assert said == "*  x402-v1  on -> on (deprecated from 2039-01-01T00:00:00Z on)\n"
    # What was applied is what was written in the plan.
    assert parse_document(owner.file.read_text()).levers == parse_document(PLAN).levers
    owner.says("undo")
    assert parse_document(owner.file.read_text()).levers == parse_document("").levers


def test_a_plan_is_checked_on_top_of_what_there_is(owner: Owner) -> None:
    """As it will be applied: the page may stand in the file already, and what the file has counts against it."""
    owner.plan.write_text(PLAN.replace(f'migration = "{PAGE}"', ""))
    owner.says("set", "mpp", "preferred", "--migration", PAGE)
    assert owner.says("plan", "check", str(owner.plan)).splitlines()[-1].endswith("refused")
    owner.says("set", "mpp", "off")
    owner.says("set", "x402-v2", "off")
    for command in ("check", "apply"):
        assert "x402-v1" in owner.is_told("plan", command, str(owner.plan))


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("[levers", "not TOML"),
        ("", "says nothing"),
        (PLAN.replace("2039-02-01", "2038-02-01"), "refused_from is not after deprecated_from"),
        (PLAN.replace("migration", "# migration"), "migration"),
        ("[[change]]\nat = 2039-01-01", "no [[change]]"),
    ],
)
def test_a_plan_that_makes_no_sense_is_not_applied(plan: str, said: str, owner: Owner) -> None:
    """With the reason."""
    owner.plan.write_text(plan)
    assert said in owner.is_told("plan", "apply", str(owner.plan))


def test_where_the_levers_are_has_to_be_said(tmp_path: Path) -> None:
    """By option or by variable; what is not there is named."""
    runner = CliRunner()
    assert "--at" in runner.invoke(main, ["levers", "show"]).stderr
    assert "No such file" in runner.invoke(main, ["levers", "--at", str(tmp_path / "x.toml"), "show"]).stderr
    assert "holds no levers" in runner.invoke(main, ["levers", "--at", "x.json", "show"]).stderr
    (tmp_path / "x.toml").write_text("")
    found = runner.invoke(main, ["levers", "show"], env={"X402_MPP_LEVERS": str(tmp_path / "x.toml")})
    assert found.exit_code == 0


def _litestar(levers: Any) -> click.Group:
    from litestar import Litestar

    @get("/report", price="0.01", protocols=["x402-v2", "mpp"], levers={"mpp": "preferred"})
    async def report() -> str:
        return "all is well"

    cli = click.Group()
    config = PaymentConfig(
        "0x" + "11" * 20,
        "null",
        network="base",
        store="memory",
        secret_keys=["k" * 32],
        levers=levers,
        event_store=None,
    )
    plugin = PaymentPlugin(config)
    Litestar([report], plugins=[plugin], logging_config=None)
    plugin.on_cli_init(cli)
    return cli


def test_litestar_checks_against_its_own_routes(owner: Owner) -> None:
    """A route that is not there, or what would leave one of its routes without a protocol."""
    runner, cli = CliRunner(), _litestar(str(owner.file))

    def run(*arguments: str) -> Result:
        return runner.invoke(cli, ["payments", "levers", *arguments])

    assert "no such route is priced; there are GET /report" in run("set", "mpp", "off", "--route", "GET /reprot").stderr
    assert run("set", "mpp", "off", "--route", "GET /report").exit_code == 0
    assert "GET /report: nobody could be sure to pay" in run("set", "x402-v2", "off").stderr
    assert run("undo").exit_code == 0
    shown = [json.loads(line) for line in run("show", "--json").stdout.splitlines()]
    stages = {(row["route"], row["protocol"]): row["stage"] for row in shown}
    # What stands beside the price, where the file says nothing of the route.
    assert (stages["GET /report", "mpp"], stages["*", "mpp"]) == ("preferred", "on")


def test_litestar_without_a_file_says_so() -> None:
    """There is nothing to change."""
    result = CliRunner().invoke(_litestar(None), ["payments", "levers", "show"])
    assert "PaymentConfig.levers" in result.stderr
