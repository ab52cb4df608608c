"""How payers move from one protocol to the next: where they were first seen, and what they use now."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from bridge.analytics.facts import PROTOCOLS

__all__ = ["Journey", "Path", "Stay", "Summary", "journey_of", "summarize"]

SETTLING_SECONDS = 86400.0
"""For how long a payer has used only one of several protocols before it counts as moved to it, or back to it."""


class Stay(msgspec.Struct, frozen=True):
    """A payer's payments in one protocol: how many, and when the first and the last of them was."""

    payments: int
    first_at: float
    last_at: float


class Path(StrEnum):
    """What a payer's stays say."""

    SINGLE = "single"
    """One protocol only."""
    DUAL = "dual"
    """Several, the newest among them, and the older ones still within a day of it."""
    SWITCHED = "switched"
    """To a newer one, for good as far as can be told: nothing in an older one since, or not for a day."""
    FELL_BACK = "fell-back"
    """Has paid in a newer one, and for more than a day only in an older one since."""


class Journey(msgspec.Struct, frozen=True):
    """One payer's way through the protocols."""

    payer: str
    path: Path
    now: str
    """The protocol of the last payment."""
    stays: dict[str, Stay]
    """By protocol."""


class Summary(msgspec.Struct, frozen=True):
    """How many payers took which way."""

    payers: int
    paths: dict[str, int]
    """By `Path`."""
    first_seen: dict[str, int]
    """By the protocol of their first payment."""
    now: dict[str, int]
    """By the protocol of their last payment."""
    seen: dict[str, int]
    """By protocol that they have ever paid in: who has several is in several."""


def path_of(stays: Mapping[str, Stay]) -> Path:
    """Which way it was; it does not depend on the order in which payments were recorded."""
    newest = max(stays, key=PROTOCOLS.index)
    older = [stay for name, stay in stays.items() if name != newest]
    if not older:
        return Path.SINGLE
    last_older = max(stay.last_at for stay in older)
    since_older = stays[newest].last_at - last_older
    if last_older <= stays[newest].first_at or since_older > SETTLING_SECONDS:
        return Path.SWITCHED
    return Path.FELL_BACK if since_older < -SETTLING_SECONDS else Path.DUAL


def journey_of(payer: str, stays: Mapping[str, Stay]) -> Journey:
    """The journey of a payer with these stays, at least one."""
    known = {name: stays[name] for name in PROTOCOLS if name in stays}
    return Journey(payer, path_of(known), max(known, key=lambda name: known[name].last_at), known)


def summarize(journeys: Iterable[Journey]) -> Summary:
    """How many took which way."""
    paths = {path.value: 0 for path in Path}
    first, now, seen = (dict.fromkeys(PROTOCOLS, 0) for _ in range(3))
    count = 0
    for journey in journeys:
        count += 1
        paths[journey.path.value] += 1
        first[min(journey.stays, key=lambda name: journey.stays[name].first_at)] += 1
        now[journey.now] += 1
        for name in journey.stays:
            seen[name] += 1
    return Summary(count, paths, first, now, seen)
