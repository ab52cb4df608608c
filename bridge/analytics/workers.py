"""How each serving process does, as it notes it in the event store: for whoever looks from outside of it."""

from typing import Literal

import msgspec

__all__ = ["MOST_WORKERS", "Part", "Worker"]

MOST_WORKERS = 200
"""Processes that are kept, those heard of last; a process that was killed is among them for a day."""


class Part(msgspec.Struct, frozen=True):
    """One part that payments need."""

    name: str
    state: Literal["ok", "low", "away", "unknown"]
    """`low`: it answers, and will not for long unless somebody sees to it."""
    detail: str = ""
    figures: dict[str, int] = {}
    """What there is to count."""
    since: float | None = None
    """When this process found it in this state first."""


class Worker(msgspec.Struct, frozen=True):
    """A serving process, as it said last."""

    name: str
    """Host and process id."""
    at: float
    """When it said so."""
    every: float
    """How often it does, in seconds."""
    parts: list[Part]

    def is_silent(self, now: float) -> bool:
        """Whether it should have been heard of since: it was killed, or the event store is away from it."""
        return now - self.at > 3 * self.every + 5
