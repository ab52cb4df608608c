"""Settling on a chain: the money moves once, and what is said of it is so."""

import asyncio
import time
from typing import Any

import pytest
import structlog
from eth_account import Account

from bridge.settlers.base import Fate, PaysGas, SettlerConfigError
from bridge.settlers.chain import ChainSettler
from bridge.settlers.eip3009_calls import transfer_call
from translators.errors import (
    AlreadyUsed,
    InsufficientFunds,
    OutcomeUnknown,
    PaymentExpired,
    SettlementFailed,
    Unavailable,
    VerificationFailed,
)
from translators.payment import Asset, Offer

from .payments import OFFER, PAYER, POOR, PRICE, RECIPIENT, RELAYER, RESOURCE, RIVAL, USDC, Recorder, a_payment
from .proxy import Drop, Forward, RpcError, Status, proxy
from .rpc import ask, balance, running, send, settle, terms, used

pytestmark = pytest.mark.anyio


async def test_settled(rpc_url: str) -> None:
    """A good payment passes, moves exactly its value, and is recorded under its hash before it is sent."""
    payment, before = a_payment(), await balance(rpc_url, RECIPIENT)
    seen: list[tuple[str, bool]] = []

    async def before_broadcast(transaction: str) -> None:
        seen.append((transaction, await ask(rpc_url, "eth_getTransactionByHash", transaction) is not None))

    async with running(rpc_url, clock=lambda: 1.5) as settler:
        await settler.verify(payment, OFFER, RESOURCE)
        settlement = await settler.settle(payment, OFFER, RESOURCE, before_broadcast)
    assert await balance(rpc_url, RECIPIENT) == before + PRICE
    assert seen == [(settlement.transaction, False)]
    assert settlement.payment_id == payment.id
    assert (settlement.amount, settlement.recipient, settlement.settled_at) == (PRICE, RECIPIENT, 1.5)
    receipt = await ask(rpc_url, "eth_getTransactionReceipt", settlement.transaction)
    assert (receipt["status"], receipt["from"]) == ("0x1", RELAYER.address.lower())


async def test_recovery_id_as_v(rpc_url: str) -> None:
    """A signature that ends in 0 or 1, as some signers write it, is settled too."""
    payment = a_payment(signature=lambda signed: signed[:64] + bytes((signed[64] - 27,)))
    async with running(rpc_url) as settler:
        await settler.verify(payment, OFFER, RESOURCE)
        await settle(settler, payment)


async def test_verify_refuses(rpc_url: str) -> None:
    """What only the chain knows is told apart, each by its own error."""
    now = int(time.time())
    spent = a_payment()
    async with running(rpc_url) as settler:
        await settle(settler, spent)
        cases = [
            (spent, AlreadyUsed, "invalid_exact_evm_nonce_already_used"),
            (a_payment(key=POOR), InsufficientFunds, "insufficient_funds"),
            (a_payment(valid_before=now - 1), PaymentExpired, "invalid_exact_evm_payload_authorization_valid_before"),
            (
                a_payment(valid_after=now + 60),
                VerificationFailed,
                "invalid_exact_evm_payload_authorization_valid_after",
            ),
            (a_payment(payer=POOR.address), VerificationFailed, "invalid_exact_evm_payload_signature"),
            (
                a_payment(signature=lambda signed: signed[:64]),
                VerificationFailed,
                "invalid_exact_evm_payload_signature",
            ),
            (
                a_payment(signature=lambda signed: signed + b"\1"),
                VerificationFailed,
                "invalid_exact_evm_payload_signature",
            ),
            (
                a_payment(signature=lambda signed: signed + bytes.fromhex("6492" * 16)),
                VerificationFailed,
                "invalid_exact_evm_payload_signature",
            ),
        ]
        for payment, kind, reason in cases:
            with pytest.raises(kind) as caught:
                await settler.verify(payment, OFFER, RESOURCE)
            assert type(caught.value) is kind
            assert caught.value.reason == reason


async def test_settle_refuses_without_sending(rpc_url: str) -> None:
    """What would be reverted is not sent, and nothing is recorded as begun."""
    nonce = await ask(rpc_url, "eth_getTransactionCount", RELAYER.address, "pending")
    async with running(rpc_url) as settler:
        for payment, kind in (
            (a_payment(key=POOR), InsufficientFunds),
            (a_payment(valid_before=int(time.time()) - 1), PaymentExpired),
            (a_payment(payer=POOR.address), VerificationFailed),
        ):
            recorder = Recorder()
            with pytest.raises(kind):
                await settler.settle(payment, OFFER, RESOURCE, recorder)
            assert recorder.told == []
    assert await ask(rpc_url, "eth_getTransactionCount", RELAYER.address, "pending") == nonce


