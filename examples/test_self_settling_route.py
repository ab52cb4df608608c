"""The self-settling example, on an embedded chain: the token's balances say whether it is true."""

import asyncio

import httpx
import pytest
import self_settling_route

from bridge.demo.chain import embedded_chain
from bridge.demo.token import balance_of
from bridge.testing import account, ask, pay
from translators.payment import Protocol

PAYER, SELLER, RELAYER = account("payer"), account("seller"), account("relayer")


def test_each_protocol_moves_exactly_the_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three payments of five cents: the payer has 0.15 less, the seller 0.15 more, the relayer no token at all."""
    monkeypatch.setenv("X402_MPP_RECIPIENT", SELLER.address)
    monkeypatch.setenv("X402_MPP_NETWORK", "base-sepolia")
    monkeypatch.setenv("X402_MPP_PRIVATE_KEY", RELAYER.private_key)
    monkeypatch.setenv("X402_MPP_STORE", "memory")
    monkeypatch.setenv("X402_MPP_EVENTS", "none")

    async def visit() -> None:
        async with embedded_chain(balances={PAYER.address: 1_000_000}, gas={RELAYER.address: 10**18}) as rpc_url:
            monkeypatch.setenv("X402_MPP_RPC_URL", rpc_url)
            app = self_settling_route.create_app()
            transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
            base_url = "http://127.0.0.1:8000"
            async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url=base_url) as client:
                for protocol in Protocol:
                    paid = await pay(client, "/invoice", await ask(client, "/invoice", protocol), PAYER)
                    assert paid.status == 200
                    assert paid.transaction is not None
                    assert paid.transaction in paid.body
            balances = [balance_of(rpc_url, account.address) for account in (PAYER, SELLER, RELAYER)]
            assert balances == [850_000, 150_000, 0]

    asyncio.run(visit())
