"""The reports, as pure functions of rows: figures by protocol and by one more thing, over time, and of odd clients."""

from collections.abc import Sequence

import msgspec

from bridge.analytics.facts import PROTOCOLS, Dimensions
from bridge.analytics.figures import Figures, Rows, Tally, gather

__all__ = ["BREAKDOWNS", "Filters", "OddClient", "Report", "Span", "Step", "make_report", "odd_clients", "series"]

BREAKDOWNS = ("route", "network", "asset", "protocol", "client", "product")
"""What a report can be broken down by: `client` is product and version."""


class Filters(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a report is narrowed to; None leaves all in."""

    route: str | None = None
    network: str | None = None
    asset: str | None = None
    protocol: str | None = None
    product: str | None = None
    version: str | None = None
    x402_only: bool | None = None

    def match(self, own: Dimensions) -> bool:
        """Whether figures with these dimensions are in."""
        return all(
            wanted is None or wanted == getattr(own, name)
            for name, wanted in zip(self.__struct_fields__, msgspec.structs.astuple(self), strict=True)
        )


class Span(msgspec.Struct, frozen=True):
    """From when to when, in Unix seconds; the end is not in it."""

    since: float
    until: float

    def __post_init__(self) -> None:
        if not self.since < self.until:
            raise ValueError("a span ends after it begins")


class Report(msgspec.Struct, frozen=True):
    """The figures of a span."""

    since: float
    until: float
    recorded_since: float | None
    """When the first bucket of figures that are kept begins; None where nothing is recorded."""
    dropped: int
    """Events that were not recorded, because too many came at once or the store was away. The figures lack them."""
    exact: bool
    """Whether quantiles are exact; else they are right to one part in a hundred."""
    filters: Filters
    total: Figures
    protocols: dict[str, Figures]
    unidentified: int
    """Unpaid requests whose client never said what it speaks: of `total.challenged`."""
    x402_only: Figures
    """Payments that x402 v2 alone can carry; they are in `x402-v2` as well."""
    by: str | None = None
    groups: dict[str, Figures] = {}
    """The figures by `by`, the most delivered first."""


def make_report(
    rows: Rows,
    span: Span,
    *,
    filters: Filters,
    by: str | None,
    exact: bool,
    recorded_since: float | None,
    dropped: int,
) -> Report:
    """The report on `rows`, which are those of `span` that match `filters`."""

    def labels(_: int, own: Dimensions) -> Sequence[tuple[str, str]]:
        found = [("total", ""), ("protocol", own.protocol)]
        if own.x402_only:
            found.append(("x402_only", ""))
        if by is not None and by != "protocol":
            found.append((by, getattr(own, by)))
        return found

    tallies = gather(rows, labels)
    of_protocol = filters.protocol is not None

    def figures(label: tuple[str, str]) -> Figures:
        return tallies.get(label, Tally()).figures(of_protocol=of_protocol or label[0] == "protocol")

    protocols = {name: figures(("protocol", name)) for name in PROTOCOLS if filters.protocol in (None, name)}
    groups = protocols
    if by is None:
        groups = {}
    elif by != "protocol":
        groups = {value: figures((kind, value)) for kind, value in tallies if kind == by}
    total = figures(("total", ""))
    return Report(
        since=span.since,
        until=span.until,
        recorded_since=recorded_since,
        dropped=dropped,
        exact=exact,
        filters=filters,
        total=total,
        protocols=protocols,
        unidentified=0 if of_protocol else total.challenged - total.said,
        x402_only=figures(("x402_only", "")),
        by=by,
        groups=dict(sorted(groups.items(), key=lambda item: (-item[1].delivered, -item[1].challenged, item[0]))),
    )


class Step(msgspec.Struct, frozen=True):
    """The figures of one step of time, by protocol."""

    since: float
    until: float
    protocols: dict[str, Figures]
    shares: dict[str, float | None]
    """Of each protocol in the payments whose money moved; None where none did."""
    unidentified: int
    total: Figures


def series(rows: Rows, span: Span, *, step_seconds: int) -> list[Step]:
    """The figures of every step of `span`, those without any included; the first begins where the span does."""

    def labels(bucket: int, own: Dimensions) -> Sequence[tuple[int, str]]:
        number = int((bucket - span.since) // step_seconds)
        return [(number, ""), (number, f"protocol {own.protocol}")]

    tallies = gather(rows, labels)
    steps = []
    number, since = 0, span.since
    while since < span.until:
        own = {name: tallies.get((number, f"protocol {name}"), Tally()).figures(of_protocol=True) for name in PROTOCOLS}
        total = tallies.get((number, ""), Tally()).figures(of_protocol=False)
        shares = {
            name: round(figures.settled / total.settled, 6) if total.settled else None for name, figures in own.items()
        }
        until = min(since + step_seconds, span.until)
        steps.append(Step(since, until, own, shares, total.challenged - total.said, total))
        number, since = number + 1, since + step_seconds
    return steps


class OddClient(msgspec.Struct, frozen=True):
    """A client, by product and version, that gets nowhere."""

    product: str
    version: str
    problem: str
    """`never-pays`: asks again and again, and no credential ever comes. `keeps-failing`: what it sends is refused."""
    challenged: int
    attempted: int
    delivered: int
    failed: int
    failures: dict[str, int]
    protocols: list[str]
    """In which it tried."""


def odd_clients(rows: Rows, *, least: int = 10, failing: float = 0.5) -> list[OddClient]:
    """Clients that were challenged `least` times and never paid, or failed that often and in that share of attempts."""

    def labels(_: int, own: Dimensions) -> Sequence[tuple[str, str, str | None]]:
        return [(own.product, own.version, None), (own.product, own.version, own.protocol)]

    tallies = gather(rows, labels)
    found = []
    for (product, version, protocol), tally in tallies.items():
        if protocol is not None:
            continue
        figures = tally.figures(of_protocol=False)
        if figures.challenged >= least and not figures.attempted:
            problem = "never-pays"
        elif figures.failed >= least and figures.failed >= failing * figures.attempted:
            problem = "keeps-failing"
        else:
            continue
        tried = [
            name
            for name in PROTOCOLS
            if (own := tallies.get((product, version, name))) is not None and own.counts.get("attempted")
        ]
        found.append(
            OddClient(
                product=product,
                version=version,
                problem=problem,
                challenged=figures.challenged,
                attempted=figures.attempted,
                delivered=figures.delivered,
                failed=figures.failed,
                failures=figures.failures,
                protocols=tried,
            )
        )
    return sorted(found, key=lambda client: (-client.failed, -client.challenged, client.product, client.version))