async def test_settling_again_finds_the_first(rpc_url: str) -> None:
    """A settlement that is asked for twice is made once, and both are told of the same transaction."""
    payment, before, recorder = a_payment(), await balance(rpc_url, RECIPIENT), Recorder()
    async with running(rpc_url) as settler:
        first = await settle(settler, payment)
        second = await settler.settle(payment, OFFER, RESOURCE, recorder)
    assert second.transaction == first.transaction
    assert recorder.told == [first.transaction]
    assert await balance(rpc_url, RECIPIENT) == before + PRICE


async def test_front_run(rpc_url: str) -> None:
    """Whoever sends the authorization a moment before us pays our gas: the money came, and it is settled."""
    payment, before = a_payment(), await balance(rpc_url, RECIPIENT)
    rival: list[str] = []

    async def overtake(transaction: str) -> None:
        rival.append(await send(rpc_url, USDC.address, transfer_call(payment.authorization)))

    async with running(rpc_url) as settler:
        settlement = await settler.settle(payment, OFFER, RESOURCE, overtake)
    assert settlement.transaction == rival[0]
    assert await balance(rpc_url, RECIPIENT) == before + PRICE


async def test_canceled_under_way(rpc_url: str) -> None:
    """An authorization that its payer cancels before we are through moved nothing, and is not called settled."""
    payment = a_payment()
    signed = Account.sign_typed_data(
        PAYER.key,
        domain_data={
            "name": USDC.name,
            "version": USDC.version,
            "chainId": USDC.chain_id,
            "verifyingContract": USDC.address,
        },
        message_types={
            "CancelAuthorization": [{"name": "authorizer", "type": "address"}, {"name": "nonce", "type": "bytes32"}]
        },
        message_data={"authorizer": PAYER.address, "nonce": bytes.fromhex(payment.authorization.nonce[2:])},
    )
    cancel = (
        bytes.fromhex("5a049a70" + "00" * 12 + PAYER.address[2:] + payment.authorization.nonce[2:])
        + signed.v.to_bytes(32, "big")
        + signed.signature[:64]
    )

    async def overtake(transaction: str) -> None:
        await send(rpc_url, USDC.address, cancel)

    async with running(rpc_url) as settler:
        with pytest.raises(SettlementFailed):
            await settler.settle(payment, OFFER, RESOURCE, overtake)
        found = await settler.find_settlement(**terms(payment))
        assert found.fate is Fate.VOID
        with pytest.raises(AlreadyUsed):
            await settle(settler, payment)


async def test_reverted_for_another_reason(rpc_url: str) -> None:
    """A payer who moves the money away before us pays nothing, and that is what is said."""
    payer = Account.create()
    await send(rpc_url, USDC.address, bytes.fromhex("40c10f19" + "00" * 12 + payer.address[2:] + f"{PRICE:064x}"))
    payment = a_payment(key=payer)

    async with running(rpc_url) as settler:
        await settler.verify(payment, OFFER, RESOURCE)
        other = a_payment(key=payer)

        async def spend(transaction: str) -> None:
            await send(rpc_url, USDC.address, transfer_call(other.authorization))

        with pytest.raises(SettlementFailed):
            await settler.settle(payment, OFFER, RESOURCE, spend)
        assert not await used(rpc_url, payment)


async def test_find_settlement(rpc_url: str) -> None:
    """The chain alone tells what became of an authorization, and as of when."""
    payment = a_payment()
    async with running(rpc_url) as settler:
        found = await settler.find_settlement(**terms(payment))
        assert (found.fate, found.transaction) == (Fate.UNUSED, None)
        assert abs(found.chain_time - time.time()) < 10
        settlement = await settle(settler, payment)
        found = await settler.find_settlement(**terms(payment))
        assert (found.fate, found.transaction) == (Fate.PAID, settlement.transaction)
        other = await settler.find_settlement(**{**terms(payment), "value": PRICE + 1})
        assert other.fate is Fate.VOID
        late = await settler.find_settlement(**terms(payment), from_block=found.block + 1)
        assert late.fate is Fate.UNSEEN


async def test_many_at_once(rpc_url: str) -> None:
    """Fifty settlements by one key are fifty transactions, and the balance is exact."""
    payments, before = [a_payment() for _ in range(50)], await balance(rpc_url, RECIPIENT)
    async with running(rpc_url) as settler:
        settlements = await asyncio.gather(*(settle(settler, payment) for payment in payments))
    assert len({settlement.transaction for settlement in settlements}) == 50
    assert await balance(rpc_url, RECIPIENT) == before + 50 * PRICE


