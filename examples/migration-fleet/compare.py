"""The books against the reports: every figure that both have, one by one."""

from typing import Any

from books import DAY, HOUR, PROTOCOLS, Books

from bridge.analytics import Events

Mark = tuple[float, str, str]
"""When a protocol got to another stage, which, and where."""


class Comparison:
    """Counts what was equal, and keeps what was not."""

    def __init__(self) -> None:
        self.compared = 0
        self.differences: list[str] = []

    def equal(self, what: str, told: Any, own: Any) -> None:
        """Hold one figure against the other; of tables, each cell."""
        if isinstance(own, dict) and isinstance(told, dict):
            for key in sorted(own.keys() | told.keys(), key=str):
                self.equal(f"{what}, {key}", told.get(key), own.get(key))
            return
        self.compared += 1
        if told != own:
            self.differences.append(f"{what}: reported {told!r}, in the books {own!r}")

    def figures(self, what: str, told: Any, own: dict[str, Any]) -> None:
        """A group of figures."""
        self.equal(what, {name: getattr(told, name) for name in own}, own)


def compare(
    books: Books, events: Events, begin: float, days: int, moments: tuple[int, ...], marks: list[Mark]
) -> Comparison:
    """Ask everything of both; `marks` are the changes of stages that there have to be."""
    c = Comparison()
    end = begin + days * DAY
    spans = {"all": (begin, end), "twelve days": (begin + 9 * DAY + 5 * HOUR, begin + 21 * DAY + 17 * HOUR)}
    for span, (since, until) in spans.items():
        own = books.within(since, until)
        for by, key in _BY.items():
            told, mine = events.report(since=since, until=until, by=by), own.report(key)
            c.figures(f"{span}, total", told.total, mine["total"])
            c.equal(f"{span}, unidentified", told.unidentified, mine["unidentified"])
            for name in PROTOCOLS:
                c.figures(f"{span}, {name}", told.protocols[name], mine["protocols"][name])
            c.equal(f"{span}, by {by}", sorted(told.groups), sorted(mine["groups"]))
            for name, figures in mine["groups"].items():
                if name in told.groups:
                    c.figures(f"{span}, {by} {name}", told.groups[name], figures)
        c.equal(f"{span}, dropped", told.dropped, 0)
        _journeys(c, span, events.journeys(since=since, until=until, limit=10_000), books.journeys(since, until))
        odd = {
            client.product + (client.version and "/") + client.version: client.problem
            for client in events.clients(since=since, until=until)
        }
        c.equal(f"{span}, odd clients", odd, own.odd_clients())
    for day, step in enumerate(events.series(since=begin, until=end)):
        own = books.within(begin + day * DAY, begin + (day + 1) * DAY)
        mine = own.report()
        c.figures(f"day {day}, total", step.total, mine["total"])
        c.equal(f"day {day}, unidentified", step.unidentified, mine["unidentified"])
        for name in PROTOCOLS:
            c.figures(f"day {day}, {name}", step.protocols[name], mine["protocols"][name])
    told_of = [(mark.at, mark.protocol, mark.stage) for mark in events.marks(since=begin, until=end)]
    c.equal("marks", told_of, marks)
    for moment in (m for m in moments if m <= days):
        until = begin + moment * DAY
        for name in PROTOCOLS:
            told = events.readiness(name, since=until - 14 * DAY, until=until, limit=10_000)
            mine = books.readiness(name, until - 14 * DAY, until)
            stages = [stage for at, protocol, stage in marks if protocol == name and at < until]
            mine["stage"] = stages[-1] if stages else ""
            for kind in ("routes", "clients"):
                groups = {group.name: (group.payers, group.payments, group.revenue) for group in getattr(told, kind)}
                c.equal(f"readiness on day {moment}, {name}, {kind}", groups, mine.pop(kind))
            left = {one.payer: (one.payments, one.revenue, one.last_at, one.also) for one in told.left}
            c.equal(f"readiness on day {moment}, {name}, left", left, mine.pop("left"))
            c.figures(f"readiness on day {moment}, {name}", told, mine)
    return c


def _journeys(c: Comparison, span: str, told: Any, own: dict[str, Any]) -> None:
    summary, journeys = told
    c.equal(f"{span}, journeys", {name: getattr(summary, name) for name in own["summary"]}, own["summary"])
    each = {
        journey.payer: (
            str(journey.path),
            {name: (stay.payments, stay.first_at, stay.last_at) for name, stay in journey.stays.items()},
        )
        for journey in journeys
    }
    c.equal(f"{span}, each journey", each, own["each"])


_BY = {
    "route": lambda line: line.route,
    "client": lambda line: line.client,
    "product": lambda line: line.client.partition("/")[0],
}
