"""Claims that are renewed for as long as their answers are on the way."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final
from typing import Protocol as TypingProtocol

__all__ = ["Holds"]

_TURNS: Final = 4
"""In how many turns a claim gets old enough: so many times as often is looked, so much earlier one may be renewed."""


class _Claim(TypingProtocol):
    def renew(self) -> Coroutine[Any, Any, None]:
        """Make it last longer; it raises nothing."""
        ...


class Holds:
    """What is held. One timer renews all of it: most answers are out long before, and each has less to do with this."""

    def __init__(self) -> None:
        self._turn = 0
        self._held: dict[_Claim, int] = {}

    def add(self, claim: _Claim) -> None:
        """Renew it from now on."""
        self._held[claim] = self._turn

    def discard(self, claim: _Claim) -> None:
        """No more of it."""
        self._held.pop(claim, None)

    async def run(self, seconds: float) -> None:
        """Renew each claim before it has been held for another `seconds`, until cancelled."""
        renewing: set[asyncio.Task[None]] = set()
        while True:
            await asyncio.sleep(seconds / _TURNS)
            self._turn += 1
            for claim, since in self._held.items():
                if (self._turn - since) % _TURNS == 0:
                    task = asyncio.ensure_future(claim.renew())
                    renewing.add(task)
                    task.add_done_callback(renewing.discard)
