"""Every lever, forwards and back, through a gateway in front of other people's servers, which nobody touches.

One gateway has a server of each version of x402 behind it, and each generation of clients a route of its own at both.
All their levers are moved at once, in one file, and all clients ask after each step.
"""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from bridge.payers import Account, credential, read_402
from translators.payment import Protocol

from .chain import Anvil
from .levered import PAGE, Bench, Side, forwards_and_back
from .our_gateway import OurGateway
from .peers import Clients, Server

V1, V2 = "x402-express", "@x402/express"
UPSTREAMS = {"/old": V1, "/new": V2}
SIDES = tuple(
    side
    for prefix in UPSTREAMS
    for side in (
        Side("x402-v1", "x402-fetch", "GET", f"{prefix}/weather", 10_000),
        Side("x402-v2", "@x402/fetch", "POST", f"{prefix}/echo", 20_000),
        Side("mpp", "mppx", "GET", f"{prefix}/stream", 10_000),
    )
)


@pytest.fixture(scope="module")
def upstreams(peer_server: Callable[[str], Server]) -> list[str]:
    """What the gateway is told of the two servers."""
    return [f"{prefix}={peer_server(name).url}/" for prefix, name in UPSTREAMS.items()]


@pytest.fixture(scope="module")
def bench(
    upstreams: list[str],
    our_gateway: Callable[..., OurGateway],
    clients: Clients,
    anvil: Anvil,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bench:
    """A gateway with a file of levers that says nothing yet."""
    file = tmp_path_factory.mktemp("levers") / "levers.toml"
    file.write_text("")
    return Bench(our_gateway(*upstreams, extra=("--levers", str(file))), file, clients, anvil, SIDES)


def test_every_lever_forwards_and_back(bench: Bench) -> None:
    """Whoever's protocol is open pays its price and not more, and the servers are paid in their own words all along."""
    forwards_and_back(bench)
    for event in bench.server.events():
        if event.get("event") == "payment.delivered":
            spoken = "x402-v1" if " /old/" in event["route"] else "x402-v2"
            assert event["upstream_protocol"] == spoken


@pytest.mark.parametrize("prefix", UPSTREAMS)
@pytest.mark.parametrize("protocol", ["x402-v1", "x402-v2"])
def test_a_payment_in_a_refused_protocol_does_not_reach_the_server(
    protocol: str,
    prefix: str,
    upstreams: list[str],
    our_gateway: Callable[..., OurGateway],
    anvil: Anvil,
    tmp_path: Path,
) -> None:
    """Made of what was asked before: refused in its own words, and no money moves; in the other its payer buys."""
    plain = our_gateway(*upstreams)
    payer = anvil.payer()
    account = Account(payer.address, payer.private_key)
    url = f"{prefix}/weather"
    with httpx.Client(base_url=plain.url) as client:
        asked = {one: read_402(client.get(url), one) for one in (Protocol.X402_V1, Protocol.X402_V2)}
    file = tmp_path / "levers.toml"
    file.write_text(f'migration = "{PAGE}"\n[levers."*"]\n{protocol} = "refused"\n')
    gateway = our_gateway(*upstreams, extra=("--levers", str(file)))
    for one, ask in asked.items():
        name, value = credential(ask, account, time.time())
        host = {"Host": plain.url.partition("//")[2]}
        before = anvil.balance_of(payer.address)
        answer = httpx.get(gateway.url + url, headers={name: value, **host}, timeout=30)
        spent = before - anvil.balance_of(payer.address)
        if one.value == protocol:
            assert (answer.status_code, answer.json()["stage"], spent) == (402, "refused", 0)
            assert answer.json()["use"][0] == "mpp"
            assert answer.headers["Link"].startswith(f"<{PAGE}>")
        else:
            assert (answer.status_code, spent) == (200, 10_000)
