"""The journal's server is stopped and started again while payments are made, or the chain's node stands still."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

from tests.bridge.stores.servers import wait_for_postgres, wait_for_redis
from tests.faults.lab import Lab
from tests.faults.load import Load, load

WAIT_FOR = {"postgresql": wait_for_postgres, "redis": wait_for_redis}


async def outage(
    lab: Lab, store: str, settler: str, payments: int, *, stops: int = 3, rate: float = 0.2, kill: bool = False
) -> Load:
    """A load during which the store's server is stopped `stops` times, killed where `kill` says so.

    What a server had answered before it was killed must be there afterwards, so both write before they answer.
    """
    server, url = lab.servers[store]

    def stop() -> None:
        server.stop(signal.SIGKILL if kill else signal.SIGINT)

    def start() -> None:
        server.start()
        WAIT_FOR[store](url)

    async def meanwhile() -> None:
        for _ in range(stops):
            await asyncio.sleep(0.7)
            await asyncio.to_thread(stop)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(start)

    return await _loaded(lab, store, settler, payments, rate, meanwhile)


async def _loaded(
    lab: Lab,
    store: str,
    settler: str,
    payments: int,
    rate: float,
    meanwhile: Callable[[], Awaitable[None]],
    *,
    pace: float = 6.0,
) -> Load:
    result = await load(
        lab, lab.store(store), settler, payments, rate=rate, seconds=120, meanwhile=meanwhile, pace=pace
    )
    if not result.unavailable:
        result.violations.append("nobody was told to come back: the outage missed the load")
    return result


async def standstill(lab: Lab, store: str, settler: str, payments: int, *, stops: int = 2, rate: float = 0.0) -> Load:
    """A load during which the chain's node does nothing, `stops` times, for longer than a settlement is waited for."""
    node = lab.node
    assert node is not None

    async def meanwhile() -> None:
        for _ in range(stops):
            await asyncio.sleep(0.8)
            node.send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(7)
            finally:
                node.send_signal(signal.SIGCONT)

    return await _loaded(lab, store, settler, payments, rate, meanwhile)


async def restarted(lab: Lab, store: str, settler: str, payments: int, *, restarts: int = 2) -> Load:
    """A load during which the chain's node ends and starts again: what waited for a block is forgotten by then.

    For a laboratory that `keeps` its chain.
    """
    node = lab.node
    assert node is not None

    async def meanwhile() -> None:
        for _ in range(restarts):
            await asyncio.sleep(0.8)
            # Held back, so that something waits.
            await lab.chain.ask(("evm_setAutomine", False))
            await asyncio.sleep(0.5)
            await node.end(signal.SIGTERM)
            await asyncio.sleep(1)
            await node.start()

    return await _loaded(lab, store, settler, payments, 0.0, meanwhile)


async def slowed(lab: Lab, store: str, settler: str, payments: int, *, rate: float = 0.0) -> Load:
    """A load during which a block takes eight seconds, longer than a settlement is waited for, and then three."""
    pulse = lab.pulse
    assert pulse is not None

    async def meanwhile() -> None:
        for seconds in (8, 3):
            await asyncio.sleep(0.7)
            pulse.held = True
            await lab.chain.ask(("evm_setAutomine", False), ("evm_setIntervalMining", seconds))
            try:
                await asyncio.sleep(2 * seconds + 0.5)
            finally:
                await lab.chain.ask(("evm_setIntervalMining", 0), ("evm_setAutomine", True), ("evm_mine",))
                pulse.held = False

    return await _loaded(lab, store, settler, payments, rate, meanwhile, pace=20.0)


async def reorganised(
    lab: Lab,
    store: str,
    settler: str,
    payments: int,
    *,
    reorganisations: int = 10,
    depth: int = 5,
    rate: float = 0.0,
    pace: float = 6.0,
) -> Load:
    """A load during which the newest `depth` blocks vanish over and over, and settlements with them.

    A settlement counts at `depth` + 1 confirmations, so that none that did is in a block that vanishes.
    """
    vanished, pulse = 0, lab.pulse
    assert pulse is not None

    async def meanwhile() -> None:
        nonlocal vanished
        # Every block is ours to ask for. One that anvil makes of its own while it reorganises is kept without its
        # state: receipts say that money moved, and the same block's balances that it did not. No chain is like that.
        pulse.held = True
        await lab.chain.ask(("evm_setAutomine", False))
        # The payers' money is in the newest block's state: it was put there, not sent.
        await lab.chain.ask(*[("evm_mine",)] * (depth + 1))
        try:
            for _ in range(reorganisations):
                for _ in range(depth + 1):
                    await asyncio.sleep(0.1)
                    await lab.chain.ask(("evm_mine",))
                (newest,) = await lab.chain.ask(("eth_blockNumber",))
                numbers = range(int(newest, 16), int(newest, 16) - depth, -1)
                counts = await lab.chain.ask(
                    *(("eth_getBlockTransactionCountByNumber", hex(number)) for number in numbers)
                )
                vanished += sum(int(count, 16) for count in counts)
                await lab.chain.ask(("anvil_reorg", depth, []))
        finally:
            await lab.chain.ask(("evm_setAutomine", True), ("evm_mine",))
            pulse.held = False

    result = await load(
        lab,
        lab.store(store),
        settler,
        payments,
        rate=rate,
        seconds=120,
        meanwhile=meanwhile,
        pace=pace,
        confirmations=depth + 1,
    )
    if vanished < reorganisations:
        result.violations.append(f"only {vanished} transactions vanished: the reorganisations missed the load")
    return result
