"""A chain that goes away, comes back, is slow, or is two; several processes with one key: the money is exact."""

import asyncio
import itertools
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from bridge.settlers.base import Fate, SettlerConfigError
from bridge.settlers.chain import ChainSettler
from translators.errors import PaymentError, Unavailable
from translators.payment import Payment

from .anvil import anvil, quick, until
from .payments import OFFER, PRICE, RECIPIENT, RELAYER, RESOURCE, Recorder, a_payment, a_record
from .proxy import Drop, Forward, proxy
from .rpc import ask, balance, running, settle
from .test_chain import problem

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[3]


async def insist(settler: ChainSettler, payment: Payment) -> None:
    """What a client does: send the same credential again until it is told."""
    for _ in range(60):
        try:
            await settle(settler, payment)
        except Unavailable:
            await asyncio.sleep(0.3)
        else:
            return
    raise AssertionError("never settled")


async def test_restarted_under_load(tmp_path: Path) -> None:
    """The chain is stopped and started while forty are under way: each is settled, and settled once."""
    payments = [a_payment() for _ in range(40)]
    async with anvil("--block-time", "1", folder=tmp_path) as chain:
        async with running(chain.url, timeout_seconds=8, poll_seconds=0.1) as settler:

            async def load() -> None:
                async with asyncio.TaskGroup() as tasks:
                    for payment in payments:
                        tasks.create_task(insist(settler, payment))
                        await asyncio.sleep(0.05)

            async def fault() -> None:
                for down in (0.2, 0.8):
                    await asyncio.sleep(0.8)
                    await chain.stop()
                    await asyncio.sleep(down)
                    await chain.start()

            await asyncio.gather(load(), fault())
            for payment in payments:
                found = await settler.find(a_record(payment))
                assert found is not None
                assert found.fate is Fate.PAID
        assert await balance(chain.url, RECIPIENT) == 40 * PRICE


async def test_reorganised_under_load() -> None:
    """Blocks that vanish while twenty are under way cost nobody anything, at two confirmations of three."""
    payments = [a_payment() for _ in range(20)]
    async with anvil("--no-mining") as chain:
        async with running(chain.url, confirmations=3, poll_seconds=0.05) as settler:

            async def blocks() -> None:
                for number in itertools.count(1):
                    await chain.mine()
                    await asyncio.sleep(0.1)
                    if number in (6, 12):
                        await chain.call("anvil_reorg", 2, [])

            mining = asyncio.create_task(blocks())
            async with asyncio.TaskGroup() as tasks:
                for payment in payments:
                    tasks.create_task(insist(settler, payment))
                    await asyncio.sleep(0.05)
            mining.cancel()
        assert await balance(chain.url, RECIPIENT) == 20 * PRICE


async def test_slow_chain() -> None:
    """100 ms on every answer delay, and change nothing."""

    async def slow(method: str, params: list[Any], forward: Forward) -> Any:
        await asyncio.sleep(0.1)
        return await forward()

    payments = [a_payment() for _ in range(8)]
    async with quick() as chain, proxy(chain.url, slow) as url, running(url) as settler:
        await asyncio.gather(*(settle(settler, payment) for payment in payments))
        assert await balance(chain.url, RECIPIENT) == 8 * PRICE


async def test_two_processes_with_one_key() -> None:
    """A hundred settlements by one key from two processes at once: all settle, and the balance is exact."""
    batches = [[a_payment() for _ in range(50)] for _ in range(2)]
    async with anvil("--block-time", "1") as chain:
        workers = []
        for batch in batches:
            worker = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.bridge.settlers.worker", chain.url),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=ROOT,
            )
            workers.append((worker, msgspec.json.encode(batch)))
        answers = await asyncio.wait_for(asyncio.gather(*(worker.communicate(said) for worker, said in workers)), 60)
        lines = [line for out, _ in answers for line in out.decode().splitlines() if line.startswith("eip155:")]
        assert len(lines) == 100
        assert [line for line in lines if " 0x" not in line] == []
        assert len({line.split()[1] for line in lines}) == 100
        assert await balance(chain.url, RECIPIENT) == 100 * PRICE


