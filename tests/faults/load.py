"""Many payments at four workers that share one store, each sent three times, while facilitator or store fail."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from bridge.payers import read_402
from tests.faults.lab import FUNDS, PRICE, RECIPIENT, Lab, Purchase, runs_of
from tests.faults.worker import Start
from translators.lifecycle import State
from translators.payment import Protocol

WORKERS = 4
SENDINGS = 3
AT_ONCE = 48
"""Requests under way at once."""


@dataclass
class Load:
    """What a load came to."""

    payments: int
    settled: int = 0
    delivered: int = 0
    answers: int = 0
    served: int = 0
    unavailable: int = 0
    lost: int = 0
    handler_runs: int = 0
    earned: int = 0
    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = sum(count for mode, count in self.faults.items() if mode != "well")
        asked = sum(self.faults.values())
        return (
            f"{self.payments} payments x {SENDINGS}: settled {self.settled}, delivered {self.delivered}, earned"
            f" {self.earned} of {self.payments * PRICE}; answers {self.answers} (200: {self.served}, 503:"
            f" {self.unavailable}), connections lost {self.lost}, handler runs {self.handler_runs}, facilitator failed"
            f" {faults} of {asked}; {self.seconds:.1f} s, violations {len(self.violations)}"
        )


@asynccontextmanager
async def workers(lab: Lab, start: Start, count: int = WORKERS) -> Any:
    """The URLs of `count` workers."""
    socks = [lab.fleet.take_socket() for _ in range(count)]
    running = [await lab.fleet.start(sock, start) for sock in socks]
    try:
        yield [worker.url for worker in running]
    finally:
        for worker, sock in zip(running, socks, strict=True):
            await worker.kill()
            lab.fleet.give_back(sock)


async def load(
    lab: Lab,
    store: str,
    settler: str,
    payments: int,
    *,
    seed: int = 1,
    rate: float = 0.2,
    seconds: float = 60,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
    pace: float = 0.0,
    **more: Any,
) -> Load:
    """Send `payments` payments thrice each at random workers; `meanwhile` is what happens to them.

    They begin within `pace` seconds, and are sent again for at most `seconds`; `more` is what the workers start with.
    """
    dice = random.Random(seed)
    result = Load(payments)
    # All is signed before the first is sent, and a slow machine may take long: nothing expires meanwhile.
    more = {"max_timeout_seconds": 3600, **more}
    start = lab.start(store, settler, lease_seconds=5.0, reconcile_seconds=0.5, wait_seconds=5.0, **more)
    await lab.break_facilitator(seed, rate)
    payers = await lab.payers.take(payments)
    (before,) = await lab.chain.balances([RECIPIENT])
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with workers(lab, start) as urls, httpx.AsyncClient(timeout=30, limits=limits) as client:
        purchases = [
            Purchase(client, dice.choice(("/on_success", "/first")), dice.choice(list(Protocol)), payer)
            for payer in payers
        ]
        await _sign(client, purchases, urls)
        began = time.monotonic()
        turn = asyncio.Semaphore(AT_ONCE)

        async def sent(purchase: Purchase) -> None:
            await asyncio.sleep(dice.uniform(0, pace))
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                async with turn:
                    status = await purchase.send(dice.choice(urls))
                if status not in (None, 503):
                    return
                await asyncio.sleep(dice.uniform(0.2, 0.6))

        sendings = [purchase for purchase in purchases for _ in range(SENDINGS)]
        dice.shuffle(sendings)
        other = asyncio.ensure_future(meanwhile()) if meanwhile is not None else None
        await asyncio.gather(*map(sent, sendings))
        if other is not None:
            await other
        result.seconds = time.monotonic() - began
        rows = await _rows(lab, store, purchases)
    result.faults = await lab.facilitator_faults()
    (after,) = await lab.chain.balances([RECIPIENT])
    result.earned = after - before
    await _judge(lab, result, start, purchases, rows)
    return result


async def _sign(client: httpx.AsyncClient, purchases: list[Purchase], urls: list[str]) -> None:
    """One 402 is enough for all x402 payments; every MPP payment answers a challenge of its own."""
    asked = {
        (protocol, path): read_402(await client.get(urls[0] + path), protocol)
        for protocol in (Protocol.X402_V1, Protocol.X402_V2)
        for path in ("/on_success", "/first")
    }
    for first in range(0, len(purchases), AT_ONCE):
        some = purchases[first : first + AT_ONCE]
        await asyncio.gather(*(p.prepare(urls[0], asked.get((p.protocol, p.path))) for p in some))


async def _rows(lab: Lab, store: str, purchases: list[Purchase]) -> list[Any]:
    """The rows once nothing is open, or after twenty seconds."""
    for _ in range(40):
        rows = await lab.rows(store, [purchase.id for purchase in purchases])
        if all(row is not None and row.state is State.DELIVERED for row in rows):
            break
        await asyncio.sleep(0.5)
    return rows


async def _judge(lab: Lab, result: Load, start: Start, purchases: list[Purchase], rows: list[Any]) -> None:
    balances = await lab.chain.balances([purchase.payer.address for purchase in purchases])
    runs = runs_of(start)
    result.handler_runs = runs.total()
    for purchase, row, balance in zip(purchases, rows, balances, strict=True):
        spent = FUNDS - balance
        served = purchase.statuses.count(200)
        result.settled += spent == PRICE
        result.delivered += served > 0
        result.answers += len(purchase.statuses)
        result.served += served
        result.unavailable += purchase.statuses.count(503)
        result.lost += purchase.lost
        state = row.state.value if row is not None else None
        wrong = list(purchase.bad_answers)
        if spent != PRICE:
            wrong.append(f"paid {spent}")
        if served != SENDINGS:
            wrong.append(f"served {served} times of {SENDINGS}")
        if state != State.DELIVERED:
            wrong.append(f"left {state}")
        if 402 in purchase.statuses:
            wrong.append(f"told to pay again ({'; '.join(purchase.refusals)})")
        if wrong:
            told = f"[answers {purchase.statuses}, lost {purchase.lost}, row {state}, spent {spent}]"
            result.violations.append(f"{purchase.protocol.value} {purchase.path}: {'; '.join(wrong)} {told}")
    if result.earned != sum(FUNDS - balance for balance in balances):
        result.violations.append(f"the recipient has {result.earned}, which is not what the payers have spent")
