"""Rolled up equals recomputed: whatever happened, in whatever portions it was written."""

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.analytics import Filters, Report, Span, open_events
from bridge.analytics.facts import PROTOCOLS, Fact, Reducer
from bridge.analytics.figures import gather
from bridge.analytics.histogram import ERROR, Histogram, exact_quantile
from bridge.analytics.report import make_report
from bridge.analytics.rollup import Rollup, count_once
from tests.bridge.analytics.conftest import write
from tests.bridge.analytics.samples import DAY, START, Event, base

KINDS = (
    *("payment.challenged", "payment.verified", "payment.settled", "payment.delivered", "payment.rejected"),
    *("payment.replayed", "payment.reconciled", "payment.undelivered", "payment.unknown", "payment.passed"),
)


@st.composite
def event(draw: st.DrawFn) -> Event:
    """Any event, in any order: a store does not ask whether it makes sense."""
    kind = draw(st.sampled_from(KINDS))
    fields: dict[str, Any] = base(
        route=draw(st.sampled_from(["GET /a", "POST /b"])),
        agent=draw(st.sampled_from(["curl/8.1", "shop/1.0 (linux)", None])),
        asset=draw(st.sampled_from(["0xaa", "0xbb"])),
        network=draw(st.sampled_from(["eip155:1", "eip155:2"])),
        amount=str(draw(st.one_of(st.integers(0, 10**6), st.integers(2**60, 2**256 - 1)))),
        protocol=draw(st.sampled_from(PROTOCOLS)),
    )
    if kind == "payment.challenged":
        fields["offered"] = draw(st.lists(st.sampled_from(PROTOCOLS), unique=True))
        if draw(st.booleans()):
            del fields["protocol"]
    else:
        fields["payment"] = f"p{draw(st.integers(0, 5))}"
        fields["payer"] = draw(st.sampled_from(["0x01", "0x02", "0x03", ""]))
    if kind in ("payment.rejected", "payment.unknown"):
        fields |= {"reason": draw(st.sampled_from(["expired", "busy"]))}
        fields |= {"stage": draw(st.sampled_from(["read", "verify", "claim", "settle", "handler"]))}
    if kind == "payment.reconciled":
        fields |= {"outcome": draw(st.sampled_from(["settled", "released", "open"]))}
    milliseconds = st.floats(0.0001, 10**6)
    fields |= {"duration_ms": draw(milliseconds), "settle_ms": draw(milliseconds), "status": 200}
    return START + draw(st.floats(0, 3 * DAY - 1)), kind, fields


def facts_of(events: list[Event]) -> list[Fact]:
    reducer = Reducer()
    facts = [reducer.reduce(*event) for event in events]
    return count_once([fact for fact in facts if isinstance(fact, Fact)], {})


def recomputed(facts: list[Fact], filters: Filters, by: str | None) -> Report:
    """The report from the facts themselves, without a store: one bucket, and every single duration."""
    rollup = Rollup(10**12)
    durations: dict[Any, list[float]] = {}
    for fact in facts:
        rollup.add(fact)
        if (measured := Rollup.measure(fact)) is not None:
            durations.setdefault((fact.dimensions, measured[0]), []).append(measured[1])
    rows = rollup.rows(filters.match, durations)
    return make_report(rows, SPAN, filters=filters, by=by, exact=True, recorded_since=None, dropped=0)


SPAN = Span(START, START + 3 * DAY)
ASKED = [(Filters(), None), (Filters(protocol="mpp"), "client"), (Filters(route="GET /a"), "network")]


def parts(report: Report) -> dict[str, Any]:
    """Every figure but the quantiles, which are compared by their error."""
    found = msgspec.to_builtins(report)
    for name in ("exact", "recorded_since", "dropped"):
        del found[name]
    for figures in (found["total"], found["x402_only"], *found["protocols"].values(), *found["groups"].values()):
        figures["latency"] = {measure: kept["count"] for measure, kept in figures["latency"].items()}
    return found


@settings(max_examples=40, deadline=None)
@given(events=st.lists(event(), max_size=60), batch=st.integers(1, 25))
def test_what_is_rolled_up_is_what_happened(events: list[Event], batch: int) -> None:
    """The stored figures are those of the facts, by hour and day, exactly; quantiles within their error."""
    facts = facts_of(events)
    with TemporaryDirectory() as folder:
        url = f"{folder}/events.sqlite3"
        write(url, events, batch=batch)
        with open_events(url) as opened:
            for filters, by in ASKED:
                expected = recomputed(facts, filters, by)
                rolled = opened.report(since=SPAN.since, until=SPAN.until, filters=filters, by=by)
                exact = opened.report(since=SPAN.since, until=SPAN.until, filters=filters, by=by, exact=True)
                assert parts(rolled) == parts(exact) == parts(expected)
                assert exact.total == expected.total
                for measure, latency in expected.total.latency.items():
                    if latency.count:
                        own = rolled.total.latency[measure]
                        for name in ("p50", "p95", "p99"):
                            told, true = getattr(own, name), max(getattr(latency, name), 0.001)
                            assert abs(told - true) <= ERROR * true + 0.0011
            hours = opened.series(since=SPAN.since, until=SPAN.until, step_seconds=3600)
            days = opened.series(since=SPAN.since, until=SPAN.until, step_seconds=86400)
            for steps in (hours, days):
                assert sum(step.total.settled for step in steps) == recomputed(facts, Filters(), None).total.settled
        with closing(sqlite3.connect(Path(url))) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@settings(max_examples=60, deadline=None)
@given(events=st.lists(event(), max_size=60), cut=st.integers(0, 60))
def test_rollups_add_up(events: list[Event], cut: int) -> None:
    """Two roll-ups together are the roll-up of both, and larger buckets hold the same as small ones."""
    facts = facts_of(events)
    whole, one, other = Rollup(3600), Rollup(3600), Rollup(3600)
    for number, fact in enumerate(facts):
        whole.add(fact)
        (one if number < cut else other).add(fact)

    def figures(*rollups: Rollup) -> Any:
        rows = [rollup.rows() for rollup in rollups]
        joined = msgspec.structs.replace(
            rows[0], **{name: [row for own in rows for row in getattr(own, name)] for name in rows[0].__struct_fields__}
        )
        tallies = gather(joined, lambda _, own: [own])
        return {own: tally.figures(of_protocol=False) for own, tally in tallies.items()}

    assert figures(one, other) == figures(whole) == figures(whole.coarser(86400))
    assert {p: (b.payments, b.amount) for p, b in whole.coarser(10**12).payers.items()} == {
        key: (
            sum(b.payments for (_, own, payer), b in whole.payers.items() if (own, payer) == key[1:]),
            sum(b.amount for (_, own, payer), b in whole.payers.items() if (own, payer) == key[1:]),
        )
        for key in whole.coarser(10**12).payers
    }


@settings(max_examples=200, deadline=None)
@given(values=st.lists(st.floats(0.001, 10**7), min_size=1, max_size=200), share=st.floats(0.001, 1))
def test_the_error_of_a_histogram(values: list[float], share: float) -> None:
    """Any quantile is within one part in a hundred of the exact one, also after it was stored and added to."""
    half = len(values) // 2
    histogram = Histogram.decode(Histogram.of(values[:half]).encode())
    histogram.merge(Histogram.of(values[half:]))
    assert histogram.count == len(values)
    exact = exact_quantile(sorted(values), share)
    told = histogram.quantile(share)
    assert exact is not None
    assert told is not None
    assert abs(told - exact) <= ERROR * exact * 1.000001
