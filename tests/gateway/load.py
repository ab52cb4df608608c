"""Many paid requests through two gateways that share a store, while the server behind them is killed and comes back.

The server is the official SDK's on FastAPI with the official facilitator, on anvil. Each payment is signed once and
sent until it is served, or until the answer cannot change any more.
"""

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bridge.demo import token
from bridge.payers import Account, account, credential, read_402
from tests.interop.chain import TRANSFER, Anvil, Wallet
from tests.interop.our_gateway import OurGateway
from tests.interop.peers import Facilitator, Server
from translators.payment import Protocol

PRICE = 10_000
FUNDS = 3 * PRICE
"""Enough to be charged twice."""
GATEWAYS = 2
AT_ONCE = 50
DOWN_SECONDS = 1.5
PATIENCE_SECONDS = 120.0
"""How long after the upstream's last return one credential is sent again."""


@dataclass
class Purchase:
    """One payment: signed once, and every answer that it got."""

    payer: Account
    protocol: Protocol
    statuses: list[int] = field(default_factory=list)
    lost: int = 0
    asked_again: bool = False
    """Whether it was ever answered with a challenge."""
    last: str = ""

    @property
    def served(self) -> bool:
        return 200 in self.statuses


@dataclass
class Load:
    """What a load came to."""

    payments: int
    gently: bool
    kills: int = 0
    seconds: float = 0.0
    settlements: int = 0
    """Transfers to the server's recipient, as the chain has them."""
    earned: int = 0
    served: int = 0
    paid_unserved: dict[str, int] = field(default_factory=dict)
    """By protocol: the money moved, and the killed server never gave the answer."""
    answers: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.payments} payments, {AT_ONCE} at once, {GATEWAYS} gateways, upstream"
            f" {'stopped' if self.gently else 'killed'} {self.kills} times:"
            f" {self.settlements} settlements, earned {self.earned} of {self.payments * PRICE}, served {self.served},"
            f" paid and not served {dict(self.paid_unserved)}; answers {dict(sorted(self.answers.items()))},"
            f" connections lost {self.lost}; {self.seconds:.1f} s, violations {len(self.violations)}"
        )


class Upstream:
    """The official server, which can be killed and comes back on its port."""

    def __init__(self, facilitator: Facilitator, pay_to: str, logs: Path) -> None:
        self._facilitator, self.pay_to, self._logs = facilitator, pay_to, logs
        self._server = self._start(0)
        self.url = self._server.url
        self.back_at = time.monotonic()

    def _start(self, port: int) -> Server:
        return Server(
            "py-x402-fastapi", pay_to=self.pay_to, facilitator_url=self._facilitator.url, logs=self._logs, port=port
        )

    async def die_and_return(self, *, gently: bool) -> None:
        """End it with SIGKILL, or let it finish what it does; and start it again a moment later."""
        await asyncio.to_thread(self._server.finish if gently else self._server.kill)
        await asyncio.sleep(DOWN_SECONDS)
        self._server = await asyncio.to_thread(self._start, int(self.url.rsplit(":", 1)[1]))
        await asyncio.to_thread(lambda: self._server.url)
        self.back_at = time.monotonic()

    def stop(self) -> None:
        self._server.stop()


def run(
    payments: int, *, kills: int, gently: bool, store: str, logs: Path, anvil: Anvil, facilitator: Facilitator
) -> Load:
    """`payments` at two gateways on `store`; the upstream ends and returns `kills` times, evenly spread."""
    upstream = Upstream(facilitator, Wallet.fresh().address, logs)
    gateways: list[OurGateway] = []
    try:
        for _ in range(GATEWAYS):
            gateways.append(_gateway(upstream, store, logs, anvil))  # noqa: PERF401
        return asyncio.run(_run(payments, kills, gently, anvil, upstream, [gateway.url for gateway in gateways]))
    finally:
        for gateway in gateways:
            gateway.stop()
        upstream.stop()


def _gateway(upstream: Upstream, store: str, logs: Path, anvil: Anvil) -> OurGateway:
    """One of several that clients reach by one name, as behind a load balancer."""
    public = ("--public-url", "http://localhost:8402")
    return OurGateway(upstream.url, logs=logs, rpc_url=anvil.rpc_url, store=store, extra=public)


