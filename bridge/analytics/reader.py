"""Reads the event store: every question that reports and dashboards ask, as one method each.

    with open_events("sqlite:events.sqlite3") as events:
        report = events.report(since=..., until=...)

Times are Unix seconds. A span begins and ends at full hours (or days, as the store is set, and where it is older than
figures by hour are kept): its figures are those of every bucket that it touches.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import msgspec

from bridge.analytics.database import Database, open_database
from bridge.analytics.facts import KINDS, PROTOCOLS, Dimensions, Fact, Mark
from bridge.analytics.figures import Rows, amounts, gather
from bridge.analytics.histogram import Histogram
from bridge.analytics.journeys import Journey, Stay, Summary, journey_of, summarize
from bridge.analytics.readiness import Left, LeftGroup, Readiness, covered_days, next_steps, per_day, share_lost
from bridge.analytics.report import (
    BREAKDOWNS,
    Filters,
    OddClient,
    Report,
    Span,
    Step,
    make_report,
    odd_clients,
    series,
)
from bridge.analytics.rollup import Rollup
from bridge.analytics.writer import read_dimensions
from translators.errors import ProtocolRefused

__all__ = ["Events", "Recorded", "open_events"]

EVERYTHING = Filters()
_SHUT = ProtocolRefused.x402_reason
DAY = 86400
WITHIN = "grain = ? AND bucket >= ? AND bucket < ?"

Part = tuple[int, int, int]
"""Buckets of one grain, in seconds, from one until before another."""


class Recorded(msgspec.Struct, frozen=True):
    """An event as it is kept."""

    id: int
    fact: Fact


def open_events(url: str) -> "Events":
    """The events at a path, `sqlite:PATH` or `postgresql://...`, to be read beside the servers that write them.

    Raises `EventsUnavailable` where there are none or they cannot be had, and what `open_database` raises.
    """
    return Events(open_database(url, write=False))


class Events:
    """Questions to one event store, for the thread that opened it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._dimensions: dict[int, Dimensions] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection up."""
        self._database.close()

    def report(
        self, *, since: float, until: float, filters: Filters = EVERYTHING, by: str | None = None, exact: bool = False
    ) -> Report:
        """The figures of a span, by protocol and `by` one of `BREAKDOWNS`.

        `exact` reads the single events: the span is then to the second, and quantiles are exact. It takes memory by
        the event, and goes back as far as single events are kept. Raises `ValueError` for another `by`.
        """
        if by is not None and by not in BREAKDOWNS:
            raise ValueError(f"by: give one of {', '.join(BREAKDOWNS)}")
        with self._reading():
            span = Span(since, until) if exact else self._aligned(since, until)
            return make_report(
                self._rows_of_facts(span, filters) if exact else self._rows(span, filters),
                span,
                filters=filters,
                by=by,
                exact=exact,
                recorded_since=self._recorded_since(),
                dropped=self._dropped(span),
            )

    def series(
        self, *, since: float, until: float, step_seconds: int = 86400, filters: Filters = EVERYTHING
    ) -> list[Step]:
        """The figures of a span step by step: the share of each protocol over time. Without latencies."""
        with self._reading():
            fine = self._bucket_seconds()
            step = max(1, math.ceil(step_seconds / fine)) * fine
            # Whole days begin at midnight.
            span = self._aligned(since, until, DAY if step % DAY == 0 else fine)
            rows = self._rows(span, filters, grain=DAY if step % DAY == 0 else fine)
            return series(msgspec.structs.replace(rows, timings=()), span, step_seconds=step)

    def clients(
        self, *, since: float, until: float, filters: Filters = EVERYTHING, least: int = 10, failing: float = 0.5
    ) -> list[OddClient]:
        """Clients that loop on 402, or fail again and again: see `odd_clients`."""
        with self._reading():
            rows = self._rows(self._aligned(since, until), filters)
            return odd_clients(Rows(counts=rows.counts), least=least, failing=failing)

    def journeys(self, *, since: float, until: float, limit: int = 20) -> tuple[Summary, list[Journey]]:
        """The ways of everybody who paid in the span, as they are known today, and the latest `limit` one by one."""
        with self._reading():
            span = self._aligned(since, until)
            present = {
                payer
                for part in self._parts(span)
                for (payer,) in self._database.execute(f"SELECT payer FROM payer_buckets WHERE {WITHIN}", part)  # noqa: S608
            }
            latest: list[tuple[float, Journey]] = []
            summary = summarize(self._journeys(present, latest, limit))
            latest = sorted(latest, key=_latest_first)[:limit]
            names = self._addresses(int(journey.payer) for _, journey in latest)
            return summary, [
                msgspec.structs.replace(journey, payer=names.get(int(journey.payer), "")) for _, journey in latest
            ]

    def _journeys(self, present: set[int], latest: list[tuple[float, Journey]], limit: int) -> Iterator[Journey]:
        """Every journey of those `present`; `latest` gets the last `limit` of them."""
        rows = self._database.execute(
            "SELECT payer, protocol, payments, first_at, last_at FROM journeys ORDER BY payer, protocol"
        )
        payer = -1
        stays: dict[str, Stay] = {}
        for number, protocol, payments, first_at, last_at in _ended(rows):
            if number != payer:
                if stays and payer in present:
                    journey = journey_of(str(payer), stays)
                    _keep_latest(latest, journey, limit)
                    yield journey
                payer, stays = number, {}
            stays[protocol] = Stay(payments, first_at, last_at)

    def readiness(self, protocol: str, *, since: float, until: float, limit: int = 20) -> Readiness:
        """Whom switching `protocol` off today would lose. Raises `ValueError` for what is no protocol."""
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol: give one of {', '.join(PROTOCOLS)}")
        with self._reading():
            return self._readiness(protocol, self._aligned(since, until), limit)

    def _readiness(self, protocol: str, span: Span, limit: int) -> Readiness:
        def labels(_: int, own: Dimensions) -> list[tuple[str, str]]:
            if own.protocol != protocol:
                return [("all", "")]
            return [("all", ""), ("own", ""), ("route", own.route), ("client", own.client)]

        rows = self._rows(span, EVERYTHING)
        # The sets of payers are the memory of this: one number for each payer, route and client.
        tallies = gather(Rows(money=rows.money, payers=rows.payers), labels)
        own, everybody = tallies.get(("own", "")), tallies.get(("all", ""))
        mine: set[Any] = own.payers if own is not None else set()
        also = self._also(protocol, mine, span.until)
        money = own.money if own is not None else {}
        payments = own.settled if own is not None else 0
        all_payers = len(everybody.payers) if everybody is not None else 0
        all_payments = everybody.settled if everybody is not None else 0
        of_payers, of_payments, share = share_lost(len(mine), all_payers, payments, all_payments)
        groups = {
            kind: sorted(
                (
                    LeftGroup(name, len(tally.payers), tally.settled, amounts(tally.money))
                    for (found, name), tally in tallies.items()
                    if found == kind
                ),
                key=lambda group: (-group.payments, group.name),
            )
            for kind in ("route", "client")
        }
        recorded_since, dropped = self._recorded_since(), self._dropped(span)
        days = covered_days(span, recorded_since)
        left, named = self._left(protocol, span, limit, also)
        refused, stage = self._refused(protocol, span), self._stage(protocol, span.until)
        return Readiness(
            protocol=protocol,
            since=span.since,
            until=span.until,
            days=round(days, 4),
            recorded_since=recorded_since,
            dropped=dropped,
            payers=len(mine),
            moved=len(also),
            payments=payments,
            unnamed_payments=payments - named,
            revenue=amounts(money),
            revenue_per_day=per_day(money, days),
            all_payers=all_payers,
            all_payments=all_payments,
            share_of_payers=of_payers,
            share_of_payments=of_payments,
            share=share,
            routes=groups["route"],
            clients=groups["client"],
            left=left,
            refused=refused,
            stage=stage,
            next=next_steps(
                protocol=protocol,
                payers=len(mine),
                moved=len(also),
                payments=payments,
                refused=refused,
                stage=stage,
                clients=groups["client"],
                covered=recorded_since is not None and recorded_since <= span.since,
                dropped=dropped,
            ),
        )

    def _refused(self, protocol: str, span: Span) -> int:
        """How many payments in the protocol were refused because its lever was shut."""
        numbers = [number for number, own in self._dimensions.items() if own.protocol == protocol]
        sql = (
            f"SELECT CAST(COALESCE(SUM(times), 0) AS {{int}}) FROM counts WHERE {WITHIN} AND what = 'failed'"  # noqa: S608
            f" AND reason = ? AND dimension IN ({', '.join(map(str, numbers)) or 'NULL'})"
        )
        parts = self._parts(span)
        return sum(int(times) for part in parts for (times,) in self._database.execute(sql, (*part, _SHUT)))

    def _stage(self, protocol: str, until: float) -> str:
        """Where the protocol's lever for every route stood then, as far as a move of it was recorded."""
        rows = self._database.execute(
            "SELECT stage FROM marks WHERE event = 'lever.changed' AND protocol = ? AND route = '*' AND at < ?"
            " ORDER BY at DESC, id DESC LIMIT 1",
            (protocol, until),
        )
        return next((str(stage) for (stage,) in rows), "")

    def _also(self, protocol: str, mine: set[Any], until: float) -> dict[int, list[str]]:
        """The other protocols that each of `mine` had paid in by then, by payer; who had in none is not in it."""
        also: dict[int, list[str]] = {}
        rows = self._database.execute(
            "SELECT payer, protocol FROM journeys WHERE protocol <> ? AND first_at < ?", (protocol, until)
        )
        for payer, other in rows:
            if payer in mine:
                also.setdefault(payer, []).append(other)
        return also

    def _left(self, protocol: str, span: Span, limit: int, also: dict[int, list[str]]) -> tuple[list[Left], int]:
        """The payers with the most payments in the protocol, and how many payments have a payer at all."""
        numbers = [number for number, own in self._dimensions.items() if own.protocol == protocol]
        if not numbers:
            return [], 0
        parts = self._parts(span)
        within = " OR ".join(f"({WITHIN})" for _ in parts)
        where = f"({within}) AND dimension IN ({', '.join(map(str, numbers))})"
        ends = [end for part in parts for end in part]
        found = list(
            self._database.execute(
                "SELECT payer, CAST(SUM(payments) AS {int}), MAX(last_at)"  # noqa: S608
                f" FROM payer_buckets WHERE {where} GROUP BY payer ORDER BY 2 DESC, 1 LIMIT ?",
                (*ends, limit),
            )
        )
        ((named,),) = self._database.execute(
            f"SELECT CAST(COALESCE(SUM(payments), 0) AS {{int}}) FROM payer_buckets WHERE {where}",  # noqa: S608
            ends,
        )
        money: dict[int, dict[tuple[str, str], int]] = {}
        payers = [payer for payer, _, _ in found]
        for payer, number, amount in self._database.execute(
            f"SELECT payer, dimension, {{sum}}(amount) FROM payer_buckets WHERE {where}"  # noqa: S608
            f" AND payer IN ({', '.join(map(str, payers)) or 'NULL'}) GROUP BY payer, dimension",
            ends,
        ):
            own = self._dimensions[number]
            sums = money.setdefault(payer, {})
            sums[own.network, own.asset] = sums.get((own.network, own.asset), 0) + int(amount)
        names = self._addresses(payers)
        return [
            Left(names.get(payer, ""), payments, amounts(money.get(payer, {})), last_at, sorted(also.get(payer, [])))
            for payer, payments, last_at in found
        ], int(named)

    def marks(self, *, since: float, until: float, limit: int = 1000) -> list[Mark]:
        """What else happened, such as levers that were moved: the latest `limit`, in order."""
        with self._reading():
            rows = self._database.execute(
                "SELECT at, event, route, protocol, stage, by_whom, detail FROM marks"
                " WHERE at >= ? AND at < ? ORDER BY at DESC, id DESC LIMIT ?",
                (since, until, limit),
            )
            return [_mark(*row) for row in rows][::-1]

    def tail(self, *, limit: int = 50, after: int = 0) -> list[Recorded]:
        """The latest `limit` events, those with an `id` above `after`, in the order they were written."""
        with self._reading():
            rows = self._facts("WHERE e.id > ? ORDER BY e.id DESC LIMIT ?", (after, limit))
            return list(rows)[::-1]

    def recorded(self) -> Span | None:
        """From when to when there are figures; None where there are none."""
        with self._reading():
            since = self._recorded_since()
            if since is None:
                return None
            fine = self._bucket_seconds()
            ((last,),) = self._database.execute("SELECT MAX(bucket + grain) FROM counts WHERE grain = ?", (fine,))
            ((days,),) = self._database.execute("SELECT MAX(bucket + grain) FROM counts WHERE grain = ?", (DAY,))
            return Span(since, float(last if last is not None else days))

    def names(self) -> dict[str, list[str]]:
        """What there are figures of, by what reports can be narrowed to: all that was ever seen, in order."""
        with self._reading():
            found = self._dimensions.values()
            kinds = [name for name in Filters.__struct_fields__ if name != "x402_only"]
            return {kind: sorted({value for own in found if (value := getattr(own, kind))}) for kind in kinds}

    def check(self) -> None:
        """Raise `EventsUnavailable` where the store does not answer: for health."""
        with self._database.reading():
            self._bucket_seconds()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._database.reading():
            self._dimensions = dict(read_dimensions(self._database))
            yield

    def _bucket_seconds(self) -> int:
        rows = self._database.execute("SELECT value FROM meta WHERE name = ?", ("bucket_seconds",))
        return next((int(value) for (value,) in rows), 3600)

    def _aligned(self, since: float, until: float, seconds: int | None = None) -> Span:
        span, fine = Span(since, until), self._bucket_seconds()
        first_hour: float | None = self._first(fine)
        first_day = self._first(DAY)
        if seconds is None:
            # Where figures by hour are not kept any more, the day counts whole.
            first_hour = math.inf if first_hour is None else first_hour
            is_old = first_day is not None and span.since < first_hour and first_day + DAY <= first_hour
            seconds = DAY if is_old else fine
        return Span(float(span.since // seconds * seconds), float(math.ceil(span.until / seconds) * seconds))

    def _recorded_since(self) -> float | None:
        first_hour, first_day = self._first(self._bucket_seconds()), self._first(DAY)
        # The first day began before the first hour, and says less.
        is_same_day = first_hour is not None and first_day is not None and first_hour < first_day + DAY
        found = first_hour if is_same_day or first_day is None else first_day
        return None if found is None else float(found)

    def _first(self, grain: int) -> int | None:
        ((first,),) = self._database.execute("SELECT MIN(bucket) FROM counts WHERE grain = ?", (grain,))
        return None if first is None else int(first)

    def _parts(self, span: Span, grain: int = 0) -> list[Part]:
        """The buckets of a span: whole days by the day, and what is left at its ends by the hour."""
        fine, since, until = self._bucket_seconds(), int(span.since), int(span.until)
        if grain:
            return [(grain, since, until)]
        first, last = math.ceil(since / DAY) * DAY, until // DAY * DAY
        if fine == DAY or first >= last:
            return [(fine, since, until)]
        parts = [(fine, since, first), (DAY, first, last), (fine, last, until)]
        return [part for part in parts if part[1] < part[2]]

    def _dropped(self, span: Span) -> int:
        ((events,),) = self._database.execute(
            "SELECT CAST(COALESCE(SUM(events), 0) AS {int}) FROM dropped WHERE bucket >= ? AND bucket < ?",
            (int(span.since), math.ceil(span.until)),
        )
        return int(events)

    def _rows(self, span: Span, filters: Filters, *, grain: int = 0) -> Rows:
        """The rows of a span; by bucket where they are asked for in one grain, else with 0 for a bucket."""
        wanted = {number: own for number, own in self._dimensions.items() if filters.match(own)}
        bucket, grouped = ("bucket", "bucket, dimension") if grain else ("0", "dimension")
        parts = self._parts(span, grain)

        def execute(sql: str) -> Iterator[tuple[Any, ...]]:
            for part in parts:
                yield from self._database.execute(sql, part)

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

    def _rows_of_facts(self, span: Span, filters: Filters) -> Rows:
        rollup = Rollup(self._bucket_seconds())
        durations: dict[tuple[Dimensions, str], list[float]] = {}
        for recorded in self._facts("WHERE e.at >= ? AND e.at < ? ORDER BY e.id", (span.since, span.until)):
            rollup.add(recorded.fact)
            if (measured := rollup.measure(recorded.fact)) is not None:
                durations.setdefault((recorded.fact.dimensions, measured[0]), []).append(measured[1])
        return rollup.rows(filters.match, durations)

    def _facts(self, where: str, parameters: tuple[Any, ...]) -> Iterator[Recorded]:
        rows = self._database.execute(
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
                    dimensions=self._dimensions[dimension],
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

    def _addresses(self, numbers: Iterable[int]) -> dict[int, str]:
        wanted = ", ".join(str(int(number)) for number in numbers)
        if not wanted:
            return {}
        rows = self._database.execute(f"SELECT id, address FROM payers WHERE id IN ({wanted})")  # noqa: S608
        return {number: address for number, address in rows}  # noqa: C416


def _mark(at: float, event: str, route: str, protocol: str, stage: str, by: str, detail: str) -> Mark:
    return Mark(at, event, route, protocol, stage, by, msgspec.json.decode(detail))


def _ended(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    yield from rows
    yield (None, "", 0, 0.0, 0.0)


def _latest_first(entry: tuple[float, Journey]) -> tuple[float, str]:
    return -entry[0], entry[1].payer


def _keep_latest(latest: list[tuple[float, Journey]], journey: Journey, limit: int) -> None:
    at = max(stay.last_at for stay in journey.stays.values())
    latest.append((at, journey))
    if len(latest) > 2 * limit + 100:
        latest.sort(key=_latest_first)
        del latest[limit:]
