"""An anvil that a test may stop, restart, reorganise and leave without blocks."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.demo import token
from tests.interop.peers import places

from .payments import PAYER, RELAYER, RIVAL
from .rpc import ask


class Anvil:
    """Chain 84532 with the token on it; keeps its state in `folder` from one start to the next, if given one."""

    def __init__(self, *options: str, folder: Path | None = None) -> None:
        try:
            self._binary = str(places.anvil())
        except FileNotFoundError as error:
            if os.environ.get("CI"):
                pytest.fail(f"{error}, and CI must not skip", pytrace=False)
            pytest.skip(str(error))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        state = ("--state", str(folder / "anvil.json"), "--preserve-historical-states") if folder else ()
        self._options = ("--chain-id", "84532", "--port", str(self.port), "--silent", *state, *options)
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            self._binary, *self._options, stdout=asyncio.subprocess.DEVNULL
        )
        for _ in range(200):
            with suppress(httpx.HTTPError):
                await ask(self.url, "eth_chainId")
                return
            await asyncio.sleep(0.05)
        raise RuntimeError("anvil did not start")

    async def stop(self) -> None:
        """End it, its pool forgotten."""
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()
            self._process = None

    async def call(self, method: str, *params: Any) -> Any:
        return await ask(self.url, method, *params)

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            await self.call("evm_mine")


@asynccontextmanager
async def anvil(*options: str, folder: Path | None = None, money: int = 10**12) -> AsyncIterator[Anvil]:
    """A running one, `PAYER` with money, `RELAYER` and `RIVAL` with gas."""
    chain = Anvil(*options, folder=folder)
    await chain.start()
    try:
        await asyncio.to_thread(token.install, chain.url, {PAYER.address: money})
        for account in (RELAYER, RIVAL):
            await asyncio.to_thread(token.fund_gas, chain.url, account.address, 10**20)
        # Its clock starts with the first block that it makes now.
        await chain.mine()
        yield chain
    finally:
        await chain.stop()


@asynccontextmanager
async def quick(**options: Any) -> AsyncIterator[Anvil]:
    """One with a block every tenth of a second."""
    async with anvil("--no-mining", **options) as chain:

        async def blocks() -> None:
            while True:
                await chain.mine()
                await asyncio.sleep(0.1)

        mining = asyncio.create_task(blocks())
        try:
            yield chain
        finally:
            mining.cancel()
            await asyncio.gather(mining, return_exceptions=True)


async def until(condition: Any, seconds: float = 10) -> None:
    """Wait until an async function gives something true."""
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.02)
