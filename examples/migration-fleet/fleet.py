"""Two hundred clients and sixty days: an owner moves his customers from x402 to MPP, and the books are compared.

    python fleet.py --events fleet.sqlite3 --days 60 --seed 7

The server is the real middleware, and only its clock, its chain and its customers are made up. The customers keep books
of their own (`books.py`); at the end every figure of `bridge.analytics` has to be the one in the books.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import structlog
from books import DAY, HOUR, Books, Cheque, Line
from compare import Comparison, compare
from habits import MPP, Client, fleet
from shop import ROUTES, Answer, Shop, send

from bridge.analytics import open_events
from bridge.client.outcome import read_receipt
from bridge.payers import sign
from bridge.testing import FixedClock, read_402
from translators.asks import Asked, envelope
from translators.errors import MalformedError
from translators.levers_toml import write_change
from translators.payment import Payment, Protocol

BEGIN = datetime(2027, 1, 1, tzinfo=UTC)
"""The first midnight of the days that `docs/migrating.md` shows."""
WEIGHTS = {"GET /weather": 40, "GET /report/{id}": 30, "GET /feed": 15, "POST /render": 10, "GET /archive": 5}
assert WEIGHTS.keys() == ROUTES.keys()

BEFORE = 'migration = "https://shop.example/moving"\nshadow = true\n\n[levers."*"]\nmpp = "off"\n'
"""The levers of the first day: x402 as ever, and MPP tried out in its shadow."""

OWNER: dict[int, tuple[str, str, dict[str, Any]]] = {
    7: ("mpp canary 10 %", "mpp", {"stage": "canary", "share": "10%"}),
    11: ("mpp canary 50 %", "mpp", {"stage": "canary", "share": "50%"}),
    14: ("mpp on", "mpp", {"stage": "on"}),
    20: ("mpp preferred", "mpp", {"stage": "preferred"}),
    24: ("x402-v1: a plan", "x402-v1", {}),
}
"""What the owner does, in the morning of a day."""


def _plan(begin: datetime) -> dict[str, Any]:
    """What the plan says of x402 v1."""
    first, last = begin + timedelta(days=42), begin + timedelta(days=49)
    return {
        "on_until": begin + timedelta(days=28),
        "brownouts": [{"from": first, "until": last, "daily": "10:00-16:00"}],
        "refused_from": begin + timedelta(days=52),
    }


BY_CLOCK = {28: "x402-v1 deprecated", 42: "x402-v1 brownouts", 49: "", 52: "x402-v1 refused"}
MOMENTS = (10, 24, 42, 52, 60)
"""The days at whose beginning it is asked who would be lost."""


class Fleet:
    """The fleet under way."""

    def __init__(self, *, events: str, levers: Path, begin: datetime, days: int, seed: int, visits: float) -> None:
        self.rng = Random(seed)
        self.begin, self.start = begin, begin.timestamp()
        self.clock = FixedClock(self.start)
        self.books = Books()
        self.levers, self.days, self.visits = levers, days, visits
        levers.write_text(BEFORE)
        self.shop = Shop(self.clock, Random(seed + 1), events=events, levers=str(levers))
        self.clients = fleet(self.rng)
        for client in self.clients:
            if client.quirk == "broke":
                self.shop.chain.balances[client.account.address] = 0
        self.requests = 0
        self.is_shadowed = True
        self._looked = -1.0
        self._pending: list[Cheque] = []

    @property
    def day(self) -> int:
        """Which day it is, the first being 0."""
        return int((self.clock.now - self.start) // DAY)

    async def run(self) -> None:
        """All days, from the first midnight to the last."""
        for day in range(self.days):
            await self._until(self.start + day * DAY)
            await self._act(day)
            for at, client in self._visits_of(day):
                await self._until(self.start + day * DAY + at)
                if self.clock.now < self.start + self.days * DAY - 2 * HOUR:
                    await self._visit(client)
        await self._until(self.start + self.days * DAY - 1)
        await asyncio.sleep(0)

    async def stop(self) -> None:
        """Let what is waiting be written, and close."""
        await asyncio.to_thread(self.shop.flush)
        await self.shop.app.gate.close()

    def _visits_of(self, day: int) -> list[tuple[float, Client]]:
        coming = []
        for client in self.clients:
            own = self.visits * (3 if client.quirk == "loops" else 1)
            times = int(own) + (self.rng.random() < own % 1)
            coming += [(self.rng.uniform(0, DAY - HOUR), client) for _ in range(times)]
            if client.quirk == "broke" and day % 10 == 0:
                self.shop.chain.balances[client.account.address] = 60_000
        return sorted(coming, key=lambda visit: visit[0])

    async def _until(self, at: float) -> None:
        """Let time pass; by the hour, the server looks at its levers and at payments that nobody works on."""
        while self._looked + HOUR <= max(at, self.clock.now):
            self._looked = self.start if self._looked < 0 else self._looked + HOUR
            self.clock.now = max(self.clock.now, self._looked)
            await self.shop.look()
            await self._reconcile()
        self.clock.now = max(self.clock.now, at)

    async def _reconcile(self) -> None:
        if not self._pending:
            return
        await self.shop.reconcile()
        for cheque in self._pending:
            if self.shop.chain.has(cheque.id):
                self.books.earn(self.clock.now, cheque)
        self._pending = []

    async def _act(self, day: int) -> None:
        """What the owner does this morning: a change at the end of the file of levers, as `x402-mpp levers` adds it."""
        if day in OWNER:
            _, protocol, lever = OWNER[day]
            said = {"levers": {"*": {protocol: lever or _plan(self.begin)}}}
            with self.levers.open("a") as file:
                file.write(write_change(self.clock.now, "olga", said))
            await self.shop.look()
        self.is_shadowed = day < min(OWNER)

    # One visit

    async def _visit(self, client: Client) -> None:
        protocols = client.now(self.day)
        if not protocols:
            return
        route = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if client.quirk == "loops":
            for _ in range(3):
                await self._ask(client, route, protocols)
                self.clock.advance(2)
            return
        asked = client.kept.get(route) if client.quirk == "caches" else None
        if asked is None or asked.protocol not in protocols:
            asked = _readable(await self._ask(client, route, protocols), protocols)
        if asked is None:
            client.lost_at = client.lost_at or self.clock.now
            return
        if asked.protocol is not MPP:
            client.kept[route] = asked
        await self._pay(client, route, asked, protocols)
        if client.kind == "dual" and protocols[0] is MPP:
            # Another program of the same owner, with the same wallet.
            self.clock.advance(600)
            other = _readable(await self._ask(client, route, protocols[1:]), protocols[1:])
            if other is not None:
                await self._pay(client, route, other, protocols[1:])

    async def _ask(self, client: Client, route: str, protocols: tuple[Protocol, ...]) -> Answer:
        headers = self._headers(client, protocols)
        answer = await self._send(client, route, headers)
        assert answer.status_code == 402, answer.status_code
        self.books.lines.append(
            Line(
                self.clock.now,
                "asked",
                route,
                _product(headers),
                "mpp" if "accept-payment" in headers else "",
                offered=frozenset(p.value for p in Protocol if _readable(answer, (p,)) is not None),
            )
        )
        return answer

    def _headers(self, client: Client, protocols: tuple[Protocol, ...]) -> dict[str, str]:
        agent = client.agent(protocols)
        headers = {"user-agent": agent} if agent else {}
        if client.says and MPP in protocols:
            headers["accept-payment"] = "evm/charge"
        return headers

    async def _send(self, client: Client, route: str, headers: dict[str, str]) -> Answer:
        method, _, path = route.partition(" ")
        self.requests += 1
        return await send(self.shop.app, method, path.replace("{id}", "7"), headers, client.address)

    async def _pay(self, client: Client, route: str, asked: Asked, protocols: tuple[Protocol, ...]) -> None:
        headers = self._headers(client, protocols)
        cheque, payment = self._sign(client, route, asked, headers)
        name, value = envelope(asked, payment)
        match client.quirk:
            case "dawdles":
                self.clock.advance(400)
            case "garbles":
                value = value[: len(value) // 2]
            case "keys":
                headers["idempotency-key"] = f"{client.name}, request {len(self.books.cheques)}"
        self.clock.advance(1)
        answer = await self._try(client, cheque, headers | {name: value})
        for wait in (5, 20, 60):
            # 503, a handler's 500, or half an answer: the same credential once more, as our error pages say.
            if answer.is_whole and answer.status_code < 500:
                break
            if self.rng.random() < 0.2:
                break  # it gives up, and never hears what became of its money
            self.clock.advance(wait)
            answer = await self._try(client, cheque, headers | {name: value})
        self._heed(client, answer)
        if answer.status_code >= 400 or not answer.is_whole:
            return
        if client.quirk == "repeats":
            self.clock.advance(self.rng.choice((10, 30, 1200)))
            await self._try(client, cheque, headers | {name: value})
        elif client.quirk == "keys" and self.rng.random() < 0.5:
            # As a client does that lost the answer: it asks anew, signs anew, and names the same request.
            self.clock.advance(10)
            again = _readable(await self._ask(client, route, protocols), (asked.protocol,))
            if again is not None:
                second, payment = self._sign(client, route, again, headers)
                name, value = envelope(again, payment)
                await self._try(client, second, headers | {name: value}, stands_for=cheque)

    def _sign(self, client: Client, route: str, asked: Asked, headers: dict[str, str]) -> tuple[Cheque, Payment]:
        payment = sign(asked, client.account, self.clock.now)
        if client.quirk == "forges":
            signature = payment.authorization.signature
            forged = bytes((signature[0] ^ 1,)) + signature[1:]
            payment = msgspec.structs.replace(
                payment, authorization=msgspec.structs.replace(payment.authorization, signature=forged)
            )
        cheque = Cheque(
            id=payment.id,
            payer=client.account.address,
            protocol=asked.protocol.value,
            asset=asked.offer.asset.address,
            amount=asked.offer.amount,
            route=route,
            client=_product(headers),
        )
        self.books.cheques.append(cheque)
        return cheque, payment

    async def _try(
        self, client: Client, cheque: Cheque, headers: dict[str, str], *, stands_for: Cheque | None = None
    ) -> Answer:
        """Send a credential, and write down what came of it."""
        chain, write, meant = self.shop.chain, self.books.write, stands_for or cheque
        was_paid = chain.has(cheque.id)
        answer = await self._send(client, cheque.route, headers)
        # The shadow runs when the event loop has nothing more urgent.
        await asyncio.sleep(0)
        now = self.clock.now
        write(now, "tried", cheque)
        error = answer.said.get("error") if "type" in answer.said else None
        if self.is_shadowed and cheque.protocol != "mpp" and not was_paid and _is_judged(client, error):
            write(now, "shadowed", cheque)
        if answer.status_code < 400 and answer.is_whole:
            receipt = read_receipt(answer, Protocol(cheque.protocol))
            assert receipt is not None, "an answer without a receipt"
            assert chain.has(meant.id), "an answer that nobody paid for"
            write(now, "replayed" if meant.is_delivered else "delivered", meant)
            meant.is_delivered, client.lost_at = True, None
            self.books.earn(now, meant)
        elif error is None and chain.has(meant.id):
            write(now, "failed", cheque, reason="undelivered")
            self.books.earn(now, meant)
        else:
            write(now, "failed", cheque, reason=error or "handler_failed")
            if answer.status_code == 503:
                self._pending.append(meant)
        return answer

    def _heed(self, client: Client, answer: Answer) -> None:
        """What a client makes of being told that its protocol ends."""
        if client.listens and "deprecation" in answer.headers:
            client.listens = False
            client.move_by(self.day + self.rng.randrange(2, 10))
        if answer.said.get("error") == "protocol_refused":
            client.kept.clear()
            if client.moves_when_refused:
                client.learns(self.day + self.rng.randrange(1, 5))


def _is_judged(client: Client, error: str | None) -> bool:
    """Whether x402's checks could read the payment and said yes or no: of what the chain says there is no shadow."""
    return client.quirk not in ("garbles", "dawdles") and error != "insufficient_funds"


