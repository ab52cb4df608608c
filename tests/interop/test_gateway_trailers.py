"""Trailers through the gateway, by Node's own HTTP on both sides: free, and paid by x402's Express middlewares."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.payers import Account, credential, read_402
from translators.payment import Protocol

from .chain import Anvil, Wallet
from .our_gateway import OurGateway
from .peers import CLIENTS, Clients, ClientSpec, Facilitator, Peer, Process, places
from .test_clients import PAYING

PRICE = 10_000
BODY = ["first ", "second"]
SENT = {"X-Up": "1", "X-Payment": "forged", "Host": "evil.example", "X-More": "2"}
ARRIVES = {"x-up": "1", "x-more": "2"}


class NodeServer:
    """A running `server-trailers.mjs`."""

    def __init__(self, version: str, facilitator: Facilitator, logs: Path) -> None:
        self.pay_to = Wallet.fresh().address
        env = {"PAY_TO": self.pay_to, "FACILITATOR_URL": facilitator.url}
        command = ("node", places.NODE / "server-trailers.mjs", version)
        self.process = Process(f"trailers-{version}", command, logs=logs, env=env)
        self.url: str = self.process.ready()["url"]


@pytest.fixture(scope="module", params=["v1", "v2"])
def server(request: pytest.FixtureRequest, facilitator: Facilitator, logs: Path) -> Iterator[NodeServer]:
    """Of either generation."""
    server = NodeServer(request.param, facilitator, logs)
    yield server
    server.process.stop()


@pytest.fixture(scope="module")
def gateway(server: NodeServer, our_gateway: Callable[..., OurGateway]) -> OurGateway:
    """In front of it."""
    return our_gateway(server.url)


@pytest.fixture(scope="module")
def node(installed: None, logs: Path) -> Iterator[Peer]:
    """Node's `http.request`, one connection after the other."""
    spec = ClientSpec("none", ("node", places.NODE / "client-trailers.mjs"))
    peer = Peer("node-trailers", spec, logs)
    yield peer
    peer.stop()


def ask(node: Peer, method: str, url: str, **more: Any) -> dict[str, Any]:
    """The raw answer, its trailers in it."""
    answer = node.submit(method, url, private_key="", **more).result(60)
    assert "error" not in answer, answer
    return answer


def check(answer: dict[str, Any], *, body: str, came: dict[str, str], told: str = "X-Sum") -> None:
    """Body and trailers are the upstream's; none became a header, and those that lead their reader are gone."""
    assert (answer["status"], answer["body"]) == (200, f"got {body or 'nothing'}")
    trailers = answer["trailers"]
    assert trailers.keys() == {"x-sum", "x-came", "x-heads"}
    assert trailers["x-sum"] == hashlib.sha256(body.encode()).hexdigest()
    assert json.loads(trailers["x-came"]) == came
    headers = dict(answer["headers"])
    assert headers["trailer"] == told
    assert headers.keys().isdisjoint({"x-sum", "x-came", "set-cookie", "content-length"})
    arrived = json.loads(trailers["x-heads"])
    assert arrived["te"] == "trailers"
    assert arrived.keys().isdisjoint({"x-up", "x-more"})
    assert "evil" not in arrived["host"]


def test_both_ways_and_the_connection_goes_on(gateway: OurGateway, node: Peer) -> None:
    """Of a GET, and of an upload; Node's client sends its next request on the same connection."""
    reused = []
    for _ in range(3):
        answer = ask(node, "GET", f"{gateway.url}/free")
        check(answer, body="", came={})
        reused.append(answer["reused"])
        answer = ask(node, "POST", f"{gateway.url}/free", body=BODY, trailers=SENT, headers={"Trailer": "X-Up"})
        check(answer, body="".join(BODY), came=ARRIVES)
        reused.append(answer["reused"])
    assert reused[1:] == [True] * 5


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_paid_in_every_generation(
    method: str, protocol: Protocol, gateway: OurGateway, server: NodeServer, node: Peer, anvil: Anvil
) -> None:
    """Both ways, with the payment translated on the way; the price moves once, and the answer is given again whole."""
    wallet = anvil.payer()
    asked = read_402(httpx.request(method, f"{gateway.url}/paid"), protocol)
    name, value = credential(asked, Account(wallet.address.lower(), wallet.private_key))
    upload: dict[str, Any] = {} if method == "GET" else {"body": BODY, "trailers": SENT}
    before = anvil.balance_of(server.pay_to)
    answer = ask(node, method, f"{gateway.url}/paid", headers={name: value}, **upload)
    came = {} if method == "GET" else ARRIVES
    check(answer, body="" if method == "GET" else "".join(BODY), came=came)
    assert anvil.balance_of(server.pay_to) - before == PRICE
    if method == "GET":
        again = ask(node, method, f"{gateway.url}/paid", headers={name: value})
        check(again, body="", came={}, told="X-Sum, X-Came, X-Heads")
        assert anvil.balance_of(server.pay_to) - before == PRICE


@pytest.mark.parametrize("protocol", Protocol)
def test_a_payment_in_a_trailer_is_none(
    protocol: Protocol, gateway: OurGateway, server: NodeServer, node: Peer, anvil: Anvil
) -> None:
    """A good one: nothing moves, and the answer asks for it."""
    wallet = anvil.payer()
    asked = read_402(httpx.post(f"{gateway.url}/paid"), protocol)
    name, value = credential(asked, Account(wallet.address.lower(), wallet.private_key))
    before = anvil.balance_of(server.pay_to)
    answer = ask(node, "POST", f"{gateway.url}/paid", body=BODY, trailers={name: value})
    assert answer["status"] == 402
    assert anvil.balance_of(server.pay_to) == before


@pytest.mark.parametrize("name", PAYING)
def test_clients_that_know_of_none_are_served(
    name: str, gateway: OurGateway, server: NodeServer, clients: Clients, anvil: Anvil
) -> None:
    """Other people's payers read the body behind which they stand."""
    answer = clients[name].request("GET", f"{gateway.url}/paid", private_key=anvil.payer().private_key)
    assert (answer.status, answer.body) == (200, "got nothing")
    assert answer.header("x-sum") is None
    assert CLIENTS[name].protocol in ("x402-v1", "x402-v2", "mpp")
