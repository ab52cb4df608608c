"""Whether a record covers a window: a figure of days that nobody recorded is small for nothing."""

from datetime import UTC, datetime

import msgspec

from bridge.analytics.report import Span

__all__ = ["Covered", "Gap", "gaps_of"]

DAY = 86400


class Covered(msgspec.Struct, frozen=True):
    """From when to when events were recorded; None where none is."""

    since: float | None
    until: float | None
    """The last sign of a server that records: where nobody asked for anything, it still says that it is there."""
    kept_since: float | None
    """What is older was deleted, as the settings say; None where nothing was."""
    silences: tuple[Span, ...] = ()
    """Stretches of more than a day in which no server was heard of, nor anything recorded."""


class Gap(msgspec.Struct, frozen=True):
    """What a record lacks of a window."""

    kind: str
    """`begins-late`, `not-kept`, `interrupted`, `ends-early` or `dropped`."""
    detail: str


def gaps_of(span: Span, covered: Covered, dropped: int) -> list[Gap]:
    """What is lacking. A record that ends within a day of the window's end is whole: servers may stand for a while."""
    gaps = []
    if covered.since is None or covered.until is None:
        gaps.append(Gap("begins-late", "Nothing is recorded yet."))
    else:
        if covered.since > span.since:
            begins = _day(covered.since)
            if covered.kept_since is not None and covered.since <= covered.kept_since:
                detail = f"Figures are kept since {begins} (`rollup_days`): ask for a shorter window, or keep more."
                gaps.append(Gap("not-kept", detail))
            else:
                detail = f"The record is younger than this window, and begins {begins}: wait, or ask for a shorter one."
                gaps.append(Gap("begins-late", detail))
        for silence in covered.silences:
            if silence.since < span.until and silence.until > span.since:
                detail = (
                    f"Nothing is recorded from {_day(silence.since)} to {_day(silence.until)}: if servers ran then, "
                    "what was paid is not known."
                )
                gaps.append(Gap("interrupted", detail))
        if covered.until + DAY < span.until:
            detail = f"The record ends at {_day(covered.until)}: ask the servers' own event store, or until then."
            gaps.append(Gap("ends-early", detail))
    if dropped:
        detail = f"{dropped} events of this window were dropped: take these figures as the least that is lost."
        gaps.append(Gap("dropped", detail))
    return gaps


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
