"""Transactions that no block takes: paid better, sent anew, given again to nodes that forgot; the money moves once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from bridge.settlers.base import Fate
from bridge.settlers.nodes import Nodes
from translators.errors import OutcomeUnknown, Unavailable
from translators.payment import Payment, Settlement

from .anvil import Anvil, anvil, until
from .payments import OFFER, PRICE, RECIPIENT, RELAYER, RESOURCE, Recorder, a_payment, a_record
from .rpc import balance, nonce_of, running, send, settle

pytestmark = pytest.mark.anyio

GWEI = 10**9
IMPATIENT: dict[str, Any] = {"replace_after_seconds": 0.2, "poll_seconds": 0.02}


@pytest.fixture
async def chain() -> AsyncIterator[Anvil]:
    async with anvil("--no-mining") as running_chain:
        yield running_chain


def start(settler: Any, payment: Payment, recorder: Recorder) -> "asyncio.Task[Settlement]":
    return asyncio.create_task(settler.settle(payment, OFFER, RESOURCE, recorder))


async def told(recorder: Recorder, count: int) -> None:
    async def enough() -> bool:
        return len(recorder.told) >= count

    await until(enough)


async def in_pool(chain: Anvil, hash_: str) -> bool:
    return await chain.call("eth_getTransactionByHash", hash_) is not None


async def test_replaced_with_a_higher_fee(chain: Anvil) -> None:
    """What is stuck is offered more: same nonce, same calldata, an eighth more at least, each hash recorded before."""
    recorder = Recorder()
    with structlog.testing.capture_logs() as logs:
        async with running(chain.url, **IMPATIENT) as settler:
            task = start(settler, a_payment(), recorder)
            await told(recorder, 1)
            await until(lambda: in_pool(chain, recorder.told[0]))
            first = await chain.call("eth_getTransactionByHash", recorder.told[0])
            await told(recorder, 2)
            await until(lambda: in_pool(chain, recorder.told[1]))
            second = await chain.call("eth_getTransactionByHash", recorder.told[1])
            assert first["nonce"] == second["nonce"]
            assert first["input"] == second["input"]
            for fee in ("maxFeePerGas", "maxPriorityFeePerGas"):
                assert int(second[fee], 16) >= int(first[fee], 16) * 1.125
            await chain.mine()
            settlement = await task
    assert settlement.transaction in recorder.told[1:]
    assert await balance(chain.url, RECIPIENT) == PRICE
    assert [entry["transaction"] for entry in logs if entry["event"] == "settler.replaced"] == recorder.told[1:]


async def test_replacements_are_bounded(chain: Anvil) -> None:
    """By number and by fee; what was sent stays sent, and its outcome is found later."""
    for options, most in (({"max_replacements": 2}, 3), ({"max_fee_per_gas": 5 * GWEI}, 3)):
        payment, recorder = a_payment(), Recorder()
        async with running(chain.url, **IMPATIENT, timeout_seconds=1.6, **options) as settler:
            with pytest.raises(OutcomeUnknown):
                await settler.settle(payment, OFFER, RESOURCE, recorder)
            assert 1 < len(recorder.told) <= most
            assert (await settler.find(a_record(payment))).fate is Fate.UNUSED  # type: ignore[union-attr]
            await chain.mine()
            found = await settler.find(a_record(payment))
            assert found is not None
            assert (found.fate, found.transaction in recorder.told) == (Fate.PAID, True)


async def test_gas_above_the_ceiling(chain: Anvil) -> None:
    """Nothing is begun while gas costs more than this server pays."""
    async with running(chain.url, max_fee_per_gas=20 * GWEI) as settler:
        await chain.call("anvil_setNextBlockBaseFeePerGas", hex(50 * GWEI))
        await chain.mine()
        settler._relayer._fees = None  # type: ignore[union-attr] # as after two seconds
        recorder = Recorder()
        with pytest.raises(Unavailable, match="gas costs more"):
            await settler.settle(a_payment(), OFFER, RESOURCE, recorder)
        assert recorder.told == []
    async with running(chain.url, max_fee_per_gas=1) as settler:  # no reason not to start
        with pytest.raises(Unavailable, match="gas costs more"):
            await settler.ping()


async def test_a_refusing_journal_keeps_the_first(chain: Anvil) -> None:
    """A replacement that cannot be recorded is not sent; the first one is still waited for."""
    recorder = Recorder()
    async with running(chain.url, **IMPATIENT) as settler:
        task = start(settler, a_payment(), recorder)
        await told(recorder, 1)
        recorder.refuse = Unavailable("no store")
        await told(recorder, 3)
        assert not await in_pool(chain, recorder.told[2])
        await chain.mine()
        assert (await task).transaction == recorder.told[0]


async def test_displaced_by_another_user_of_the_key(chain: Anvil) -> None:
    """A transaction whose nonce another one took is sent anew under the next nonce."""
    recorder = Recorder()
    async with running(chain.url, poll_seconds=0.02) as settler:
        task = start(settler, a_payment(), recorder)
        await told(recorder, 1)
        await until(lambda: in_pool(chain, recorder.told[0]))
        nonce = await nonce_of(chain.url, RELAYER.address, "latest")
        dear = {"maxFeePerGas": 100 * GWEI, "maxPriorityFeePerGas": 50 * GWEI}
        await send(chain.url, RELAYER.address, b"", RELAYER, nonce=nonce, **dear)
        await chain.mine()
        await told(recorder, 2)
        await until(lambda: in_pool(chain, recorder.told[1]))
        await chain.mine()
        assert (await task).transaction == recorder.told[1]
    assert await balance(chain.url, RECIPIENT) == PRICE


async def test_behind_somebody_who_is_gone(chain: Anvil) -> None:
    """A predecessor that nobody looks after any more is displaced, and all behind it get on."""
    recorder, orphan = Recorder(), a_payment()
    async with running(chain.url, poll_seconds=0.02, replace_after_seconds=100) as gone:
        task = start(gone, orphan, Recorder())
        await until(lambda: pending(chain, 1))
        task.cancel()
        await asyncio.wait({task})
    # Blocks come from here on, and gas is too dear for it.
    await chain.call("anvil_setNextBlockBaseFeePerGas", hex(20 * GWEI))
    await chain.mine()
    await chain.call("evm_setIntervalMining", 1)
    async with running(chain.url, **IMPATIENT) as settler:
        await asyncio.wait_for(settler.settle(a_payment(), OFFER, RESOURCE, recorder), 20)
        assert await balance(chain.url, RECIPIENT) == PRICE
        await settle(settler, orphan)  # its authorization was not used, so it may be settled still
    assert await balance(chain.url, RECIPIENT) == 2 * PRICE


async def pending(chain: Anvil, count: int) -> bool:
    return await nonce_of(chain.url, RELAYER.address) - await nonce_of(chain.url, RELAYER.address, "latest") == count


async def test_forgotten_by_the_node(chain: Anvil) -> None:
    """A node that dropped the transaction is given it again: the same bytes, the same hash."""
    recorder = Recorder()
    async with running(chain.url, poll_seconds=0.02) as settler:
        task = start(settler, a_payment(), recorder)
        await told(recorder, 1)
        await until(lambda: in_pool(chain, recorder.told[0]))
        await chain.call("anvil_dropAllTransactions")
        assert not await in_pool(chain, recorder.told[0])
        await until(lambda: in_pool(chain, recorder.told[0]))
        await chain.mine()
        assert [(await task).transaction] == recorder.told


async def test_reorganised(chain: Anvil) -> None:
    """A settlement whose block vanishes is waited for again, up to its confirmations."""
    payment, recorder = a_payment(), Recorder()
    async with running(chain.url, poll_seconds=0.02, confirmations=3) as settler:
        task = start(settler, payment, recorder)
        await told(recorder, 1)
        await until(lambda: in_pool(chain, recorder.told[0]))
        await chain.mine(2)
        assert await balance(chain.url, RECIPIENT) == PRICE
        await chain.call("anvil_reorg", 2, [])
        assert await balance(chain.url, RECIPIENT) == 0
        assert not task.done()
        found = await settler.find(a_record(payment))
        assert found is not None
        assert found.fate is Fate.UNUSED
        await until(lambda: in_pool(chain, recorder.told[0]))
        await chain.mine(3)
        assert (await asyncio.wait_for(task, 10)).transaction == recorder.told[0]
    assert await balance(chain.url, RECIPIENT) == PRICE


async def test_relayer_runs_dry(chain: Anvil, monkeypatch: pytest.MonkeyPatch) -> None:
    """New work is refused while the account is empty, and taken again when it is not."""
    monkeypatch.setattr("bridge.settlers.relayer._BALANCE_SECONDS", 0)
    await chain.call("evm_setIntervalMining", 1)
    async with running(chain.url) as settler:
        await settler.ping()
        await chain.call("anvil_setBalance", RELAYER.address, hex(GWEI))
        for call in (settler.ping(), settler.verify(a_payment(), OFFER, RESOURCE), settle(settler, a_payment())):
            with pytest.raises(Unavailable, match="cannot pay for gas"):
                await call
        await chain.call("anvil_setBalance", RELAYER.address, hex(10**18))
        await settler.ping()
        await settle(settler, a_payment())
    assert await balance(chain.url, RECIPIENT) == PRICE


async def test_find_long_ago(chain: Anvil) -> None:
    """A row is found out about however many blocks have passed since."""
    payment, unrecorded = a_payment(), a_payment()
    await chain.call("evm_setAutomine", True)
    async with running(chain.url, lookback_blocks=20) as settler:
        first, second = await settle(settler, payment), await settle(settler, unrecorded)
        await chain.call("anvil_mine", hex(300), "0x2")
        row = a_record(payment, transaction=first.transaction)
        for record, transaction in ((row, first.transaction), (a_record(unrecorded), second.transaction)):
            found = await settler.find(record)
            assert found is not None
            assert (found.fate, found.transaction) == (Fate.PAID, transaction)
        assert await settler.find(a_record(payment, chain_id=1)) is None
        assert (await settler.find(a_record(payment, value=PRICE + 1))).fate is Fate.VOID  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("newest", "again", "deep"),
    [
        (6, {"blockNumber": "0x5", "blockHash": "0xaa"}, True),
        (5, {"blockNumber": "0x5", "blockHash": "0xaa"}, False),
        (9, {"blockNumber": "0x9", "blockHash": "0xbb"}, False),
        (9, None, False),
    ],
    ids=["deep", "not yet", "in another block", "in none"],
)
async def test_a_receipt_from_before_a_reorganisation_does_not_count(newest: int, again: Any, deep: bool) -> None:
    """The newest block is asked for after the receipt; between the two, the receipt's block may have vanished."""

    class Answering(Nodes):
        async def ask(self, method: str, *params: Any) -> Any:
            return hex(newest) if method == "eth_blockNumber" else again

    receipt = {"blockNumber": "0x5", "blockHash": "0xaa"}
    assert await Answering(["http://127.0.0.1:1"], timeout_seconds=1).is_deep("0x1", receipt, 2) is deep
