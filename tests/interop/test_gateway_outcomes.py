"""A facilitator that fails after it has settled, behind other people's servers, behind our gateway.

The servers say "402, settlement failed" for money that has moved. Whoever paid through the gateway in another protocol
than the server's must never be told to pay again for that.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from bridge.payers import Account, account, credential, read_402
from tests.faults.facilitator import SETTLES_FIRST, SETTLES_LATER, SETTLES_NOT
from translators.payment import Protocol

from .chain import Anvil, Wallet
from .our_gateway import OurGateway
from .peers import Process, Server

PRICE = 10_000
FUNDS = 3 * PRICE
MODES = [mode for mode in (*SETTLES_FIRST, *SETTLES_LATER, *SETTLES_NOT) if mode != "hangs"]
"""All but the one that outlasts the SDKs' own patience."""
PAYMENTS = 8
SENDINGS = 2
"""How often one credential is sent, while the outcome is open; each time the chain is asked for some seconds."""


@pytest.fixture(scope="module")
def failing(anvil: Anvil, logs: Path) -> Iterator[str]:
    """A facilitator that really settles, and then says something else, half of the time."""
    command = (sys.executable, "-m", "tests.faults.facilitator", "--rpc-url", anvil.rpc_url)
    process = Process("failing-facilitator", (*command, "--private-key", anvil.keys[-2]), logs=logs)
    try:
        url: str = process.ready()["url"]
        httpx.post(f"{url}/faults", json={"seed": 4, "rate": 0.6, "modes": MODES})
        yield url
    finally:
        process.stop()


@dataclass
class Attempt:
    """One payment: signed once, sent until there is an answer that is not 503."""

    payer: Account
    protocol: Protocol
    url: str
    statuses: list[int] = field(default_factory=list)
    problem: str | None = None


def test_nobody_is_asked_twice_for_money_that_moved(failing: str, anvil: Anvil, logs: Path) -> None:
    """Paid is answered with the goods, or with a word that it was paid and not served; 402 only where nothing moved.

    Two servers at once, one of each generation of x402.
    """
    servers = [
        Server(name, pay_to=Wallet.fresh().address, facilitator_url=failing, logs=logs)
        for name in ("py-x402-fastapi", "x402-express")
    ]
    gateways = [OurGateway(server.url, logs=logs, rpc_url=anvil.rpc_url) for server in servers]
    attempts = [
        Attempt(account(f"outcomes {server.pay_to} {protocol} {number}"), protocol, gateway.url)
        for server, gateway in zip(servers, gateways, strict=True)
        for protocol in Protocol
        if protocol.value not in server.spec.protocols
        for number in range(PAYMENTS)
    ]
    try:
        for attempt in attempts:
            anvil.mint(Wallet(attempt.payer.address, attempt.payer.private_key), FUNDS)
        asyncio.run(_pay_all(attempts))
        spent = [FUNDS - anvil.balance_of(attempt.payer.address) for attempt in attempts]
    finally:
        for process in (*gateways, *servers):
            process.stop()
    for attempt, paid in zip(attempts, spent, strict=True):
        assert paid in (0, PRICE), attempt
        match attempt.statuses[-1]:
            case 200:
                assert paid == PRICE, attempt
            case 402:
                assert paid == 0, attempt
            case 502:
                assert (paid, attempt.problem) == (PRICE, "paid-not-served"), attempt
            case 503:
                assert 402 not in attempt.statuses, attempt
            case _:
                pytest.fail(str(attempt))
    ends = {attempt.statuses[-1] for attempt in attempts}
    assert {200, 503} <= ends, ends


async def _pay_all(attempts: list[Attempt]) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        await asyncio.gather(*(_pay(client, attempt) for attempt in attempts))
    # What a facilitator settles after it said that it failed has come by then.
    await asyncio.sleep(2)


async def _pay(client: httpx.AsyncClient, attempt: Attempt) -> None:
    name, value = credential(read_402(await client.get(f"{attempt.url}/weather"), attempt.protocol), attempt.payer)
    for _ in range(SENDINGS):
        answer = await client.get(f"{attempt.url}/weather", headers={name: value})
        attempt.statuses.append(answer.status_code)
        if answer.headers.get("content-type", "").startswith("application/problem+json"):
            attempt.problem = str(json.loads(answer.content).get("type", "")).rpartition(":")[2]
        if answer.status_code != 503:
            return
        assert "retry-after" in answer.headers
        assert "www-authenticate" not in answer.headers
        await asyncio.sleep(0.5)
