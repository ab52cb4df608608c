"""Every client of the three generations pays every x402 server of both, through our gateway and nobody's leave.

The servers are other people's and know nothing of it: they verify and settle by the official facilitator, as before.
All clients come to a server at once, and each test holds one claim about what they got.
"""

from collections.abc import Callable
from functools import cache

import pytest

from .chain import Anvil, Transfer
from .our_gateway import OurGateway
from .peers import CLIENTS, Clients, ClientSpec, Server
from .test_clients import GIVING_UP, PAYING, RECEIPTS, transaction_of
from .visits import ROUTES, Crowd, check_body, crowd

UPSTREAMS = ["py-x402-fastapi", "py-x402-flask", "@x402/express", "@x402/hono", "x402-express"]
"""The official servers that know x402 and nothing else: two in Python and two in Node of the second generation, and the
last of the first."""


@pytest.fixture(scope="module")
def crossed(
    our_gateway: Callable[..., OurGateway], peer_server: Callable[[str], Server], clients: Clients, anvil: Anvil
) -> Callable[[str], Crowd]:
    """What came of all clients at one server; they go there once."""

    @cache
    def visit(name: str) -> Crowd:
        server = peer_server(name)
        gateway = our_gateway(server.url)
        return crowd([clients[client] for client in PAYING], gateway.url, server.pay_to, anvil)

    return visit


@pytest.fixture(scope="module", params=UPSTREAMS)
def upstream(request: pytest.FixtureRequest, peer_server: Callable[[str], Server]) -> Server:
    """A server that others wrote, in a process of its own."""
    return peer_server(request.param)


@pytest.fixture(scope="module", params=PAYING)
def name(request: pytest.FixtureRequest) -> str:
    """A client that others wrote."""
    return request.param


@pytest.fixture(scope="module")
def spec(name: str) -> ClientSpec:
    """What we expect of it."""
    return CLIENTS[name]


@pytest.fixture
def visited(upstream: Server, crossed: Callable[[str], Crowd]) -> Crowd:
    """Everybody has been there."""
    return crossed(upstream.name)


def test_every_route_answers(visited: Crowd, name: str) -> None:
    """200 and the upstream's own body: a GET, a POST with its body, and a stream."""
    answers = visited.of(name)
    assert answers.keys() == ROUTES.keys()
    for route, answer in answers.items():
        assert answer.status == 200, (route, answer)
        check_body(route, answer)


def test_exactly_the_price_moves(visited: Crowd, name: str) -> None:
    """Each payer is poorer by the price of its route, whatever it speaks and whatever the upstream does."""
    assert {route: visited.spent[name, route] for route in ROUTES} == {r: route.price for r, route in ROUTES.items()}


def test_the_upstream_earns_what_was_spent(visited: Crowd) -> None:
    """Its own recipient has the money, to the atomic unit."""
    assert visited.earned == len(PAYING) * sum(route.price for route in ROUTES.values())


def test_the_receipt_names_the_transaction_that_paid(
    visited: Crowd, name: str, spec: ClientSpec, upstream: Server, anvil: Anvil
) -> None:
    """The client's own decoder reads it, and the transaction in it moved this payer's money to the upstream."""
    for route, answer in visited.of(name).items():
        transaction = transaction_of(answer, spec)
        assert transaction is not None, (route, answer)
        payer = visited.payers[name, route]
        assert anvil.transfers(transaction) == [
            Transfer(payer.address.lower(), upstream.pay_to.lower(), ROUTES[route].price)
        ]


def test_only_its_own_receipt_is_sent(visited: Crowd, name: str, spec: ClientSpec) -> None:
    """The upstream's receipt comes back in the client's words and no others, and is nobody else's to cache."""
    for answer in visited.of(name).values():
        sent = {protocol for protocol, header in RECEIPTS.items() if answer.header(header) is not None}
        assert sent == {spec.protocol}
        if spec.protocol not in ("x402-v1", "x402-v2"):
            assert "private" in (answer.header("Cache-Control") or "")


def test_the_log_names_both_protocols(
    visited: Crowd, name: str, spec: ClientSpec, upstream: Server, our_gateway: Callable[..., OurGateway]
) -> None:
    """Each payment is logged under the protocol that its client spoke, beside the one that the upstream was paid in."""
    gateway = our_gateway(upstream.url)
    (spoken,) = upstream.spec.protocols
    for route in ROUTES:
        payer = visited.payers[name, route].address
        events = gateway.events_about(payer, until="payment.delivered")
        delivered = [event for event in events if event["event"] == "payment.delivered"]
        assert [(event["protocol"], event["upstream_protocol"]) for event in delivered] == [(spec.protocol, spoken)]


def test_a_library_with_only_the_old_scheme_is_served_where_v2_is_not_added(
    our_gateway: Callable[..., OurGateway], peer_server: Callable[[str], Server], clients: Clients, anvil: Anvil
) -> None:
    """It decides for v2 as soon as that is offered, so a server of the first generation can be left with v1 and MPP."""
    server = peer_server("x402-express")
    gateway = our_gateway(server.url, extra=("--protocol", "x402-v1", "--protocol", "mpp"))
    came = crowd([clients[name] for name in (*GIVING_UP, "mppx", "pympp")], gateway.url, server.pay_to, anvil, ["echo"])
    for name in (*GIVING_UP, "mppx", "pympp"):
        assert came.of(name)["echo"].status == 200
        assert came.spent[name, "echo"] == ROUTES["echo"].price
