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
from bridge.analytics.facts import PROTOCOLS, Mark
from bridge.analytics.figures import Rows
from bridge.analytics.journeys import Journey, Stay, Summary, journey_of, summarize
from bridge.analytics.leaving import Leaving
from bridge.analytics.readiness import Readiness
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
from bridge.analytics.stored import DAY, WITHIN, Recorded, Stored
from bridge.analytics.workers import Part, Worker

__all__ = ["Events", "Recorded", "open_events"]

EVERYTHING = Filters()
_PARTS = msgspec.json.Decoder(list[Part])


def open_events(url: str) -> "Events":
    """The events at a path, `sqlite:PATH` or `postgresql://...`, to be read beside the servers that write them.

    Raises `EventsUnavailable` where there are none or they cannot be had, and what `open_database` raises.
    """
    return Events(open_database(url, write=False))


class Events:
    """Questions to one event store, for the thread that opened it."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        with self._reading() as stored:
            span = Span(since, until) if exact else stored.aligned(since, until)
            return make_report(
                stored.rows_of_facts(span, filters) if exact else stored.rows(span, filters),
                span,
                filters=filters,
                by=by,
                exact=exact,
                recorded_since=stored.recorded_since(),
                dropped=stored.dropped(span),
            )

    def series(
        self, *, since: float, until: float, step_seconds: int = 86400, filters: Filters = EVERYTHING
    ) -> list[Step]:
        """The figures of a span step by step: the share of each protocol over time. Without latencies."""
        with self._reading() as stored:
            fine = stored.bucket_seconds
            step = max(1, math.ceil(step_seconds / fine)) * fine
            # Whole days begin at midnight.
            span = stored.aligned(since, until, DAY if step % DAY == 0 else fine)
            rows = stored.rows(span, filters, grain=DAY if step % DAY == 0 else fine)
            return series(msgspec.structs.replace(rows, timings=()), span, step_seconds=step)

    def clients(
        self, *, since: float, until: float, filters: Filters = EVERYTHING, least: int = 10, failing: float = 0.5
    ) -> list[OddClient]:
        """Clients that loop on 402, or fail again and again: see `odd_clients`."""
        with self._reading() as stored:
            rows = stored.rows(stored.aligned(since, until), filters)
            return odd_clients(Rows(counts=rows.counts), least=least, failing=failing)

    def journeys(self, *, since: float, until: float, limit: int = 20) -> tuple[Summary, list[Journey]]:
        """The ways of everybody who paid in the span, as they are known today, and the latest `limit` one by one."""
        with self._reading() as stored:
            span = stored.aligned(since, until)
            present = {
                payer
                for part in stored.parts(span)
                for (payer,) in stored.execute(f"SELECT payer FROM payer_buckets WHERE {WITHIN}", part)  # noqa: S608
            }
            latest: list[tuple[float, Journey]] = []
            summary = summarize(self._journeys(stored, present, latest, limit))
            latest = sorted(latest, key=_latest_first)[:limit]
            names = stored.addresses(int(journey.payer) for _, journey in latest)
            return summary, [
                msgspec.structs.replace(journey, payer=names.get(int(journey.payer), "")) for _, journey in latest
            ]

    def _journeys(
        self, stored: Stored, present: set[int], latest: list[tuple[float, Journey]], limit: int
    ) -> Iterator[Journey]:
        """Every journey of those `present`; `latest` gets the last `limit` of them."""
        rows = stored.execute(
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
        with self._reading() as stored:
            return Leaving(stored).readiness(protocol, stored.aligned(since, until), limit)

    def marks(self, *, since: float, until: float, limit: int = 1000) -> list[Mark]:
        """What else happened, such as levers that were moved: the latest `limit`, in order."""
        with self._reading() as stored:
            rows = stored.execute(
                "SELECT at, event, route, protocol, stage, by_whom, detail FROM marks"
                " WHERE at >= ? AND at < ? ORDER BY at DESC, id DESC LIMIT ?",
                (since, until, limit),
            )
            return [_mark(*row) for row in rows][::-1]

    def tail(self, *, limit: int = 50, after: int = 0) -> list[Recorded]:
        """The latest `limit` events, those with an `id` above `after`, in the order they were written."""
        with self._reading() as stored:
            rows = stored.facts("WHERE e.id > ? ORDER BY e.id DESC LIMIT ?", (after, limit))
            return list(rows)[::-1]

    def recorded(self) -> Span | None:
        """From when to when there are figures; None where there are none."""
        with self._reading() as stored:
            since = stored.recorded_since()
            if since is None:
                return None
            return Span(since, stored.recorded_until())

    def names(self) -> dict[str, list[str]]:
        """What there are figures of, by what reports can be narrowed to: all that was ever seen, in order."""
        with self._reading() as stored:
            found = stored.dimensions.values()
            kinds = [name for name in Filters.__struct_fields__ if name != "x402_only"]
            return {kind: sorted({value for own in found if (value := getattr(own, kind))}) for kind in kinds}

    def workers(self) -> list[Worker]:
        """How each serving process does, as it said last: those heard of within a day, by name."""
        with self._reading() as stored:
            rows = stored.execute("SELECT worker, at, every, parts FROM health ORDER BY worker")
            # Behind the last colon stands what tells a process from an earlier one of the same number.
            return [Worker(key.rpartition(":")[0], at, every, _PARTS.decode(parts)) for key, at, every, parts in rows]

    @contextmanager
    def _reading(self) -> Iterator[Stored]:
        with self._database.reading():
            yield Stored(self._database)


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
