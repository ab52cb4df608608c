"""How the parts do that payments need, as far as whoever serves the dashboard can tell."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal, Protocol

import msgspec

from bridge.analytics import Recorder
from bridge.gate import Gate
from bridge.stores.base import Store
from translators.errors import PaymentError
from translators.lifecycle import State

__all__ = ["GateHealth", "Health", "NoHealth", "Part", "StoreHealth"]

OPEN_STATES = (State.CLAIMED, State.SETTLING, State.UNKNOWN)
"""Payments that somebody still has to see to."""

MOST_OPEN = 1000


class Part(msgspec.Struct, frozen=True):
    """One part."""

    name: str
    state: Literal["ok", "away", "unknown"]
    detail: str = ""
    figures: dict[str, int] = {}
    """What there is to count."""


class Health(Protocol):
    """Whoever knows how the parts do."""

    async def parts(self) -> Sequence[Part]:
        """Each part; raises nothing."""
        ...

    async def close(self) -> None:
        """Give up what was opened for it."""
        ...


class GateHealth:
    """As the gate of this process sees its settler and its store."""

    def __init__(self, gate: Gate, recorder: Recorder | None = None) -> None:
        self._gate = gate
        self._recorder = recorder

    async def parts(self) -> Sequence[Part]:
        """Settler, store, and the recorder of events."""
        missing = await self._gate.ready()
        settler = Part("settler", "away" if "settler" in missing else "ok", missing.get("settler", ""))
        store = Part("store", "away", missing["store"]) if "store" in missing else await _store_part(self._gate.store)
        if self._recorder is None:
            return settler, store
        figures = {"recorded": self._recorder.recorded, "dropped": self._recorder.dropped}
        return settler, store, Part("recorder", "ok", "Of this process, since it started.", figures)

    async def close(self) -> None:
        """The gate is the application's."""


class StoreHealth:
    """As a store answers that is read beside the servers. It is opened when it is first asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_started = False

    async def parts(self) -> Sequence[Part]:
        """The store; who settles is not known here."""
        return Part("settler", "unknown", "Only the servers that settle can say."), await self._part()

    async def _part(self) -> Part:
        try:
            if not self._is_started:
                await self._store.start()
                self._is_started = True
        except Exception as error:
            # Whatever a driver raises: our own errors name no password, others are told by their type only.
            return Part("store", "away", error.detail if isinstance(error, PaymentError) else type(error).__name__)
        return await _store_part(self._store)

    async def close(self) -> None:
        """Close the store."""
        if self._is_started:
            with suppress(PaymentError):
                await self._store.close()


class NoHealth:
    """Nobody who would know."""

    async def parts(self) -> Sequence[Part]:
        """Both are not known."""
        return (
            Part("settler", "unknown", "Only the servers that settle can say."),
            Part("store", "unknown", "Say which store it is with --store."),
        )

    async def close(self) -> None:
        """Nothing was opened."""


async def _store_part(store: Store) -> Part:
    try:
        rows = await store.records(states=OPEN_STATES, limit=MOST_OPEN)
    except Exception as error:
        return Part("store", "away", error.detail if isinstance(error, PaymentError) else type(error).__name__)
    figures = {state.value: sum(row.state is state for row in rows) for state in OPEN_STATES}
    most = f" The {MOST_OPEN} touched last." if len(rows) == MOST_OPEN else ""
    return Part("store", "ok", f"Payments under way, or left behind, by state.{most}", figures)
