"""The FastAPI example, paid in each protocol without a chain."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi_route import create_app

from bridge.config import PaymentConfig
from bridge.testing import FakeSettler, account, ask, pay
from translators.payment import Protocol

PAYER, SELLER = account("payer"), account("seller")


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_report_is_paid_for_in_each_protocol(protocol: Protocol) -> None:
    """The table's price is asked and paid, and the endpoint reads the payment from its scope."""
    settler = FakeSettler()

    async def visit() -> None:
        async with _client(settler) as client:
            asked = await ask(client, "/report", protocol)
            paid = await pay(client, "/report", asked, PAYER)
            assert (asked.offer.amount, paid.status) == (10_000, 200)
            assert protocol.value in paid.body
            assert paid.transaction == settler.settlements[0].transaction

    asyncio.run(visit())


def test_a_run_is_settled_before_it_begins() -> None:
    """The endpoint has the transaction that paid for it, although the middleware knows nothing of FastAPI."""
    settler = FakeSettler()

    async def visit() -> None:
        path = f"/models/{secrets.token_hex(4)}/run"
        async with _client(settler) as client:
            paid = await pay(client, path, await ask(client, path, Protocol.X402_V1, "POST"), PAYER, "POST")
            assert (paid.status, settler.settlements[0].amount) == (200, 250_000)
            assert settler.settlements[0].transaction in paid.body

    asyncio.run(visit())


def test_what_is_not_in_the_table_is_free() -> None:
    """The rest of the application does not notice the middleware."""

    async def visit() -> None:
        async with _client(FakeSettler()) as client:
            assert (await client.get("/health")).json() == {"price": "none"}

    asyncio.run(visit())


@asynccontextmanager
async def _client(settler: FakeSettler) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(PaymentConfig(SELLER.address, settler, network="base-sepolia", store="memory", event_store=None))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client
