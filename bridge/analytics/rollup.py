"""From facts to figures by hour or day: what is stored beside the facts, and what reports are made from.

A roll-up of some facts, added to the roll-up of others, is the roll-up of all of them: in any order, in any portions.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence

import msgspec

from bridge.analytics.facts import DELIVERED, EARNED, Dimensions, Fact
from bridge.analytics.figures import Rows
from bridge.analytics.histogram import Histogram

__all__ = ["Measure", "Money", "PayerBucket", "Rollup", "Seen", "bucket_of", "count_once"]

Measure = str
"""`verify`, `settle` or `total`."""

_MEASURES = {"payment.verified": "verify", "payment.settled": "settle", "payment.delivered": "total"}
_MOVED = ("payment.settled", "payment.delivered", "payment.undelivered")
"""Events that say that the money moved. Each of them does: the one before it may have been lost."""
_UNADMITTED = ("read", "verify", "claim", "")


class Seen(msgspec.Struct):
    """What is remembered of a payment, so that it counts once."""

    product: str = ""
    version: str = ""
    counts: int = 0


def count_once(facts: Iterable[Fact], ledger: MutableMapping[bytes, Seen]) -> list[Fact]:
    """Mark the fact that each payment's money, and its delivery, is counted by; `ledger` remembers across calls.

    A settlement that is told again (by the reconciler, by a delivery, by a second process) counts once.
    """
    marked: list[Fact] = []
    for fact in facts:
        if not fact.payment:
            marked.append(fact)
            continue
        seen = ledger.setdefault(fact.payment, Seen())
        counts = 0
        if fact.kind in _MOVED or (fact.kind == "payment.reconciled" and fact.outcome == "settled"):
            counts |= EARNED
        if fact.kind == "payment.delivered":
            counts |= DELIVERED
        dimensions = fact.dimensions
        if dimensions.product:
            if not seen.product:
                seen.product, seen.version = dimensions.product, dimensions.version
        elif seen.product:
            dimensions = msgspec.structs.replace(dimensions, product=seen.product, version=seen.version)
        counts &= ~seen.counts
        seen.counts |= counts
        if counts or dimensions is not fact.dimensions:
            fact = msgspec.structs.replace(fact, counts=counts, dimensions=dimensions)
        marked.append(fact)
    return marked


def bucket_of(at: float, seconds: int) -> int:
    """When the bucket begins that a moment is in, in Unix seconds."""
    return int(at // seconds) * seconds


class Money(msgspec.Struct):
    """Payments whose money moved, and how much of it, in atomic units."""

    payments: int = 0
    amount: int = 0


class PayerBucket(msgspec.Struct):
    """What one payer paid in one bucket, and when first and last."""

    payments: int
    amount: int
    first_at: float
    last_at: float


class Rollup:
    """Figures by bucket and dimensions."""

    def __init__(self, bucket_seconds: int) -> None:
        self.bucket_seconds = bucket_seconds
        self.counts: defaultdict[tuple[int, Dimensions, str, str], int] = defaultdict(int)
        """By what was counted and, of failures, why."""
        self.money: defaultdict[tuple[int, Dimensions], Money] = defaultdict(Money)
        self.timings: defaultdict[tuple[int, Dimensions, Measure], Histogram] = defaultdict(Histogram)
        self.payers: dict[tuple[int, Dimensions, str], PayerBucket] = {}

    def add(self, fact: Fact) -> None:
        """Count a fact that went through `count_once`."""
        bucket, own = bucket_of(fact.at, self.bucket_seconds), fact.dimensions
        match fact.kind:
            case "payment.challenged":
                self.counts[bucket, own, "challenged", ""] += 1
                for protocol in fact.offered:
                    self.counts[bucket, msgspec.structs.replace(own, protocol=protocol), "offered", ""] += 1
            case "payment.verified":
                self.counts[bucket, own, "attempted", ""] += 1
            case "payment.replayed":
                self.counts[bucket, own, "attempted", ""] += 1
                self.counts[bucket, own, "replayed", ""] += 1
            case "payment.rejected" | "payment.unknown":
                if fact.stage in _UNADMITTED:
                    # Else the request was counted when its payment was verified.
                    self.counts[bucket, own, "attempted", ""] += 1
                self.counts[bucket, own, "failed", fact.reason] += 1
            case "payment.passed":
                self.counts[bucket, own, "attempted", ""] += 1
                self.counts[bucket, own, "passed", ""] += 1
                if fact.status >= 400:
                    self.counts[bucket, own, "failed", "passed"] += 1
            case "shadow.compared":
                self.counts[bucket, own, "compared", ""] += 1
            case "shadow.disagreed":
                self.counts[bucket, own, "disagreed", ""] += 1
            case "payment.undelivered":
                self.counts[bucket, own, "failed", "undelivered"] += 1
        if fact.counts & DELIVERED:
            self.counts[bucket, own, "delivered", ""] += 1
        if fact.counts & EARNED:
            self._earn(bucket, fact)
        if (measured := self.measure(fact)) is not None:
            self.timings[bucket, own, measured[0]].add(measured[1])

    def _earn(self, bucket: int, fact: Fact) -> None:
        money = self.money[bucket, fact.dimensions]
        money.payments += 1
        money.amount += fact.amount
        if fact.payer:
            self._pay((bucket, fact.dimensions, fact.payer), PayerBucket(1, fact.amount, fact.at, fact.at))

    def coarser(self, bucket_seconds: int) -> "Rollup":
        """The same figures in larger buckets."""
        found = Rollup(bucket_seconds)
        for (bucket, own, what, reason), times in self.counts.items():
            found.counts[bucket_of(bucket, bucket_seconds), own, what, reason] += times
        for (bucket, own), money in self.money.items():
            sums = found.money[bucket_of(bucket, bucket_seconds), own]
            sums.payments += money.payments
            sums.amount += money.amount
        for (bucket, own, measure), histogram in self.timings.items():
            found.timings[bucket_of(bucket, bucket_seconds), own, measure].merge(histogram)
        for (bucket, own, payer), hour in self.payers.items():
            found._pay((bucket_of(bucket, bucket_seconds), own, payer), hour)
        return found

    def _pay(self, key: tuple[int, Dimensions, str], paid: PayerBucket) -> None:
        """Add what a payer paid to what is known of him in this bucket."""
        known = self.payers.get(key)
        if known is None:
            self.payers[key] = msgspec.structs.replace(paid)
            return
        known.payments += paid.payments
        known.amount += paid.amount
        known.first_at, known.last_at = min(known.first_at, paid.first_at), max(known.last_at, paid.last_at)

    @staticmethod
    def measure(fact: Fact) -> tuple[Measure, float] | None:
        """What a fact says of how long something took, in milliseconds."""
        measure = _MEASURES.get(fact.kind)
        return None if measure is None or fact.milliseconds is None else (measure, fact.milliseconds)

    def rows(
        self,
        match: Callable[[Dimensions], bool] = lambda _: True,
        durations: Mapping[tuple[Dimensions, Measure], Sequence[float]] | None = None,
    ) -> Rows:
        """What reports are made of, where dimensions `match`; with the single `durations` instead of histograms."""
        timings: Iterable[tuple[int, Dimensions, Measure, Histogram | Sequence[float]]]
        if durations is None:
            timings = ((bucket, own, what, kept) for (bucket, own, what), kept in self.timings.items() if match(own))
        else:
            timings = ((0, own, what, kept) for (own, what), kept in durations.items() if match(own))
        return Rows(
            counts=((bucket, own, w, why, n) for (bucket, own, w, why), n in self.counts.items() if match(own)),
            money=((bucket, own, m.payments, m.amount) for (bucket, own), m in self.money.items() if match(own)),
            timings=timings,
            payers=((bucket, own, payer) for bucket, own, payer in self.payers if match(own)),
        )
