"""The questions over HTTP: an ASGI application that answers in JSON. It guards nothing; whoever mounts it does."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from bridge.analytics.database import EventsUnavailable
from bridge.analytics.reader import Events, open_events
from bridge.analytics.report import Filters, Span
from bridge.analytics.settings import DEFAULT_URL
from bridge.analytics.spans import duration, span_of
from bridge.clock import Clock, system_clock

__all__ = ["QUESTIONS", "EventsAPI", "answer"]

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

MOST_ROWS = 1000
"""Rows of a list that one answer has at most."""

Asked = dict[str, str]


def _report(events: Events, asked: Asked, span: Span) -> Any:
    exact = asked.get("exact") in ("1", "true")
    return events.report(
        since=span.since, until=span.until, filters=_filters(asked), by=asked.get("by") or None, exact=exact
    )


def _shares(events: Events, asked: Asked, span: Span) -> Any:
    step = round(duration(asked.get("step") or "1d"))
    if (span.until - span.since) / step > 10 * MOST_ROWS:
        raise ValueError("step: give a longer one, or a shorter span")
    return events.series(since=span.since, until=span.until, step_seconds=step, filters=_filters(asked))


def _readiness(events: Events, asked: Asked, span: Span) -> Any:
    return events.readiness(asked.get("protocol", ""), since=span.since, until=span.until, limit=_limit(asked, 20))


def _journeys(events: Events, asked: Asked, span: Span) -> Any:
    summary, journeys = events.journeys(since=span.since, until=span.until, limit=_limit(asked, 20))
    return {"summary": summary, "journeys": journeys}


def _clients(events: Events, asked: Asked, span: Span) -> Any:
    least = _number(asked, "least", 10, 10**9)
    return events.clients(since=span.since, until=span.until, filters=_filters(asked), least=max(1, least))


def _marks(events: Events, asked: Asked, span: Span) -> Any:
    return events.marks(since=span.since, until=span.until, limit=_limit(asked, MOST_ROWS))


def _tail(events: Events, asked: Asked, _: Span) -> Any:
    recorded = msgspec.to_builtins(events.tail(limit=_limit(asked, 50), after=_number(asked, "after", 0, 2**62)))
    for row in recorded:
        # As text, like every amount: JSON's readers round numbers beyond 2**53.
        row["fact"]["amount"] = str(row["fact"]["amount"])
    return recorded


def _names(events: Events, _: Asked, __: Span) -> Any:
    return events.names()


def _recorded(events: Events, _: Asked, __: Span) -> Any:
    return events.recorded()


def _workers(events: Events, _: Asked, __: Span) -> Any:
    return events.workers()


QUESTIONS: dict[str, Callable[[Events, Asked, Span], Any]] = {
    "report": _report,
    "shares": _shares,
    "readiness": _readiness,
    "journeys": _journeys,
    "clients": _clients,
    "marks": _marks,
    "tail": _tail,
    "recorded": _recorded,
    "names": _names,
    "workers": _workers,
}
"""What can be asked, by the last segment of the path."""


def answer(url: str, question: str, asked: Asked, now: float) -> Any:
    """The answer to one of `QUESTIONS`, on the events at `url`; blocks for as long as it takes.

    Without a span it is everything that is recorded, and for `readiness` the last 14 days. Raises `KeyError` for what
    is no question, `ValueError` for what cannot be asked, and `EventsUnavailable`.
    """
    ask = QUESTIONS[question]
    with open_events(url) as events:
        told = {name: asked.get(name) or None for name in ("since", "until", "window")}
        if question == "readiness" or any(told.values()):
            span = span_of(now, **told, default="14d" if question == "readiness" else "36500d")
        elif question == "tail":
            span = Span(0.0, now)
        else:
            span = events.recorded() or Span(now - 86400, now)
        return ask(events, asked, span)


class EventsAPI:
    """Answers `GET .../report` and the other `QUESTIONS`, each in a thread, at most `at_once` together."""

    def __init__(self, url: str = DEFAULT_URL, *, clock: Clock = system_clock, at_once: int = 4) -> None:
        self._url = url
        self._clock = clock
        self._free = asyncio.Semaphore(at_once)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            return
        status, content = await self._answer(scope)
        body = msgspec.json.encode(content)
        kind = b"application/json" if status == 200 else b"application/problem+json"
        headers = [
            (b"content-type", kind),
            (b"cache-control", b"no-store"),
            (b"content-length", str(len(body)).encode()),
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: MutableMapping[str, Any]) -> tuple[int, Any]:
        question = scope["path"].rstrip("/").rpartition("/")[2]
        if question not in QUESTIONS:
            return _problem(404, "there is no such question")
        if scope["method"] not in ("GET", "HEAD"):
            return _problem(405, "questions are asked with GET")
        try:
            asked = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), max_num_fields=40))
            async with self._free:
                return 200, await asyncio.to_thread(answer, self._url, question, asked, self._clock())
        except ValueError as error:
            return _problem(400, str(error))
        except (EventsUnavailable, RuntimeError) as error:
            return _problem(503, str(error))


def _problem(status: int, detail: str) -> tuple[int, dict[str, Any]]:
    return status, {"type": "about:blank", "status": status, "detail": detail}


def _filters(asked: Asked) -> Filters:
    names = [name for name in Filters.__struct_fields__ if name != "x402_only" and asked.get(name)]
    only = True if asked.get("x402_only") in ("1", "true") else None
    return Filters(**{name: asked[name] for name in names}, x402_only=only)


def _limit(asked: Asked, default: int) -> int:
    return min(_number(asked, "limit", default, 10**9), MOST_ROWS)


def _number(asked: Asked, name: str, default: int, most: int) -> int:
    text = asked.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise ValueError(f"{name}: give a number from 0 to {most}")
    return int(text)
