"""The fleet's sixty days: every figure of the reports is the one in the fleet's own books, and the story is told."""

import asyncio
import re
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from fleet import Outcome, main, simulate, story

from bridge.cli import main as command


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All clients and all days; once for all tests of this file."""
    events = tmp_path_factory.mktemp("fleet") / "fleet.sqlite3"
    return asyncio.run(simulate(events=str(events), days=60, visits=0.25))


def test_the_reports_are_the_books(outcome: Outcome) -> None:
    """Exactly: in all, by route, client and day, in another span, the journeys, and who would be lost on five days."""
    assert outcome.comparison.differences == []
    assert outcome.comparison.compared > 7_000
    assert len(outcome.fleet.clients) == 200


def test_everything_that_can_happen_happened(outcome: Outcome) -> None:
    """So that the comparison is one of something."""
    books = outcome.fleet.books
    what = Counter(line.what for line in books.lines)
    assert all(what[name] > 20 for name in ("asked", "tried", "failed", "delivered", "earned", "replayed", "shadowed"))
    assert set(Counter(line.reason for line in books.lines if line.what == "failed")) == {
        *("handler_failed", "undelivered", "protocol_refused", "insufficient_funds", "invalid_payload"),
        *("unexpected_settle_error", "invalid_transaction_state", "invalid_exact_evm_nonce_already_used"),
        *("invalid_exact_evm_payload_signature", "invalid_exact_evm_payload_authorization_valid_before"),
    }
    paths = books.journeys(0, 1e12)["summary"]["paths"]
    assert min(paths.values()) > 3, paths
    assert any(cheque.is_earned and not cheque.is_delivered for cheque in books.cheques)


def test_nobody_pays_in_what_is_refused(outcome: Outcome) -> None:
    """From the last day of x402 v1 on; those who have nothing else go, and MPP has grown by those who moved."""
    last = [line for line in outcome.fleet.books.lines if line.at >= 1_798_761_600 + 53 * 86400]
    paid = Counter(line.protocol for line in last if line.what == "earned")
    assert paid["x402-v1"] == 0
    assert paid["mpp"] > paid["x402-v2"] > 0
    assert {client.kind for client in outcome.fleet.clients if client.lost_at} >= {"v1 only"}


def test_the_story_is_told(outcome: Outcome) -> None:
    """In 100 columns, with every step of the owner's and where to look."""
    lines = list(story(outcome, "fleet.sqlite3"))
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 120
    for step in ("canary 10 %", "preferred", "deprecated", "brownouts", "refused", "0 differ", "x402-mpp report"):
        assert step in text


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another seed is another fleet, and equal as well; a store that has figures already is not added to."""
    arguments = ["--events", str(tmp_path / "other.sqlite3"), "--days", "8", "--seed", "11"]
    assert main(arguments) == 0
    assert "0 differ" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(arguments)


GUIDE = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text("utf-8")
SCREENS = re.findall(r"<!-- fleet: (.*?) -->\n```text\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize(("asked", "shown"), SCREENS, ids=[asked.split()[0] for asked, _ in SCREENS])
def test_the_screens_of_the_guide(asked: str, shown: str, outcome: Outcome) -> None:
    """`docs/migrating.md` shows what an owner of this fleet sees, to the letter."""
    url = outcome.fleet.shop.app.config.recorder.url
    said = CliRunner().invoke(command, ["report", *asked.split(), "--events", url]).output
    assert said.strip() == shown.strip()
