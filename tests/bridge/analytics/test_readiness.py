"""Journeys and readiness: who moved, who is left, and what the command says about it."""

import json

import pytest
from click.testing import CliRunner, Result

from bridge.analytics import Path, open_events
from bridge.analytics.coverage import Covered, gaps_of
from bridge.analytics.database import open_database
from bridge.analytics.journeys import Stay, journey_of
from bridge.analytics.report import Span
from bridge.analytics.tables import _amount
from bridge.analytics.workers import Worker
from bridge.analytics.writer import Writer
from bridge.cli import main
from tests.bridge.analytics.conftest import Fill, write
from tests.bridge.analytics.samples import DAY, HOUR, START, TOKEN, Event, base, paid

END = START + 10 * DAY
WAYS = {
    "single": [(0, "x402-v1"), (5, "x402-v1")],
    "switched": [(0, "x402-v1"), (2, "x402-v1"), (4, "mpp"), (8, "mpp")],
    "switched slowly": [(0, "x402-v1"), (2, "mpp"), (3, "x402-v1"), (6, "mpp")],
    "dual": [(0, "x402-v2"), (4, "mpp"), (7, "x402-v2"), (7.5, "mpp")],
    "fell-back": [(0, "x402-v1"), (2, "mpp"), (4, "x402-v1"), (9, "x402-v1")],
}


def address(number: int) -> str:
    return f"0x{number:040x}"


def moves() -> list[Event]:
    events: list[Event] = []
    for number, visits in enumerate(WAYS.values()):
        for day, protocol in visits:
            events += paid(START + day * DAY, f"{number}-{day}", address(number), protocol, agent=f"shop/{number}")
    return sorted(events, key=lambda event: event[0])


@pytest.mark.parametrize("way", WAYS)
def test_ways(way: str) -> None:
    """Each way is told from when a payer's first and last payment in each protocol was."""
    stays: dict[str, Stay] = {}
    for day, protocol in WAYS[way]:
        first = stays[protocol].first_at if protocol in stays else day * DAY
        stays[protocol] = Stay(1, first, day * DAY)
    assert journey_of("", stays).path is Path(way.partition(" ")[0])


def test_journeys(fill: Fill) -> None:
    """How many took which way, where they began, and what they pay in now."""
    with open_events(fill(moves())) as events:
        summary, journeys = events.journeys(since=START, until=END)
        late, _ = events.journeys(since=START + 9 * DAY, until=END)
    assert summary.payers == 5
    assert summary.paths == {"single": 1, "dual": 1, "switched": 2, "fell-back": 1}
    assert summary.first_seen == {"x402-v1": 4, "x402-v2": 1, "mpp": 0}
    assert summary.now == {"x402-v1": 2, "x402-v2": 0, "mpp": 3}
    assert summary.seen == {"x402-v1": 4, "x402-v2": 1, "mpp": 4}
    assert journeys[0].payer == address(4)
    assert journeys[0].stays["mpp"] == Stay(1, START + 2 * DAY + 0.1, START + 2 * DAY + 0.1)
    assert (late.payers, late.paths["fell-back"]) == (1, 1)


