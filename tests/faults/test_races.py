"""Races that the crashing workers found, each pinned down in memory."""

import asyncio
from typing import Any

from bridge.stores import MemoryStore
from bridge.stores.base import Record
from tests.bridge.harness import V2, House
from translators.errors import OutcomeUnknown
from translators.lifecycle import State
from translators.payment import Payment


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
