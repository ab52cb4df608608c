"""A facilitator whose word is held against the chain: only money that moved is delivered for."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.settlers.base import Fate, SettlerConfigError
from bridge.settlers.eip3009_calls import transfer_call
from bridge.settlers.facilitator import FacilitatorSettler
from translators.errors import OutcomeUnknown, PaymentError, SettlementFailed, Unavailable, VerificationFailed
from translators.payment import Asset, Offer, Payment, Settlement

from .payments import OFFER, PRICE, RECIPIENT, RESOURCE, USDC, Recorder, a_payment, a_record
from .proxy import Drop, Forward, proxy
from .rpc import balance, send
from .scripted import Request, reply, scripted
from .test_facilitator import CLOSE, V2

pytestmark = pytest.mark.anyio

Act = Callable[[Payment], Awaitable[bytes]]
NOBODYS = "0x" + "ab" * 32


@asynccontextmanager
async def facilitator(rpc_url: Any, payment: Payment, act: Act, **options: Any) -> AsyncIterator[FacilitatorSettler]:
    """A settler whose facilitator does `act` when it is asked to settle, and answers with what that gives."""

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        answer = reply(200, V2) if request.path == "/supported" else await act(payment)
        writer.write(answer.removesuffix(CLOSE))
        if answer.endswith(CLOSE):
            await writer.drain()
            writer.close()

    async with scripted(handler) as server:
        settler = FacilitatorSettler(
            server.url, rpc_url=rpc_url, **{"timeout_seconds": 2, "check_seconds": 0.4, **options}
        )
        await settler.start([OFFER])
        try:
            yield settler
        finally:
            await settler.close()


def settled(transaction: str) -> bytes:
    return reply(200, {"success": True, "transaction": transaction, "network": "eip155:84532"})


def failed(transaction: str, reason: str = "transaction_failed") -> bytes:
    return reply(200, {"success": False, "errorReason": reason, "transaction": transaction, "network": "eip155:84532"})


async def outcome(
    rpc_url: str, payment: Payment, act: Act, **options: Any
) -> tuple[Settlement | PaymentError, list[str]]:
    recorder = Recorder()
    async with facilitator(rpc_url, payment, act, **options) as settler:
        try:
            return await settler.settle(payment, OFFER, RESOURCE, recorder), recorder.told
        except PaymentError as error:
            return error, recorder.told


async def pay(rpc_url: str, payment: Payment) -> str:
    return await send(rpc_url, USDC.address, transfer_call(payment.authorization))


async def revert(rpc_url: str, payment: Payment) -> str:
    """A transaction that fails: the same call, with a value that was not signed."""
    data = bytearray(transfer_call(payment.authorization))
    data[4 + 3 * 32 - 1] ^= 1
    return await send(rpc_url, USDC.address, bytes(data))


async def test_honest(rpc_url: str) -> None:
    """A settlement that the chain shows is one, and its transaction is recorded before it is believed."""
    payment, before = a_payment(), await balance(rpc_url, RECIPIENT)

    async def act(payment: Payment) -> bytes:
        return settled(await pay(rpc_url, payment))

    got, told = await outcome(rpc_url, payment, act)
    assert isinstance(got, Settlement)
    assert told == ["", got.transaction]
    assert await balance(rpc_url, RECIPIENT) == before + PRICE


async def lies(rpc_url: str, kind: str) -> Act:
    other = a_payment()

    async def act(payment: Payment) -> bytes:
        match kind:
            case "does not exist":
                return settled("0x" + secrets.token_hex(32))
            case "pays somebody else":
                return settled(await pay(rpc_url, other))
            case "was reverted":
                return settled(await revert(rpc_url, payment))
            case "is no payment":
                return settled(await send(rpc_url, RECIPIENT, b""))
            case "failed, and does not exist":
                return failed(NOBODYS)
            case "failed, and pays somebody else":
                return failed(await pay(rpc_url, other))
            case "closes":
                return CLOSE
            case _:
                raise AssertionError(kind)

    return act


@pytest.mark.parametrize(
    "kind",
    [
        *("does not exist", "pays somebody else", "was reverted", "is no payment"),
        *("failed, and does not exist", "failed, and pays somebody else", "closes"),
    ],
)
async def test_lies_and_silence(rpc_url: str, kind: str) -> None:
    """What the chain does not show is not delivered, and not called failed either: it may still come."""
    got, told = await outcome(rpc_url, a_payment(), await lies(rpc_url, kind))
    assert isinstance(got, OutcomeUnknown)
    assert told[0] == ""


@pytest.mark.parametrize("how", ["another hash", "500", "closes", "pending", "failed", "no transaction", "late"])
async def test_paid_whatever_is_said(rpc_url: str, how: str) -> None:
    """Money that moved is found, in the transaction that really carried it."""
    paid: list[str] = []

    async def act(payment: Payment) -> bytes:
        if not paid:
            if how == "late":
                asyncio.get_running_loop().call_later(0.3, lambda: late.append(asyncio.ensure_future(now(payment))))
                return settled(NOBODYS)
            await now(payment)
        return {
            "another hash": settled(NOBODYS),
            "500": reply(500, b"<html>"),
            "closes": CLOSE,
            "pending": failed(NOBODYS, "settlement_pending"),
            "failed": failed(paid[0]),
            "no transaction": reply(200, {"success": True}),
        }[how]

    async def now(payment: Payment) -> None:
        paid.append(await pay(rpc_url, payment))

    late: list[asyncio.Future[None]] = []
    got, _ = await outcome(rpc_url, a_payment(), act, check_seconds=3)
    assert isinstance(got, Settlement)
    assert got.transaction == paid[0]


async def test_failed_for_certain(rpc_url: str) -> None:
    """What the facilitator calls failed, and the chain shows reverted, has failed: the payer may pay again."""

    async def act(payment: Payment) -> bytes:
        return failed(await revert(rpc_url, payment))

    got, _ = await outcome(rpc_url, a_payment(), act)
    assert type(got) is SettlementFailed

    async def too_late(payment: Payment) -> bytes:
        return CLOSE

    got, _ = await outcome(rpc_url, a_payment(valid_before=1), too_late)
    assert type(got) is SettlementFailed

    async def spend_elsewhere(payment: Payment) -> bytes:
        return reply(502, b"")

    got, _ = await outcome(rpc_url, a_payment(), spend_elsewhere)
    assert type(got) is OutcomeUnknown


async def test_no_node_no_delivery(rpc_url: str) -> None:
    """While the chain cannot be asked, the facilitator's word alone delivers nothing."""
    dead = False

    async def dying(method: str, params: list[Any], forward: Forward) -> Any:
        if dead:
            raise Drop
        return await forward()

    async def act(payment: Payment) -> bytes:
        nonlocal dead
        dead = True
        return settled(await pay(rpc_url, payment))

    payment = a_payment()
    async with proxy(rpc_url, dying) as url, facilitator(url, payment, act) as settler:
        with pytest.raises(OutcomeUnknown):
            await settler.settle(payment, OFFER, RESOURCE, Recorder())
        for asked in (settler.ping(), settler.find(a_record(payment))):
            with pytest.raises(Unavailable):
                await asked
        dead = False
        found = await settler.find(a_record(payment))
        assert found is not None
        assert found.fate is Fate.PAID
        await settler.ping()


