"""Every client of the three generations pays one and the same server of ours, with either settler.

A visit pays for all routes at once; each test holds one claim about it.
"""

import base64
import json
from collections.abc import Callable
from functools import cache

import pytest

from .chain import Anvil, Transfer
from .our_server import OurServer
from .peers import CLIENTS, Answer, ClientError, Clients, ClientSpec
from .visits import ROUTES, Visit, check_body, visit

PAYING = [name for name, spec in CLIENTS.items() if spec.gives_up is None]
GIVING_UP = [name for name, spec in CLIENTS.items() if spec.gives_up is not None]

RECEIPTS = {"x402-v1": "X-PAYMENT-RESPONSE", "x402-v2": "PAYMENT-RESPONSE", "mpp": "Payment-Receipt"}


@pytest.fixture(scope="module")
def settling(our_server: Callable[..., OurServer]) -> Callable[[str], OurServer]:
    """Our demo with one settler or the other; each is started once, in whatever order the tests come."""
    return cache(lambda settler: our_server(settler=settler))


@pytest.fixture(scope="module", params=["chain", "facilitator"])
def server(request: pytest.FixtureRequest, settling: Callable[[str], OurServer]) -> OurServer:
    """Our demo, settling by itself or through the official facilitator."""
    return settling(request.param)


@pytest.fixture(scope="module", params=PAYING)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a client that pays when a 402 offers everything."""
    return request.param


@pytest.fixture(scope="module")
def spec(name: str) -> ClientSpec:
    """What we expect of it."""
    return CLIENTS[name]


@pytest.fixture(scope="module")
def visited(name: str, server: OurServer, clients: Clients, anvil: Anvil) -> Visit:
    """It has paid for every route."""
    return visit(clients[name], server.url, server.pay_to, anvil)


def transaction_of(answer: Answer, spec: ClientSpec) -> str | None:
    if spec.decodes:
        return answer.transaction
    header = answer.header(RECEIPTS[spec.protocol])
    return json.loads(base64.b64decode(header))["transaction"] if header else None


def test_every_route_answers(visited: Visit) -> None:
    """200, and the handler's own body."""
    for name, answer in visited.answers.items():
        assert answer.status == 200, (name, answer)
        check_body(name, answer)


def test_exactly_the_price_moves(visited: Visit) -> None:
    """Each payer is poorer by the price of its route, and the recipient richer by their sum."""
    assert visited.spent == {name: route.price for name, route in ROUTES.items()}
    assert visited.earned == sum(route.price for route in ROUTES.values())


def test_the_receipt_names_the_transaction_that_paid(
    visited: Visit, spec: ClientSpec, server: OurServer, anvil: Anvil
) -> None:
    """The client's own decoder reads our receipt, and the transaction in it moved this payer's money."""
    for name, answer in visited.answers.items():
        transaction = transaction_of(answer, spec)
        assert transaction is not None, (name, answer)
        paid = Transfer(visited.payers[name].address.lower(), server.pay_to.lower(), ROUTES[name].price)
        assert anvil.transfers(transaction) == [paid]


def test_only_its_own_receipt_is_sent(visited: Visit, spec: ClientSpec) -> None:
    """A payer is answered in the words it paid in and no others, and the answer is nobody else's to cache."""
    for answer in visited.answers.values():
        sent = {protocol for protocol, header in RECEIPTS.items() if answer.header(header) is not None}
        assert sent == {spec.protocol}
        assert "private" in (answer.header("Cache-Control") or "")


def test_the_log_names_the_protocol(visited: Visit, spec: ClientSpec, server: OurServer) -> None:
    """Verified, settled and delivered are logged for each payment, each under the protocol it came in."""
    for name, payer in visited.payers.items():
        transaction = transaction_of(visited.answers[name], spec) or payer.address
        events = server.events_about(payer.address, transaction, until="payment.delivered")
        protocols = {event["event"]: event.get("protocol") for event in events if event["event"].startswith("payment.")}
        expected = dict.fromkeys(("payment.verified", "payment.settled", "payment.delivered"), spec.protocol)
        assert expected.items() <= protocols.items(), server.tail()


def test_the_stream_is_not_held_back(visited: Visit, spec: ClientSpec) -> None:
    """The first event is with the client before the last is produced, unless the library reads whole answers only."""
    chunks = visited.answers["stream"].chunks
    if spec.streams:
        assert chunks is not None
        assert chunks[-1][0] - chunks[0][0] > 1


@pytest.mark.parametrize("name", GIVING_UP)
def test_a_library_with_only_the_old_scheme_pays_nothing(
    name: str, server: OurServer, clients: Clients, anvil: Anvil
) -> None:
    """It sees `PAYMENT-REQUIRED`, decides for v2, has no scheme for it and gives up: refused, and no poorer."""
    payer = anvil.payer()
    with pytest.raises(ClientError):
        clients[name].request("GET", server.url + "/weather", private_key=payer.private_key)
    assert anvil.balance_of(payer.address) == 1_000_000
