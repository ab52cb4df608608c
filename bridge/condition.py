"""How the parts do that payments need, as one process finds them: the settler, the store, the recorder of events."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from bridge.analytics import Part, Recorder
from bridge.clock import Clock
from bridge.settlers.base import PaysGas, Settler
from bridge.stores.base import Store
from translators.errors import PaymentError
from translators.lifecycle import State

__all__ = ["Condition", "store_part"]

T = TypeVar("T")

OPEN_STATES = (State.CLAIMED, State.SETTLING, State.UNKNOWN)
"""Payments that somebody still has to see to."""

MOST_OPEN = 1000

PATIENCE_SECONDS = 15.0
"""How long a part may take to answer."""

LOW_SETTLEMENTS = 100
"""An account whose gas is good for fewer is told as low."""


class Condition:
    """Asks the parts, and remembers since when each is as it is. `settler` is None where another server settles."""

    def __init__(self, store: Store, settler: Settler | None, recorder: Recorder | None, clock: Clock) -> None:
        self._store = store
        self._settler = settler
        self._recorder = recorder
        self._clock = clock
        self._since: dict[str, tuple[str, float]] = {}

    async def parts(self) -> Sequence[Part]:
        """Each part now; raises nothing."""
        now = self._clock()
        asked = [] if self._settler is None else [_settler_part(self._settler)]
        found = [*await asyncio.gather(*asked, store_part(self._store, now)), *self._recorder_part()]
        for part in found:
            if self._since.get(part.name, ("", 0.0))[0] != part.state:
                self._since[part.name] = part.state, now
        return [replace(part, since=self._since[part.name][1]) for part in found]

    def _recorder_part(self) -> Sequence[Part]:
        recorder = self._recorder
        if recorder is None:
            return ()
        figures = {"recorded": recorder.recorded, "waiting": recorder.waiting, "dropped": recorder.dropped}
        if recorder.is_away:
            return (Part("recorder", "away", "The event store does not take events.", figures),)
        return (Part("recorder", "ok", "Of this process, since it started.", figures),)


async def _settler_part(settler: Settler) -> Part:
    try:
        await _answer(settler.ping())
    except Exception as error:
        return Part("settler", "away", _why(error))
    left = settler.settlements_left() if isinstance(settler, PaysGas) else None
    if left is None:
        return Part("settler", "ok")
    figures = {"settlements left": left}
    if left < LOW_SETTLEMENTS:
        return Part("settler", "low", "The account that pays for gas runs dry: send it some.", figures)
    return Part("settler", "ok", "", figures)


async def store_part(store: Store, now: float) -> Part:
    """How a payment store does, and what in it somebody has to see to."""
    try:
        rows = await _answer(store.records(states=OPEN_STATES, limit=MOST_OPEN))
    except Exception as error:
        return Part("store", "away", _why(error))
    figures = {state.value: sum(row.state is state for row in rows) for state in OPEN_STATES}
    # Nobody works on these: the reconciler asks the chain about them.
    figures["left behind"] = sum(row.state is not State.CLAIMED and row.lease_until <= now for row in rows)
    most = f" The {MOST_OPEN} touched last." if len(rows) == MOST_OPEN else ""
    return Part("store", "ok", f"Payments under way, or left behind, by state.{most}", figures)


async def _answer(asked: Awaitable[T]) -> T:
    return await asyncio.wait_for(asked, PATIENCE_SECONDS)


def _why(error: Exception) -> str:
    """Our own errors name no password; others are told by their type only."""
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE_SECONDS:g} s"
    return error.detail if isinstance(error, PaymentError) else type(error).__name__
