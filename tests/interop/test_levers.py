"""Every lever, forwards and back, with other people's clients on a server that is never restarted.

Each generation has a route of its own, whose lever is moved in the file that the running server looks at; the clients
of all three ask at once after each step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from .chain import Anvil, Wallet
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


SIDES = (
    Side("x402-v1", "x402-fetch", "GET", "/weather", 10_000),
    Side("x402-v2", "@x402/fetch", "POST", "/echo", 20_000),
    Side("mpp", "mppx", "GET", "/dear", 50_000),
)


class Bench:
    """The running server and its levers' file."""

    def __init__(self, server: OurServer, file: Path, clients: Clients, anvil: Anvil) -> None:
        self.server, self.file, self.clients, self.anvil = server, file, clients, anvil

    def move(self, stage: str, lever: str, share: float | None = None) -> None:
        """Write `lever` for every side, and wait until the server says that it counts."""
        levers = "\n".join(f'[levers."{side.route}"]\n{side.protocol} = {lever}' for side in SIDES)
        self.file.write_text(f'migration = "{PAGE}"\n{levers}\n')
        self._wait(lambda: all(self._told().get((side.route, side.protocol)) == (stage, share) for side in SIDES))

    def _told(self) -> dict[tuple[str, str], tuple[str, float | None]]:
        changes = [event for event in self.server.events() if event.get("event") == "lever.changed"]
        return {(event["route"], event["protocol"]): (event["after"], event.get("share")) for event in changes}

    def _wait(self, done: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, self.server.tail()
            time.sleep(0.05)

    def pay(self, headers: dict[str, str] | None = None) -> dict[str, tuple[Answer | None, str | None, int]]:
        """What each side's client got, the protocol that it was delivered in, and what it is poorer by."""
        payers = {side: self.anvil.payer() for side in SIDES}
        waiting = {side: self._submit(side, payers[side], headers or {}) for side in SIDES}
        found = {}
        for side, future in waiting.items():
            answer: Answer | None
            try:
                answer = self.clients[side.client].answer(future)
            except ClientError:
                answer = None
            spent = 1_000_000 - self.anvil.balance_of(payers[side].address)
            found[side.protocol] = (answer, self._protocol(payers[side]) if spent else None, spent)
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


@pytest.fixture(scope="module")
def bench(
    our_server: Callable[..., OurServer], clients: Clients, anvil: Anvil, tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    """A server with a file of levers that says nothing yet."""
    file = tmp_path_factory.mktemp("levers") / "levers.toml"
    file.write_text("")
    return Bench(our_server(extra=("--levers", str(file))), file, clients, anvil)


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


def test_every_lever_forwards_and_back(bench: Bench) -> None:
    """Whoever's protocol is open pays its price and not more; whoever's is shut pays nothing in it."""
    for stage, lever, open_, headers in STEPS:
        bench.move(stage, brownout() if lever == "brownout" else lever)
        found = bench.pay(headers)
        for side in SIDES:
            answer, protocol, spent = found[side.protocol]
            where = (stage, side.protocol, answer)
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


def share_of_clients(bench: Bench, side: Side, agents: list[str]) -> set[str]:
    """Those of the clients that are offered the protocol."""
    return {agent for agent in agents if side.protocol in bench.offered(side, agent)}


def test_a_share_of_clients_forwards_and_back(bench: Bench) -> None:
    """Drawn by what a client shows: always the same ones, more of them in a larger share, and nobody but them."""
    agents = [f"shop-{number}/1.0" for number in range(80)]

    def by_client(share: int) -> dict[Side, set[str]]:
        bench.move("canary", f'{{ stage = "canary", share = "{share}%" }}', float(share))
        return {side: share_of_clients(bench, side, agents) for side in SIDES}

    small = by_client(30)
    one = {side: (sorted(small[side])[0], sorted(set(agents) - small[side])[0]) for side in SIDES}

    def pay(*, in_share: bool, outside: bool) -> None:
        for side in SIDES:
            for agent, is_open in zip(one[side], (in_share, outside), strict=True):
                paid = bench.pay_as(agent, side, bench.anvil.payer())
                assert paid == ((side.protocol, side.price) if is_open else shut_out(side)), (side, agent)

    for side in SIDES:
        # Within four deviations of 24 of 80.
        assert 8 <= len(small[side]) <= 40
    pay(in_share=True, outside=False)
    large = by_client(60)
    assert all(small[side] < large[side] for side in SIDES)
    bench.move("on", '"on"')
    pay(in_share=True, outside=True)
    assert by_client(30) == small
    pay(in_share=True, outside=False)
    bench.move("off", '"off"')
    pay(in_share=False, outside=False)


OTHER = {"x402-v1": "mppx", "x402-v2": "mppx", "mpp": "@x402/fetch"}
"""By the protocol of a side: a client that pays in another one."""


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.protocol)
def test_a_share_of_payers_forwards_and_back(side: Side, bench: Bench) -> None:
    """Drawn by who pays, once that is known, in whichever protocol; and nobody is refused what he was offered."""
    lever = '{ stage = "canary", share = "50%", by = "payer" }'
    bench.move("canary", lever, 50.0)
    found: dict[bool, tuple[Wallet, str]] = {}
    for number in range(30):
        payer, agents = bench.anvil.payer(), [f"{side.protocol}-{number}-{place}/1.0" for place in range(2)]
        drawn = set()
        for agent in agents:
            paid_in, spent = bench.pay_as(agent, side, payer, OTHER[side.protocol])
            assert paid_in not in (None, side.protocol)
            assert spent == side.price
            drawn.add(side.protocol in bench.offered(side, agent))
        assert len(drawn) == 1, "two clients of one payer are offered the same"
        found.setdefault(drawn.pop(), (payer, agents[0]))
        if len(found) == 2:
            break
    (inside, inside_agent), (outside, outside_agent) = found[True], found[False]
    assert bench.pay_as(inside_agent, side, inside) == (side.protocol, side.price)
    assert bench.pay_as(outside_agent, side, outside) == shut_out(side)
    # As a client that nobody knows yet, and that was offered it.
    offered = next(a for a in (f"new-{n}/1.0" for n in range(60)) if side.protocol in bench.offered(side, a))
    for _ in range(2):
        assert bench.pay_as(offered, side, outside) == (side.protocol, side.price)
    bench.move("on", '"on"')
    assert bench.pay_as(outside_agent, side, outside) == (side.protocol, side.price)
    bench.move("off", '"off"')
    assert bench.pay_as(inside_agent, side, inside) == shut_out(side)
    # What was remembered is forgotten, and learned again.
    bench.move("canary", lever, 50.0)
    assert bench.pay_as(inside_agent, side, inside, OTHER[side.protocol])[1] == side.price
    assert side.protocol in bench.offered(side, inside_agent)


def test_a_half_is_switched_off_for_a_client_and_on_again(bench: Bench) -> None:
    """`@x402/fetch` with a v1 scheme alone pays as soon as it is not shown v2, and gives up when it is again."""
    rule = '[[clients]]\nheader = "X-Client"\nvalue = "only-v1"\nwithout = ["x402-v2"]\n'
    mine = {"X-Client": "only-v1"}
    url = bench.server.url + "/weather"
    for text, pays in (("", False), (rule, True), ("", False)):
        bench.file.write_text(text)
        bench._wait(lambda pays=pays: ("payment-required" in httpx.get(url, headers=mine).headers) != pays)
        payer = bench.anvil.payer()
        ask = {"private_key": payer.private_key, "headers": mine}
        if pays:
            assert bench.clients["@x402/fetch-only-v1"].request("GET", url, **ask).status == 200
        else:
            with pytest.raises(ClientError):
                bench.clients["@x402/fetch-only-v1"].request("GET", url, **ask)
        assert (1_000_000 - bench.anvil.balance_of(payer.address) == 10_000) == pays


def test_a_file_that_makes_no_sense_changes_nothing(bench: Bench) -> None:
    """The server says so, and serves on as before."""
    bench.file.write_text('[levers."*"]\nmpp = "onn"\n')
    bench._wait(lambda: any(event.get("event") == "levers.invalid" for event in bench.server.events()))
    assert len(bench.offered(SIDES[0])) == 3
    bench.file.write_text("")
