"""Levers that are moved on a running server or gateway, and what other people's clients get meanwhile."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from .chain import Anvil, Wallet
from .our_gateway import OurGateway
from .our_server import OurServer
from .peers import Answer, ClientError, Clients

PAGE = "https://api.example.com/moving"
HEADERS = {"x402-v1": "x-payment-required", "x402-v2": "payment-required", "mpp": "www-authenticate"}
RECEIPTS = {"x402-v1": "X-PAYMENT-RESPONSE", "x402-v2": "PAYMENT-RESPONSE", "mpp": "Payment-Receipt"}
MINE = {"X-Try": "yes"}


@dataclass(frozen=True)
class Side:
    """A generation: its client, and the route on which its lever is moved."""

    protocol: str
    client: str
    method: str
    path: str
    price: int

    @property
    def route(self) -> str:
        return f"{self.method} {self.path}"


class Bench:
    """The running server or gateway, the file of its levers, and the routes that they are moved on."""

    def __init__(
        self, server: OurServer | OurGateway, file: Path, clients: Clients, anvil: Anvil, sides: Sequence[Side]
    ) -> None:
        self.server, self.file, self.clients, self.anvil, self.sides = server, file, clients, anvil, sides

    def move(self, stage: str, lever: str, share: float | None = None) -> None:
        """Write `lever` for every side, and wait until the server says that it counts."""
        levers = "\n".join(f'[levers."{side.route}"]\n{side.protocol} = {lever}' for side in self.sides)
        self.file.write_text(f'migration = "{PAGE}"\n{levers}\n')
        self.wait(lambda: all(self._told().get((side.route, side.protocol)) == (stage, share) for side in self.sides))

    def _told(self) -> dict[tuple[str, str], tuple[str, float | None]]:
        changes = [event for event in self.server.events() if event.get("event") == "lever.changed"]
        return {(event["route"], event["protocol"]): (event["after"], event.get("share")) for event in changes}

    def wait(self, done: Callable[[], bool], seconds: float = 20) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, self.server.tail()
            time.sleep(0.05)

    def pay(self, headers: dict[str, str] | None = None) -> dict[Side, tuple[Answer | None, str | None, int]]:
        """What each side's client got, the protocol that it was delivered in, and what it is poorer by."""
        payers = {side: self.anvil.payer() for side in self.sides}
        waiting = {side: self._submit(side, payers[side], headers or {}) for side in self.sides}
        found = {}
        for side, future in waiting.items():
            answer: Answer | None
            try:
                answer = self.clients[side.client].answer(future)
            except ClientError:
                answer = None
            spent = 1_000_000 - self.anvil.balance_of(payers[side].address)
            found[side] = (answer, self._protocol(payers[side]) if spent else None, spent)
        return found

    def pay_as(self, agent: str, side: Side, payer: Wallet, client: str = "") -> tuple[str | None, int]:
        """What a client that calls itself `agent` paid in, by its receipt, and what its payer is poorer by."""
        before = self.anvil.balance_of(payer.address)
        paid_in = None
        try:
            answer = self.clients[client or side.client].answer(
                self._submit(side, payer, {"User-Agent": agent}, client)
            )
            paid_in = next((p for p, name in RECEIPTS.items() if answer.header(name) is not None), None)
        except ClientError:
            pass
        return paid_in, before - self.anvil.balance_of(payer.address)

    def _submit(self, side: Side, payer: Wallet, headers: dict[str, str], client: str = "") -> Any:
        body = '{"a": 1}' if side.method == "POST" else None
        named = {**headers, **({"Content-Type": "application/json"} if body else {})}
        url = self.server.url + side.path
        return self.clients[client or side.client].submit(
            side.method, url, private_key=payer.private_key, headers=named, body=body
        )

    def _protocol(self, payer: Wallet) -> str | None:
        events = self.server.events_about(payer.address, until="payment.delivered")
        return next((e.get("protocol") for e in events if e.get("event") == "payment.delivered"), None)

    def offered(self, side: Side, agent: str = "asker/1") -> list[str]:
        """The protocols of a route's 402, in the order of their headers."""
        answer = httpx.request(side.method, self.server.url + side.path, headers={"User-Agent": agent})
        order = [name.decode().lower() for name, _ in answer.headers.raw]
        return sorted((p for p, name in HEADERS.items() if name in order), key=lambda p: order.index(HEADERS[p]))


def brownout() -> str:
    """Announced, and now."""
    since, until = (f"{datetime.now(UTC) + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for hours in (-1, 1))
    return f'{{ stage = "deprecated", brownouts = [{{ from = {since}, until = {until} }}] }}'


BY_HEADER = '{ stage = "canary", header = "X-Try" }'

STEPS: list[tuple[str, str, bool, dict[str, str]]] = [
    # stage, lever, whether the clients of its protocol pay, what they send besides
    ("preferred", '"preferred"', True, {}),
    ("deprecated", '{ stage = "deprecated", sunset = 2040-01-01 }', True, {}),
    ("brownout", "brownout", False, {}),
    ("refused", '"refused"', False, {}),
    ("off", '"off"', False, {}),
    ("canary", BY_HEADER, False, {}),
    ("canary", BY_HEADER, True, MINE),
    ("refused", '"refused"', False, {}),
    ("on", '"on"', True, {}),
]


def forwards_and_back(bench: Bench) -> None:
    """Whoever's protocol is open pays its price and not more; whoever's is shut pays nothing in it."""
    for stage, lever, open_, headers in STEPS:
        bench.move(stage, brownout() if lever == "brownout" else lever)
        found = bench.pay(headers)
        for side in bench.sides:
            answer, protocol, spent = found[side]
            where = (stage, side, answer)
            if open_:
                assert answer is not None, where
                assert (answer.status, protocol, spent) == (200, side.protocol, side.price), where
                assert (answer.header("Deprecation") is not None) == (stage == "deprecated"), where
                told = answer.header("Link") or ""
                assert (f"<{PAGE}>" in told) == (stage == "deprecated"), where
            elif side.client == "mppx":
                # It speaks x402 v2 as well, and goes on in that.
                assert (protocol, spent) == ("x402-v2", side.price), where
            else:
                assert (answer is None or answer.status == 402, protocol, spent) == (True, None, 0), where
            if not headers:
                offered = bench.offered(side)
                assert (side.protocol in offered) == open_, where
                assert offered[0] == side.protocol or stage != "preferred", where
                assert len(offered) == (3 if open_ else 2), where


def shut_out(side: Side) -> tuple[str | None, int]:
    """What is paid by a side's client that is not offered its protocol: `mppx` speaks x402 v2 as well."""
    return ("x402-v2", side.price) if side.client == "mppx" else (None, 0)