def test_readiness(fill: Fill) -> None:
    """Whom switching x402 v1 off loses, by what was paid in the window; who paid in MPP before it has moved."""
    with open_events(fill(moves())) as events:
        found = events.readiness("x402-v1", since=START + 3 * DAY, until=END)
    assert (found.payers, found.moved, found.payments) == (3, 2, 4)
    assert (found.all_payers, found.all_payments) == (5, 10)
    assert found.revenue == {TOKEN: "40000"}
    assert found.revenue_per_day == {TOKEN: str(40000 // 7)}
    assert (found.share_of_payers, found.share_of_payments, found.share) == (0.6, 0.4, 0.6)
    assert [(group.name, group.payers, group.payments) for group in found.routes] == [("GET /report", 3, 4)]
    assert {group.name: group.payments for group in found.clients} == {"shop/0": 1, "shop/2": 1, "shop/4": 2}
    assert [(left.payer, left.payments, left.also) for left in found.left] == [
        (address(4), 2, ["mpp"]),
        (address(0), 1, []),
        (address(2), 1, ["mpp"]),
    ]
    assert found.left[0].revenue == {TOKEN: "20000"}
    assert any("deprecated" in step for step in found.next)


def test_a_window_that_is_over(fill: Fill) -> None:
    """It is asked as it would have been asked then: who paid in another protocol only later had not moved."""
    with open_events(fill(moves())) as events:
        then = events.readiness("x402-v1", since=START, until=START + 3 * DAY)
        now = events.readiness("x402-v1", since=START, until=END)
    assert (then.payers, then.moved, now.moved) == (4, 2, 3)
    assert {left.payer: left.also for left in then.left}[address(1)] == []
    assert {left.payer: left.also for left in now.left}[address(1)] == ["mpp"]


def test_the_lever_counts(fill: Fill) -> None:
    """What to do next depends on where the lever stood then, and on whether somebody was refused for it."""
    moved = [
        (
            START + day * DAY,
            "lever.changed",
            {"route": "*", "protocol": "x402-v1", "after": stage, "at": START + day * DAY},
        )
        for day, stage in ((5, "deprecated"), (9.5, "refused"))
    ]
    refused = base(protocol="x402-v1", payment="late", payer=address(9), reason="protocol_refused", stage="verify")
    events_ = [*moves(), *moved, (START + 8 * DAY, "payment.rejected", refused)]
    with open_events(fill(sorted(events_, key=lambda event: event[0]))) as events:
        before = events.readiness("x402-v1", since=START, until=START + 9 * DAY)
        after = events.readiness("x402-v1", since=START, until=END)
        other = events.readiness("mpp", since=START, until=END)
    assert (before.stage, before.refused, after.stage) == ("deprecated", 1, "refused")
    assert any("although x402-v1 is `deprecated`" in step for step in before.next)
    assert any("were refused in this window" in step for step in before.next)
    assert "off already" in after.next[-1]
    assert (other.stage, other.refused) == ("", 0)


def test_nobody_is_left(fill: Fill) -> None:
    """Then it says so, and what to do."""
    with open_events(fill(moves())) as events:
        found = events.readiness("x402-v2", since=START + 8 * DAY, until=END)
    assert (found.payers, found.payments, found.share) == (0, 0, 0.0)
    assert "`refused`" in found.next[0]


def ask(url: str, *arguments: str) -> Result:
    options = ["report", "readiness", "--events", url, "--since", str(int(START)), "--until", str(int(END))]
    return CliRunner().invoke(main, [*options, *arguments])


def test_exit_codes(fill: Fill) -> None:
    """0 within the limit, 1 over it, 2 where it cannot be told; without a limit 0. 3 has tests of its own."""
    url = fill(moves())
    assert ask(url, "--protocol", "x402-v1").exit_code == 0
    assert ask(url, "--protocol", "x402-v1", "--fail-over", "0.5%").exit_code == 1
    assert ask(url, "--protocol", "x402-v1", "--fail-over", "80%").exit_code == 0
    assert ask(url, "--protocol", "x402-v1", "--fail-over", "0.8").exit_code == 0
    assert ask(url, "--protocol", "x402-v1", "--fail-over", "nonsense").exit_code == 2
    assert ask(url, "--protocol", "x402-v3").exit_code == 2
    empty = ask(url, "--protocol", "x402-v1", "--since", "2020-01-01", "--until", "2020-02-01", "--fail-over", "1%")
    assert (empty.exit_code, "cannot be told" in empty.output) == (2, True)
    away = ask("/nowhere/at/all.sqlite3", "--protocol", "mpp", "--fail-over", "1%")
    assert (away.exit_code, "there are no events" in away.output) == (2, True)


def test_the_table_fits(fill: Fill) -> None:
    """In 80 columns, with the figures of the JSON."""
    url = fill(moves())
    text = ask(url, "--protocol", "x402-v1", "--fail-over", "0.5%").output
    assert all(len(line) <= 80 for line in text.splitlines())
    found = json.loads(ask(url, "--protocol", "x402-v1", "--format", "json").output)
    assert f"loses {found['payers']} of {found['all_payers']} payers" in text
    assert f"{found['moved']} have already paid in another protocol" in text
    assert "is over the limit of 0.5 %" in text


@pytest.mark.parametrize(
    ("asset", "units", "told"),
    [
        ("0x036cbd53842c5426634e7929541ec2318f3dcf7e", "4", "0.000004 USDC on base-sepolia"),
        ("0x036cbd53842c5426634e7929541ec2318f3dcf7e", "1234500000", "1234.50 USDC on base-sepolia"),
        ("eip155:8453/0x833589fcd6edb6e08f4c7c32d4f71b54bda02913", "0", "0.00 USDC on base"),
        ("eip155:1/0x833589fcd6edb6e08f4c7c32d4f71b54bda02913", "7", "7 atomic units of eip155:1/0x8335"),
        ("0xaa", "7", "7 atomic units of 0xaa"),
    ],
)
def test_money_is_told_in_tokens(asset: str, units: str, told: str) -> None:
    """Exact, where the token is known, and else as it is kept."""
    assert _amount(asset, units).startswith(told)


def test_a_record_that_is_younger_than_the_window(fill: Fill) -> None:
    """It says so, and divides by the days that there are."""
    with open_events(fill(moves())) as events:
        found = events.readiness("x402-v1", since=START - 20 * DAY, until=START + 4 * DAY + HOUR)
    assert round(found.days) == 4
    assert "younger" in found.next[0]


# What the record lacks


COVERED = Covered(START, END, None)
WINDOW = Span(START, END)
GAPS = [
    (COVERED, 0, []),
    (Covered(START - DAY, END + DAY, START - 9 * DAY), 0, []),
    (Covered(None, None, None), 0, ["begins-late"]),
    (Covered(START + HOUR, END, None), 0, ["begins-late"]),
    # Began later than the last purge kept anything of.
    (Covered(START + 2 * DAY, END, START + DAY), 0, ["begins-late"]),
    (Covered(START + DAY, END, START + DAY), 0, ["not-kept"]),
    (Covered(START, END - DAY, None), 0, []),
    (Covered(START, END - DAY - 1, None), 0, ["ends-early"]),
    (COVERED, 1, ["dropped"]),
    (Covered(START, END, None, (Span(START + DAY, START + 3 * DAY),)), 0, ["interrupted"]),
    # Partly in the window, and before or after it.
    (Covered(START - 9 * DAY, END, None, (Span(START - 2 * DAY, START + HOUR),)), 0, ["interrupted"]),
    (Covered(START - 9 * DAY, END, None, (Span(START - 2 * DAY, START), Span(END, END + 2 * DAY))), 0, []),
    (Covered(START + HOUR, END - 2 * DAY, None), 3, ["begins-late", "ends-early", "dropped"]),
]


@pytest.mark.parametrize(("covered", "dropped", "kinds"), GAPS)
def test_what_a_record_lacks_of_a_window(covered: Covered, dropped: int, kinds: list[str]) -> None:
    """By when it began, what is kept, when it was last heard of, and what was dropped."""
    assert [gap.kind for gap in gaps_of(WINDOW, covered, dropped)] == kinds


def said(url: str, *arguments: str, protocol: str = "x402-v2") -> tuple[int, str]:
    answer = ask(url, "--protocol", protocol, "--fail-over", "0.5%", *arguments)
    return answer.exit_code, answer.output


def three_days() -> list[Event]:
    """The last three days of the window, in which nobody paid in x402 v2."""
    events = [paid(END - 3 * DAY + number * HOUR, f"p{number}", address(number), "mpp") for number in range(70)]
    return [event for each in events for event in each]


def test_a_young_record_is_no_reason_to_switch_off(fill: Fill) -> None:
    """It holds three of ten days, and nobody paid in the protocol: that is its own exit code, in every format."""
    url = fill(three_days())
    code, text = said(url)
    assert (code, "The record does not cover this window:\n- The record is younger" in text) == (3, True)
    assert text.count("younger") == 1
    assert "That holds for what is recorded only." in text
    assert "find out about the rest" in text
    assert "set it to" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    code, text = said(url, "--format", "json")
    assert (code, [gap["kind"] for gap in json.loads(text)["gaps"]]) == (3, ["begins-late"])
    code, text = said(url, "--format", "csv")
    assert (code, "The record is younger than this window" in text) == (3, True)
    assert said(url, "--accept-gaps")[0] == 0
    # Who is known to be lost is lost, whatever else there may be.
    assert said(url, protocol="mpp")[0] == 1
    rows = said(url, "--format", "csv", "--limit", "1", protocol="mpp")[1].splitlines()
    assert [row.rpartition(",")[2] for row in rows[:2]] == ["record_lacks", "begins-late"]


def test_a_shop_where_nobody_came_at_first(fill: Fill) -> None:
    """It was recorded that nobody did: the record began when the first server did."""
    url = fill(three_days(), began=START + 1)
    assert said(url)[0] == 0
    assert said(url, "--since", str(int(START - DAY)))[0] == 3
    # The first of all writers began it.
    write(url, [], began=END)
    assert said(url)[0] == 0


def test_a_record_that_is_not_kept_for_as_long(fill: Fill) -> None:
    """The settings delete what is older than the window: no waiting helps, and it says which setting."""
    url = fill([*paid(START, "old", address(9), "x402-v1"), *three_days()], began=START)
    database = open_database(url, write=True)
    writer = Writer(database, 3600, END)
    assert said(url, protocol="mpp")[0] == 1
    while writer.purge(now=END, event_days=1, rollup_days=3):
        pass
    database.close()
    code, text = said(url, "--format", "json")
    found = json.loads(text)
    assert (code, [gap["kind"] for gap in found["gaps"]]) == (3, ["not-kept"])
    assert "rollup_days" in found["next"][0]
    assert found["recorded_since"] == END - 3 * DAY
    assert said(url, "--since", str(int(END - 3 * DAY)))[0] == 0


def test_a_record_that_ended(fill: Fill) -> None:
    """A copy that nobody writes to any more says nothing of today."""
    url = fill(three_days(), began=START)
    code, text = said(url, "--until", str(int(END + 3 * DAY)))
    assert (code, "The record ends at" in text) == (3, True)
    assert said(url, "--until", str(int(END)))[0] == 0


def test_events_that_were_dropped(fill: Fill) -> None:
    """Each may have been a payment by somebody else: they count against the limit, and no more than that."""
    url = fill(three_days(), began=START)
    database = open_database(url, write=True)
    writer = Writer(database, 3600, START)
    # One more in each of 70 payments would be 1.4 %.
    writer.write([], [], {int(END - DAY): 1})
    code, text = said(url)
    assert (code, "Were all that was dropped lost, the share is 1.41 %." in text) == (3, True)
    enough = ask(url, "--protocol", "x402-v2", "--fail-over", "1.5%")
    assert (enough.exit_code, "does not cover" in enough.output) == (0, True)
    assert said(url, "--accept-gaps")[0] == 0
    # Those of another time are none of this window's.
    writer.write([], [], {int(START - DAY): 1000})
    assert ask(url, "--protocol", "x402-v2", "--fail-over", "1.5%").exit_code == 0
    database.close()


def test_a_time_in_which_no_server_was_heard_of(fill: Fill) -> None:
    """For more than a day, and nothing was recorded either: the store was away, or they wrote elsewhere."""
    url = fill(three_days(), began=START)
    database = open_database(url, write=True)
    writer = Writer(database, 3600, START)

    def heard(since: float, until: float) -> None:
        for hour in range(int((until - since) / HOUR)):
            writer.note(Worker("a:1:00", since + hour * HOUR + 60, 30, []))

    heard(START, START + 2 * DAY)
    heard(START + 3 * DAY, START + 3 * DAY + HOUR)
    assert said(url)[0] == 0
    # From there on nobody said anything for three days and more, and then there were payments.
    heard(START + 6.5 * DAY, START + 7 * DAY)
    heard(END - HOUR, END)
    code, text = said(url)
    assert (code, "Nothing is recorded from 2026-09-24 01:00 to 2026-09-27 12:00" in text) == (3, True)
    assert said(url, "--since", str(int(START + 7 * DAY)))[0] == 0
    assert said(url, "--accept-gaps")[0] == 0
    # What was recorded meanwhile was recorded.
    database.close()
    write(url, paid(START + 5 * DAY, "meanwhile", address(9), "mpp"))
    assert said(url)[0] == 0
