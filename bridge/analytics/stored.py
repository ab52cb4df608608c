"""What the event store's tables hold, as one transaction sees it: spans in buckets, rows of figures, single events."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from bridge.analytics.coverage import Covered
from bridge.analytics.database import Database
from bridge.analytics.facts import KINDS, PROTOCOLS, Dimensions, Fact
from bridge.analytics.figures import Rows
from bridge.analytics.histogram import Histogram
from bridge.analytics.report import Filters, Span
from bridge.analytics.rollup import Rollup
from bridge.analytics.writer import read_dimensions

__all__ = ["DAY", "WITHIN", "Part", "Recorded", "Stored"]

DAY = 86400
HOUR = 3600
WITHIN = "grain = ? AND bucket >= ? AND bucket < ?"

Part = tuple[int, int, int]
"""Buckets of one grain, in seconds, from one until before another."""


class Recorded(msgspec.Struct, frozen=True):
    """An event as it is kept."""

    id: int
    fact: Fact


class Stored:
    """The tables of `database`, for as long as its transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dimensions: dict[int, Dimensions] = dict(read_dimensions(database))
        self._meta = {str(name): str(value) for name, value in self.execute("SELECT name, value FROM meta")}
        self.bucket_seconds = int(self._meta.get("bucket_seconds", 3600))

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Iterable[tuple[Any, ...]]:
        """See `Database.execute`."""
        return self._database.execute(sql, parameters)

    def aligned(self, since: float, until: float, seconds: int | None = None) -> Span:
        """The span of whole buckets that holds this one: of `seconds`, or of what figures are kept by there."""
        span, fine = Span(since, until), self.bucket_seconds
        first_hour: float | None = self.first(fine)
        first_day = self.first(DAY)
        if seconds is None:
            # Where figures by hour are not kept any more, the day counts whole.
            first_hour = math.inf if first_hour is None else first_hour
            is_old = first_day is not None and span.since < first_hour and first_day + DAY <= first_hour
            seconds = DAY if is_old else fine
        return Span(float(span.since // seconds * seconds), float(math.ceil(span.until / seconds) * seconds))

    def covered(self) -> Covered:
        """From when to when is recorded what happened, also where nothing did."""
        first = self.recorded_since()
        kept = self._meta.get("kept_since")
        kept_since = None if kept is None else float(kept)
        if first is None:
            return Covered(None, None, kept_since)
        began = float(self._meta.get("began", first)) // self.bucket_seconds * self.bucket_seconds
        ((heard,),) = self.execute("SELECT MAX(at) FROM health")
        # What is not kept any more was recorded for nothing.
        return Covered(
            since=min(first, max(began, kept_since or began)),
            until=max(self.recorded_until(), heard or 0.0),
            kept_since=kept_since,
            silences=tuple(self._silences()),
        )

    def _silences(self) -> Iterator[Span]:
        """Stretches of more than a day between two words of servers, in which nothing was recorded either."""
        before: int | None = None
        for (hour,) in list(self.execute("SELECT hour FROM heard ORDER BY hour")):
            if before is not None and hour - (before + HOUR) > DAY:
                within = (self.bucket_seconds, before + HOUR, hour)
                if not list(self.execute(f"SELECT 1 FROM counts WHERE {WITHIN} LIMIT 1", within)):  # noqa: S608
                    yield Span(float(before + HOUR), float(hour))
            before = hour

    def recorded_since(self) -> float | None:
        """When the first bucket began that has figures; None where there are none."""
        first_hour, first_day = self.first(self.bucket_seconds), self.first(DAY)
        # The first day began before the first hour, and says less.
        is_same_day = first_hour is not None and first_day is not None and first_hour < first_day + DAY
        found = first_hour if is_same_day or first_day is None else first_day
        return None if found is None else float(found)

    def recorded_until(self) -> float:
        """The end of the last bucket that has figures; where there are some."""
        # The last row of an index, where the largest sum of two columns would read all of them.
        last, grain = self._last(self.bucket_seconds), self.bucket_seconds
        if last is None:
            last, grain = self._last(DAY), DAY
        return float((last or 0) + grain)

    def _last(self, grain: int) -> int | None:
        ((last,),) = self.execute("SELECT MAX(bucket) FROM counts WHERE grain = ?", (grain,))
        return None if last is None else int(last)

    def first(self, grain: int) -> int | None:
        """The first bucket of a grain."""
        ((first,),) = self.execute("SELECT MIN(bucket) FROM counts WHERE grain = ?", (grain,))
        return None if first is None else int(first)

    def parts(self, span: Span, grain: int = 0) -> list[Part]:
        """The buckets of a span: whole days by the day, and what is left at its ends by the hour."""
        fine, since, until = self.bucket_seconds, int(span.since), int(span.until)
        if grain:
            return [(grain, since, until)]
        first, last = math.ceil(since / DAY) * DAY, until // DAY * DAY
        if fine == DAY or first >= last:
            return [(fine, since, until)]
        parts = [(fine, since, first), (DAY, first, last), (fine, last, until)]
        return [part for part in parts if part[1] < part[2]]

    def dropped(self, span: Span) -> int:
        """How many events of the span were not recorded."""
        ((events,),) = self.execute(
            "SELECT CAST(COALESCE(SUM(events), 0) AS {int}) FROM dropped WHERE bucket >= ? AND bucket < ?",
            (int(span.since), math.ceil(span.until)),
        )
        return int(events)

    def rows(self, span: Span, filters: Filters, *, grain: int = 0) -> Rows:
        """The rows of a span; by bucket where they are asked for in one grain, else with 0 for a bucket."""
        wanted = {number: own for number, own in self.dimensions.items() if filters.match(own)}
        bucket, grouped = ("bucket", "bucket, dimension") if grain else ("0", "dimension")
        parts = self.parts(span, grain)

        def execute(sql: str) -> Iterator[tuple[Any, ...]]:
            for part in parts:
                yield from self.execute(sql, part)

        counts = execute(
            f"SELECT {bucket}, dimension, what, reason, CAST(SUM(times) AS {{int}}) FROM counts"  # noqa: S608
            f" WHERE {WITHIN} GROUP BY {grouped}, what, reason",
        )
        money = execute(
            f"SELECT {bucket}, dimension, CAST(SUM(payments) AS {{int}}), {{sum}}(amount) FROM money"  # noqa: S608
            f" WHERE {WITHIN} GROUP BY {grouped}",
        )
        timings = execute(
            f"SELECT {bucket}, dimension, measure, histogram FROM timings WHERE {WITHIN}",  # noqa: S608
        )
        # Not DISTINCT: the same payer may come again, and sorting millions of rows takes longer than a set does.
        payers = execute(
            f"SELECT {bucket}, dimension, payer FROM payer_buckets WHERE {WITHIN}",  # noqa: S608
        )
        return Rows(
            counts=((at, wanted[n], what, why, times) for at, n, what, why, times in counts if n in wanted),
            money=((at, wanted[n], times, int(amount)) for at, n, times, amount in money if n in wanted),
            timings=((at, wanted[n], what, Histogram.decode(data)) for at, n, what, data in timings if n in wanted),
            payers=((at, wanted[n], payer) for at, n, payer in payers if n in wanted),
        )

    def rows_of_facts(self, span: Span, filters: Filters) -> Rows:
        """The rows that the single events of a span make."""
        rollup = Rollup(self.bucket_seconds)
        durations: dict[tuple[Dimensions, str], list[float]] = {}
        for recorded in self.facts("WHERE e.at >= ? AND e.at < ? ORDER BY e.id", (span.since, span.until)):
            rollup.add(recorded.fact)
            if (measured := rollup.measure(recorded.fact)) is not None:
                durations.setdefault((recorded.fact.dimensions, measured[0]), []).append(measured[1])
        return rollup.rows(filters.match, durations)

    def facts(self, where: str, parameters: tuple[Any, ...]) -> Iterator[Recorded]:
        """Single events, as `where` says of `events e`."""
        rows = self.execute(
            "SELECT e.id, e.at, e.kind, e.dimension, e.payment, p.address, e.amount, e.reason, e.stage, e.outcome,"  # noqa: S608
            ' e.status, e.milliseconds, e.offered, e.correlation_id, e."transaction", e.counts'
            f" FROM events e LEFT JOIN payers p ON p.id = e.payer {where}",
            parameters,
        )
        for number, at, kind, dimension, payment, payer, amount, *words, status, ms, offered, ids, sent, counts in rows:
            reason, stage, outcome = (word or "" for word in words)
            yield Recorded(
                number,
                Fact(
                    at=at,
                    kind=KINDS[kind],
                    dimensions=self.dimensions[dimension],
                    payment=bytes(payment or b""),
                    payer=payer or "",
                    amount=int(amount or 0),
                    reason=reason,
                    stage=stage,
                    outcome=outcome,
                    status=status or 0,
                    milliseconds=ms,
                    offered=tuple(name for place, name in enumerate(PROTOCOLS) if offered >> place & 1),
                    correlation_id=ids or "",
                    transaction=sent or "",
                    counts=counts,
                ),
            )

    def addresses(self, numbers: Iterable[int]) -> dict[int, str]:
        """Payers by number."""
        wanted = ", ".join(str(int(number)) for number in numbers)
        if not wanted:
            return {}
        rows = self.execute(f"SELECT id, address FROM payers WHERE id IN ({wanted})")  # noqa: S608
        return {number: address for number, address in rows}  # noqa: C416
