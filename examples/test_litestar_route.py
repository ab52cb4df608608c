"""The Litestar example, paid in each protocol without a chain."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from litestar_route import create_app

from bridge.config import PaymentConfig
from bridge.testing import FakeSettler, account, ask, pay
from translators.payment import Protocol

PAYER, SELLER = account("payer"), account("seller")


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_report_is_paid_for_in_each_protocol(protocol: Protocol) -> None:
    """The controller's price is asked and paid, and the handler is told who paid."""
    settler = FakeSettler()

    async def visit() -> None:
        async with _client(settler) as client:
            asked = await ask(client, "/reports/monday", protocol)
            paid = await pay(client, "/reports/monday", asked, PAYER)
            assert (asked.offer.amount, paid.status) == (10_000, 200)
            assert PAYER.address in paid.body
            assert paid.transaction == settler.settlements[0].transaction

    asyncio.run(visit())


def test_a_failing_route_costs_nothing_and_a_free_one_asks_nothing() -> None:
    """No settlement for a handler that fails; no 402 where `price=None`."""
    settler = FakeSettler()

    async def visit() -> None:
        async with _client(settler) as client:
            assert (await client.get("/reports/")).json() == ["monday", "tuesday"]
            paid = await pay(client, "/reports/sunday", await ask(client, "/reports/sunday", Protocol.MPP), PAYER)
            assert paid.status == 404

    asyncio.run(visit())
    assert settler.settlements == []


def test_a_price_follows_the_request() -> None:
    """Three words cost three cents, none are free."""
    settler = FakeSettler()

    async def visit() -> None:
        async with _client(settler) as client:
            assert (await client.get("/words")).status_code == 200
            asked = await ask(client, "/words?words=3", Protocol.X402_V2)
            assert (await pay(client, "/words?words=3", asked, PAYER)).body == "word word word"

    asyncio.run(visit())
    assert [settlement.amount for settlement in settler.settlements] == [30_000]


@asynccontextmanager
async def _client(settler: FakeSettler) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(PaymentConfig(SELLER.address, settler, network="base-sepolia", store="memory", event_store=None))
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client
