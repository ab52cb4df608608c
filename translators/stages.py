"""The stage of a protocol on a route: what it is now, and what a plan with dates makes of it later.

    off        neither offered nor taken
    canary     offered to a share of the clients, or to those that send a header
    on         offered and taken
    preferred  the same, and listed first
    deprecated the same as `on`, and every answer in the protocol says until when
    brownout   refused for an announced while
    refused    refused for good

Times are Unix seconds; a plan is executed by asking `stage_at` for another time.
"""

from collections.abc import Iterator
from enum import StrEnum

import msgspec

__all__ = [
    "BY_PAYER",
    "OPEN",
    "SHUT",
    "Brownout",
    "Lever",
    "Stage",
    "boundaries",
    "check_lever",
    "next_change",
    "shut_span",
    "stage_at",
]

DAY = 86_400

BY_PAYER = "payer"
"""Of a canary, in `Lever.by`: each payer is drawn, where it is known who pays."""

MAX_BROWNOUT_DAYS = 366
"""How long a daily brownout may go on: what takes longer is no announcement any more."""


class Stage(StrEnum):
    """What a client of a protocol gets."""

    OFF = "off"
    CANARY = "canary"
    ON = "on"
    PREFERRED = "preferred"
    DEPRECATED = "deprecated"
    BROWNOUT = "brownout"
    REFUSED = "refused"


OPEN = frozenset((Stage.ON, Stage.PREFERRED, Stage.DEPRECATED))
"""Whoever asks is offered the protocol."""

SHUT = frozenset((Stage.OFF, Stage.BROWNOUT, Stage.REFUSED))
"""Nobody is."""