async def _run(payments: int, kills: int, gently: bool, anvil: Anvil, upstream: Upstream, urls: Sequence[str]) -> Load:
    dice = random.Random(1)
    name = secrets.token_hex(8)
    payers = [account(f"gateway load {name} {number}") for number in range(payments)]
    token.install(anvil.rpc_url, {payer.address: FUNDS for payer in payers})
    purchases = [Purchase(payer, dice.choice((*Protocol, Protocol.MPP, Protocol.MPP))) for payer in payers]
    result = Load(payments, gently)
    first_block = anvil.call("eth_blockNumber")
    waiting = list(purchases)
    done = 0
    reached = {payments * number // (kills + 1): asyncio.Event() for number in range(1, kills + 1)}
    began = time.monotonic()
    limits = httpx.Limits(max_connections=2 * AT_ONCE, max_keepalive_connections=2 * AT_ONCE)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:

        async def buy() -> None:
            nonlocal done
            while waiting:
                await _buy(client, waiting.pop(), upstream, urls, dice)
                done += 1
                if done in reached:
                    reached[done].set()

        async def break_down() -> None:
            for number in range(1, kills + 1):
                await reached[payments * number // (kills + 1)].wait()
                await upstream.die_and_return(gently=gently)
                result.kills += 1

        await asyncio.gather(break_down(), *(buy() for _ in range(AT_ONCE)))
    result.seconds = time.monotonic() - began
    _judge(result, purchases, anvil, upstream.pay_to, first_block)
    return result


async def _buy(
    client: httpx.AsyncClient, purchase: Purchase, upstream: Upstream, urls: Sequence[str], dice: random.Random
) -> None:
    """Ask until a 402 comes, sign it once, and send that until it is served, refused, or said to be lost."""
    asked = None
    while asked is None:
        answer = await _get(client, dice.choice(urls), {})
        if answer is not None and answer.status_code == 402:
            asked = read_402(answer, purchase.protocol)
        else:
            await asyncio.sleep(0.2)
    name, value = credential(asked, purchase.payer)
    while True:
        answer = await _get(client, dice.choice(urls), {name: value})
        if answer is None:
            purchase.lost += 1
        else:
            purchase.statuses.append(answer.status_code)
            purchase.last = answer.text[:300]
            if answer.status_code == 402:
                purchase.asked_again = True
            if answer.status_code not in (502, 503, 504) or "paid-not-served" in answer.text:
                return
        if time.monotonic() > max(upstream.back_at, 0) + PATIENCE_SECONDS and len(purchase.statuses) > 5:
            return
        await asyncio.sleep(dice.uniform(0.3, 1.0))


async def _get(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> httpx.Response | None:
    try:
        return await client.get(f"{url}/weather", headers=headers)
    except httpx.HTTPError:
        return None


def _judge(result: Load, purchases: Sequence[Purchase], anvil: Anvil, pay_to: str, first_block: str) -> None:
    topic = "0x" + pay_to[2:].lower().rjust(64, "0")
    query = {"fromBlock": first_block, "toBlock": "latest", "address": token.TOKEN_ADDRESS}
    transfers = Counter(
        "0x" + entry["topics"][1][-40:]
        for entry in anvil.call("eth_getLogs", {**query, "topics": [TRANSFER, None, topic]})
    )
    result.settlements = sum(transfers.values())
    result.earned = anvil.balance_of(pay_to)
    paid_unserved: Counter[str] = Counter()
    for purchase in purchases:
        paid = transfers[purchase.payer.address]
        result.answers.update(purchase.statuses)
        result.lost += purchase.lost
        result.served += purchase.served
        told = f"{purchase.protocol} {purchase.payer.address} {purchase.statuses}: {purchase.last}"
        if paid > 1:
            result.violations.append(f"charged {paid} times: {told}")
        if purchase.served and not paid:
            result.violations.append(f"served for nothing: {told}")
        if paid and not purchase.served:
            paid_unserved[purchase.protocol.value] += 1
            if purchase.asked_again:
                result.violations.append(f"asked to pay a second time: {told}")
        if not paid and not purchase.served:
            result.violations.append(f"neither paid nor served: {told}")
    result.paid_unserved = dict(paid_unserved)
    if result.earned != result.settlements * PRICE:
        result.violations.append(f"earned {result.earned} in {result.settlements} settlements")
