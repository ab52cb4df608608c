"""The servers are what their own documentation shows, run as it stands there: only addresses are changed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .chain import Anvil, Transfer, Wallet
from .our_gateway import OurGateway
from .peers import CLIENTS, DOCUMENTED, Clients, Documented, Facilitator
from .peers.documented import BODY, PATH, PRICE

ONE_OF_EACH = ["x402-fetch", "py-x402-0.2.1-httpx", "@x402/fetch", "py-x402-httpx", "mppx", "pympp"]
"""A client in JavaScript and one in Python of each generation."""


@pytest.fixture(scope="module", params=DOCUMENTED)
def documented(request: pytest.FixtureRequest, facilitator: Facilitator, logs: Path) -> Iterator[Documented]:
    """A package's quick start, running."""
    server = Documented(request.param, pay_to=Wallet.fresh().address, facilitator_url=facilitator.url, logs=logs)
    yield server
    server.stop()


def test_a_quick_start_is_paid_by_every_generation(
    documented: Documented, our_gateway: Callable[..., OurGateway], clients: Clients, anvil: Anvil
) -> None:
    """All at once; each gets the example's answer for the example's price, and a receipt that its own decoder reads."""
    url = our_gateway(documented.url).url + PATH
    payers = {name: anvil.payer() for name in ONE_OF_EACH}
    waiting = {name: clients[name].submit("GET", url, private_key=payer.private_key) for name, payer in payers.items()}
    for name, payer in payers.items():
        answer = clients[name].answer(waiting[name])
        assert (answer.status, answer.body.replace('": "', '":"')) == (200, f'{{"message":"{BODY["message"]}"}}'), name
        assert anvil.balance_of(payer.address) == 1_000_000 - PRICE
        assert answer.transaction is not None, (name, answer)
        assert anvil.transfers(answer.transaction) == [
            Transfer(payer.address.lower(), documented.pay_to.lower(), PRICE)
        ]
    assert anvil.balance_of(documented.pay_to) == len(ONE_OF_EACH) * PRICE


def test_one_of_each_is_one_of_each() -> None:
    """Two of every protocol."""
    assert sorted(CLIENTS[name].protocol for name in ONE_OF_EACH) == sorted(["x402-v1", "x402-v2", "mpp"] * 2)