@pytest.mark.parametrize("how", ["hangs", "refuses"])
async def test_node_that_dies_midway(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a second node, the death of the first costs nobody anything."""
    monkeypatch.setattr("bridge.settlers.chain_reader._NODE_SECONDS", 0.6)
    monkeypatch.setattr("bridge.settlers.chain_reader._SHORTEST", 0.3)
    dead = False

    async def dying(method: str, params: list[Any], forward: Forward) -> Any:
        nonlocal dead
        answer = await forward()
        dead = dead or method == "eth_sendRawTransaction"
        if dead:
            if how == "hangs":
                await asyncio.sleep(30)
            raise Drop
        return answer

    payments, recorder = [a_payment() for _ in range(6)], Recorder()
    async with quick() as chain, proxy(chain.url, dying) as url:
        with structlog.testing.capture_logs() as logs:
            async with running(f"{url}, {chain.url}", timeout_seconds=20) as settler:
                await settler.settle(payments[0], OFFER, RESOURCE, recorder)
                await asyncio.gather(*(settle(settler, payment) for payment in payments[1:]))
                await settler.ping()
        assert len(recorder.told) == 1
        assert await balance(chain.url, RECIPIENT) == 6 * PRICE
    down = [entry for entry in logs if entry["event"] == "settler.node_down"]
    assert {entry["node"] for entry in down} == {1}
    assert not any(url in str(entry) for entry in logs)


async def test_broadcast_goes_to_the_others(rpc_url: str) -> None:
    """What one node took is given to the next as well, so that it does not die with the first."""
    seen: list[str] = []

    async def second(method: str, params: list[Any], forward: Forward) -> Any:
        if method == "eth_sendRawTransaction":
            seen.append(params[0])
        return await forward()

    async with proxy(rpc_url, second) as url, running([rpc_url, url]) as settler:
        await settle(settler, a_payment())

        async def arrived() -> bool:
            return len(seen) == 1

        await until(arrived)


async def test_wrong_chain(rpc_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of another chain stops the start, wherever it stands; one that turns into one later is not asked."""
    monkeypatch.setattr("bridge.settlers.nodes._PAUSE_SECONDS", 0.01)
    turned, asked = True, 0

    async def other(method: str, params: list[Any], forward: Forward) -> Any:
        nonlocal asked
        if method == "eth_chainId":
            return "0x1" if turned else await forward()
        asked += 1
        return await forward()

    key = RELAYER.key.hex()
    async with proxy(rpc_url, other) as url:
        for urls in ([rpc_url, url], [url, rpc_url], f"{rpc_url},{url}"):
            assert "different chains: [1, 84532]" in await problem(ChainSettler(urls, key))
        assert "on chain 1" in await problem(ChainSettler(url, key))
        turned = False
        async with running([url, rpc_url]) as settler:
            await settle(settler, a_payment())
            turned, asked = True, 0
            monkeypatch.setattr("bridge.settlers.nodes._TRUSTED_SECONDS", 0)
            settler._reader.nodes._endpoints[0]._trusted_until = 0
            with structlog.testing.capture_logs() as logs:
                await settle(settler, a_payment())
            assert asked == 0
        assert ("settler.wrong_chain", 1) in [(entry["event"], entry.get("node")) for entry in logs]


async def test_nodes_at_the_start(rpc_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of several that is down is let pass and told; all of them are not."""
    monkeypatch.setattr("bridge.settlers.nodes._PAUSE_SECONDS", 0.01)
    with structlog.testing.capture_logs() as logs:
        async with running(["http://127.0.0.1:1", rpc_url]) as settler:
            await settle(settler, a_payment())
    assert [entry["node"] for entry in logs if entry["event"] == "settler.node_down"][:1] == [1]
    with pytest.raises(SettlerConfigError, match="does not answer"):
        async with running("http://127.0.0.1:1,http://127.0.0.1:2"):
            pass
    with pytest.raises(ValueError, match="URL"):
        ChainSettler(" , ", RELAYER.key.hex())


async def test_endless_answers(rpc_url: str) -> None:
    """A node that does not stop talking is not listened to for ever."""

    async def chatty(method: str, params: list[Any], forward: Forward) -> Any:
        return "0x" + "00" * 6_000_000 if talks else await forward()

    talks = False
    async with proxy(rpc_url, chatty) as url, running(url) as settler:
        talks = True
        with pytest.raises(PaymentError) as caught:
            await settler.verify(a_payment(), OFFER, RESOURCE)
        assert type(caught.value) is Unavailable
    assert await ask(rpc_url, "eth_chainId") == "0x14a34"
