"""One embedded chain for the settlers' tests."""

from collections.abc import AsyncIterator

import pytest

from bridge.demo.chain import embedded_chain

from .payments import PAYER, RELAYER, RIVAL


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def rpc_url(anyio_backend: str) -> AsyncIterator[str]:
    gas = {RELAYER.address: 10**18, RIVAL.address: 10**18}
    async with embedded_chain(balances={PAYER.address: 10**12}, gas=gas) as url:
        yield url
