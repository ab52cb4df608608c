"""Other people's Permit2 clients pay our server through the official facilitator, beside everybody else.

The route asks for a cent by EIP-3009, by Permit2 and by `upto`; the last two are offers that only x402 v2 can carry.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bridge.demo import token

from .chain import Anvil, Transfer, Wallet
from .our_server import OurServer
from .peers import Answer, Clients, ClientSpec, Facilitator, Peer, Process, places
from .permit2 import approve, place

PRICE = 10_000
MINTED = 1_000_000

PAYERS: dict[str, ClientSpec] = {
    f"{library} {scheme}": ClientSpec("x402-v2", (*command, scheme))
    for scheme in ("exact", "upto")
    for library, command in {
        "py-x402": (places.python("python"), places.PYTHON / "client_permit2.py"),
        "@x402/fetch": ("node", places.NODE / "client-permit2.mjs"),
    }.items()
}
OTHERS = {"x402-fetch": "x402-v1", "py-x402-httpx": "x402-v2", "mppx": "mpp"}


class Permit2Server(OurServer):
    """`permit2_server.py`, with the events that it has logged."""

    def __init__(self, *, facilitator_url: str, logs: Path) -> None:
        self.pay_to = Wallet.fresh().address
        env = {"FACILITATOR_URL": facilitator_url, "PAY_TO": self.pay_to}
        command = (sys.executable, "-m", "tests.interop.permit2_server")
        self._process = Process("our-permit2-server", command, logs=logs, env=env)
        self.url = self._process.ready()["url"]


@pytest.fixture(scope="module")
def server(anvil: Anvil, facilitator: Facilitator, logs: Path) -> Iterator[Permit2Server]:
    """Our server, on a chain with Permit2 and x402's proxies."""
    place(anvil, logs)
    server = Permit2Server(facilitator_url=facilitator.url, logs=logs)
    yield server
    server.stop()


@pytest.fixture(scope="module", params=PAYERS)
def client(request: pytest.FixtureRequest, installed: None, logs: Path) -> Iterator[Peer]:
    """A client that chooses Permit2."""
    peer = Peer(request.param, PAYERS[request.param], logs)
    yield peer
    peer.stop()


@pytest.fixture(scope="module")
def payer(client: Peer, anvil: Anvil) -> Wallet:
    """Somebody who lets Permit2 take his tokens."""
    wallet = anvil.payer(MINTED)
    approve(anvil, token.TOKEN_ADDRESS, wallet.address)
    return wallet


@pytest.fixture(scope="module")
def paid(client: Peer, payer: Wallet, server: Permit2Server, anvil: Anvil) -> tuple[Answer, int]:
    """What it got for a cent, and what the recipient is richer by."""
    before = anvil.balance_of(server.pay_to)
    answer = client.request("GET", server.url + "/weather", private_key=payer.private_key)
    return answer, anvil.balance_of(server.pay_to) - before


def test_it_gets_the_answer_for_exactly_the_price(
    paid: tuple[Answer, int], payer: Wallet, anvil: Anvil, server: Permit2Server
) -> None:
    """200, and one transfer of the price from payer to recipient, in the transaction that the receipt names."""
    answer, earned = paid
    assert (answer.status, answer.body) == (200, '{"weather":"sunny"}'), server.tail()
    assert earned == PRICE
    assert anvil.balance_of(payer.address) == MINTED - PRICE
    assert anvil.transfers(answer.transaction or "") == [Transfer(payer.address.lower(), server.pay_to.lower(), PRICE)]


def test_the_receipt_is_x402s_own(paid: tuple[Answer, int], payer: Wallet) -> None:
    """As the client's library reads it."""
    receipt = paid[0].receipt
    assert receipt is not None
    assert (receipt["success"], receipt["network"], receipt["payer"]) == (True, "eip155:84532", payer.address)
    assert paid[0].header("Payment-Receipt") is None


def test_the_log_says_that_it_was_x402_only(
    paid: tuple[Answer, int], client: Peer, payer: Wallet, server: Permit2Server
) -> None:
    """Each event, with the scheme."""
    events = server.events_about(payer.address, until="payment.delivered")
    assert [event["event"] for event in events] == ["payment.verified", "payment.settled", "payment.delivered"]
    scheme = client.name.split()[1]
    assert {(e["x402_only"], e["scheme"], e["protocol"]) for e in events} == {(True, scheme, "x402-v2")}


@pytest.mark.parametrize("name", [name for name in PAYERS if name.startswith("py-x402")])
def test_the_same_payment_again_moves_nothing(
    name: str, logs: Path, anvil: Anvil, server: Permit2Server, installed: None
) -> None:
    """The same client gets the same answer, another is refused, and one transfer is all there was."""
    peer, payer = Peer(name, PAYERS[name], logs), anvil.payer(MINTED)
    try:
        approve(anvil, token.TOKEN_ADDRESS, payer.address)
        agent = {"User-Agent": "somebody"}
        first = peer.request("GET", server.url + "/weather", private_key=payer.private_key, headers=agent)
    finally:
        peer.stop()
    header = {"PAYMENT-SIGNATURE": first.header("X-Sent") or ""}
    assert len(header["PAYMENT-SIGNATURE"]) > 500
    again = httpx.get(server.url + "/weather", headers=header | agent)
    assert (again.status_code, again.text) == (200, first.body), server.tail()
    assert again.headers["PAYMENT-RESPONSE"] == first.header("PAYMENT-RESPONSE")
    other = httpx.get(server.url + "/weather", headers=header)
    assert (other.status_code, other.json()["error"]) == (402, "invalid_exact_evm_nonce_already_used")
    assert anvil.balance_of(payer.address) == MINTED - PRICE


def test_without_an_allowance_nothing_happens(client: Peer, payer: Wallet, anvil: Anvil, server: Permit2Server) -> None:
    """The facilitator says what is missing, and nothing is claimed or charged."""
    stranger = anvil.payer(MINTED)
    answer = client.request("GET", server.url + "/weather", private_key=stranger.private_key)
    assert answer.status == 402
    assert "permit2_allowance_required" in answer.body
    assert anvil.balance_of(stranger.address) == MINTED


@pytest.mark.parametrize("name", OTHERS)
def test_the_others_pay_the_same_route(name: str, clients: Clients, anvil: Anvil, server: Permit2Server) -> None:
    """Clients of all three generations, none of which minds the offers that it does not know."""
    payer = anvil.payer(MINTED)
    answer = clients[name].request("GET", server.url + "/weather", private_key=payer.private_key)
    assert answer.status == 200, server.tail()
    assert anvil.balance_of(payer.address) == MINTED - PRICE
    events = server.events_about(payer.address, until="payment.delivered")
    assert {event["protocol"] for event in events} == {OTHERS[name]}
    assert not any("x402_only" in event for event in events)


def test_start_up_listed_them(server: Permit2Server) -> None:
    """Route, scheme and network of each."""
    listed = [event for event in server.events() if event["event"] == "config.x402_only"]
    assert [(e["route"], e["scheme"], e["network"], e["transfer"]) for e in listed] == [
        ("GET /weather", "exact", "eip155:84532", "permit2"),
        ("GET /weather", "upto", "eip155:84532", "permit2"),
    ]
