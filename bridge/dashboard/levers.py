"""The state of every lever with its history: from the levers themselves, or else from what the servers told of them."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec

from bridge.analytics import Mark
from bridge.clock import Clock
from bridge.levers.sources import LeverSource
from bridge.levers.standings import Routes, standings
from translators.errors import Unavailable
from translators.levers import Levers
from translators.levers_toml import Document, parse_document

__all__ = ["LeverView", "find_levers", "told_by_events"]

MOST_CHANGES = 500


class LeverView(msgspec.Struct, frozen=True):
    """What the levers say."""

    source: str
    """Who says so: the name of a file or database, `application`, or `events`."""
    stages: list[dict[str, Any]]
    """By route and protocol: `stage`, `share`, `header`, and `next` with `at` and `stage`."""
    changes: list[dict[str, Any]] = []
    """Those that the source keeps, the latest first: `at`, `by`, `undo`, `said`."""
    migration: str = ""
    problem: str = ""
    """Why the source could not be read."""


FindLevers = Callable[[], Awaitable[LeverView | None]]


def find_levers(
    source: LeverSource | None,
    clock: Clock,
    *,
    count: Callable[[], Levers] | None = None,
    routes: Callable[[], Routes] = dict,
) -> FindLevers:
    """A function that finds out. `count` has the levers that count in this process; else the source alone says so."""

    async def find() -> LeverView:
        document, problem = Document(Levers()), ""
        if source is not None:
            try:
                document = parse_document(await source.read())
            except Exception as error:
                # Whatever a driver raises. Ours say what is wrong and name no password.
                is_ours = isinstance(error, ValueError | Unavailable | OSError)
                problem = getattr(error, "detail", str(error)) if is_ours else type(error).__name__
        levers = count() if count is not None else document.levers
        return LeverView(
            source=source.name if source is not None else "application",
            # Nothing that counts is known where the only one who knows cannot be read.
            stages=[] if problem and count is None else list(standings(levers, routes(), clock())),
            changes=[
                {"at": change.at, "by": change.by, "undo": change.undo, "said": change.said}
                for change in reversed(document.changes[-MOST_CHANGES:])
            ],
            migration=levers.migration or "",
            problem=problem,
        )

    return find


def told_by_events(marks: Iterable[Mark]) -> LeverView:
    """The stages that servers told of last: all that an event file knows of levers."""
    last: dict[tuple[str, str], Mark] = {}
    for mark in marks:
        if mark.event == "lever.changed":
            last[mark.route, mark.protocol] = mark
    return LeverView(source="events", stages=_stages(last.values()))


def _stages(marks: Iterable[Mark]) -> list[dict[str, Any]]:
    rows: Sequence[Mark] = sorted(marks, key=lambda mark: (mark.route != "*", mark.route, mark.protocol))
    return [
        {
            "route": mark.route,
            "protocol": mark.protocol,
            "stage": mark.stage,
            "share": f"{mark.detail['share']:g}%" if isinstance(mark.detail.get("share"), int | float) else None,
            "header": None,
            "next": None,
        }
        for mark in rows
    ]
