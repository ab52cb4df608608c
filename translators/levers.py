"""The levers of all routes together, and what they come to for one route and one client at a moment.

`Levers` is what the owner said. `table_at` works out a route's stages, which hold until the next date; `decide` adds
who is asking. None of it knows a clock or a file.
"""

import hmac
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from translators.payment import Protocol
from translators.stages import (
    BY_PAYER,
    OPEN,
    SHUT,
    Lever,
    Stage,
    boundaries,
    check_lever,
    next_change,
    shut_span,
    stage_at,
)

__all__ = [
    "EVERY_ROUTE",
    "ORDER",
    "Asking",
    "ClientRule",
    "Doors",
    "Levers",
    "RouteTable",
    "Standing",
    "canary_point",
    "check_levers",
    "decide",
    "lever_of",
    "table_at",
]

EVERY_ROUTE = "*"
"""Stands for every route that says nothing else."""

ORDER = (Protocol.MPP, Protocol.X402_V2, Protocol.X402_V1)
"""How protocols are listed: some parsers of `WWW-Authenticate` look no further than the first header."""

_NO = frozenset(("", "0", "false", "no", "off"))

RouteLevers = Mapping[Protocol, Lever]


class ClientRule(msgspec.Struct, frozen=True):
    """What is not offered to certain clients, whatever the stage: some cannot bear to see it.

    They are known by their product in `User-Agent`, or by a request header and, where given, its `value`.
    """

    without: frozenset[Protocol]
    product: str | None = None
    header: str | None = None
    value: str | None = None


class Levers(msgspec.Struct, frozen=True):
    """Everything that the owner set: levers by route, what certain clients are not shown, and the rest."""

    routes: dict[str, dict[Protocol, Lever]] = msgspec.field(default_factory=dict)
    """By route's name, such as `GET /report`, or `*`."""
    clients: tuple[ClientRule, ...] = ()
    migration: str | None = None
    """The page that tells clients what to do."""
    shadow: frozenset[str] = frozenset()
    """The routes on which MPP is tried out beside x402; `*` for all."""


class Asking(msgspec.Struct, frozen=True):
    """What is known of a client."""

    header: Callable[[str], str | None]
    """The first value of a request header, by its name in lower case."""
    address: str = ""
    payer: str = ""
    """Who pays, where it is known; in lower case."""
    speaks: frozenset[Protocol] = frozenset()
    """The protocols that it is known to pay in."""


class Standing(msgspec.Struct, frozen=True):
    """A protocol on a route, at a moment."""

    stage: Stage
    lever: Lever
    since: float | None = None
    """When it was shut, by its dates."""
    until: float | None = None
    """When a brownout is over."""


class RouteTable(msgspec.Struct, frozen=True):
    """The stages of a route, from the moment they were asked for to `valid_until`."""

    standings: dict[Protocol, Standing]
    order: tuple[Protocol, ...]
    """The route's protocols, the preferred one first."""
    valid_until: float | None = None


class Doors(msgspec.Struct, frozen=True):
    """What one client is offered, in order, and in which protocols it is refused."""

    offered: tuple[Protocol, ...]
    shut: frozenset[Protocol] = frozenset()
    told: frozenset[Protocol] = frozenset()
    """Those of them that a client is told about: what was never there is not spoken of."""
    preferred: Protocol | None = None


def lever_of(levers: Levers, route: str, protocol: Protocol, own: RouteLevers | None = None) -> Lever:
    """The lever that counts: of this route, else what the application says beside its price, else of every route."""
    for said in (levers.routes.get(route), own, levers.routes.get(EVERY_ROUTE)):
        if said is not None and protocol in said:
            return said[protocol]
    return Lever()


def table_at(
    levers: Levers, route: str, protocols: Iterable[Protocol], now: float, own: RouteLevers | None = None
) -> RouteTable:
    """The stages of a route's protocols at `now`."""
    standings = {}
    changes = []
    present = set(protocols)
    for protocol in (candidate for candidate in ORDER if candidate in present):
        lever = lever_of(levers, route, protocol, own)
        stage = stage_at(lever, now)
        since, until = shut_span(lever, now) if stage in SHUT else (None, None)
        standings[protocol] = Standing(stage, lever, since, until)
        if (change := next_change(lever, now)) is not None:
            changes.append(change)
    order = sorted(standings, key=lambda protocol: standings[protocol].stage is not Stage.PREFERRED)
    return RouteTable(standings, tuple(order), min(changes, default=None))


