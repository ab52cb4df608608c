"""How the parts do that payments need, as far as whoever serves the dashboard can tell."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from bridge.analytics import Part
from bridge.clock import Clock, system_clock
from bridge.condition import store_part
from bridge.gate import Gate
from bridge.stores.base import Store
from translators.errors import PaymentError

__all__ = ["GateHealth", "Health", "NoHealth", "StoreHealth"]


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

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def parts(self) -> Sequence[Part]:
        """Settler, store, and the recorder of events."""
        return await self._gate.condition.parts()

    async def close(self) -> None:
        """The gate is the application's."""


class StoreHealth:
    """As a store answers that is read beside the servers. It is opened when it is first asked for."""

    def __init__(self, store: Store, clock: Clock = system_clock) -> None:
        self._store = store
        self._clock = clock
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
        return await store_part(self._store, self._clock())

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
