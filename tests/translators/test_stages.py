"""The stage of a protocol, by hand and by the clock."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translators.levers_toml import parse_lever
from translators.stages import Brownout, Lever, Stage, boundaries, check_lever, next_change, shut_span, stage_at

DAY = 86_400


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


PLAN = {
    "on_until": datetime(2027, 1, 1, tzinfo=UTC),
    "refused_from": datetime(2027, 3, 1, tzinfo=UTC),
    "brownouts": [
        {"from": datetime(2027, 2, 1, 14, tzinfo=UTC), "until": datetime(2027, 2, 1, 15, tzinfo=UTC)},
        {"daily": "23:30-00:30", "from": datetime(2027, 2, 20, 12, tzinfo=UTC)},
    ],
}

TABLE = [
    ("1970-01-01", Stage.ON),
    ("2026-12-31T23:59:59", Stage.ON),
    ("2027-01-01", Stage.DEPRECATED),
    ("2027-02-01T13:59:59", Stage.DEPRECATED),
    ("2027-02-01T14:00:00", Stage.BROWNOUT),
    ("2027-02-01T14:59:59", Stage.BROWNOUT),
    ("2027-02-01T15:00:00", Stage.DEPRECATED),
    ("2027-02-20T00:10:00", Stage.DEPRECATED),
    ("2027-02-20T23:29:59", Stage.DEPRECATED),
    ("2027-02-20T23:30:00", Stage.BROWNOUT),
    ("2027-02-21T00:29:59", Stage.BROWNOUT),
    ("2027-02-21T00:30:00", Stage.DEPRECATED),
    ("2027-02-28T23:45:00", Stage.BROWNOUT),
    ("2027-03-01", Stage.REFUSED),
    ("2037-03-01", Stage.REFUSED),
]


@pytest.mark.parametrize(("moment", "stage"), TABLE)
def test_a_plan_is_executed_by_the_clock(moment: str, stage: Stage) -> None:
    """On until, deprecated from, brownout hours (over midnight as well), refused from: to the second."""
    lever = parse_lever(PLAN)
    check_lever(lever)
    assert stage_at(lever, at(moment)) is stage


def test_the_clock_stops_where_the_stage_changes() -> None:
    """Walking from one change to the next meets every stage of the plan, and between two of them nothing changes."""
    lever = parse_lever(PLAN)
    moment, walked = 0.0, [stage_at(lever, 0.0)]
    while (after := next_change(lever, moment)) is not None:
        assert stage_at(lever, (moment + after) / 2) is walked[-1]
        moment = after
        walked.append(stage_at(lever, moment))
    assert moment == at("2027-03-01")
    assert walked[:4] == [Stage.ON, Stage.DEPRECATED, Stage.BROWNOUT, Stage.DEPRECATED]
    # Nine evenings, the last of which ends with the plan.
    assert walked.count(Stage.BROWNOUT) == 1 + 9
    assert walked[-1] is Stage.REFUSED


@pytest.mark.parametrize("stage", [s for s in Stage if s is not Stage.BROWNOUT])
def test_without_dates_a_stage_stays(stage: Stage) -> None:
    """By hand and for good."""
    lever = Lever(stage, share=10.0 if stage is Stage.CANARY else 0.0)
    check_lever(lever)
    assert {stage_at(lever, moment) for moment in (0.0, 1.9e9, 4e9)} == {stage}
    assert boundaries(lever) == []


def test_a_brownout_is_deprecated_between_its_hours() -> None:
    """Set by hand, the stage `brownout` refuses at the announced times only."""
    lever = Lever(Stage.BROWNOUT, brownouts=(Brownout(100.0, 200.0),))
    check_lever(lever)
    assert [stage_at(lever, moment) for moment in (99, 100, 199, 200)] == [
        Stage.DEPRECATED,
        Stage.BROWNOUT,
        Stage.BROWNOUT,
        Stage.DEPRECATED,
    ]
    assert shut_span(lever, 150.0) == (100.0, 200.0)
    assert shut_span(lever, 250.0) == (None, None)


def test_the_time_of_a_refusal_is_known() -> None:
    """Since when, so that whoever was asked before is still taken."""
    assert shut_span(Lever(deprecated_from=1.0, refused_from=5.0), 9.0) == (5.0, None)


NONSENSE = [
    (Lever(Stage.OFF, refused_from=9.0), "off is the end"),
    (Lever(Stage.REFUSED, sunset=9.0), "refused is the end"),
    (Lever(Stage.BROWNOUT), "announced"),
    (Lever(refused_from=9.0), "refused_from without deprecated_from"),
    (Lever(sunset=9.0), "sunset without deprecated_from"),
    (Lever(brownouts=(Brownout(1.0, 2.0),)), "brownouts without deprecated_from"),
    (Lever(deprecated_from=9.0, refused_from=9.0), "refused_from is not after"),
    (Lever(deprecated_from=9.0, sunset=8.0), "sunset is before deprecated_from"),
    (Lever(deprecated_from=1.0, sunset=9.0, refused_from=8.0), "before the sunset"),
    (Lever(deprecated_from=5.0, brownouts=(Brownout(6.0, 6.0),)), "ends before it begins"),
    (Lever(deprecated_from=5.0, brownouts=(Brownout(4.0, 6.0),)), "announce it first"),
    (Lever(deprecated_from=5.0, refused_from=8.0, brownouts=(Brownout(7.0, 9.0),)), "after refused_from"),
    (Lever(deprecated_from=5.0, brownouts=(Brownout(6.0, 9.0, (60, 60)),)), "not the whole day"),
    (Lever(deprecated_from=5.0, brownouts=(Brownout(6.0, 400.0 * DAY, (0, 60)),)), "366 days"),
    (Lever(deprecated_from=5.0, brownouts=(Brownout(6.0, 9.0, (3600, 7200)),)), "no hour"),
    (Lever(Stage.CANARY), "nobody"),
    (Lever(Stage.CANARY, share=101.0), "0% to 100%"),
    (Lever(Stage.CANARY, header="x-try", by="x-id"), "by decides"),
    (Lever(Stage.ON, share=10.0), "belong to a canary"),
    (Lever(Stage.DEPRECATED, header="x-try"), "belong to a canary"),
]


@pytest.mark.parametrize(("lever", "said"), NONSENSE, ids=[said for _, said in NONSENSE])
def test_what_makes_no_sense_is_said(lever: Lever, said: str) -> None:
    """Contradictions and orders of dates, each with a message that names them."""
    with pytest.raises(ValueError, match=said):
        check_lever(lever)


TIMES = st.floats(min_value=0, max_value=40 * DAY)


@st.composite
def plans(draw: st.DrawFn) -> Lever:
    """Any plan that makes sense."""
    begins, first, length, last = (draw(st.integers(1, 10 * DAY)) for _ in range(4))
    start = begins + first
    end = start + length
    hours = draw(st.none() | st.tuples(st.integers(0, DAY - 1), st.integers(0, DAY - 1)))
    lever = Lever(
        draw(st.sampled_from([Stage.ON, Stage.PREFERRED])),
        deprecated_from=float(begins),
        refused_from=float(end + last),
        brownouts=(Brownout(float(start), float(end), hours),),
    )
    try:
        check_lever(lever)
    except ValueError:
        return Lever(lever.stage, deprecated_from=lever.deprecated_from, refused_from=lever.refused_from)
    return lever


@given(plans(), TIMES)
def test_a_plan_by_the_clock_is_the_table(lever: Lever, now: float) -> None:
    """At any moment the stage is that of the last change before it: nothing happens between two changes."""
    before = max((moment for moment in [0.0, *boundaries(lever)] if moment <= now), default=0.0)
    assert stage_at(lever, now) is stage_at(lever, before)
    following = next_change(lever, now)
    assert following is None or following > now
    assert following is not None or stage_at(lever, now) is stage_at(lever, 1e12)


@given(plans(), st.lists(TIMES, min_size=2, max_size=20))
def test_a_plan_goes_one_way(lever: Lever, moments: list[float]) -> None:
    """Apart from brownouts, which end, no stage comes back: on, deprecated, refused."""
    order = {Stage.ON: 0, Stage.PREFERRED: 0, Stage.DEPRECATED: 1, Stage.BROWNOUT: 1, Stage.REFUSED: 2}
    ranks = [order[stage_at(lever, moment)] for moment in sorted(moments)]
    assert ranks == sorted(ranks)


@given(plans(), TIMES)
def test_a_shut_span_holds_its_moment(lever: Lever, now: float) -> None:
    """Since when and until when a date refuses, exactly where the stage says so."""
    since, until = shut_span(lever, now)
    assert (since is not None) == (stage_at(lever, now) in (Stage.BROWNOUT, Stage.REFUSED))
    assert since is None or since <= now
    assert until is None or until > now