class Brownout(msgspec.Struct, frozen=True):
    """When the protocol is refused for a while: from `start` to `end`, or only `hours` of each day (UTC) in between."""

    start: float
    end: float
    hours: tuple[int, int] | None = None
    """Seconds after midnight; the second is the smaller one where the brownout goes on over midnight."""

    def spans(self) -> Iterator[tuple[float, float]]:
        """Every stretch of time that is refused, in order."""
        if self.hours is None:
            yield self.start, self.end
            return
        opens, shuts = self.hours
        length = (shuts - opens) % DAY
        # A brownout over midnight may have begun on the day before.
        at = (self.start // DAY - 1) * DAY + opens
        while at < self.end:
            begin, end = max(at, self.start), min(at + length, self.end)
            if begin < end:
                yield begin, end
            at += DAY


class Lever(msgspec.Struct, frozen=True):
    """One protocol on one route: `stage` from the beginning, then what the dates say."""

    stage: Stage = Stage.ON
    share: float = 0.0
    """Of a canary: how many of a hundred clients are in it."""
    header: str | None = None
    """Of a canary: the request header by which a client decides for itself."""
    by: str | None = None
    """Of a canary: the request header that names a client, or `BY_PAYER`. None, or where nothing names anybody: by user
    agent and address."""
    deprecated_from: float | None = None
    refused_from: float | None = None
    sunset: float | None = None
    """What clients are told is the end (RFC 8594); None: `refused_from`."""
    brownouts: tuple[Brownout, ...] = ()

    @property
    def end(self) -> float | None:
        """When clients are told that it ends."""
        return self.sunset if self.sunset is not None else self.refused_from


def stage_at(lever: Lever, now: float) -> Stage:
    """The stage at a moment. A date counts from its first second on."""
    if lever.refused_from is not None and now >= lever.refused_from:
        return Stage.REFUSED
    if lever.stage in (Stage.OFF, Stage.REFUSED):
        return lever.stage
    if _brownout(lever, now) is not None:
        return Stage.BROWNOUT
    if lever.stage is Stage.BROWNOUT or (lever.deprecated_from is not None and now >= lever.deprecated_from):
        return Stage.DEPRECATED
    return lever.stage


def shut_span(lever: Lever, now: float) -> tuple[float | None, float | None]:
    """Since when, by its dates, the protocol is refused at `now`, and until when; None where no date says so."""
    if lever.refused_from is not None and now >= lever.refused_from:
        return lever.refused_from, None
    return _brownout(lever, now) or (None, None)


def _brownout(lever: Lever, now: float) -> tuple[float, float] | None:
    spans = [(start, end) for brownout in lever.brownouts for start, end in brownout.spans() if start <= now < end]
    return (min(start for start, _ in spans), max(end for _, end in spans)) if spans else None


def boundaries(lever: Lever) -> list[float]:
    """Every moment at which the dates change the stage, in order."""
    moments = {moment for moment in (lever.deprecated_from, lever.refused_from) if moment is not None}
    moments |= {moment for brownout in lever.brownouts for span in brownout.spans() for moment in span}
    return sorted(moments)


def next_change(lever: Lever, now: float) -> float | None:
    """The first moment after `now` at which a date counts; None when there is none."""
    return next((moment for moment in boundaries(lever) if moment > now), None)


def check_lever(lever: Lever) -> None:
    """Raise `ValueError` for stage and dates that contradict each other; its message says which, and what to do."""
    _check_canary(lever)
    dated = [name for name in ("deprecated_from", "refused_from") if getattr(lever, name) is not None]
    dated += ["brownouts"] if lever.brownouts else []
    if lever.stage in (Stage.OFF, Stage.REFUSED) and (dated or lever.sunset is not None):
        raise ValueError(f"{lever.stage.value} is the end: {', '.join(dated) or 'sunset'} cannot come after it")
    if lever.stage is Stage.BROWNOUT and not lever.brownouts:
        raise ValueError("a brownout is announced: say when, in brownouts")
    if lever.stage in (Stage.DEPRECATED, Stage.BROWNOUT):
        begins: float | None = 0.0 if lever.deprecated_from is None else lever.deprecated_from
    else:
        begins = lever.deprecated_from
    end = lever.refused_from
    if begins is None:
        what = next((name for name in (*dated, "sunset") if getattr(lever, name)), None)
        if what is not None:
            raise ValueError(f"{what} without deprecated_from: clients would hear of it on the day itself")
        return
    if end is not None and end <= begins:
        raise ValueError("refused_from is not after deprecated_from")
    if lever.sunset is not None and lever.sunset < begins:
        raise ValueError("sunset is before deprecated_from")
    if lever.sunset is not None and end is not None and end < lever.sunset:
        raise ValueError("refused_from is before the sunset that clients are told")
    for brownout in lever.brownouts:
        _check_brownout(brownout, begins, end)


def _check_canary(lever: Lever) -> None:
    if lever.stage is Stage.CANARY:
        if not 0 <= lever.share <= 100:
            raise ValueError("share is a part of all clients, from 0% to 100%")
        if not lever.share and lever.header is None:
            raise ValueError("a canary without share and header is nobody: give one, or say off")
        if not lever.share and lever.by is not None:
            raise ValueError("by decides about a share: give one")
    elif lever.share or lever.header is not None or lever.by is not None:
        raise ValueError(f"share, header and by belong to a canary, and the stage is {lever.stage.value}")


def _check_brownout(brownout: Brownout, begins: float, end: float | None) -> None:
    if brownout.start >= brownout.end:
        raise ValueError("a brownout ends before it begins")
    if brownout.start < begins:
        raise ValueError("a brownout is before deprecated_from: announce it first")
    if end is not None and brownout.end > end:
        raise ValueError("a brownout goes on after refused_from")
    if brownout.hours is not None:
        if brownout.hours[0] == brownout.hours[1]:
            raise ValueError("a daily brownout takes some hours, not the whole day and not none")
        if brownout.end - brownout.start > MAX_BROWNOUT_DAYS * DAY:
            raise ValueError(f"a daily brownout goes on for {MAX_BROWNOUT_DAYS} days at most")
        if next(brownout.spans(), None) is None:
            raise ValueError("a daily brownout has no hour between its from and its until")
