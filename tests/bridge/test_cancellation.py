"""A request that is cancelled at any moment leaves a journal that tells the truth."""

import asyncio
from typing import Any

import pytest

from bridge.settlers.base import BeforeBroadcast
from bridge.stores import MemoryStore
from bridge.stores.base import Record
from bridge.testing import FakeSettler
from tests.bridge.harness import PROTOCOLS, House, reply
from translators.errors import OutcomeUnknown, SettlementFailed
from translators.lifecycle import State
from translators.payment import Offer, Payment, Protocol, Resource, Settlement

pytestmark = pytest.mark.anyio


class SlowStore(MemoryStore):
    """A store that takes its time over a write, before or after it is done; once, so that the next one gets through."""

    def __init__(self, state: State, *, hold: str) -> None:
        super().__init__()
        self.state = state
        self.hold = hold
        self.reached = asyncio.Event()

    async def advance(self, payment_id: str, to: State, **said: Any) -> Record:
        if to is not self.state or self.reached.is_set():
            return await super().advance(payment_id, to, **said)
        if self.hold == "after":
            await super().advance(payment_id, to, **said)
        self.reached.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody lets it go on")


class SlowSettler(FakeSettler):
    """A chain that waits to be told to go on, before and after the transaction is sent."""

    def __init__(self, *, hold: str) -> None:
        super().__init__()
        self.hold = hold
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def _pause(self, place: str) -> None:
        if place == self.hold:
            self.reached.set()
            await self.go_on.wait()

    async def settle(
        self, payment: Payment, offer: Offer, resource: Resource, before_broadcast: BeforeBroadcast
    ) -> Settlement:
        await self._pause("before")

        async def noted(transaction: str) -> None:
            await before_broadcast(transaction)
            await self._pause("after")

        return await super().settle(payment, offer, resource, noted)


async def _settle_all(house: House) -> None:
    while house.app.gate.desk.at_work:
        await asyncio.wait(house.app.gate.desk.at_work)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("hold", ["before", "after"])
@pytest.mark.parametrize("policy", ["on_success", "first"])
async def test_cancelled_while_settling(protocol: Protocol, hold: str, policy: str) -> None:
    """The settlement goes on without the request, nobody can claim the payment meanwhile, its outcome is written and
    told, and the same credential then gets the answer without a second settlement."""
    settler = SlowSettler(hold=hold)
    house = House(settler=settler, settle=policy)
    header = await house.credential(protocol)
    task = asyncio.create_task(house.visit(headers=[header]))
    await settler.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await house.record()).state is (State.CLAIMED if hold == "before" else State.SETTLING)
    meanwhile = await house.visit(headers=[header])
    assert (meanwhile.status_code, "retry-after" in meanwhile.headers) == (503, True)

    settler.go_on.set()
    await _settle_all(house)
    assert (await house.record()).state is State.SETTLED
    assert house.events[-2:] == ["payment.settled", "payment.undelivered"]

    again = await house.visit(headers=[header])
    assert (again.status_code, again.content) == (200, b"the report")
    assert len(settler.settlements) == 1
    assert (await house.record()).state is State.DELIVERED


@pytest.mark.parametrize(
    ("error", "state", "event"),
    [
        (SettlementFailed("reverted"), State.RELEASED, "payment.rejected"),
        (OutcomeUnknown("who knows"), State.UNKNOWN, "payment.unknown"),
    ],
)
async def test_cancelled_while_a_settlement_fails(error: Exception, state: State, event: str) -> None:
    """What the settler says at last is written and told, though nobody waits for it."""
    settler = SlowSettler(hold="after")
    house = House(settler=settler)

    def fail(_: Any) -> None:
        raise error

    settler.on_settle = fail
    header = await house.credential(Protocol.MPP)
    task = asyncio.create_task(house.visit(headers=[header]))
    await settler.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    settler.go_on.set()
    await _settle_all(house)
    assert (await house.record()).state is state
    assert house.events[-1] == event


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_cancelled_while_the_handler_works(protocol: Protocol) -> None:
    """Nothing was charged, and the same credential can be sent again at once."""
    reached = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    house = House(handler=slow)
    header = await house.credential(protocol)
    task = asyncio.create_task(house.visit(headers=[header]))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _settle_all(house)
    assert (await house.record()).state is State.RELEASED
    assert house.event("payment.rejected")["reason"] == "cancelled"
    house.handler = None
    assert (await house.visit(headers=[header])).status_code == 200
    assert len(house.settler.settlements) == 1


async def test_cancelled_in_the_middle_of_a_stream() -> None:
    """The money moved and the answer broke off: the same credential gets it again."""
    reached = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        reached.set()
        await asyncio.Event().wait()

    house = House(handler=stream)
    header = await house.credential(Protocol.X402_V2)
    task = asyncio.create_task(house.visit(headers=[header]))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _settle_all(house)
    assert house.events[-1] == "payment.undelivered"
    house.handler = None
    assert (await house.visit(headers=[header])).status_code == 200
    assert len(house.settler.settlements) == 1


@pytest.mark.parametrize("hold", ["before", "after"])
@pytest.mark.parametrize(
    ("status", "state", "event"),
    [(200, State.DELIVERED, "payment.delivered"), (500, State.RELEASED, "payment.rejected")],
)
async def test_cancelled_while_the_end_is_written(hold: str, status: int, state: State, event: str) -> None:
    """Whatever of it the store has taken, it gets all of it once more, and the event is told once."""
    store = SlowStore(state, hold=hold)
    house = House(store=store)
    house.messages = reply(status)
    header = await house.credential(Protocol.X402_V2)
    task = asyncio.create_task(house.visit(headers=[header]))
    await store.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _settle_all(house)
    (row,) = await store.records()
    assert row.state is state
    assert [name for name, _ in house.told].count(event) == 1
    again = await house.visit(headers=[header])
    assert again.status_code == status
    assert house.runs == (1 if status == 200 else 2)


async def test_closing_waits_for_a_settlement_in_flight() -> None:
    """A server that stops lets money that is on its way arrive in the journal."""
    settler = SlowSettler(hold="after")
    house = House(settler=settler)
    task = asyncio.create_task(house.visit(headers=[await house.credential(Protocol.MPP)]))
    await settler.reached.wait()
    task.cancel()
    closing = asyncio.create_task(house.app.gate.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    settler.go_on.set()
    await closing
    assert (await house.record()).state is State.SETTLED
