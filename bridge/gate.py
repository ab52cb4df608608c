"""The gate: what happens to a request for a priced route. Read this first.

    request -> Gate.admit -> Free        let it through
                          -> Refused     send this answer instead
                          -> Replayed    send the answer that the same paid request got before
                          -> Admitted    run the handler; settle at its first successful byte; then it is delivered

Whatever protocol the client speaks, its credential becomes one `Payment`, passes one verifier, is claimed once in the
store, settled once by the settler, and is answered in the client's own words.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from functools import cached_property
from typing import Any

from msgspec.structs import replace

from bridge.admitted import Admitted, Desk, Refused
from bridge.analytics import Recorder
from bridge.attempt import Attempt, Means, Replayed
from bridge.condition import Condition
from bridge.credentials import PresentedCredential, UnreadableCredential, read_credential
from bridge.events import Events
from bridge.idempotency import IdempotencyKeys
from bridge.levers.board import LeverBoard
from bridge.levers.shadow import Shadow
from bridge.reconciler import Reconciler
from bridge.request import PaidRequest
from bridge.routes import PaidRoute
from bridge.settlers.base import Settler
from bridge.stores.base import Store
from bridge.verifier import Verifier
from translators.errors import MethodUnsupported, PaymentError, Unavailable
from translators.payment import Offer

__all__ = ["Admitted", "Free", "Gate", "Refused", "Replayed"]

PURGE_SECONDS = 60.0


class Free:
    """Nothing to pay for this request."""


class Gate:
    """Admits requests to priced routes.

    `realm` is MPP's protection space, by default the public authority. `body_limit` is in bytes: what a challenge is
    bound to, and what an answer is told by; 0 binds no challenge. `wait_seconds` is how long a request waits for
    another one with the same payment; an answer is kept for `replay_seconds` if it is at most `replay_bytes` long.
    `recorder` is opened and closed with the gate; `events` has it among its sinks.
    """

    def __init__(
        self,
        *,
        verifier: Verifier,
        desk: Desk,
        events: Events,
        reconciler: Reconciler,
        realm: str | None,
        body_limit: int,
        wait_seconds: float,
        replay_seconds: float,
        replay_bytes: int,
        board: LeverBoard | None = None,
        shadow: Shadow | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.verifier = verifier
        self.desk = desk
        self.reconciler = reconciler
        self.replay_seconds = replay_seconds
        self.in_flight = 0
        """How many requests for priced routes are being answered."""
        self.board = board
        """The owner's levers, where there are any."""
        self._means = Means(
            verifier=verifier,
            desk=desk,
            events=events,
            reconciler=reconciler,
            keys=IdempotencyKeys(
                desk.store, clock=desk.clock, seconds=replay_seconds, lease_seconds=desk.lease_seconds
            ),
            realm=realm,
            body_limit=body_limit,
            wait_seconds=wait_seconds,
            replay_seconds=replay_seconds,
            replay_bytes=replay_bytes,
            board=board,
            shadow=shadow,
        )
        self._recorder = recorder
        self._upkeep: list[asyncio.Task[None]] = []
        self._holding: asyncio.Task[None] | None = None
        """Keeps claims from ending for as long as anything is under way."""

    @cached_property
    def condition(self) -> Condition:
        """How settler and store do, as this process finds them."""
        return Condition(self.desk.store, self.desk.settler, self._recorder, self.desk.clock)

    @property
    def store(self) -> Store:
        """Where claims live."""
        return self.desk.store

    @property
    def settler(self) -> Settler:
        """How money moves."""
        return self.desk.settler

    async def start(self, offers: list[Offer]) -> None:
        """Open the store and check that the settler can settle `offers`; raises where a priced route could not be.

        From then on, payments that nobody works on are looked into, and rows that nobody needs are forgotten.
        """
        if self.board is not None:
            await self.board.start()
        await self.store.start()
        try:
            await self.settler.start(offers)
        except BaseException:
            await self.store.close()
            raise
        if self._recorder is not None:
            self._recorder.start()
        self._holding = asyncio.ensure_future(self.desk.holds.run(self.desk.lease_seconds / 3))
        self._upkeep = [asyncio.ensure_future(self.reconciler.run()), asyncio.ensure_future(self._purge())]
        if self._recorder is not None and self._recorder.health_seconds:
            self._upkeep.append(asyncio.ensure_future(self._note(self._recorder)))
        if self.board is not None:
            self._upkeep.append(asyncio.ensure_future(self.board.run()))

    async def close(self) -> None:
        """Let settlements in flight finish and be recorded, then close settler and store."""
        for task in self._upkeep:
            task.cancel()
        await asyncio.gather(*self._upkeep, return_exceptions=True)
        while self.desk.at_work:
            await asyncio.wait(self.desk.at_work)
        if self._holding is not None:
            self._holding.cancel()
        await self.settler.close()
        await self.store.close()
        if self._recorder is not None:
            # In a thread of its own: what waits is written, and a store that is away keeps nobody for long.
            await asyncio.to_thread(self._recorder.close)

    async def ready(self) -> dict[str, str]:
        """What keeps a payment from being taken now, by part (`store`, `settler`); empty when nothing does."""
        missing: dict[str, str] = {}
        parts: dict[str, Coroutine[Any, Any, Any]] = {"store": self.store.get("ready"), "settler": self.settler.ping()}
        for (name, _), result in zip(
            parts.items(), await asyncio.gather(*parts.values(), return_exceptions=True), strict=True
        ):
            if isinstance(result, BaseException):
                missing[name] = result.detail if isinstance(result, PaymentError) else type(result).__name__
        return missing

    async def _purge(self) -> None:
        while True:
            # A store that is away is asked again; what stays a little longer does no harm.
            with suppress(Unavailable):
                # As of a while ago: a row stays for as long as its answer is kept, or its idempotency key remembered.
                await self.store.purge(now=self.desk.clock() - self.replay_seconds)
            await asyncio.sleep(PURGE_SECONDS)

    async def _note(self, recorder: Recorder) -> None:
        """Note in the event store how the parts do, for whoever looks from outside of this process."""
        while True:
            recorder.note(await self.condition.parts())
            await asyncio.sleep(recorder.health_seconds)

    def means_with(self, **own: Any) -> Means:
        """What requests are decided with here, but for what is one request's `own`."""
        return replace(self._means, **own)

    async def admit(
        self,
        route: PaidRoute,
        request: PaidRequest,
        presented: PresentedCredential | None = None,
        means: Means | None = None,
    ) -> "Free | Refused | Replayed | Admitted":
        """Decide about one request. What is refused cost the client nothing.

        `presented` is its credential, where whoever asks has read it already; `means` are its own, where it has some.
        """
        offers = route.offers if isinstance(route.offers, tuple) else await route.offers(request)
        if offers is None:
            return Free()
        attempt = Attempt(means or self._means, route, request, tuple(offers))
        try:
            presented = presented or read_credential(request.headers)
        except UnreadableCredential as unreadable:
            return await attempt.refuse(unreadable.error, unreadable.protocol)
        if presented is None:
            return await attempt.challenge()
        try:
            if presented.protocol not in route.protocols:
                raise MethodUnsupported("this route does not take payments in this protocol")
            await attempt.verify(presented)
            return await attempt.take(presented)
        except PaymentError as error:
            return await attempt.refuse(error, presented.protocol)
