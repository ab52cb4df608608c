"""`x402-mpp check` says of other people's servers, and of ours, what is true of them and no more."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from bridge.cli import main

from .chain import Anvil, Wallet
from .our_gateway import OurGateway
from .our_server import OurServer
from .peers import SERVERS, Server

# What is found, and why it is so. A finding that goes away is a peer that has changed: take its line out.
NO_STORE = "x402-no-store"
"""x402-express 1.2.0 sends no Cache-Control with its 402."""
HEAD = "head-free"
"""x402's middlewares charge `GET /weather` by its method's name; Express, Flask and Hono run the same handler for HEAD,
which is not on the list. FastAPI answers it 405."""
UNPRICED = "openapi-unpriced"
"""FastAPI serves an OpenAPI document on its own, and neither the x402 SDK nor pympp adds prices to it."""
REALM = "mpp-realm"
"""pympp 0.16.0 has `localhost` for its realm where it finds no host in its environment, whatever port it listens on."""
DIGEST = "mpp-digest-missing"
"""Neither mppx 0.11.0 nor pympp 0.16.0 binds a challenge to the body of a POST unless its caller hands it a digest."""

DRAFT_NONCE = "pay-refused"
"""pympp 0.16.0 hashes the challenge into the nonce as a JSON array, and refuses what the draft (and mppx) says."""
NO_MEMBERS = "receipt-members"
"""Neither mppx 0.11.0 nor pympp 0.16.0 writes challengeId and chainId into an evm receipt."""

TRUE_OF: dict[str, dict[str, set[str]]] = {
    "x402-express": {"/weather": {NO_STORE, HEAD}, "/echo": {NO_STORE}},
    "py-x402-fastapi": {"/weather": {UNPRICED}, "/echo": {UNPRICED}},
    "py-x402-flask": {"/weather": {HEAD}, "/echo": set()},
    "@x402/express": {"/weather": {HEAD}, "/echo": set()},
    "@x402/hono": {"/weather": {HEAD}, "/echo": set()},
    "py-x402-bazaar": {"/weather": {UNPRICED}, "/echo": {UNPRICED}},
    "mppx-server": {"/weather": {NO_MEMBERS}, "/echo": {DIGEST}},
    "pympp-server": {"/weather": {UNPRICED, REALM, DRAFT_NONCE}, "/echo": {UNPRICED, REALM, DIGEST}},
}

PAID_PEERS = {"x402-express", "py-x402-fastapi", "mppx-server", "pympp-server"}
"""One of each library: the others settle by the same code, and a settlement takes a block."""

BODY = {"/echo": ("--data", '{"city":"Oslo"}')}


def check(url: str, *arguments: str, key: str = "") -> dict[str, Any]:
    env = {"X402_MPP_PRIVATE_KEY": key}
    ran = CliRunner().invoke(main, ["check", url, "--format", "json", *arguments], env=env)
    assert ran.exit_code in (0, 3, 4, 5), ran.output
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def decoded(url: str, path: str) -> int:
    """How many challenges `x402-mpp decode` finds in a dump of the 402, as `curl -i` makes it; none of them is bad."""
    answer = httpx.post(url + path, json={}) if path == "/echo" else httpx.get(url + path)
    lines = [f"{name}: {value}" for name, value in answer.headers.multi_items()]
    dump = "\n".join(["HTTP/1.1 402 Payment Required", *lines, "", answer.text])
    ran = CliRunner().invoke(main, ["decode", "--json"], input=dump)
    assert ran.exit_code == 0, ran.output
    return len([one for one in json.loads(ran.stdout) if one["form"].endswith("challenge")])


def test_every_server_is_checked() -> None:
    """No peer is left out."""
    assert TRUE_OF.keys() == SERVERS.keys()


@pytest.mark.parametrize("name", SERVERS)
def test_what_is_found_at_a_peer_is_true_of_it(name: str, peer_server: Callable[[str], Server], anvil: Anvil) -> None:
    """Its protocols are seen, and the findings are those explained above; where it is paid, then once in each protocol,
    and the same credential is not charged again.
    """
    server, payer = peer_server(name), anvil.payer()
    for path, expected in TRUE_OF[name].items():
        more = BODY.get(path, ("--pay",) if name in PAID_PEERS else ())
        told = check(server.url + path, "--rpc-url", anvil.rpc_url, *more, key=payer.private_key)
        assert set(told["speaks"]) == server.spec.protocols
        assert {finding["rule"] for finding in told["findings"]} == expected, told["findings"]
        assert told["notes"] == []
        assert decoded(server.url, path) >= len(server.spec.protocols)
        if "--pay" in more:
            assert {paid["protocol"] for paid in told["paid"]} == server.spec.protocols
            succeeded = sum(paid["status"] == 200 for paid in told["paid"])
            assert anvil.balance_of(payer.address) == 1_000_000 - 10_000 * succeeded
            assert succeeded == len(told["paid"]) - (DRAFT_NONCE in expected)


NO_SCHEMA = "openapi-no-schema"
"""The upstream's own document has no requestBody: its handler takes the request as it is."""

