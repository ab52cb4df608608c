"""What each figure means, on both databases: from events to reports."""

from bridge.analytics import Figures, Filters, Report, open_events
from tests.bridge.analytics.conftest import Fill
from tests.bridge.analytics.samples import DAY, HOUR, START, TOKEN, base, challenged, paid, rejected, told

ALICE, BOB = "0x" + "a1" * 20, "0x" + "b0" * 20
SPAN = {"since": START, "until": START + DAY}


def report(url: str, **asked: object) -> Report:
    with open_events(url) as events:
        return events.report(**(SPAN | asked))  # type: ignore[arg-type]


def test_a_payment_of_each_protocol(fill: Fill) -> None:
    """Each counts in its own protocol; a 402 counts in every protocol that it offered, and once in all."""
    events = []
    for number, protocol in enumerate(("x402-v1", "x402-v2", "mpp")):
        events += [challenged(START + number), *paid(START + number + 0.5, f"p{number}", ALICE, protocol)]
    found = report(fill(events))
    for protocol in ("x402-v1", "x402-v2", "mpp"):
        own = found.protocols[protocol]
        assert (own.challenged, own.said, own.attempted, own.delivered, own.failed) == (3, 0, 1, 1, 0)
        assert (own.settled, own.payers, own.revenue) == (1, 1, {TOKEN: "10000"})
    total = found.total
    assert (total.challenged, total.attempted, total.delivered, total.payers) == (3, 3, 3, 1)
    assert total.revenue == {TOKEN: "30000"}
    assert (total.conversion, total.success) == (1.0, 1.0)
    assert found.unidentified == 3


def test_who_says_what_it_is(fill: Fill) -> None:
    """A client that names MPP's preferences has said so; the others are in a bucket of their own."""
    found = report(fill([challenged(START, protocol="mpp"), challenged(START + 1), challenged(START + 2)]))
    assert found.protocols["mpp"].said == 1
    assert found.protocols["x402-v1"].said == 0
    assert found.total.said == 1
    assert found.unidentified == 2


def test_offered_protocols_only(fill: Fill) -> None:
    """A 402 that does not offer a protocol is no challenge in it."""
    found = report(fill([challenged(START, offered=["mpp"])]))
    assert {name: own.challenged for name, own in found.protocols.items()} == {"x402-v1": 0, "x402-v2": 0, "mpp": 1}


def test_reconciled_later_counts_once(fill: Fill) -> None:
    """A settlement whose outcome was unknown is revenue when it is found, once, and of the client that made it."""
    own = paid(START, "p", ALICE, "mpp", agent="shop/2.0")
    events = [
        own[0],
        told(START + 1, "payment.unknown", "p", "mpp", stage="settle", reason="outcome_unknown", agent="shop/2.0"),
        told(START + 20, "payment.reconciled", "p", "mpp", outcome="open", agent=None, payer=ALICE),
        told(START + 40, "payment.reconciled", "p", "mpp", outcome="settled", agent=None, payer=ALICE),
        told(START + 41, "payment.reconciled", "p", "mpp", outcome="settled", agent=None, payer=ALICE),
    ]
    url = fill(events, batch=2)
    found = report(url, by="client").protocols["mpp"]
    assert (found.attempted, found.delivered, found.failed, found.settled) == (1, 0, 1, 1)
    assert found.revenue == {TOKEN: "10000"}
    assert found.failures == {"outcome_unknown": 1}
    assert report(url, by="client").groups["shop/2.0"].settled == 1
    # Its credential comes again, and gets the answer: delivered, and no second revenue.
    again = [
        told(START + 50 + n, e, "p", "mpp", payer=ALICE)
        for n, e in enumerate(("payment.verified", "payment.delivered"))
    ]
    found = report(fill(again)).protocols["mpp"]
    assert (found.attempted, found.delivered, found.failed, found.settled) == (2, 1, 1, 1)
    assert found.revenue == {TOKEN: "10000"}


def test_replays_count_nothing_again(fill: Fill) -> None:
    """The kept answer is an attempt, and neither a delivery nor revenue."""
    again = [told(START + n, "payment.replayed", "p", "x402-v2", payer=ALICE, status=200) for n in (2, 3)]
    found = report(fill([*paid(START, "p", ALICE, "x402-v2"), *again])).protocols["x402-v2"]
    assert (found.attempted, found.delivered, found.replayed, found.settled) == (3, 1, 2, 1)
    assert found.revenue == {TOKEN: "10000"}


def test_settled_and_not_delivered(fill: Fill) -> None:
    """It is revenue, and not delivered."""
    undelivered = told(START + 1, "payment.undelivered", "p", "x402-v1", payer=ALICE, status=500)
    found = report(fill([*paid(START, "p", ALICE, "x402-v1")[:2], undelivered])).protocols["x402-v1"]
    assert (found.attempted, found.delivered, found.failed, found.settled) == (1, 0, 1, 1)
    assert found.failures == {"undelivered": 1}
    assert found.revenue == {TOKEN: "10000"}


