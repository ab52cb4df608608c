"""Over sockets, on the chain: one authorization is one payment, however often and in whatever envelope it comes."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest

from bridge.payers import Account, Asked, ask, pay, sign
from translators import mpp, x402
from translators.payment import Protocol
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

from .chain import Anvil
from .our_server import OurServer

REQUESTS = 200
PRICE = 10_000


@pytest.fixture(scope="module")
def sharing(our_server: Callable[..., OurServer], tmp_path_factory: pytest.TempPathFactory) -> OurServer:
    """Two worker processes that share one SQLite file."""
    path: Path = tmp_path_factory.mktemp("claims") / "claims.sqlite3"
    return our_server(store=f"sqlite:{path}", workers=2)


@pytest.fixture(scope="module")
def alone(our_server: Callable[..., OurServer]) -> OurServer:
    """One process that settles on the chain."""
    return our_server()


def _payer(anvil: Anvil) -> Account:
    wallet = anvil.payer()
    return Account(wallet.address.lower(), wallet.private_key)


async def _three_envelopes(client: httpx.AsyncClient, payer: Account) -> list[tuple[str, str]]:
    """One authorization, signed for an MPP challenge, in each protocol's header."""
    asked = await ask(client, "/weather", Protocol.MPP)
    v2 = await ask(client, "/weather", Protocol.X402_V2)
    assert asked.challenge is not None
    assert v2.required is not None
    payment = sign(asked, payer, 0)
    v2_payload = x402.to_payload_v2(payment, v2.required.accepts[0], v2.required.resource)
    return [
        (x402_v1.CREDENTIAL_HEADER, x402_v1.encode_payment_payload(x402.to_payload_v1(payment))),
        (x402_v2.CREDENTIAL_HEADER, x402_v2.encode_payment_payload(v2_payload)),
        ("Authorization", "Payment " + mpp_wire.encode_credential(mpp.to_credential(payment, asked.challenge))),
    ]


def test_two_hundred_at_once_are_one_payment(sharing: OurServer, anvil: Anvil) -> None:
    """200 requests with one authorization, in three protocols, at two workers: settled once, delivered once."""
    payer = _payer(anvil)

    async def run() -> Counter[int]:
        limits = httpx.Limits(max_connections=REQUESTS)
        async with httpx.AsyncClient(base_url=sharing.url, timeout=60, limits=limits) as client:
            envelopes = await _three_envelopes(client, payer)

            async def send(number: int) -> int:
                name, value = envelopes[number % 3]
                return (await client.get("/weather", headers={name: value})).status_code

            return Counter(await asyncio.gather(*(send(number) for number in range(REQUESTS))))

    before = anvil.balance_of(sharing.pay_to)
    statuses = asyncio.run(run())
    assert anvil.balance_of(sharing.pay_to) - before == PRICE
    events = sharing.events_about(payer.address, until="payment.delivered")
    assert Counter(event["event"] for event in events)["payment.settled"] == 1
    assert Counter(event["event"] for event in events)["payment.delivered"] == 1
    assert statuses[200] >= 1
    assert set(statuses) <= {200, 402, 503}


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_failing_handler_costs_nothing(alone: OurServer, anvil: Anvil, protocol: Protocol) -> None:
    """Under `on_success` the 500 reaches the client, and its money stays where it was."""
    payer = _payer(anvil)
    before = anvil.balance_of(payer.address)

    async def run() -> int:
        async with httpx.AsyncClient(base_url=alone.url, timeout=60) as client:
            return (await pay(client, "/fails", await ask(client, "/fails", protocol), payer)).status

    assert asyncio.run(run()) == 500
    assert anvil.balance_of(payer.address) == before
    rejected = alone.events_about(payer.address, until="payment.rejected")[-1]
    assert (rejected["event"], rejected["reason"]) == ("payment.rejected", "handler_failed")


@pytest.mark.parametrize("protocol", list(Protocol))
def test_the_dear_route_is_paid_before_it_works(alone: OurServer, anvil: Anvil, protocol: Protocol) -> None:
    """Under `first` the handler knows the transaction that paid for it, and the chain knows it too."""
    payer = _payer(anvil)

    async def run() -> tuple[Asked, str, str | None]:
        async with httpx.AsyncClient(base_url=alone.url, timeout=60) as client:
            asked = await ask(client, "/dear", protocol)
            paid = await pay(client, "/dear", asked, payer)
            return asked, paid.body, paid.transaction

    asked, body, transaction = asyncio.run(run())
    assert msgspec.json.decode(body) == {"transaction": transaction, "amount": "50000"}
    assert [transfer.amount for transfer in anvil.transfers(str(transaction))] == [asked.offer.amount]
