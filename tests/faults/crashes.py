"""A worker is killed at one point of one payment; then it is restarted, and everybody's books are compared."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from tests.faults.lab import FUNDS, PRICE, Lab, Purchase, runs_of, trace_of
from tests.faults.worker import Start
from translators.lifecycle import State
from translators.payment import Protocol

ENDED = (State.DELIVERED, State.RELEASED, State.SETTLED)
"""States in which nothing is open."""

TIMED = ("take_over", "find", "purge", "records")
"""Points that a clock passes and not the request; the random runs meet them."""


@dataclass(frozen=True)
class Plan:
    """What is paid, through what, and where the worker dies."""

    store: str
    settler: str
    protocol: Protocol
    policy: str = "on_success"
    point: tuple[str, int] | None = None
    resend: bool = True
    framework: str = "asgi"
    payer: str = "key"
    """One of `payers.KINDS`."""

    @property
    def can_tell(self) -> bool:
        """Whether anybody can be asked what became of a payment."""
        return self.settler != "facilitator" and self.payer != "permit2"

    @property
    def way(self) -> str:
        """Who settles, and for whom if that is no plain account."""
        return self.settler if self.payer == "key" else f"{self.settler}, {self.payer}"


@dataclass
class Outcome:
    plan: Plan
    killed: int = 0
    paid: int = 0
    delivered: int = 0
    payments: int = 1
    unknowable: int = 0
    violations: list[str] = field(default_factory=list)


def points_in(trace: Iterable[str]) -> list[tuple[str, int]]:
    """Every point of a dry run, with its number."""
    seen: Counter[str] = Counter()
    points = []
    for name in trace:
        if name.partition(".")[0] not in TIMED and name != "killed":
            seen[name] += 1
            points.append((name, seen[name]))
    return points


async def dry_run(lab: Lab, plan: Plan) -> list[tuple[str, int]]:
    """The points that a payment passes when nothing goes wrong."""
    outcome, trace = await _run(lab, plan)
    if outcome.violations or outcome.delivered != 1:
        raise AssertionError(f"without any crash: {outcome}")
    return points_in(trace)


async def crash(lab: Lab, plan: Plan) -> Outcome:
    """Kill the worker at the plan's point, restart it, and see what became of the payment."""
    return (await _run(lab, plan))[0]


async def _run(lab: Lab, plan: Plan) -> tuple[Outcome, list[str]]:
    outcome = Outcome(plan)
    window = 300 if plan.resend else 12
    start = lab.start(
        lab.store(plan.store),
        plan.settler,
        framework=plan.framework,
        crash=plan.point,
        max_timeout_seconds=window,
        permit2=plan.payer == "permit2",
    )
    again = msgspec.structs.replace(start, crash=None)
    (payer,) = await lab.payers.take(1, plan.payer)
    sock = lab.fleet.take_socket()
    worker = await lab.fleet.start(sock, start)
    over = False

    async def keep_alive() -> None:
        nonlocal worker
        while True:
            await worker.ended.wait()
            if over:
                return
            outcome.killed += 1
            worker = await lab.fleet.start(sock, again)

    keeper = asyncio.create_task(keep_alive())
    try:
        async with httpx.AsyncClient(timeout=12) as client:
            purchase = Purchase(client, f"/{plan.policy}", plan.protocol, payer)
            await purchase.prepare(worker.url)
            await purchase.send(worker.url)
            if plan.point is not None:
                # The last points are passed after the answer's last byte.
                await asyncio.sleep(0.1)
            url = worker.url
            if not plan.resend:
                await _settled_down(lab, start, [purchase.id], 40)
                # Long after: the window has closed, and what was paid for is still owed.
            await purchase.insist(lambda: url, 15 if plan.can_tell else 4)
            await judge(lab, outcome, start, [purchase])
    finally:
        over = True
        while not keeper.done():  # it may be starting one
            await worker.kill()
            await asyncio.sleep(0.01)
        lab.fleet.give_back(sock)
    return outcome, trace_of(start)