def test_an_event_that_was_lost(fill: Fill) -> None:
    """A delivery says that money moved, though the event of the settlement was dropped."""
    found = report(fill([paid(START, "p", ALICE, "mpp")[2]])).protocols["mpp"]
    assert (found.delivered, found.settled, found.revenue) == (1, 1, {TOKEN: "10000"})


def test_refusals(fill: Fill) -> None:
    """A request is one attempt, wherever it failed."""
    events = [
        rejected(START, "x402-v1", "invalid_payload", "read"),
        rejected(START + 1, "x402-v1", "insufficient_funds", "verify", payer=ALICE),
        rejected(START + 2, "x402-v1", "insufficient_funds", "verify", payer=BOB),
        paid(START + 3, "p", ALICE, "x402-v1")[0],
        rejected(START + 4, "x402-v1", "handler_failed", "handler", payment="p", payer=ALICE),
    ]
    found = report(fill(events)).protocols["x402-v1"]
    assert (found.attempted, found.delivered, found.failed, found.settled, found.payers) == (4, 0, 4, 0, 0)
    assert list(found.failures.items()) == [("insufficient_funds", 2), ("handler_failed", 1), ("invalid_payload", 1)]


def test_one_authorization_in_two_envelopes(fill: Fill) -> None:
    """It is one payment: settled in one protocol, delivered in the other, and counted once in each."""
    second = [event for event in paid(START + 5, "p", ALICE, "x402-v2") if event[1] != "payment.settled"]
    found = report(fill([*paid(START, "p", ALICE, "x402-v1")[:2], *second]))
    assert (found.total.settled, found.total.delivered) == (1, 1)
    assert found.protocols["x402-v1"].revenue == {TOKEN: "10000"}
    assert found.protocols["x402-v2"].revenue == {}


def test_amounts_are_exact(fill: Fill) -> None:
    """Sums beyond 64 bits, and beyond what a float holds, to the last unit."""
    amounts = [2**256 - 1, 2**63, 2**53 + 1, 1]
    events = [e for n, amount in enumerate(amounts) for e in paid(START + n, f"p{n}", ALICE, "mpp", amount=str(amount))]
    url = fill(events, batch=3)
    assert report(url).total.revenue == {TOKEN: str(sum(amounts))}
    with open_events(url) as opened:
        readiness = opened.readiness("mpp", **SPAN)
    assert readiness.left[0].revenue == {TOKEN: str(sum(amounts))}


def test_one_address_on_two_networks(fill: Fill) -> None:
    """Two assets: their units are not added."""
    events = [*paid(START, "p", ALICE, "mpp"), *paid(START + 1, "q", ALICE, "mpp", network="eip155:1")]
    found = report(fill(events))
    assert found.total.revenue == {f"eip155:1/{TOKEN}": "10000", f"eip155:84532/{TOKEN}": "10000"}
    assert report(fill([]), filters=Filters(network="eip155:1")).total.revenue == {TOKEN: "10000"}


