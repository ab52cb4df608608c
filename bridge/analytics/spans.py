"""Which span of time a report is of, as a command line or a query string says it."""

import re
from datetime import UTC, datetime

from bridge.analytics.report import Span

__all__ = ["duration", "moment", "span_of"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_MOST = 101 * 366 * 86400


def duration(text: str) -> float:
    """Seconds of a length of time, such as `14d`, `36h`, `90m` or `2w`; raises `ValueError`."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhdw])", text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= _MOST:
        raise ValueError(f"{text!r} is no length of time: write 14d, 36h, 90m or 2w")
    return seconds


def moment(text: str) -> float:
    """Unix seconds of a moment: a date, a date and time of ISO 8601 (UTC where it says no zone), or Unix seconds."""
    if re.fullmatch(r"[0-9]{1,11}(\.[0-9]{1,6})?", text):
        return float(text)
    try:
        told = datetime.fromisoformat(text)
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no moment: write 2026-01-31 or 2026-01-31T12:00:00Z") from None


def span_of(now: float, *, since: str | None, until: str | None, window: str | None, default: str) -> Span:
    """The span from `since`, or for `window`, until `until`, which is now where it is not said.

    Raises `ValueError` for what is neither, and for one that ends before it begins.
    """
    if since and window:
        raise ValueError("give a beginning or a length of time, not both")
    end = moment(until) if until else now
    begin = moment(since) if since else max(0.0, end - duration(window or default))
    if not begin < end:
        raise ValueError("a span begins before it ends")
    return Span(begin, end)