async def _settled_down(
    lab: Lab, start: Start, ids: Sequence[str], seconds: float, served: Collection[str] = ()
) -> list[Any]:
    """The rows, once the reconciler is done with them; what was `served` is written down after its last byte."""
    deadline = time.monotonic() + seconds

    def is_open(row: Any) -> bool:
        if row.state is State.CLAIMED:
            return bool(row.lease_until > time.time())
        return row.state not in ENDED or (row.id in served and row.state is not State.DELIVERED)

    while True:
        rows = await lab.rows(start.store, ids)
        if time.monotonic() > deadline or not any(row is not None and is_open(row) for row in rows):
            return rows
        await asyncio.sleep(0.2)


async def judge(lab: Lab, outcome: Outcome, start: Start, purchases: Sequence[Purchase], seconds: float = 8) -> None:
    """Compare the chain's books, the journal's, the handler's and the clients'."""
    plan = outcome.plan
    can_tell = plan.can_tell
    served_ids = {purchase.id for purchase in purchases if 200 in purchase.statuses}
    ids = [purchase.id for purchase in purchases]
    rows = await _settled_down(lab, start, ids, seconds if can_tell else 0.5, served_ids)
    balances = await lab.chain.balances([purchase.payer.address for purchase in purchases])
    runs = runs_of(start)
    for purchase, row, balance in zip(purchases, rows, balances, strict=True):
        spent = FUNDS - balance
        served = 200 in purchase.statuses
        state = row.state if row is not None else None
        outcome.paid += spent > 0
        outcome.delivered += served
        wrong = list(purchase.bad_answers)
        if spent not in (0, PRICE):
            wrong.append(f"paid {spent}")
        if served and spent != PRICE:
            wrong.append("served for free")
        if spent and not runs[purchase.id] and can_tell:
            wrong.append("paid, and the handler never ran")
        if spent and not served:
            if can_tell:
                wrong.append("paid, and never answered")
            elif state is not State.UNKNOWN and state is not State.SETTLING:
                wrong.append(f"paid, never answered, and not even open: {state}")
            else:
                outcome.unknowable += 1
        if spent and 402 in purchase.statuses:
            wrong.append(f"paid, and told to pay again ({'; '.join(purchase.refusals)})")
        if spent and row is None:
            wrong.append("paid, and not in the journal")
        if can_tell and state in (State.SETTLING, State.UNKNOWN):
            wrong.append(f"left {state} ({row.reason})")
        if can_tell and state is State.CLAIMED and row.lease_until > time.time():
            wrong.append("left claimed")
        if served and can_tell and state is not State.DELIVERED:
            wrong.append(f"served, and left {state}")
        if served and 402 in purchase.statuses:
            wrong.append("served and refused")
        if wrong:
            outcome.violations.append(
                f"{plan} {purchase.protocol.value}: {'; '.join(wrong)} [answers {purchase.statuses}, lost"
                f" {purchase.lost}, row {state}, spent {spent}, runs {runs[purchase.id]}]"
            )


