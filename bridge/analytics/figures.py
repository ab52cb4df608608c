"""From rows of figures to the figures of a report: sums, shares, quantiles, distinct payers. No I/O."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from bridge.analytics.facts import Dimensions
from bridge.analytics.histogram import Histogram, exact_quantile

__all__ = ["Figures", "Latency", "Rows", "Tally", "amounts", "gather"]

L = TypeVar("L", bound=Hashable)
MEASURES = ("verify", "settle", "total")


class Rows(msgspec.Struct):
    """What figures are made of, each row once. A bucket is Unix seconds, or 0 where it does not matter."""

    counts: Iterable[tuple[int, Dimensions, str, str, int]] = ()
    """What was counted, of failures why, and how often."""
    money: Iterable[tuple[int, Dimensions, int, int]] = ()
    """Payments and their amount."""
    timings: Iterable[tuple[int, Dimensions, str, Histogram | Sequence[float]]] = ()
    payers: Iterable[tuple[int, Dimensions, Hashable]] = ()
    """Who paid; the same payer in any number of rows."""


class Latency(msgspec.Struct, frozen=True):
    """Quantiles of a duration, in milliseconds; None where nothing was measured."""

    count: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Figures(msgspec.Struct, frozen=True):
    """What is known of a group of requests and payments."""

    challenged: int
    """Unpaid requests that were answered with a challenge; of a protocol, those that offered it."""
    said: int
    """Of these, those whose client said which protocol it speaks before it paid."""
    attempted: int
    """Requests that came with a credential."""
    delivered: int
    """Payments whose answer went out whole, each once."""
    failed: int
    """Requests with a credential that ended without the answer: refused, unknown, or settled and not delivered."""
    replayed: int
    """Requests that got the kept answer of a payment that was delivered before."""
    passed: int
    """Requests whose credential a gateway could not judge and passed on: what became of their money is not known."""
    compared: int
    """Payments that the shadow found MPP to agree about."""
    disagreed: int
    """Payments that it found MPP not to."""
    settled: int
    """Payments whose money moved, each once, whatever became of the answer and whoever found out."""
    payers: int
    """Distinct payers of these."""
    revenue: dict[str, str]
    """Their sums by asset, in atomic units, exact. An asset that is on several networks stands as `network/asset`."""
    conversion: float | None
    """`delivered` for each of `challenged`."""
    success: float | None
    """`delivered` for each of `attempted`."""
    failures: dict[str, int]
    """`failed` by reason, the most frequent first."""
    latency: dict[str, Latency]
    """Of `verify`, `settle` and `total`."""


class Tally:
    """Adds rows up."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.failures: dict[str, int] = {}
        self.settled = 0
        self.money: dict[tuple[str, str], int] = {}
        self.payers: set[Hashable] = set()
        self.histograms: dict[str, Histogram] = {}
        self.durations: dict[str, list[float]] = {}

    def figures(self, *, of_protocol: bool) -> Figures:
        """The sums; `of_protocol`, challenges count where they offered it, and not where their client said so."""
        said, offered = self.counts.get("challenged", 0), self.counts.get("offered", 0)
        challenged = offered if of_protocol else said
        attempted, delivered = self.counts.get("attempted", 0), self.counts.get("delivered", 0)
        return Figures(
            challenged=challenged,
            said=said if of_protocol else self.counts.get("identified", 0),
            attempted=attempted,
            delivered=delivered,
            failed=sum(self.failures.values()),
            replayed=self.counts.get("replayed", 0),
            passed=self.counts.get("passed", 0),
            compared=self.counts.get("compared", 0),
            disagreed=self.counts.get("disagreed", 0),
            settled=self.settled,
            payers=len(self.payers),
            revenue=amounts(self.money),
            conversion=_share(delivered, challenged),
            success=_share(delivered, attempted),
            failures=dict(sorted(self.failures.items(), key=lambda item: (-item[1], item[0]))),
            latency={measure: self._latency(measure) for measure in MEASURES},
        )

    def _latency(self, measure: str) -> Latency:
        if durations := self.durations.get(measure):
            ordered = sorted(durations)
            return _quantiles(len(ordered), lambda share: exact_quantile(ordered, share))
        histogram = self.histograms.get(measure, Histogram())
        return _quantiles(histogram.count, histogram.quantile)


def gather(rows: Rows, labels: Callable[[int, Dimensions], Iterable[L]]) -> dict[L, Tally]:
    """Add `rows` up under each of the labels that a bucket and its dimensions have."""
    tallies = _Tallies[L]()
    for bucket, own, what, reason, times in rows.counts:
        for tally in map(tallies.of, labels(bucket, own)):
            if what == "failed":
                tally.failures[reason] = tally.failures.get(reason, 0) + times
            else:
                tally.counts[what] = tally.counts.get(what, 0) + times
                if what == "challenged" and own.protocol:
                    tally.counts["identified"] = tally.counts.get("identified", 0) + times
    for bucket, own, payments, amount in rows.money:
        for tally in map(tallies.of, labels(bucket, own)):
            tally.settled += payments
            key = (own.network, own.asset)
            tally.money[key] = tally.money.get(key, 0) + amount
    for bucket, own, measure, values in rows.timings:
        for tally in map(tallies.of, labels(bucket, own)):
            if isinstance(values, Histogram):
                tally.histograms.setdefault(measure, Histogram()).merge(values)
            else:
                tally.durations.setdefault(measure, []).extend(values)
    cache: dict[tuple[int, Dimensions], list[set[Any]]] = {}
    for bucket, own, payer in rows.payers:
        found = cache.get((bucket, own))
        if found is None:
            found = cache[bucket, own] = [tallies.of(label).payers for label in labels(bucket, own)]
        for payers in found:
            payers.add(payer)
    return tallies.made


class _Tallies(Generic[L]):
    def __init__(self) -> None:
        self.made: dict[L, Tally] = {}

    def of(self, label: L) -> Tally:
        return self.made.setdefault(label, Tally())


def amounts(money: dict[tuple[str, str], int]) -> dict[str, str]:
    """Sums by asset as reports write them: as text, because JSON's readers round numbers beyond 2**53.

    Units of one address on two networks are two assets, and are not added.
    """
    assets = [asset for _, asset in money]
    named = {(asset if assets.count(asset) == 1 else f"{net}/{asset}"): sum_ for (net, asset), sum_ in money.items()}
    return {name: str(sum_) for name, sum_ in sorted(named.items())}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _quantiles(count: int, quantile: Callable[[float], float | None]) -> Latency:
    p50, p95, p99 = (None if (value := quantile(q)) is None else round(value, 3) for q in (0.5, 0.95, 0.99))
    return Latency(count, p50, p95, p99)
