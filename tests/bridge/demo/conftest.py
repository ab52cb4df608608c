"""One embedded chain for all tests of the demo, spoken to over its real socket."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from demo_signing import PAYER, SETTLER, Send
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.contract import AsyncContract

from bridge.demo.chain import embedded_chain
from bridge.demo.token import TOKEN_ADDRESS, abi


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def rpc_url(anyio_backend: str) -> AsyncIterator[str]:
    async with embedded_chain(balances={PAYER.address: 1_000_000}, gas={SETTLER.address: 10**18}) as url:
        yield url


@pytest.fixture(scope="session")
async def w3(rpc_url: str) -> AsyncIterator[AsyncWeb3[Any]]:
    provider = AsyncHTTPProvider(rpc_url)
    yield AsyncWeb3(provider)
    await provider.disconnect()


@pytest.fixture(scope="session")
def token(w3: AsyncWeb3[Any]) -> AsyncContract:
    return w3.eth.contract(address=TOKEN_ADDRESS, abi=abi())


@pytest.fixture(scope="session")
def send(w3: AsyncWeb3[Any]) -> Send:
    """Send a contract call from the settler, without estimating, and wait for its receipt."""

    async def send(call: Any) -> Any:
        nonce = await w3.eth.get_transaction_count(SETTLER.address, "pending")
        built = await call.build_transaction({"from": SETTLER.address, "nonce": nonce, "gas": 1_000_000})
        hash_ = await w3.eth.send_raw_transaction(SETTLER.sign_transaction(built).raw_transaction)
        return await w3.eth.wait_for_transaction_receipt(hash_, poll_latency=0.01)

    return send
