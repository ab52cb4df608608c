"""Races between requests and between processes, each pinned down in memory."""

import asyncio
import random
from typing import Any

import pytest

from bridge.stores import MemoryStore
from bridge.stores.base import Record
from bridge.testing import FakeSettler, FixedClock
from tests.bridge.harness import PROTOCOLS, V2, House
from translators.errors import OutcomeUnknown, VerificationFailed
from translators.lifecycle import State
from translators.payment import Payment, Protocol, Settlement


class SnatchingStore(MemoryStore):
    """A store in which another process takes a row as soon as it is left open."""

    def __init__(self) -> None:
        super().__init__()
        self.snatching = False

    async def advance(self, payment_id: str, to: State, **more: Any) -> Record:
        row = await super().advance(payment_id, to, **more)
        if self.snatching and row.lease_until <= more["now"]:
            self.snatching = False
            (row,) = await self.take_over(owner="another", now=more["now"], lease_until=more["now"] + 60)
        return row


def test_a_row_that_another_takes_while_it_is_looked_into_is_waited_for() -> None:
    """The loser of the race for a payment that was left behind answers 503, not 500, and nothing is settled twice."""

    async def race() -> None:
        store = SnatchingStore()
        house = House(store=store)
        header = await house.credential(V2)

        def unknown(_: Payment) -> None:
            raise OutcomeUnknown("nobody can say")

        house.settler.on_settle = unknown
        assert (await house.visit(headers=[header])).status_code == 503
        house.settler.on_settle = None
        store.snatching = True
        answer = await house.visit(headers=[header])
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert not house.settler.settlements
        house.clock.advance(61)
        assert (await house.visit(headers=[header])).status_code == 200
        assert len(house.settler.settlements) == 1

    asyncio.run(race())


class SlowStore:
    """A store whose every call takes a random while, before and after."""

    def __init__(self, dice: random.Random) -> None:
        self.inner = MemoryStore()
        self._dice = dice

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        async def called(*args: Any, **kwargs: Any) -> Any:
            await self._wait()
            done = await method(*args, **kwargs)
            await self._wait()
            return done

        return called

    async def _wait(self) -> None:
        for _ in range(self._dice.choice((0, 0, 1, 3, 9))):
            await asyncio.sleep(0)


class TickingClock(FixedClock):
    """A clock that never shows the same time twice."""

    def __call__(self) -> float:
        self.now += 0.00001
        return self.now


@pytest.mark.parametrize("seed", range(60))
def test_two_payments_with_one_idempotency_key_are_charged_once(seed: int) -> None:
    """A client that signs anew, because it heard nothing, and sends both at once with one key: one payment is settled,
    whichever, and both get its answer."""

    async def race() -> None:
        dice = random.Random(seed)
        house = House(store=SlowStore(dice), wait_seconds=5.0, clock=TickingClock())
        key = ("Idempotency-Key", "once")
        protocol: Protocol = dice.choice(PROTOCOLS)
        headers = [await house.credential(protocol) for _ in range(dice.choice((2, 3)))]
        answers = await asyncio.gather(*(house.visit(headers=[header, key]) for header in headers))
        assert len(house.settler.settlements) == 1
        assert [answer.status_code for answer in answers] == [200] * len(headers)

    asyncio.run(race())


def test_an_idempotency_key_is_free_when_its_worker_died_before_any_money_moved() -> None:
    """The first payment's claim was left by a dead worker; the client signs anew with the same key, and is served as
    soon as the lease is over."""

    async def story() -> None:
        house = House()
        key = ("Idempotency-Key", "once")
        first, second = await house.credential(V2), await house.credential(V2)

        async def dies(*_: Any) -> None:
            raise asyncio.CancelledError

        house.handler, house.store.advance = dies, dies  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await house.visit(headers=[first, key])
        house.handler = None
        del house.store.advance
        assert (await house.record()).state is State.CLAIMED
        assert (await house.visit(headers=[second, key])).status_code == 503
        house.clock.advance(61)
        answers = [await house.visit(headers=[second, key]) for _ in range(2)]
        assert answers[-1].status_code == 200
        assert len(house.settler.settlements) == 1
        assert (await house.visit(headers=[first, key])).status_code == 200
        assert len(house.settler.settlements) == 1

    asyncio.run(story())


def test_a_settlement_that_outlives_a_lease_keeps_its_claim() -> None:
    """Before the handler as well as after it: nobody takes a payment over that is being settled."""

    class Slow(FakeSettler):
        async def settle(self, payment: Payment, offer: Any, resource: Any, before_broadcast: Any) -> Settlement:
            await before_broadcast("0x" + "11" * 32)
            for _ in range(6):
                await asyncio.sleep(0.2)
                house.clock.advance(0.5)
                now = house.clock()
                if _ > 1:
                    taken.extend(await house.store.take_over(owner="another", now=now, lease_until=now + 60))
            return await super().settle(payment, offer, resource, lambda _: asyncio.sleep(0))

    taken: list[Record] = []
    house = House(settler=Slow(), settle="first", lease_seconds=1.4)

    async def story() -> None:
        assert (await house.pay(V2)).status_code == 200
        assert taken == []

    asyncio.run(story())


def test_a_refusal_while_the_payment_is_in_hand_waits_for_its_outcome() -> None:
    """The same credential again while its first request is at work, and the chain finds something against it: who heard
    "pay again" now would have paid twice a moment later."""

    async def story() -> None:
        house, working, go_on = House(wait_seconds=5.0), asyncio.Event(), asyncio.Event()
        header = await house.credential(V2)

        async def slowly(scope: Any, receive: Any, send: Any) -> None:
            working.set()
            await go_on.wait()
            for message in house.messages:
                await send(message)

        def refuses(_: Payment) -> None:
            go_on.set()
            raise VerificationFailed("something is wrong with it now")

        house.handler = slowly
        first = asyncio.create_task(house.visit(headers=[header]))
        await working.wait()
        house.settler.on_verify = refuses
        answers = [await house.visit(headers=[header]), await first]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert (len(house.settler.settlements), house.runs) == (1, 1)
        # Once nobody has it in hand, a refusal is one.
        other = await house.credential(V2)
        assert (await house.visit(headers=[other])).status_code == 402

    asyncio.run(story())