def decide(table: RouteTable, rules: Iterable[ClientRule], asking: Asking, key: bytes) -> Doors:
    """What this client is offered and refused.

    A protocol that a client may have been offered is not shut to it, unless its stage shuts it to all: who is in a
    canary by user agent and address may pay from another address. `key` keeps others from working out who is.
    """
    offered = []
    shut = set()
    told = set()
    for protocol in table.order:
        standing = table.standings[protocol]
        match standing.stage:
            case Stage.CANARY:
                is_in, is_certain = _canary(standing.lever, protocol, asking, key)
                if is_in:
                    offered.append(protocol)
                elif is_certain:
                    shut.add(protocol)
            case stage if stage in OPEN:
                offered.append(protocol)
            case stage:
                shut.add(protocol)
                if stage is not Stage.OFF:
                    told.add(protocol)
    hidden = frozenset[Protocol]().union(*(rule.without for rule in rules if _matches(rule, asking)))
    shown = tuple(protocol for protocol in offered if protocol not in hidden)
    # A rule that would leave nothing is of no use to its client.
    preferred = table.order[0] if table.standings[table.order[0]].stage is Stage.PREFERRED else None
    return Doors(shown or tuple(offered), frozenset(shut), frozenset(told), preferred)


def _canary(lever: Lever, protocol: Protocol, asking: Asking, key: bytes) -> tuple[bool, bool]:
    """Whether the client is in, and whether it will be the same when it pays."""
    if lever.header is not None and (said := asking.header(lever.header)) is not None:
        return said.strip().lower() not in _NO, True
    if not lever.share:
        return False, True
    if lever.by not in (None, BY_PAYER) and (name := asking.header(lever.by)) is not None:
        return canary_point(key, protocol, f"name {name}") < lever.share, True
    if lever.by == BY_PAYER and asking.payer:
        who = f"payer {asking.payer}"
    else:
        who = f"client {asking.header('user-agent') or ''} {asking.address}"
    # What somebody pays in he was offered: a draw takes nothing from him that he uses.
    return protocol in asking.speaks or canary_point(key, protocol, who) < lever.share, False


def canary_point(key: bytes, protocol: Protocol, who: str) -> float:
    """Where a client stands between 0 and 100, as long as the key stays: who is in a share of 10 is in one of 20."""
    digest = hmac.digest(key, f"canary {protocol.value} {who}".encode("utf-8", "surrogatepass"), "sha256")
    return int.from_bytes(digest[:8], "big") / 2**64 * 100


def _matches(rule: ClientRule, asking: Asking) -> bool:
    if rule.product is not None:
        products = (asking.header("user-agent") or "").lower().split()
        return any(product.partition("/")[0] == rule.product.lower() for product in products)
    assert rule.header is not None
    said = asking.header(rule.header)
    return said is not None and (rule.value is None or said.strip() == rule.value)


def check_levers(
    levers: Levers, routes: Mapping[str, tuple[Collection[Protocol], RouteLevers | None]] | None = None
) -> None:
    """Raise `ValueError` for what makes no sense, with the route and protocol.

    `routes` are the application's: what can pay for each, and what it says beside its price. None: not known here.
    """
    for route, said in levers.routes.items():
        for protocol, lever in said.items():
            _check_one(levers, route, protocol, lever)
        if routes is not None and route != EVERY_ROUTE and route not in routes:
            raise ValueError(f"{route}: no such route is priced; there are {', '.join(sorted(routes))}")
    for rule in levers.clients:
        if rule.without >= frozenset(Protocol):
            raise ValueError(f"clients, {rule.product or rule.header}: leaves no protocol")
    if routes is None:
        routes = {name: (tuple(Protocol), None) for name in {EVERY_ROUTE, *levers.routes}}
    for route, (protocols, own) in routes.items():
        for protocol, lever in (own or {}).items():
            _check_one(levers, route, protocol, lever)
        _check_route(levers, route, protocols, own)
    unknown = levers.shadow - set(routes) - set(levers.routes) - {EVERY_ROUTE}
    if unknown:
        raise ValueError(f"shadow: no such route is priced: {', '.join(sorted(unknown))}")


def _check_one(levers: Levers, route: str, protocol: Protocol, lever: Lever) -> None:
    try:
        check_lever(lever)
    except ValueError as error:
        raise ValueError(f"{route}, {protocol.value}: {error}") from None
    is_told = lever.stage in (Stage.DEPRECATED, Stage.BROWNOUT) or lever.deprecated_from is not None
    if is_told and levers.migration is None:
        raise ValueError(
            f"{route}, {protocol.value}: deprecated, and clients are not told what to do: "
            "give the page's URL as migration"
        )


def _check_route(levers: Levers, route: str, protocols: Collection[Protocol], own: RouteLevers | None) -> None:
    found = {protocol: lever_of(levers, route, protocol, own) for protocol in protocols}
    moments = {0.0}.union(*(boundaries(lever) for lever in found.values()))
    for moment in sorted(moments):
        stages = {protocol: stage_at(lever, moment) for protocol, lever in found.items()}
        when = f" from {_time(moment)} on" if moment else ""
        if not any(stage in OPEN for stage in stages.values()):
            told = ", ".join(f"{protocol.value} {stage.value}" for protocol, stage in sorted(stages.items()))
            raise ValueError(f"{route}: nobody could be sure to pay{when}: {told}")
        if list(stages.values()).count(Stage.PREFERRED) > 1:
            raise ValueError(f"{route}: two protocols are preferred{when}")


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
