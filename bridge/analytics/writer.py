"""Writes facts, and the figures made of them, in one transaction."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec

from bridge.analytics.database import Database
from bridge.analytics.facts import KINDS, PROTOCOLS, Dimensions, Fact, Mark
from bridge.analytics.histogram import Histogram
from bridge.analytics.rollup import Rollup, Seen, bucket_of, count_once
from bridge.analytics.user_agents import OTHER, Client
from bridge.analytics.workers import MOST_WORKERS, Worker

__all__ = ["Writer", "read_dimensions"]

T = TypeVar("T")

MOST_NAMES = 1_000
"""Clients, by product and version, of which figures are kept, and routes; as many again if somebody paid.

Anybody can send any name, and before a gateway any path: what comes when there are so many counts as `(other)`.
"""

MOST_DIMENSIONS = 50_000
"""Combinations of all that figures are broken down by; what comes beyond them has neither client nor route."""

DAY = 86400
HOUR = 3600
_AT_ONCE = 500
_KIND = {kind: place for place, kind in enumerate(KINDS)}


class Writer:
    """Writes to `database`, with figures by `bucket_seconds`. `began` is when it began to record."""

    def __init__(self, database: Database, bucket_seconds: int, began: float) -> None:
        self._database = database
        self._bucket_seconds = bucket_seconds
        self._dimensions: dict[Dimensions, int] = {}
        self._clients: set[Client] = set()
        self._routes: set[str] = set()
        with database.writing():
            self._set("bucket_seconds", str(bucket_seconds))
            # That of the first of all writers stays.
            self._run("INSERT INTO meta (name, value) VALUES ('began', ?) ON CONFLICT DO NOTHING", (str(began),))
            for number, own in read_dimensions(database):
                self._dimensions[own] = number
                self._clients.add(Client(own.product, own.version))
                self._routes.add(own.route)

    def write(self, facts: Sequence[Fact], marks: Sequence[Mark] = (), dropped: dict[int, int] | None = None) -> None:
        """Write them, or nothing at all; raises `EventsUnavailable`. `dropped` is how many were not, by bucket."""
        known = dict(self._dimensions)
        try:
            with self._database.writing():
                self._write(facts, marks, dropped or {})
        except BaseException:
            # What was rolled back has no number.
            self._dimensions = known
            raise

    def _write(self, facts: Sequence[Fact], marks: Sequence[Mark], dropped: dict[int, int]) -> None:
        facts = self._count_once([self._bounded(fact) for fact in facts])
        rollup = Rollup(self._bucket_seconds)
        for fact in facts:
            rollup.add(fact)
        payers = self._payers(facts)
        self._write_facts(facts, payers)
        for grain in (rollup, rollup.coarser(DAY)) if self._bucket_seconds < DAY else (rollup,):
            self._write_rollup(grain, payers)
        self._write_journeys(rollup, payers)
        self._database.execute_many(
            "INSERT INTO marks (at, event, route, protocol, stage, by_whom, detail) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            [_mark_row(mark) for mark in marks],
        )
        self._database.execute_many(
            """
            INSERT INTO dropped (bucket, events) VALUES (?, ?)
            ON CONFLICT (bucket) DO UPDATE SET events = dropped.events + excluded.events
            """,
            list(dropped.items()),
        )

    def _bounded(self, fact: Fact) -> Fact:
        own = fact.dimensions
        if own in self._dimensions:
            return fact
        # Only a verified payment names its payer: nobody can use up the places of those who pay without paying.
        times = 2 if fact.payer else 1
        client, route = Client(own.product, own.version), own.route
        is_full = len(self._dimensions) >= times * MOST_DIMENSIONS
        if is_full or (client not in self._clients and len(self._clients) >= times * MOST_NAMES):
            client = OTHER
        if is_full or (route not in self._routes and len(self._routes) >= times * MOST_NAMES):
            route = OTHER.product
        self._clients.add(client)
        self._routes.add(route)
        if client == OTHER or route == OTHER.product:
            own = msgspec.structs.replace(own, route=route, product=client.product, version=client.version)
            return msgspec.structs.replace(fact, dimensions=own)
        return fact

    def _count_once(self, facts: Sequence[Fact]) -> list[Fact]:
        at: dict[bytes, float] = {}
        for fact in facts:
            if fact.payment:
                at[fact.payment] = max(fact.at, at.get(fact.payment, 0.0))
        ledger: dict[bytes, Seen] = {}
        for keys in _portions(at):
            rows = self._database.execute(
                f"SELECT payment, product, version, counts FROM payments WHERE payment IN ({_marks(keys)})",  # noqa: S608
                keys,
            )
            ledger |= {bytes(payment): Seen(product, version, counts) for payment, product, version, counts in rows}
        marked = count_once(facts, ledger)
        self._database.execute_many(
            """
            INSERT INTO payments (payment, product, version, counts, last_at) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (payment) DO UPDATE SET product = excluded.product, version = excluded.version,
                counts = excluded.counts, last_at = {greatest}(payments.last_at, excluded.last_at)
            """,
            [(key, ledger[key].product, ledger[key].version, ledger[key].counts, at[key]) for key in at],
        )
        return marked

    def _payers(self, facts: Sequence[Fact]) -> dict[str, int]:
        last: dict[str, float] = {}
        for fact in facts:
            if fact.payer:
                last[fact.payer] = max(fact.at, last.get(fact.payer, 0.0))
        self._database.execute_many(
            """
            INSERT INTO payers (address, last_at) VALUES (?, ?)
            ON CONFLICT (address) DO UPDATE SET last_at = {greatest}(payers.last_at, excluded.last_at)
            """,
            list(last.items()),
        )
        ids: dict[str, int] = {}
        for addresses in _portions(last):
            rows = self._database.execute(
                f"SELECT address, id FROM payers WHERE address IN ({_marks(addresses)})",  # noqa: S608
                addresses,
            )
            ids.update((str(address), int(number)) for address, number in rows)
        return ids

    def _write_facts(self, facts: Sequence[Fact], payers: dict[str, int]) -> None:
        self._database.execute_many(
            """
            INSERT INTO events (at, kind, dimension, payer, payment, amount, reason, stage, outcome, status,
                milliseconds, offered, counts, correlation_id, "transaction")
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                (
                    fact.at,
                    _KIND[fact.kind],
                    self._dimension(fact.dimensions),
                    payers.get(fact.payer),
                    fact.payment or None,
                    self._database.amount(fact.amount) if fact.amount else None,
                    fact.reason or None,
                    fact.stage or None,
                    fact.outcome or None,
                    fact.status or None,
                    fact.milliseconds,
                    sum(1 << place for place, protocol in enumerate(PROTOCOLS) if protocol in fact.offered),
                    fact.counts,
                    fact.correlation_id or None,
                    fact.transaction or None,
                )
                for fact in facts
            ],
        )

    def _write_rollup(self, rollup: Rollup, payers: dict[str, int]) -> None:
        database, number, grain = self._database, self._dimension, rollup.bucket_seconds
        database.execute_many(
            """
            INSERT INTO counts (grain, bucket, dimension, what, reason, times) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT (grain, bucket, dimension, what, reason) DO UPDATE SET times = counts.times + excluded.times
            """,
            [
                (grain, bucket, number(own), what, why, times)
                for (bucket, own, what, why), times in rollup.counts.items()
            ],
        )
        database.execute_many(
            """
            INSERT INTO money (grain, bucket, dimension, payments, amount) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (grain, bucket, dimension) DO UPDATE SET payments = money.payments + excluded.payments,
                amount = exact_add(money.amount, excluded.amount)
            """,
            [
                (grain, bucket, number(own), money.payments, database.amount(money.amount))
                for (bucket, own), money in rollup.money.items()
            ],
        )
        database.execute_many(
            """
            INSERT INTO payer_buckets (grain, bucket, dimension, payer, payments, amount, first_at, last_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (grain, bucket, dimension, payer) DO UPDATE SET
                payments = payer_buckets.payments + excluded.payments,
                amount = exact_add(payer_buckets.amount, excluded.amount),
                first_at = {least}(payer_buckets.first_at, excluded.first_at),
                last_at = {greatest}(payer_buckets.last_at, excluded.last_at)
            """,
            [
                (grain, bucket, number(own), payers[payer], paid.payments, database.amount(paid.amount), paid.first_at,
                 paid.last_at)
                for (bucket, own, payer), paid in rollup.payers.items()
            ],
        )  # fmt: skip
        self._write_timings(rollup)

    def _write_journeys(self, rollup: Rollup, payers: dict[str, int]) -> None:
        self._database.execute_many(
            """
            INSERT INTO journeys (payer, protocol, payments, first_at, last_at) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (payer, protocol) DO UPDATE SET payments = journeys.payments + excluded.payments,
                first_at = {least}(journeys.first_at, excluded.first_at),
                last_at = {greatest}(journeys.last_at, excluded.last_at)
            """,
            [
                (payers[payer], own.protocol, paid.payments, paid.first_at, paid.last_at)
                for (_, own, payer), paid in rollup.payers.items()
            ],
        )

    def _write_timings(self, rollup: Rollup) -> None:
        fresh = {(bucket, self._dimension(own), what): kept for (bucket, own, what), kept in rollup.timings.items()}
        buckets = sorted({bucket for bucket, _, _ in fresh})
        for numbers in _portions({number for _, number, _ in fresh}):
            rows = self._database.execute(
                "SELECT bucket, dimension, measure, histogram FROM timings"  # noqa: S608
                f" WHERE grain = ? AND bucket IN ({_marks(buckets)}) AND dimension IN ({_marks(numbers)})",
                [rollup.bucket_seconds, *buckets, *numbers],
            )
            for bucket, number, measure, histogram in rows:
                if (found := fresh.get((bucket, number, measure))) is not None:
                    found.merge(Histogram.decode(histogram))
        self._database.execute_many(
            """
            INSERT INTO timings (grain, bucket, dimension, measure, histogram) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (grain, bucket, dimension, measure) DO UPDATE SET histogram = excluded.histogram
            """,
            [(rollup.bucket_seconds, *key, histogram.encode()) for key, histogram in fresh.items()],
        )

    def _dimension(self, own: Dimensions) -> int:
        found = self._dimensions.get(own)
        if found is None:
            values = (own.route, own.protocol, own.network, own.asset, own.product, own.version, int(own.x402_only))
            names = "route, protocol, network, asset, product, version, x402_only"
            self._database.execute_many(
                f"INSERT INTO dimensions ({names}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",  # noqa: S608
                [values],
            )
            ((found,),) = self._database.execute(
                "SELECT id FROM dimensions WHERE route = ? AND protocol = ? AND network = ? AND asset = ?"
                " AND product = ? AND version = ? AND x402_only = ?",
                values,
            )
            self._dimensions[own] = found
        return found

    def note(self, worker: Worker) -> None:
        """Keep how a process does, in place of what it said before; who was not heard of for a day is forgotten."""
        with self._database.writing():
            self._run(
                "INSERT INTO health (worker, at, every, parts) VALUES (?, ?, ?, ?) ON CONFLICT (worker) DO UPDATE SET"
                " at = excluded.at, every = excluded.every, parts = excluded.parts",
                (worker.name, worker.at, worker.every, msgspec.json.encode(worker.parts).decode()),
            )
            self._run(
                "DELETE FROM health WHERE at < ?"
                " OR worker NOT IN (SELECT worker FROM health ORDER BY at DESC, worker LIMIT ?)",
                (worker.at - DAY, MOST_WORKERS),
            )
            self._run("INSERT INTO heard (hour) VALUES (?) ON CONFLICT DO NOTHING", (bucket_of(worker.at, HOUR),))

    def forget(self, worker: str) -> None:
        """A process ends as it should, and is not missed."""
        with self._database.writing():
            self._run("DELETE FROM health WHERE worker = ?", (worker,))

    def purge(self, *, now: float, event_days: float, rollup_days: float) -> bool:
        """Delete some of what is too old; whether there may be more. Few rows at a time: others write in between."""
        events, rollups = now - event_days * DAY, now - rollup_days * DAY
        more = False
        with self._database.writing():
            for table, key, column, before in (
                ("events", "id", "at", events),
                ("payments", "payment", "last_at", events),
                ("payers", "id", "last_at", rollups),
                ("marks", "id", "at", rollups),
            ):
                (gone,) = self._one(
                    f"SELECT count(*) FROM (SELECT {key} FROM {table} WHERE {column} < ? LIMIT 5000) AS old",  # noqa: S608
                    (before,),
                )
                if gone:
                    self._run(
                        f"DELETE FROM {table} WHERE {key} IN"  # noqa: S608
                        f" (SELECT {key} FROM {table} WHERE {column} < ? LIMIT 5000)",
                        (before,),
                    )
                more = more or gone == 5000
            for table in ("counts", "money", "timings", "payer_buckets"):
                for grain in {self._bucket_seconds, DAY}:
                    # By the hour for as long as there are single events, and by the day for longer.
                    oldest = bucket_of(rollups if grain == DAY else events, grain)
                    old = "grain = ? AND bucket < ?"
                    (bucket,) = self._one(f"SELECT min(bucket) FROM {table} WHERE {old}", (grain, oldest))  # noqa: S608
                    if bucket is not None:
                        # A bucket at a time: there is one more every hour.
                        self._run(f"DELETE FROM {table} WHERE grain = ? AND bucket = ?", (grain, bucket))  # noqa: S608
                        more = True
            self._set("kept_since", str(bucket_of(rollups, DAY)))
            self._run("DELETE FROM dropped WHERE bucket < ?", (bucket_of(rollups, DAY),))
            self._run("DELETE FROM heard WHERE hour < ?", (bucket_of(rollups, DAY),))
            self._run("DELETE FROM journeys WHERE last_at < ?", (rollups,))
        return more

    def _set(self, name: str, value: str) -> None:
        self._run(
            "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    def _run(self, sql: str, parameters: Sequence[Any]) -> None:
        self._database.execute_many(sql, [parameters])

    def _one(self, sql: str, parameters: Sequence[Any]) -> tuple[Any, ...]:
        (row,) = self._database.execute(sql, parameters)
        return row


def read_dimensions(database: Database) -> Iterator[tuple[int, Dimensions]]:
    """All of them, by number."""
    for number, route, protocol, network, asset, product, version, only in database.execute(
        "SELECT id, route, protocol, network, asset, product, version, x402_only FROM dimensions"
    ):
        yield number, Dimensions(route, protocol, network, asset, product, version, bool(only))


def _mark_row(mark: Mark) -> tuple[Any, ...]:
    detail = msgspec.json.encode(mark.detail, enc_hook=str).decode()
    return (mark.at, mark.event, mark.route, mark.protocol, mark.stage, mark.by, detail)


def _portions(keys: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(keys)
    while portion := list(islice(rest, _AT_ONCE)):
        yield portion


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
