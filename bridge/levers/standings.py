"""What every lever says now, as people are shown it: by `x402-mpp levers show` and by the dashboard."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from translators.levers import EVERY_ROUTE, Levers, lever_of
from translators.payment import Protocol
from translators.stages import BY_PAYER, Lever, next_change, stage_at

__all__ = ["Routes", "route_names", "share_text", "standings", "written"]

Routes = Mapping[str, Mapping[Protocol, Lever]]
"""The routes that are known, and what the application says beside their prices."""


def standings(levers: Levers, routes: Routes, now: float) -> Iterator[dict[str, Any]]:
    """The stage of each protocol on each route, and what the dates make of it next."""
    for route in route_names((levers,), routes):
        for protocol in Protocol:
            lever = lever_of(levers, route, protocol, routes.get(route))
            moment = next_change(lever, now)
            yield {
                "route": route,
                "protocol": protocol.value,
                "stage": stage_at(lever, now).value,
                "share": share_text(lever) if lever.share else None,
                "header": lever.header,
                "next": None if moment is None else {"at": written(moment), "stage": stage_at(lever, moment).value},
            }


def route_names(levers: Iterable[Levers], routes: Routes) -> list[str]:
    """Every route together, and then each that is known or has a lever of its own."""
    return [EVERY_ROUTE, *sorted({*routes, *(name for each in levers for name in each.routes)} - {EVERY_ROUTE})]


def share_text(lever: Lever) -> str:
    """A canary's share, and of whom: clients, unless it says payers."""
    return f"{lever.share:g}%{' of payers' if lever.by == BY_PAYER else ''}"


def written(moment: float) -> str:
    """Unix seconds as a time in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
