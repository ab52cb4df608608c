"""A server that takes x402 v2 and MPP by itself keeps both behind the gateway, and gains the first generation."""

from collections.abc import Callable

from .chain import Anvil
from .our_gateway import OurGateway
from .peers import Clients, Server
from .visits import ROUTES, check_body, crowd

CLIENTS = ("x402-fetch", "py-x402-0.2.1-httpx", "@x402/fetch", "py-x402-httpx", "mppx")


def test_its_own_challenges_are_paid_and_the_missing_one_is_added(
    our_gateway: Callable[..., OurGateway], peer_server: Callable[[str], Server], clients: Clients, anvil: Anvil
) -> None:
    """mppx's client answers mppx's own challenge, which the gateway did not make; v1 clients are translated."""
    server = peer_server("mppx-server")
    gateway = our_gateway(server.url)
    came = crowd([clients[name] for name in CLIENTS], gateway.url, server.pay_to, anvil, ["weather", "echo"])
    for name in CLIENTS:
        for route, answer in came.of(name).items():
            assert answer.status == 200, (name, answer)
            check_body(route, answer)
            assert came.spent[name, route] == ROUTES[route].price
            assert answer.transaction is not None, (name, answer)
