"""The fleet's own books: kept from what its clients sent and got back, and from the chain; never from our events.

`Books` answers the same questions as `bridge.analytics`, in its own words and by its own sums.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

DAY = 86400
HOUR = 3600
PROTOCOLS = ("x402-v1", "x402-v2", "mpp")


class Line(NamedTuple):
    """One thing that happened."""

    at: float
    what: str
    """`asked`, `tried`, `failed`, `replayed`, `delivered`, `earned` or `shadowed`."""
    route: str
    client: str
    """Product and version."""
    protocol: str = ""
    reason: str = ""
    offered: frozenset[str] = frozenset()
    payer: str = ""
    asset: str = ""
    amount: int = 0


@dataclass
class Cheque:
    """One signed payment, as its client knows it."""

    id: str
    payer: str
    protocol: str
    asset: str
    amount: int
    route: str
    client: str
    is_earned: bool = False
    is_delivered: bool = False


@dataclass
class Books:
    """Lines in the order in which they were written."""

    lines: list[Line] = field(default_factory=list)
    cheques: list[Cheque] = field(default_factory=list)

    def write(self, at: float, what: str, cheque: Cheque, **more: Any) -> None:
        """Something happened to a cheque."""
        self.lines.append(Line(at, what, cheque.route, cheque.client, cheque.protocol, **more))

    def earn(self, at: float, cheque: Cheque) -> None:
        """Its money moved; once."""
        if not cheque.is_earned:
            cheque.is_earned = True
            self.write(at, "earned", cheque, payer=cheque.payer, asset=cheque.asset, amount=cheque.amount)

    def within(self, since: float, until: float) -> "Books":
        """The books of a span."""
        return Books([line for line in self.lines if since <= line.at < until])

    # The questions

    def report(self, by: Callable[[Line], str] | None = None) -> dict[str, Any]:
        """The figures by protocol, in total, and by something else."""
        found: dict[str, Any] = {
            "protocols": {name: self._figures(lambda line, p=name: line.protocol == p, name) for name in PROTOCOLS},
            "total": self._figures(lambda _: True),
        }
        found["unidentified"] = sum(line.what == "asked" and not line.protocol for line in self.lines)
        if by is not None:
            names = {by(line) for line in self.lines}
            found["groups"] = {name: self._figures(lambda line, n=name: by(line) == n) for name in names}
        return found

    def _figures(self, is_in: Callable[[Line], bool], protocol: str | None = None) -> dict[str, Any]:
        own = [line for line in self.lines if is_in(line)]
        counted = Counter(line.what for line in own)
        earned = [line for line in own if line.what == "earned"]
        said = sum(line.what == "asked" and bool(line.protocol) for line in own)
        asked = counted["asked"]
        if protocol is not None:
            asked = sum(protocol in line.offered for line in self.lines)
        return {
            "challenged": asked,
            "said": said,
            "attempted": counted["tried"],
            "delivered": counted["delivered"],
            "failed": counted["failed"],
            "failures": dict(Counter(line.reason for line in own if line.what == "failed")),
            "replayed": counted["replayed"],
            "settled": len(earned),
            "payers": len({line.payer for line in earned}),
            "revenue": _money(earned),
            "compared": counted["shadowed"],
            "disagreed": 0,
            "passed": 0,
            "conversion": _share(counted["delivered"], asked),
            "success": _share(counted["delivered"], counted["tried"]),
        }

    def journeys(self, since: float, until: float) -> dict[str, Any]:
        """How those who paid in the span moved, by all that is known of them."""
        stays: defaultdict[str, dict[str, list[float]]] = defaultdict(dict)
        for line in self.lines:
            if line.what == "earned":
                stays[line.payer].setdefault(line.protocol, []).append(line.at)
        present = {line.payer for line in self.within(since, until).lines if line.what == "earned"}
        ways = {payer: _way(stays[payer]) for payer in present}
        summary = {
            "payers": len(present),
            "paths": {way: sum(w == way for w in ways.values()) for way in ("single", "dual", "switched", "fell-back")},
            "first_seen": _count(min(stays[p], key=lambda n, p=p: min(stays[p][n])) for p in present),
            "now": _count(max(stays[p], key=lambda n, p=p: max(stays[p][n])) for p in present),
            "seen": _count(name for p in present for name in stays[p]),
        }
        each = {
            payer: (ways[payer], {name: (len(at), min(at), max(at)) for name, at in stays[payer].items()})
            for payer in present
        }
        return {"summary": summary, "each": each}

    def readiness(self, protocol: str, since: float, until: float) -> dict[str, Any]:
        """Whom switching `protocol` off at `until` would have lost."""
        known = [line for line in self.lines if line.what == "earned" and line.at < until]
        everybody = [line for line in known if line.at >= since]
        own = [line for line in everybody if line.protocol == protocol]
        also = {
            payer: sorted({line.protocol for line in known if line.payer == payer} - {protocol})
            for payer in {line.payer for line in own}
        }
        begins = max(since, min(line.at for line in self.lines) // HOUR * HOUR)
        days = max(Fraction(1), Fraction(int(until - begins), DAY))
        revenue = _money(own)
        payers, all_payers = len(also), len({line.payer for line in everybody})
        return {
            "payers": payers,
            "moved": sum(map(bool, also.values())),
            "payments": len(own),
            "unnamed_payments": 0,
            "refused": sum(
                line.reason == "protocol_refused" and line.protocol == protocol and since <= line.at < until
                for line in self.lines
            ),
            "revenue": revenue,
            "revenue_per_day": {asset: str(int(Fraction(int(sum_)) / days)) for asset, sum_ in revenue.items()},
            "all_payers": all_payers,
            "all_payments": len(everybody),
            "share_of_payers": _rounded(payers, all_payers),
            "share_of_payments": _rounded(len(own), len(everybody)),
            "routes": _grouped(own, lambda line: line.route),
            "clients": _grouped(own, lambda line: line.client),
            "left": {
                payer: (
                    sum(line.payer == payer for line in own),
                    _money(line for line in own if line.payer == payer),
                    max(line.at for line in own if line.payer == payer),
                    others,
                )
                for payer, others in also.items()
            },
        }

    def odd_clients(self, least: int = 10) -> dict[str, str]:
        """Clients that get nowhere: ask often and never try, or fail often and in half of their attempts."""
        found = {}
        for name in {line.client for line in self.lines}:
            counted = Counter(line.what for line in self.lines if line.client == name)
            if counted["asked"] >= least and not counted["tried"]:
                found[name] = "never-pays"
            elif counted["failed"] >= least and 2 * counted["failed"] >= counted["tried"]:
                found[name] = "keeps-failing"
        return found


def _way(stays: dict[str, list[float]]) -> str:
    newest = max(stays, key=PROTOCOLS.index)
    older = [at for name, times in stays.items() if name != newest for at in times]
    if not older:
        return "single"
    ahead = max(stays[newest]) - max(older)
    if max(older) <= min(stays[newest]) or ahead > DAY:
        return "switched"
    return "fell-back" if ahead < -DAY else "dual"


def _count(names: Iterable[str]) -> dict[str, int]:
    counted = Counter(names)
    return {name: counted[name] for name in PROTOCOLS}


def _money(lines: Iterable[Line]) -> dict[str, str]:
    sums: Counter[str] = Counter()
    for line in lines:
        sums[line.asset] += line.amount
    return {asset: str(amount) for asset, amount in sums.items()}


def _grouped(own: Sequence[Line], by: Callable[[Line], str]) -> dict[str, tuple[int, int, dict[str, str]]]:
    groups: defaultdict[str, list[Line]] = defaultdict(list)
    for line in own:
        groups[by(line)].append(line)
    return {name: (len({line.payer for line in g}), len(g), _money(g)) for name, g in groups.items()}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _rounded(part: int, whole: int) -> float:
    return round(part / whole, 8) if whole else 0.0
