"""A second settler is asked for what the first certainly did not take, and for nothing else."""

import asyncio
from typing import Any

import pytest
import structlog

from bridge.settlers import settler_from_spec
from bridge.settlers.base import Settler, SettlerConfigError
from bridge.settlers.facilitator import FacilitatorSettler
from bridge.settlers.fallback import FallbackSettler
from bridge.settlers.null import NullSettler
from bridge.testing import FakeSettler
from translators.errors import (
    AlreadyUsed,
    InsufficientFunds,
    OutcomeUnknown,
    PaymentError,
    SettlementFailed,
    Unavailable,
    VerificationFailed,
)
from translators.payment import Payment, Settlement

from .payments import OFFER, RESOURCE, Recorder, a_payment, a_record
from .scripted import reply, scripted
from .test_facilitator import CLOSE, SETTLED, TRANSACTION, answering

pytestmark = pytest.mark.anyio


def raising(error: Exception) -> Any:
    def raise_it(payment: Payment) -> None:
        raise error

    return raise_it


async def both(settler: Settler) -> FallbackSettler:
    fallback = FallbackSettler([settler, FakeSettler()])
    await fallback.start([OFFER])
    return fallback


async def test_facilitator_that_is_gone() -> None:
    """A refused connection sent nothing: the second one verifies and settles, and is asked first for a while."""
    async with (
        scripted(answering({})) as first,
        scripted(answering({"/verify": reply(200, {"isValid": True}), "/settle": reply(200, SETTLED)})) as second,
    ):
        one = FacilitatorSettler(first.url, timeout_seconds=1)
        settler = FallbackSettler([one, FacilitatorSettler(second.url, timeout_seconds=1)])
        await settler.start([OFFER])
        one._http._url = "http://127.0.0.1:1"
        payment, recorder = a_payment(), Recorder()
        with structlog.testing.capture_logs() as logs:
            await settler.verify(payment, OFFER, RESOURCE)
            settlement = await settler.settle(payment, OFFER, RESOURCE, recorder)
            await settler.ping()
        assert settlement.transaction == TRANSACTION.lower()
        # It stood last after the first failure, so the settlement never met it.
        assert recorder.told == [""]
        assert [entry["settler"] for entry in logs if entry["event"] == "settler.fallback"] == [1]
        await settler.close()


NOT_TAKEN = {
    "rate limit": reply(429, b"", "Retry-After: 60"),
    "unauthorized": reply(401, {"error": "no key"}),
    "not there": reply(404, b""),
}
MAYBE_TAKEN = {
    "500": reply(500, b"<html>"),
    "502": reply(502, b""),
    "reset": CLOSE,
    "other JSON": reply(200, {"ok": True}),
    "failed with a transaction": reply(
        200, {"success": False, "errorReason": "transaction_failed", "transaction": TRANSACTION, "network": ""}
    ),
}


async def settled_by(first: bytes) -> tuple[Settlement | PaymentError, list[str]]:
    """What comes of a settlement, and which servers were asked for it."""
    asked: list[str] = []
    async with (
        scripted(answering({"/settle": first})) as one,
        scripted(answering({"/settle": reply(200, SETTLED)})) as two,
    ):
        settler = settler_from_spec(f"facilitator:{one.url}, {two.url}")
        assert isinstance(settler, FallbackSettler)
        await settler.start([OFFER])
        got: Settlement | PaymentError
        try:
            got = await settler.settle(a_payment(), OFFER, RESOURCE, Recorder())
        except PaymentError as error:
            got = error
        await settler.close()
        for name, server in (("one", one), ("two", two)):
            asked += [name for request in server.requests if request.path == "/settle"]
    return got, asked


@pytest.mark.parametrize("first", NOT_TAKEN.values(), ids=NOT_TAKEN)
async def test_not_taken(first: bytes) -> None:
    """What the first says that it did not do, the second does."""
    got, asked = await settled_by(first)
    assert isinstance(got, Settlement)
    assert asked == ["one", "two"]