async def test_two_settlers_with_one_key(rpc_url: str) -> None:
    """Two processes that share a relayer take each other's nonces, sign anew, and settle everything."""
    before = await balance(rpc_url, RECIPIENT)
    async with running(rpc_url) as one, running(rpc_url) as other:
        for _ in range(5):
            await settle(one, a_payment())
            await settle(other, a_payment())
    assert await balance(rpc_url, RECIPIENT) == before + 10 * PRICE


async def test_cancelled_tasks_leave_no_gap(rpc_url: str) -> None:
    """Cancelling settlements at any moment neither blocks nor loses those that come after."""
    async with running(rpc_url) as settler:
        for delay in (0, 0.005, 0.01, 0.02, 0.03, 0.05):
            tasks = [asyncio.create_task(settle(settler, a_payment())) for _ in range(5)]
            await asyncio.sleep(delay)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.wait(tasks, timeout=10)
            assert all(task.done() for task in tasks)
            assert not any(task.exception() for task in tasks[1::2])
        await asyncio.wait_for(settle(settler, a_payment()), 10)


async def test_a_refusing_journal_keeps_the_payment_here(rpc_url: str) -> None:
    """When the transaction cannot be recorded it is not sent, and the next one takes its nonce."""
    payment = a_payment()
    async with running(rpc_url) as settler:
        recorder = Recorder(Unavailable("no store"))
        with pytest.raises(Unavailable, match="no store"):
            await settler.settle(payment, OFFER, RESOURCE, recorder)
        assert await ask(rpc_url, "eth_getTransactionByHash", recorder.told[0]) is None
        assert not await used(rpc_url, payment)
        await settle(settler, payment)


async def test_confirmations(rpc_url: str) -> None:
    """A settlement waits for the blocks that it must have."""
    payment = a_payment()
    async with running(rpc_url, confirmations=3) as settler:
        task = asyncio.create_task(settle(settler, payment))
        await asyncio.sleep(0.3)
        assert await used(rpc_url, payment)
        assert not task.done()
        mined = int(await ask(rpc_url, "eth_blockNumber"), 16)
        for _ in range(2):
            await send(rpc_url, USDC.address, transfer_call(a_payment().authorization))
        await asyncio.wait_for(task, 5)
        assert int(await ask(rpc_url, "eth_blockNumber"), 16) >= mined + 1


async def problem(settler: ChainSettler, *offers: Offer) -> str:
    with pytest.raises(SettlerConfigError) as caught:
        await settler.start(offers or [OFFER])
    return str(caught.value)


