"""Several settlers, one after the other: what the first certainly did not take, the next may."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import structlog

from bridge.settlers.base import BeforeBroadcast, Found, Settler, SettlerUnreachable
from bridge.stores.base import Record
from translators.errors import OutcomeUnknown, Unavailable
from translators.payment import Offer, Payment, Resource, Settlement

__all__ = ["FallbackSettler"]

T = TypeVar("T")

_REST_SECONDS: Final = 10.0
"""How long one that could not be asked stands behind the others."""

_RETRY_SECONDS: Final = 30.0
"""After how long one that did not answer at start-up is started again."""


class FallbackSettler:
    """Settles by the first of `settlers` that can.

    Verifying moves nothing, so any of them may be asked. To settle, the next one is asked only after `Unavailable`,
    which a settler raises when it certainly sent nothing: a refused connection, a rate limit, an authentication that
    failed. After anything else (a time-out, a status of 500) the first may have the authorization, and nobody else gets
    it. Even if that were wrong, nobody would be charged twice: the token takes an EIP-3009 authorization once, whoever
    sends it and however often, so that the second of two could at worst be refused.

    At start-up one that answers is enough; the others are tried again. `clock` is in seconds, from whenever.
    """

    def __init__(self, settlers: Sequence[Settler], *, clock: Callable[[], float] = time.monotonic) -> None:
        if not settlers:
            raise ValueError("a fallback needs at least one settler")
        self._settlers = list(settlers)
        self._clock = clock
        self._started: set[int] = set()
        self._resting_until = [0.0] * len(self._settlers)
        self._starting: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        """Name them in their order."""
        return f"FallbackSettler({self._settlers!r})"

    async def start(self, offers: Sequence[Offer]) -> None:
        """Start all; raises `SettlerConfigError` where one cannot do what the routes need, or none answers."""
        problem: SettlerUnreachable | None = None
        try:
            for index in range(len(self._settlers)):
                try:
                    await self._start(index, offers)
                except SettlerUnreachable as error:
                    problem = problem or error
                    self._log(index, str(error))
            if problem is not None and not self._started:
                raise problem
        except BaseException:
            await self.close()
            raise
        if problem is not None:
            self._starting = asyncio.create_task(self._keep_starting(offers))

    async def _start(self, index: int, offers: Sequence[Offer]) -> None:
        await self._settlers[index].start(offers)
        self._started.add(index)

    async def _keep_starting(self, offers: Sequence[Offer]) -> None:
        while len(self._started) < len(self._settlers):
            await asyncio.sleep(_RETRY_SECONDS)
            for index in set(range(len(self._settlers))) - self._started:
                # One that turns out to be configured wrongly stays out; the log has said which one is missing.
                with suppress(Exception):
                    await self._start(index, offers)

    async def close(self) -> None:
        """Close all."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        for settler in self._settlers:
            await settler.close()
        self._started.clear()

    async def verify(self, payment: Payment, offer: Offer, resource: Resource) -> None:
        """Ask the first that gives a verdict; raises its error, or `Unavailable` when none does."""
        await self._first(lambda settler: settler.verify(payment, offer, resource))

    async def settle(
        self, payment: Payment, offer: Offer, resource: Resource, before_broadcast: BeforeBroadcast
    ) -> Settlement:
        """Settle by the first that does not say that it sent nothing; raises as `Settler.settle` says."""
        return await self._first(lambda settler: settler.settle(payment, offer, resource, before_broadcast))

    async def find(self, record: Record) -> Found | None:
        """What the first that can tell says; None when none can. Raises `Unavailable` when one could, and not now."""
        problem: Unavailable | None = None
        for index in self._order():
            try:
                if (found := await self._settlers[index].find(record)) is not None:
                    return found
            except Unavailable as error:
                problem = error
        if problem is not None:
            raise problem
        return None

    async def check_signature(self, payment: Payment, offer: Offer, resource: Resource) -> bool:
        """Ask the first that can tell; raises as `Settler.check_signature` says."""
        return await self._first(lambda settler: settler.check_signature(payment, offer, resource), rests=False)

    async def ping(self) -> None:
        """Whether one of them could settle now; raises what the first lacks when none could."""
        await self._first(lambda settler: settler.ping())

    async def _first(self, ask: Callable[[Settler], Awaitable[T]], *, rests: bool = True) -> T:
        problem: Unavailable | None = None
        for index in self._order():
            try:
                return await ask(self._settlers[index])
            except OutcomeUnknown:
                raise
            except Unavailable as error:
                problem = problem or error
                if rests:
                    self._rest(index, error.detail)
        raise problem or Unavailable("no settler was started")

    def _order(self) -> list[int]:
        now = self._clock()
        return sorted(self._started, key=lambda index: (self._resting_until[index] > now, index))

    def _rest(self, index: int, why: str) -> None:
        now = self._clock()
        if self._resting_until[index] <= now:
            self._log(index, why)
        self._resting_until[index] = now + _REST_SECONDS

    def _log(self, index: int, problem: str) -> None:
        structlog.get_logger("x402_mpp").warning("settler.fallback", settler=index + 1, problem=problem)