@pytest.mark.parametrize("first", MAYBE_TAKEN.values(), ids=MAYBE_TAKEN)
async def test_maybe_taken(first: bytes) -> None:
    """What the first may have done, nobody else is asked for."""
    got, asked = await settled_by(first)
    assert isinstance(got, OutcomeUnknown)
    assert asked == ["one"]


@pytest.mark.parametrize(
    "error", [InsufficientFunds("x"), AlreadyUsed("x"), VerificationFailed("x"), SettlementFailed("x"), KeyError("x")]
)
async def test_a_verdict_is_one(error: Exception) -> None:
    """A refusal is the payment's and not the settler's: nobody else is asked."""
    first = FakeSettler()
    first.on_verify = first.on_settle = raising(error)
    settler = await both(first)
    for call in (
        settler.verify(a_payment(), OFFER, RESOURCE),
        settler.settle(a_payment(), OFFER, RESOURCE, Recorder()),
    ):
        with pytest.raises(type(error)):
            await call
    second = settler._settlers[1]
    assert isinstance(second, FakeSettler)
    assert (second.verified, second.settlements) == ([], [])


async def test_all_are_away() -> None:
    """Nobody to ask is `Unavailable`, with what the first lacks."""
    one, two = FakeSettler(), FakeSettler()
    one.problem, two.problem = "the first is away", "the second is away"
    one.on_verify = two.on_verify = raising(Unavailable("gone"))
    settler = FallbackSettler([one, two])
    await settler.start([OFFER])
    with pytest.raises(Unavailable, match="first"):
        await settler.ping()
    with pytest.raises(Unavailable, match="gone"):
        await settler.verify(a_payment(), OFFER, RESOURCE)
    one.problem = None
    await settler.ping()


async def test_who_can_tell() -> None:
    """Rows and signatures are told of by the first that can; none that can is None."""
    fake, payment = FakeSettler(), a_payment()
    fake.wallets = {payment.authorization.payer}
    by_wallet = a_payment(signature=lambda signed: b"\1" + signed)
    settler = FallbackSettler([NullSettler(), fake])
    await settler.start([OFFER])
    assert (await settler.find(a_record(payment))) is not None
    await settler.check_signature(by_wallet, OFFER, RESOURCE)
    fake.wallets = set()
    with pytest.raises(VerificationFailed):
        await settler.check_signature(by_wallet, OFFER, RESOURCE)
    fake.can_tell = False
    assert (await settler.find(a_record(payment))) is None


async def test_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers is enough, the others are tried again; one that is wrong is told at once."""
    monkeypatch.setattr("bridge.settlers.facilitator._PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("bridge.settlers.fallback._RETRY_SECONDS", 0.05)
    async with scripted(answering({"/verify": reply(200, {"isValid": True})})) as server:
        late = FacilitatorSettler("http://127.0.0.1:1", timeout_seconds=1)
        settler = FallbackSettler([late, FakeSettler()])
        await settler.start([OFFER])
        await settler.verify(a_payment(), OFFER, RESOURCE)
        late._http._url = server.url
        for _ in range(100):
            await asyncio.sleep(0.02)
            if 0 in settler._started:
                break
        await settler.verify(a_payment(), OFFER, RESOURCE)
        assert server.requests[-1].path == "/verify"
        await settler.close()
        # A facilitator that does not support what is offered is a mistake, whoever else does.
        async with scripted(answering({}, {"kinds": []})) as wrong:
            with pytest.raises(SettlerConfigError, match="does not settle"):
                await FallbackSettler([FacilitatorSettler(wrong.url), FakeSettler()]).start([OFFER])
    with pytest.raises(SettlerConfigError, match="does not answer"):
        await FallbackSettler([FacilitatorSettler("http://127.0.0.1:1")]).start([OFFER])
    with pytest.raises(ValueError, match="at least one"):
        FallbackSettler([])
