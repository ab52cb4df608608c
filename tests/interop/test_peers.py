"""The peers are real: other people's clients pay other people's servers, through the official facilitator, on a chain.

Without these a failure against our own server might be the peer's, or its driver's.
"""

from collections.abc import Callable

import httpx
import pytest

from .chain import Anvil, Transfer
from .peers import CLIENTS, SERVERS, ClientError, Clients, Facilitator, Server
from .visits import ROUTES, check_body, visit

PAIRS = [
    ("py-x402-0.2.1-httpx", "x402-express"),
    ("py-x402-0.2.1-requests", "x402-express"),
    ("x402-fetch", "x402-express"),
    ("x402-axios", "x402-express"),
    ("py-x402-httpx-only-v1", "x402-express"),
    ("py-x402-requests-only-v1", "x402-express"),
    ("@x402/fetch-only-v1", "x402-express"),
    ("@faremeter/fetch", "x402-express"),
    ("py-x402-httpx", "py-x402-fastapi"),
    ("py-x402-httpx", "py-x402-bazaar"),
    ("py-x402-requests", "py-x402-flask"),
    ("@x402/fetch", "@x402/express"),
    ("@x402/axios", "@x402/hono"),
    ("@faremeter/fetch", "py-x402-fastapi"),
    ("routeweiler", "py-x402-flask"),
    ("mppx-x402", "mppx-server"),
    ("mppx", "mppx-server"),
    ("pympp", "pympp-server"),
]


def test_every_peer_is_in_a_pair() -> None:
    """No driver and no server goes unproven."""
    assert {client for client, _ in PAIRS} == CLIENTS.keys()
    assert {server for _, server in PAIRS} == SERVERS.keys()


def test_the_facilitator_serves_both_generations(facilitator: Facilitator) -> None:
    """`/supported` names `exact` on Base Sepolia in the words of either."""
    kinds = httpx.get(f"{facilitator.url}/supported").json()["kinds"]
    served = {(kind["x402Version"], kind["scheme"], kind["network"]) for kind in kinds}
    assert {(1, "exact", "base-sepolia"), (2, "exact", "eip155:84532")} <= served


@pytest.mark.parametrize(("client", "server"), PAIRS)
def test_a_client_pays_its_own_kind_of_server(
    client: str, server: str, clients: Clients, peer_server: Callable[[str], Server], anvil: Anvil
) -> None:
    """The handler's answer, the price moved from payer to recipient, and a receipt with the transaction that did it."""
    upstream = peer_server(server)
    visited = visit(clients[client], upstream.url, upstream.pay_to, anvil, ["weather", "echo"])
    for name, answer in visited.answers.items():
        price, payer = ROUTES[name].price, visited.payers[name]
        assert answer.status == 200, answer
        check_body(name, answer)
        assert visited.spent[name] == price
        if CLIENTS[client].decodes:
            assert answer.transaction is not None, answer
            assert Transfer(payer.address.lower(), upstream.pay_to.lower(), price) in anvil.transfers(
                answer.transaction
            )
    assert visited.earned == sum(ROUTES[name].price for name in visited.answers)


@pytest.mark.parametrize(("client", "server"), [("mppx", "mppx-server"), ("pympp", "pympp-server")])
def test_a_stream_streams(
    client: str, server: str, clients: Clients, peer_server: Callable[[str], Server], anvil: Anvil
) -> None:
    """The drivers see the first event of a stream long before its last."""
    upstream = peer_server(server)
    answer = visit(clients[client], upstream.url, upstream.pay_to, anvil, ["stream"]).answers["stream"]
    assert answer.status == 200
    check_body("stream", answer)
    assert answer.chunks is not None
    assert answer.chunks[-1][0] - answer.chunks[0][0] > 1


@pytest.mark.parametrize(("client", "server"), [("mppx", "pympp-server"), ("pympp", "mppx-server")])
def test_the_two_mpp_libraries_refuse_each_other(
    client: str, server: str, clients: Clients, peer_server: Callable[[str], Server], anvil: Anvil
) -> None:
    """They hash the challenge into the nonce in two ways, which is why our server accepts both. Should this test fail,
    one of them has changed its mind.
    """
    payer, upstream = anvil.payer(), peer_server(server)
    try:
        answer = clients[client].request("GET", upstream.url + "/weather", private_key=payer.private_key)
        assert answer.status == 402
    except ClientError:
        pass
    assert anvil.balance_of(payer.address) == 1_000_000
