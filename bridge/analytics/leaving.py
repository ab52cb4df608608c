"""Whom switching a protocol off would lose, as the event store's tables tell it."""

from typing import Any

from bridge.analytics.coverage import gaps_of
from bridge.analytics.facts import Dimensions
from bridge.analytics.figures import Rows, amounts, gather
from bridge.analytics.readiness import Left, LeftGroup, Readiness, covered_days, next_steps, per_day, share_lost
from bridge.analytics.report import Filters, Span
from bridge.analytics.stored import WITHIN, Stored
from translators.errors import ProtocolRefused

__all__ = ["Leaving"]

_SHUT = ProtocolRefused.x402_reason
_EVERYTHING = Filters()


class Leaving:
    """Asks `stored`."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    def readiness(self, protocol: str, span: Span, limit: int) -> Readiness:
        """See `bridge.analytics.reader.Events.readiness`; of a span that begins and ends with buckets."""

        def labels(_: int, own: Dimensions) -> list[tuple[str, str]]:
            if own.protocol != protocol:
                return [("all", "")]
            return [("all", ""), ("own", ""), ("route", own.route), ("client", own.client)]

        rows = self._stored.rows(span, _EVERYTHING)
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
        covered, dropped = self._stored.covered(), self._stored.dropped(span)
        gaps = gaps_of(span, covered, dropped)
        days = covered_days(span, covered.since)
        *_, at_most = share_lost(len(mine) + dropped, all_payers + dropped, payments + dropped, all_payments + dropped)
        left, named = self._left(protocol, span, limit, also)
        refused, stage = self._refused(protocol, span), self._stage(protocol, span.until)
        return Readiness(
            protocol=protocol,
            since=span.since,
            until=span.until,
            days=round(days, 4),
            recorded_since=covered.since,
            recorded_until=covered.until,
            gaps=gaps,
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
            share_at_most=at_most,
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
                gaps=gaps,
            ),
        )

    def _refused(self, protocol: str, span: Span) -> int:
        """How many payments in the protocol were refused because its lever was shut."""
        numbers = [number for number, own in self._stored.dimensions.items() if own.protocol == protocol]
        sql = (
            f"SELECT CAST(COALESCE(SUM(times), 0) AS {{int}}) FROM counts WHERE {WITHIN} AND what = 'failed'"  # noqa: S608
            f" AND reason = ? AND dimension IN ({', '.join(map(str, numbers)) or 'NULL'})"
        )
        parts = self._stored.parts(span)
        return sum(int(times) for part in parts for (times,) in self._stored.execute(sql, (*part, _SHUT)))

    def _stage(self, protocol: str, until: float) -> str:
        """Where the protocol's lever for every route stood then, as far as a move of it was recorded."""
        rows = self._stored.execute(
            "SELECT stage FROM marks WHERE event = 'lever.changed' AND protocol = ? AND route = '*' AND at < ?"
            " ORDER BY at DESC, id DESC LIMIT 1",
            (protocol, until),
        )
        return next((str(stage) for (stage,) in rows), "")

    def _also(self, protocol: str, mine: set[Any], until: float) -> dict[int, list[str]]:
        """The other protocols that each of `mine` had paid in by then, by payer; who had in none is not in it."""
        also: dict[int, list[str]] = {}
        rows = self._stored.execute(
            "SELECT payer, protocol FROM journeys WHERE protocol <> ? AND first_at < ?", (protocol, until)
        )
        for payer, other in rows:
            if payer in mine:
                also.setdefault(payer, []).append(other)
        return also

    def _left(self, protocol: str, span: Span, limit: int, also: dict[int, list[str]]) -> tuple[list[Left], int]:
        """The payers with the most payments in the protocol, and how many payments have a payer at all."""
        numbers = [number for number, own in self._stored.dimensions.items() if own.protocol == protocol]
        if not numbers:
            return [], 0
        parts = self._stored.parts(span)
        within = " OR ".join(f"({WITHIN})" for _ in parts)
        where = f"({within}) AND dimension IN ({', '.join(map(str, numbers))})"
        ends = [end for part in parts for end in part]
        found = list(
            self._stored.execute(
                "SELECT payer, CAST(SUM(payments) AS {int}), MAX(last_at)"  # noqa: S608
                f" FROM payer_buckets WHERE {where} GROUP BY payer ORDER BY 2 DESC, 1 LIMIT ?",
                (*ends, limit),
            )
        )
        ((named,),) = self._stored.execute(
            f"SELECT CAST(COALESCE(SUM(payments), 0) AS {{int}}) FROM payer_buckets WHERE {where}",  # noqa: S608
            ends,
        )
        money: dict[int, dict[tuple[str, str], int]] = {}
        payers = [payer for payer, _, _ in found]
        for payer, number, amount in self._stored.execute(
            f"SELECT payer, dimension, {{sum}}(amount) FROM payer_buckets WHERE {where}"  # noqa: S608
            f" AND payer IN ({', '.join(map(str, payers)) or 'NULL'}) GROUP BY payer, dimension",
            ends,
        ):
            own = self._stored.dimensions[number]
            sums = money.setdefault(payer, {})
            sums[own.network, own.asset] = sums.get((own.network, own.asset), 0) + int(amount)
        names = self._stored.addresses(payers)
        return [
            Left(names.get(payer, ""), payments, amounts(money.get(payer, {})), last_at, sorted(also.get(payer, [])))
            for payer, payments, last_at in found
        ], int(named)