BEHIND_THE_GATEWAY = {
    "x402-express": {"/weather": {HEAD}, "/echo": set()},
    "py-x402-fastapi": {"/weather": set(), "/echo": {NO_SCHEMA}},
}
"""What stays true of an upstream that the gateway leaves as it is; its 402 is a whole one then, and its document has
prices.
"""


@pytest.mark.parametrize("name", BEHIND_THE_GATEWAY)
def test_behind_our_gateway_a_server_speaks_all_three(
    name: str, peer_server: Callable[[str], Server], our_gateway: Callable[..., OurGateway], anvil: Anvil
) -> None:
    """And what is found is the upstream's own."""
    gateway, payer = our_gateway(peer_server(name).url), anvil.payer()
    for path, expected in BEHIND_THE_GATEWAY[name].items():
        more = BODY.get(path, ("--pay",))
        told = check(gateway.url + path, "--rpc-url", anvil.rpc_url, *more, key=payer.private_key)
        assert told["speaks"] == ["x402-v1", "x402-v2", "mpp"]
        assert {finding["rule"] for finding in told["findings"]} == expected, told["findings"]
    assert anvil.balance_of(payer.address) == 1_000_000 - 3 * 10_000


@pytest.fixture(scope="module")
def demo(our_server: Callable[..., OurServer]) -> OurServer:
    """Our own, for all that follows."""
    return our_server()


PAID_ROUTES = {"/echo": 20_000, "/dear": 50_000}
"""Two policies of settling, with and without a body. `/fails` fails, which is its purpose, and a stream takes time."""


def test_nothing_is_found_at_our_demo(demo: OurServer, anvil: Anvil) -> None:
    """Every priced route of it, in all three protocols; paid, and the same credentials once more for nothing."""
    for route in demo.routes:
        if route["price"] is None:
            continue
        payer, path = anvil.payer(), route["path"]
        pay = ("--pay", "--limit", "1") if path in PAID_ROUTES else ()
        more = BODY["/echo"] if route["method"] == "POST" else ()
        told = check(demo.url + path, "--rpc-url", anvil.rpc_url, *pay, *more, key=payer.private_key)
        assert told["findings"] == []
        assert told["notes"] == []
        assert told["speaks"] == ["x402-v1", "x402-v2", "mpp"]
        assert [paid["spent"] for paid in told["paid"]] == ([PAID_ROUTES[path]] * 3 if pay else [])
        assert anvil.balance_of(payer.address) == 1_000_000 - 3 * PAID_ROUTES.get(path, 0)


def test_a_payer_without_money_is_refused(demo: OurServer) -> None:
    """And says so."""
    told = check(f"{demo.url}/weather", "--pay", key=Wallet.fresh().private_key)
    assert {finding["rule"] for finding in told["findings"]} == {"pay-refused"}