async def test_what_the_chain_tells(rpc_url: str) -> None:
    """With a node there is an answer about rows and wallets, without one there is none about rows."""

    async def act(payment: Payment) -> bytes:
        return CLOSE

    payment, by_wallet = a_payment(), a_payment(signature=lambda signed: b"\1" + signed)
    async with facilitator(rpc_url, payment, act) as settler:
        found = await settler.find(a_record(payment))
        assert found is not None
        assert found.fate is Fate.UNUSED
        assert await settler.find(a_record(payment, chain_id=8453)) is None
        await settler.check_signature(payment, OFFER, RESOURCE)
        with pytest.raises(VerificationFailed):
            await settler.check_signature(by_wallet, OFFER, RESOURCE)
    async with facilitator(None, payment, act) as settler:
        assert await settler.find(a_record(payment)) is None
        await settler.check_signature(payment, OFFER, RESOURCE)
        await settler.ping()


async def test_start_refuses_another_chain(rpc_url: str) -> None:
    """A node of a chain on which nothing is offered could not check anything."""
    kinds = {"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:*"}]}

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(200, kinds))

    async with scripted(handler) as server:
        settler = FacilitatorSettler(server.url, rpc_url=rpc_url)
        with pytest.raises(SettlerConfigError, match="on chain 84532"):
            await settler.start([Offer(Asset(8453, USDC.address, 6, "USDC", "2"), PRICE, RECIPIENT)])
        with pytest.raises(SettlerConfigError, match="another EIP-712 domain"):
            await settler.start([Offer(Asset(84532, USDC.address, 6, "USD Coin", "2"), PRICE, RECIPIENT)])
        await settler.start([OFFER])
        await settler.close()


async def test_v_is_normalised(rpc_url: str) -> None:
    """A recovery id in v's place goes out as 27 or 28; a wallet's bytes go out as they came."""
    sent: list[str] = []

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/settle":
            sent.append(request.json()["paymentPayload"]["payload"]["signature"])
        writer.write(reply(200, V2) if request.path == "/supported" else settled(NOBODYS))

    by_key = a_payment(signature=lambda signed: signed[:64] + bytes((signed[64] - 27,)))
    by_wallet = a_payment(payer=RECIPIENT, signature=lambda signed: signed[:64] + bytes((signed[64] - 27,)))
    async with scripted(handler) as server:
        settler = FacilitatorSettler(server.url)
        await settler.start([OFFER])
        for payment in (by_key, by_wallet):
            await settler.settle(payment, OFFER, RESOURCE, Recorder())
        await settler.close()
    assert int(sent[0][-2:], 16) in (27, 28)
    assert sent[0][:-2] == "0x" + by_key.authorization.signature.hex()[:-2]
    assert sent[1] == "0x" + by_wallet.authorization.signature.hex()