async def storm(lab: Lab, plan: Plan, seed: int, *, payments: int = 6, kills: int = 3, rate: float = 0.0) -> Outcome:
    """Several payments at once, all protocols and both policies, at two workers that die again and again.

    One of them is also told to stop once, as when a new release is deployed.
    """
    dice = random.Random(seed)
    outcome = Outcome(plan, payments=payments)
    start = lab.start(
        lab.store(plan.store), plan.settler, framework=plan.framework, handler_seconds=dice.choice((0.0, 0.02, 0.4))
    )
    payers = await lab.payers.take(payments)
    socks = [lab.fleet.take_socket() for _ in range(2)]
    left = kills
    stopping = False

    def fated() -> Start:
        nonlocal left
        left -= 1
        return msgspec.structs.replace(start, kill_at=dice.randint(1, 60) if left >= 0 else None)

    # The first creates the schema.
    workers = [await lab.fleet.start(socks[0], fated())]
    workers.append(await lab.fleet.start(socks[1], fated()))

    async def keep_alive(index: int) -> None:
        while True:
            await workers[index].ended.wait()
            if stopping:
                return
            outcome.killed += 1
            await asyncio.sleep(dice.uniform(0, 0.5))
            workers[index] = await lab.fleet.start(socks[index], fated())

    async def deploy() -> None:
        await asyncio.sleep(dice.uniform(0.1, 1.5))
        workers[0].stop()

    keepers = [asyncio.create_task(keep_alive(index)) for index in range(2)]
    deploying = asyncio.create_task(deploy())
    urls = [worker.url for worker in workers]
    try:
        async with httpx.AsyncClient(timeout=12, limits=httpx.Limits(max_connections=100)) as client:
            purchases = [
                Purchase(client, dice.choice(("/on_success", "/first")), dice.choice(list(Protocol)), payer)
                for payer in payers
            ]
            for purchase in purchases:
                await _prepared(purchase, urls)
            # Each is sent twice at once: a client that is impatient.
            await asyncio.gather(
                *(
                    purchase.insist(lambda: dice.choice(urls), 25 if plan.can_tell else 6)
                    for purchase in purchases
                    for _ in range(2)
                )
            )
            await judge(lab, outcome, start, purchases, 15)
    finally:
        stopping = True
        await deploying
        while not all(keeper.done() for keeper in keepers):
            for worker in workers:
                await worker.kill()
            await asyncio.sleep(0.01)
        for sock in socks:
            lab.fleet.give_back(sock)
    return outcome


async def _prepared(purchase: Purchase, urls: Sequence[str]) -> None:
    for attempt in range(40):
        try:
            await purchase.prepare(urls[attempt % len(urls)])
        except httpx.HTTPError:
            await asyncio.sleep(0.1)
        else:
            return
    raise AssertionError("no worker gives a 402")


async def crash_everywhere(
    lab: Lab, plans: Sequence[Plan], *, at_once: int = 6, replays: int | None = None, step: int = 1
) -> list[Outcome]:
    """Every point of every plan, once each; those of the second sending for the first `replays` plans only.

    With `step`, only every so-manieth point, beginning at another one in each plan.
    """
    turn = asyncio.Semaphore(at_once)

    async def one(number: int, plan: Plan, with_replay: bool) -> list[Outcome]:
        async with turn:
            points = await dry_run(lab, plan)
        if not with_replay:
            points = points[: points.index(("advance:delivered.after", 1)) + 1]

        async def at(point: tuple[str, int]) -> Outcome:
            async with turn:
                return await crash(lab, Plan(**{**vars(plan), "point": point}))

        return list(await asyncio.gather(*map(at, points[number % step :: step])))

    wanted = len(plans) if replays is None else replays
    all_of_them = await asyncio.gather(*(one(index, plan, index < wanted) for index, plan in enumerate(plans)))
    return [outcome for outcomes in all_of_them for outcome in outcomes]


def table(outcomes: Iterable[Outcome]) -> str:
    """Runs and violations by store, settler, policy and protocol."""
    rows: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        plan = outcome.plan
        protocol = plan.protocol.value if outcome.payments == 1 else "all three"
        key = (plan.store, plan.way, plan.policy if outcome.payments == 1 else "both", protocol)
        rows[key] += Counter(
            runs=1,
            payments=outcome.payments,
            kills=outcome.killed,
            paid=outcome.paid,
            delivered=outcome.delivered,
            unknowable=outcome.unknowable,
            violations=len(outcome.violations),
        )
    columns = ("runs", "payments", "kills", "paid", "delivered", "unknowable", "violations")
    lines = [
        "store       settler                      policy      protocol   " + "".join(f"{name:>11}" for name in columns)
    ]
    total: Counter[str] = Counter()
    for (store, settler, policy, protocol), counts in sorted(rows.items()):
        total += counts
        head = f"{store:<11} {settler:<28} {policy:<11} {protocol:<10}"
        lines.append(head + "".join(f"{counts[name]:>11}" for name in columns))
    lines.append(f"{'all':<63}" + "".join(f"{total[name]:>11}" for name in columns))
    return "\n".join(lines)
