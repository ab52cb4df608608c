"""A route with the SDK's extensions keeps them behind the gateway, and is offered in the other protocols as well."""

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from bridge.payers import read_402
from translators.payment import Protocol

from .chain import Anvil
from .our_gateway import OurGateway
from .peers import Clients, Server
from .visits import ROUTES, check_body, visit


@pytest.fixture(scope="module")
def listed(peer_server: Callable[[str], Server]) -> Server:
    """The SDK's server, with its bazaar extension on every route."""
    return peer_server("py-x402-bazaar")


@pytest.fixture(scope="module")
def url(listed: Server, our_gateway: Callable[..., OurGateway]) -> str:
    """The gateway in front of it."""
    return our_gateway(listed.url).url


def _required(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 402
    found: dict[str, Any] = json.loads(base64.b64decode(answer.headers["payment-required"]))
    return found


@pytest.mark.parametrize("name", ROUTES)
def test_what_the_server_said_is_still_there(name: str, listed: Server, url: str) -> None:
    """Extension, service name, tags, and the terms: only the address is the public one."""
    route = ROUTES[name]
    theirs = _required(httpx.request(route.method, listed.url + route.path))
    ours = _required(httpx.request(route.method, url + route.path))
    assert theirs["extensions"]["bazaar"]["info"]["input"]["method"] == route.method
    assert ours["resource"].pop("url") == url + route.path
    assert theirs["resource"].pop("url") == listed.url + route.path
    assert ours["extensions"] == theirs["extensions"]
    assert ours["resource"] == theirs["resource"]
    assert ours["accepts"] == theirs["accepts"]
    assert ours["x402Version"] == theirs["x402Version"]


@pytest.mark.parametrize("name", ROUTES)
def test_the_other_protocols_offer_the_same(name: str, listed: Server, url: str) -> None:
    """The same amount of the same token to the same recipient."""
    route = ROUTES[name]
    answer = httpx.request(route.method, url + route.path)
    for protocol in Protocol:
        offer = read_402(answer, protocol).offer
        assert (offer.amount, offer.recipient) == (route.price, listed.pay_to.lower())


@pytest.mark.parametrize("client", ["x402-fetch", "py-x402-httpx", "@x402/fetch", "mppx", "pympp"])
def test_it_is_paid_by_every_generation(client: str, listed: Server, url: str, clients: Clients, anvil: Anvil) -> None:
    """And the SDK, which wants its extension echoed, takes each of the payments."""
    visited = visit(clients[client], url, listed.pay_to, anvil, ["weather", "echo"])
    for name, answer in visited.answers.items():
        assert answer.status == 200, answer
        check_body(name, answer)
        assert visited.spent[name] == ROUTES[name].price
        assert answer.transaction is not None
    assert visited.earned == 30_000