def _readable(answer: Answer, protocols: tuple[Protocol, ...]) -> Asked | None:
    """What a client of these protocols reads in a 402; the first that it finds, in its own order."""
    for protocol in protocols:
        try:
            return read_402(answer, protocol)
        except MalformedError:
            continue
    return None


def _product(headers: dict[str, str]) -> str:
    return headers.get("user-agent", "(none)").partition(" ")[0]


# The run, and what is told of it


class Outcome(NamedTuple):
    """What a run came to: the fleet as it stands at the end, and its books against the reports."""

    fleet: Fleet
    comparison: Comparison


@contextmanager
def _quiet() -> Iterator[None]:
    """No log line for each of many thousand events; the settings of whoever called come back."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        yield
    finally:
        structlog.configure(**before)


async def simulate(
    *, events: str, begin: datetime = BEGIN, days: int = 60, seed: int = 7, visits: float = 0.25
) -> Outcome:
    """Send the fleet for `days`, with so many `visits` a client and day, and compare the books with the reports."""
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        levers = Path(folder, "levers.toml")
        under_way = Fleet(events=events, levers=levers, begin=begin, days=days, seed=seed, visits=visits)
        await under_way.shop.app.gate.start(under_way.shop.app.config.offers_to_check())
        try:
            await under_way.run()
        finally:
            await under_way.stop()
    with open_events(events) as opened:
        comparison = compare(under_way.books, opened, under_way.start, days, MOMENTS, _marks(under_way.start, days))
    moved = sum(settled.amount for settled in under_way.shop.chain.moved.values())
    comparison.equal("earned and moved", sum(c.amount for c in under_way.books.cheques if c.is_earned), moved)
    return Outcome(under_way, comparison)


def _marks(start: float, days: int) -> list[tuple[float, str, str]]:
    """Every change of a stage that there has to be: when, of which protocol, and what it became."""
    made: list[tuple[float, str, str]] = [(day, of, lever["stage"]) for day, (_, of, lever) in OWNER.items() if lever]
    made.append((28, "x402-v1", "deprecated"))
    for day in range(42, 49):
        made += [(day + 10 / 24, "x402-v1", "brownout"), (day + 16 / 24, "x402-v1", "deprecated")]
    made.append((52, "x402-v1", "refused"))
    return [(round(start + day * DAY, 3), protocol, stage) for day, protocol, stage in made if day < days]


def story(outcome: Outcome, events: str) -> Iterator[str]:
    """The days, three at a time, then who would have been lost and who was."""
    under_way, comparison = outcome
    books, days, start = under_way.books, under_way.days, under_way.start
    began = f"{under_way.begin:%Y-%m-%d}"
    yield f"{len(under_way.clients)} clients, {days} days from {began}, {under_way.requests} requests"
    yield ""
    yield "day    402s  tried  failed  x402-v1  x402-v2   mpp  what happened"
    for day in range(0, days, 3):
        lines = books.within(start + day * DAY, start + (day + 3) * DAY).lines
        what = Counter(line.what for line in lines)
        paid = Counter(line.protocol for line in lines if line.what == "earned")
        news = [OWNER[d][0] if d in OWNER else BY_CLOCK[d] for d in range(day, day + 3) if d in OWNER or d in BY_CLOCK]
        yield (
            f"{day:>3}  {what['asked']:>6} {what['tried']:>6} {what['failed']:>7}"
            f"  {paid['x402-v1']:>7}  {paid['x402-v2']:>7}  {paid['mpp']:>4}  {', '.join(news)}".rstrip()
        )
    yield ""
    yield "asked on day    switching x402-v1 off loses   of whom pay in another already   atomic units a day"
    for moment in (m for m in MOMENTS if m <= days):
        r = books.readiness("x402-v1", start + (moment - 14) * DAY, start + moment * DAY)
        a_day = sum(map(int, r["revenue_per_day"].values()))
        yield f"{moment:>12}    {r['payers']:>11} of {r['all_payers']:>3} payers   {r['moved']:>29}   {a_day:>18}"
    refused = Counter(line.client for line in books.lines if line.reason == "protocol_refused")
    lost = [client for client in under_way.clients if client.lost_at is not None]
    yield ""
    yield f"{sum(refused.values())} payments were refused for their protocol: nothing was charged for them."
    yield f"{len(lost)} clients found nothing that they can pay in at their last visit:"
    for kind, count in Counter(client.kind for client in lost).most_common():
        yield f"  {count:>3}  {kind}"
    yield ""
    wrong = len(comparison.differences)
    yield f"{comparison.compared} figures of the reports held against the fleet's own books: {wrong} differ."
    yield from comparison.differences[:20]
    yield ""
    until = (under_way.begin + timedelta(days=days)).date()
    yield "Look for yourself:"
    yield f"  x402-mpp report --events {events}"
    yield f"  x402-mpp report shares --events {events} --step 1w"
    yield f"  x402-mpp report readiness --events {events} --protocol x402-v1 --window 14d --until {until}"
    yield f"  x402-mpp report clients --events {events}"
    yield f"  x402-mpp report marks --events {events} --until {until}"
    yield f"  x402-mpp dashboard --events {events}"


def main(arguments: list[str] | None = None) -> int:
    """Run it, and say how it went; exit with 1 where a figure differs."""
    parser = argparse.ArgumentParser(description="Two hundred clients move from x402 to MPP in sixty days.")
    parser.add_argument("--events", default="fleet.sqlite3", help="the event store's file; it must not be there yet")
    parser.add_argument("--days", type=int, default=60, help="how many days to play")
    parser.add_argument("--begin", metavar="DATE", help="the first day; without it, the last one was yesterday")
    parser.add_argument("--seed", type=int, default=7, help="another seed is another fleet")
    parser.add_argument("--visits", type=float, default=0.25, help="of a client on a day, on average")
    options = parser.parse_args(arguments)
    if Path(options.events).exists():
        parser.error(f"{options.events} is there already: its figures would be added to")
    if not 1 <= options.days <= 60 or not 0 < options.visits <= 20:
        parser.error("--days is 1 to 60, --visits more than 0 and at most 20")
    begin = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=options.days)
    if options.begin is not None:
        try:
            begin = datetime.fromisoformat(options.begin).replace(tzinfo=UTC)
        except ValueError as error:
            parser.error(f"--begin: {error}")
    outcome = asyncio.run(
        simulate(events=options.events, begin=begin, days=options.days, seed=options.seed, visits=options.visits)
    )
    print("\n".join(story(outcome, options.events)))
    return 1 if outcome.comparison.differences else 0


if __name__ == "__main__":
    sys.exit(main())