async def test_start_refuses(rpc_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong chain, token, domain, key or an empty relayer stops the start, and says which."""
    monkeypatch.setattr("bridge.settlers.nodes._PAUSE_SECONDS", 0.01)
    key = RELAYER.key.hex()
    base = Offer(Asset(8453, USDC.address, 6, "USDC", "2"), PRICE, RECIPIENT)
    assert "on chain 84532" in await problem(ChainSettler(rpc_url, key), base)
    assert "[1]" in await problem(ChainSettler(rpc_url, key, chain_id=1))
    nowhere = Offer(Asset(84532, "0x" + "77" * 20, 6, "USDC", "2"), PRICE, RECIPIENT)
    assert "no contract" in await problem(ChainSettler(rpc_url, key), nowhere)
    renamed = Offer(Asset(84532, USDC.address, 6, "USD Coin", "2"), PRICE, RECIPIENT)
    assert "'USD Coin'" in await problem(ChainSettler(rpc_url, key), renamed)
    assert "'USDC', version '2'" in await problem(ChainSettler(rpc_url, key), renamed)
    assert POOR.address.lower() in await problem(ChainSettler(rpc_url, POOR.key.hex()))
    assert "does not answer" in await problem(ChainSettler("http://127.0.0.1:1", key))
    for bad in ("0xzz", "12", "0x" + "00" * 32, "secret words"):
        said = await problem(ChainSettler(rpc_url, bad))
        assert "private key" in said
        assert bad not in said


async def test_relayer_without_gas(rpc_url: str) -> None:
    """A relayer that has run dry charges nobody, and says so."""
    payment, dry = a_payment(), Account.create()
    signed = RIVAL.sign_transaction(
        {
            "type": 2,
            "chainId": 84532,
            "nonce": int(await ask(rpc_url, "eth_getTransactionCount", RIVAL.address, "pending"), 16),
            "to": dry.address,
            "value": 1,
            "gas": 21_000,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 1,
        }
    )
    await ask(rpc_url, "eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex())
    with structlog.testing.capture_logs() as logs:
        async with running(rpc_url, dry) as settler:
            recorder = Recorder()
            for call in (
                settler.ping(),
                settler.verify(payment, OFFER, RESOURCE),
                settler.settle(payment, OFFER, RESOURCE, recorder),
            ):
                with pytest.raises(Unavailable, match="gas") as caught:
                    await call
                assert type(caught.value) is Unavailable
            assert recorder.told == []
            assert settler.settlements_left() == 0
            assert not await used(rpc_url, payment)
    # Once, for whoever watches the logs: which account, what it has and what a settlement wants.
    logged = [entry for entry in logs if entry["event"] == "settler.no_gas"]
    assert [(entry["relayer"], entry["balance"]) for entry in logged] == [(dry.address.lower(), "1")]


async def test_how_long_the_gas_lasts(rpc_url: str) -> None:
    """In settlements, as the last ping heard it: told before the account is dry."""
    async with running(rpc_url) as settler:
        assert isinstance(settler, PaysGas)
        await settler.ping()
        left = settler.settlements_left()
        assert left is not None
        assert left > 1000


async def test_node_that_is_gone(rpc_url: str) -> None:
    """Without a node nothing is verified and nothing is sent."""

    async def gone(method: str, params: list[Any], forward: Forward) -> Any:
        if dead:
            raise Drop
        return await forward()

    dead = False
    recorder = Recorder()
    async with proxy(rpc_url, gone) as url, running(url) as settler:
        dead = True
        for call in (
            settler.verify(a_payment(), OFFER, RESOURCE),
            settler.settle(a_payment(), OFFER, RESOURCE, recorder),
            settler.find_settlement(**terms(a_payment())),
        ):
            with pytest.raises(Unavailable) as caught:
                await call
            assert type(caught.value) is Unavailable
    assert recorder.told == []


@pytest.mark.parametrize("at", ["eth_getTransactionReceipt", "eth_sendRawTransaction"])
async def test_node_that_dies_after_the_broadcast(rpc_url: str, at: str) -> None:
    """A transaction that went out and is not heard of again is an unknown outcome, found later by its payment."""
    payment = a_payment()

    async def dying(method: str, params: list[Any], forward: Forward) -> Any:
        nonlocal dead
        if method == "eth_sendRawTransaction" and not dead:
            await forward()
            dead = at == method
        dead = dead or method == at
        if dead:
            raise Drop
        return None if method == "eth_sendRawTransaction" else await forward()

    dead = False
    recorder = Recorder()
    async with proxy(rpc_url, dying) as url, running(url, timeout_seconds=0.3) as settler:
        with pytest.raises(OutcomeUnknown):
            await settler.settle(payment, OFFER, RESOURCE, recorder)
    async with running(rpc_url) as settler:
        found = await settler.find_settlement(**terms(payment))
        assert (found.fate, found.transaction) == (Fate.PAID, recorder.told[0])


async def test_lost_answer_to_a_broadcast(rpc_url: str) -> None:
    """An answer that is lost is asked for again with the same bytes, and the settlement is found."""
    sent = 0

    async def losing(method: str, params: list[Any], forward: Forward) -> Any:
        nonlocal sent
        answer = await forward()
        if method == "eth_sendRawTransaction":
            sent += 1
            raise Drop
        return answer

    before, recorder = await balance(rpc_url, RECIPIENT), Recorder()
    async with proxy(rpc_url, losing) as url, running(url) as settler:
        settlement = await settler.settle(a_payment(), OFFER, RESOURCE, recorder)
    assert recorder.told == [settlement.transaction]
    assert sent == 1  # the second was refused as already known
    assert await balance(rpc_url, RECIPIENT) == before + PRICE


@pytest.mark.parametrize(
    "refusal",
    [
        RpcError(-32000, "transaction underpriced"),
        RpcError(-32000, "max fee per gas less than block base fee: maxFeePerGas: 1, baseFee: 2"),
        RpcError(-32005, "daily request count exceeded"),
        RpcError(-32601, "the method eth_sendRawTransaction does not exist"),
        Status(429),
        Status(403),
    ],
    ids=lambda error: str(error.args),
)
async def test_refused_broadcasts(rpc_url: str, refusal: Exception) -> None:
    """What the node says it did not keep charged nobody, and leaves no gap."""

    async def refusing(method: str, params: list[Any], forward: Forward) -> Any:
        if method == "eth_sendRawTransaction" and refuses:
            raise refusal
        return await forward()

    refuses = True
    async with proxy(rpc_url, refusing) as url, running(url) as settler:
        with pytest.raises(Unavailable) as caught:
            await settle(settler, a_payment())
        assert type(caught.value) is Unavailable
        refuses = False
        await settle(settler, a_payment())


@pytest.mark.parametrize("answer", [RpcError(-32000, "internal error"), RpcError(-32603, "timeout"), Status(502)])
async def test_doubtful_broadcasts(rpc_url: str, answer: Exception) -> None:
    """A node's error that does not say whether it kept the transaction leaves the outcome to the chain."""

    async def doubtful(method: str, params: list[Any], forward: Forward) -> Any:
        if method == "eth_sendRawTransaction":
            if keeps:
                await forward()
            raise answer
        return await forward()

    for keeps in (True, False):
        async with proxy(rpc_url, doubtful) as url, running(url, timeout_seconds=0.3) as settler:
            if keeps:
                await settle(settler, a_payment())
            else:
                with pytest.raises(OutcomeUnknown):
                    await settle(settler, a_payment())


async def test_nonce_taken_by_another(rpc_url: str) -> None:
    """Another user of the key who was faster costs a second signature, which is recorded as well."""

    async def racing(method: str, params: list[Any], forward: Forward) -> Any:
        if method == "eth_sendRawTransaction" and rival:
            await send(rpc_url, USDC.address, transfer_call(rival.pop().authorization), RELAYER)
        return await forward()

    rival = [a_payment()]
    recorder = Recorder()
    async with proxy(rpc_url, racing) as url, running(url) as settler:
        settlement = await settler.settle(a_payment(), OFFER, RESOURCE, recorder)
    assert len(recorder.told) == 2
    assert recorder.told[1] == settlement.transaction
    assert await ask(rpc_url, "eth_getTransactionByHash", recorder.told[0]) is None


async def test_nonce_taken_by_ourselves(rpc_url: str) -> None:
    """`nonce too low` for a transaction that something on the way sent twice is not signed a second time."""

    async def twice(method: str, params: list[Any], forward: Forward) -> Any:
        if method == "eth_sendRawTransaction":
            await forward()
            raise RpcError(-32000, "nonce too low: next nonce 7, tx nonce 6")
        return await forward()

    before, recorder = await balance(rpc_url, RECIPIENT), Recorder()
    async with proxy(rpc_url, twice) as url, running(url) as settler:
        settlement = await settler.settle(a_payment(), OFFER, RESOURCE, recorder)
    assert recorder.told == [settlement.transaction]
    assert await balance(rpc_url, RECIPIENT) == before + PRICE


async def test_lagging_node(rpc_url: str) -> None:
    """A node that has not seen the front-runner's block yet is asked again before the payment is called failed."""
    payment, asked = a_payment(), 0

    async def lagging(method: str, params: list[Any], forward: Forward) -> Any:
        nonlocal asked
        answer = await forward()
        if method == "eth_blockNumber":
            asked += 1
            return hex(int(answer, 16) - 5) if asked < 4 else answer
        return answer

    async def overtake(transaction: str) -> None:
        await send(rpc_url, USDC.address, transfer_call(payment.authorization))

    async with proxy(rpc_url, lagging) as url, running(url) as settler:
        settlement = await settler.settle(payment, OFFER, RESOURCE, overtake)
    assert asked == 4
    assert settlement.payment_id == payment.id


async def test_nothing_secret_is_told(
    rpc_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the relayer's key nor a signature nor the node's URL reaches a log, a repr or an error."""
    monkeypatch.setattr("bridge.settlers.nodes._PAUSE_SECONDS", 0.01)
    caplog.set_level("DEBUG")
    payment = a_payment()
    secrets = [RELAYER.key.hex(), payment.authorization.signature.hex(), "api-key-in-the-path"]
    url = rpc_url + "/api-key-in-the-path"
    async with running(url) as settler:
        told = [repr(settler), repr(vars(settler)["_reader"].nodes), repr(vars(settler)["_relayer"])]
        await settle(settler, payment)
    with pytest.raises(SettlerConfigError) as caught:
        await ChainSettler("http://127.0.0.1:1/api-key-in-the-path", RELAYER.key.hex()).start([OFFER])
    for text in (*told, caplog.text, str(caught.value), repr(caught.value.__cause__)):
        assert not any(secret in text for secret in secrets)