def test_x402_only_payments(fill: Fill) -> None:
    """They are x402 v2's, and told apart; a payer who is not known is no payer."""
    foreign = {"network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "asset": "EPjF", "x402_only": True}
    events = [*paid(START, "p", "", "x402-v2", **foreign), *paid(START + 1, "q", ALICE, "x402-v2")]
    found = report(fill(events))
    assert (found.x402_only.settled, found.x402_only.payers, found.x402_only.revenue) == (1, 0, {"EPjF": "10000"})
    assert (found.protocols["x402-v2"].settled, found.protocols["x402-v2"].payers) == (2, 1)


def test_breakdowns_and_filters(fill: Fill) -> None:
    """Each part of a breakdown is what a filter on it leaves."""
    events = []
    for number in range(12):
        route, agent = f"GET /{number % 2}", f"agent-{number % 3}/1.{number % 2}"
        own = {"route": route, "agent": agent}
        events += [challenged(START + number, **own), *paid(START + number, f"p{number}", ALICE, "mpp", **own)]
    url = fill(events)
    for by, field in (("route", "route"), ("product", "product"), ("protocol", "protocol"), ("asset", "asset")):
        groups = report(url, by=by).groups
        assert sum(own.delivered for own in groups.values()) == 12
        for value, own in groups.items():
            if own.delivered:
                alone = report(url, filters=Filters(**{field: value}))
                assert _same(alone.total, own), (by, value)
    assert set(report(url, by="client").groups) == {f"agent-{n}/1.{m}" for n in range(3) for m in range(2)}


def _same(one: Figures, other: Figures) -> bool:
    return (one.challenged, one.attempted, one.revenue, one.latency) == (
        other.challenged,
        other.attempted,
        other.revenue,
        other.latency,
    )


def test_spans(fill: Fill) -> None:
    """A span has the figures of every hour that it touches; whole days and hours add up to the same."""
    events = [e for n in range(96) for e in paid(START + n * HOUR + 60, f"p{n}", ALICE, "mpp")]
    url = fill(events)

    def settled(since: float, until: float) -> int:
        return report(url, since=START + since, until=START + until).total.settled

    assert settled(0, 96 * HOUR) == 96
    assert settled(5 * HOUR, 90 * HOUR) == 85
    assert settled(5 * HOUR + 1800, 5 * HOUR + 1801) == 1
    assert settled(23 * HOUR, 25 * HOUR) == 2
    assert settled(-5 * HOUR, 0) == 0
    with open_events(url) as opened:
        daily = opened.series(since=START + HOUR, until=START + 4 * DAY)
        hourly = opened.series(since=START, until=START + 4 * DAY, step_seconds=3600)
        assert opened.recorded().since == START  # type: ignore[union-attr]
    assert [step.total.settled for step in daily] == [24, 24, 24, 24]
    assert [step.total.settled for step in hourly] == [1] * 96
    assert daily[0].shares == {"x402-v1": 0.0, "x402-v2": 0.0, "mpp": 1.0}


def test_by_the_day_alone(fill: Fill) -> None:
    """A store that keeps days only gives the same figures for days."""
    events = [e for n in range(48) for e in paid(START + n * HOUR, f"p{n}", ALICE, "mpp")]
    url = fill(events, bucket_seconds=86400)
    assert report(url).total.settled == 24
    assert report(url, since=START + HOUR, until=START + DAY + 1).total.settled == 48


def test_shadow_and_passed(fill: Fill) -> None:
    """What the shadow said, and what a gateway passed on unread."""
    events = [
        told(START, "shadow.compared", "p", "x402-v1", payer=ALICE),
        told(START + 1, "shadow.disagreed", "q", "x402-v1", payer=ALICE, where="amount"),
        (START + 2, "payment.passed", base(protocol="x402-v2", status=402, amount=None)),
        (START + 3, "payment.passed", base(protocol="x402-v2", status=200, amount=None)),
    ]
    found = report(fill(events))
    assert (found.protocols["x402-v1"].compared, found.protocols["x402-v1"].disagreed) == (1, 1)
    own = found.protocols["x402-v2"]
    assert (own.passed, own.attempted, own.failed, own.delivered, own.settled) == (2, 2, 1, 0, 0)


def test_latencies(fill: Fill) -> None:
    """Quantiles of verification, settlement and the whole; exact from single events."""
    own = [paid(START + n, f"p{n}", ALICE, "mpp") for n in range(100)]
    for n, events in enumerate(own):
        events[0][2]["duration_ms"] = n + 1.0
    url = fill([event for events in own for event in events])
    exact = report(url, exact=True).protocols["mpp"].latency
    assert (exact["verify"].p50, exact["verify"].p95, exact["verify"].p99) == (50.0, 95.0, 99.0)
    rolled = report(url).protocols["mpp"].latency
    for measure, latency in exact.items():
        for name in ("p50", "p95", "p99"):
            assert abs(getattr(rolled[measure], name) / getattr(latency, name) - 1) <= 0.0101
        assert rolled[measure].count == latency.count == 100


def test_clients_that_get_nowhere(fill: Fill) -> None:
    """One that asks and never pays, one whose payments fail; none of those that get what they want, or asked seldom."""
    events = [challenged(START + n, agent="looper/0.1") for n in range(30)]
    events += [challenged(START + n, agent="seldom/1.0") for n in range(3)]
    for n in range(12):
        events += [
            challenged(START + n, agent="broken/2.3"),
            rejected(START + n, "mpp", "expired", "verify", agent="broken/2.3"),
        ]
        events += [challenged(START + n, agent="good/1.0"), *paid(START + n, f"g{n}", BOB, "x402-v2", agent="good/1.0")]
    with open_events(fill(events)) as opened:
        found = opened.clients(**SPAN)
    assert [(c.product, c.version, c.problem) for c in found] == [
        ("broken", "2.3", "keeps-failing"),
        ("looper", "0.1", "never-pays"),
    ]
    assert (found[0].failures, found[0].protocols, found[1].challenged) == ({"expired": 12}, ["mpp"], 30)


def test_marks(fill: Fill) -> None:
    """A lever that was moved is a mark, told once, however many processes tell of it."""
    moved = {
        "route": "GET /report",
        "protocol": "x402-v1",
        "before": "on",
        "after": "deprecated",
        "at": START,
        "by": "ann",
    }
    url = fill([(START + 1, "lever.changed", moved), (START + 2, "lever.changed", dict(moved))])
    with open_events(url) as opened:
        (mark,) = opened.marks(since=START, until=START + 10)
    assert (mark.at, mark.event, mark.route, mark.protocol, mark.stage, mark.by) == (
        START, "lever.changed", "GET /report", "x402-v1", "deprecated", "ann",
    )  # fmt: skip
    assert mark.detail == {"before": "on", "after": "deprecated"}


def test_the_tail(fill: Fill) -> None:
    """The latest events one by one, and those after one that is known."""
    with open_events(fill(paid(START, "p", ALICE, "mpp"))) as opened:
        rows = opened.tail()
        assert [row.fact.kind for row in rows] == ["payment.verified", "payment.settled", "payment.delivered"]
        assert rows[1].fact.payer == ALICE
        assert rows[1].fact.transaction == "0xab"
        assert [row.id for row in opened.tail(after=rows[1].id)] == [rows[2].id]
        assert [row.id for row in opened.tail(limit=1)] == [rows[2].id]
