"""The board: the levers that count now, held in memory, and kept up with where the owner changes them.

A request reads them without waiting. In the background the source is looked at; what it says anew is checked, and
only what makes sense takes the place of what was there.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import structlog
from msgspec.structs import replace

from bridge.clock import Clock
from bridge.events import Events
from bridge.levers.acquaintances import Acquaintances
from bridge.levers.notices import NO_NOTICE, Notice, notice_of
from bridge.levers.rules import Rules
from bridge.levers.sources import LeverSource
from bridge.request import PaidRequest
from bridge.routes import ALL_PROTOCOLS, PaidRoute
from translators.errors import ProtocolRefused, Unavailable
from translators.levers import (
    EVERY_ROUTE,
    Asking,
    Doors,
    Levers,
    RouteTable,
    check_levers,
    decide,
    lever_of,
    table_at,
)
from translators.levers_toml import Document, parse_document
from translators.networks import v1_network
from translators.payment import Offer, Protocol
from translators.stages import BY_PAYER, OPEN, Lever, Stage, boundaries, stage_at

__all__ = ["LeverBoard"]

Place = tuple[str, Protocol]

Told = tuple[Stage, float]
"""What there is to say of a place: the stage, and a canary's share."""

_ON: Told = (Stage.ON, 0.0)


class LeverBoard:
    """The levers of `routes`, from `source`, which is looked at every `seconds`; or as `levers` has them, for good.

    `routes` may grow until `start`; None where nobody knows them: then the levers' routes are patterns, and `protocols`
    are those that any may be paid in. `key` keeps others from working out who is in a canary.
    """

    def __init__(
        self,
        *,
        routes: Sequence[PaidRoute] | None,
        events: Events,
        clock: Clock,
        key: bytes,
        seconds: float,
        source: LeverSource | None = None,
        levers: Levers | None = None,
        protocols: frozenset[Protocol] = ALL_PROTOCOLS,
    ) -> None:
        self.source = source
        self._document = Document(levers or Levers())
        self._routes: Sequence[PaidRoute] = () if routes is None else routes
        self._has_routes = routes is not None
        self._protocols = protocols
        self._rules = self._shadowed = self._moved = Rules(())
        self._moved_at: dict[str, float] = {}
        """When a route last came into the levers or went, where routes are patterns: others may count then."""
        self._events = events
        self._clock = clock
        self._key = key
        self._seconds = seconds
        self._tables: dict[tuple[str, frozenset[Protocol]], RouteTable] = {}
        self._notices: dict[Place, Notice] = {}
        self._since: dict[Place, float] = {}
        self._stages: dict[Place, Told] = {}
        self._text: str | None = None
        self._refused_text: str | None = None
        self._is_away = False
        self.is_set = False
        """Whether the levers say anything at all."""
        self._acquaintances = Acquaintances(key)
        self._draws_payers = False
        self._looking: asyncio.Future[None] | None = None

    @property
    def levers(self) -> Levers:
        """What counts now."""
        return self._document.levers

    async def start(self) -> None:
        """Read the levers; raises `ValueError` where they make no sense, `Unavailable` where they cannot be read."""
        try:
            if self.source is not None:
                self._text = await self.source.read()
                self._document = parse_document(self._text)
            self.check(self.levers)
        except ValueError as error:
            where = self.source.name if self.source is not None else "the application's own"
            raise ValueError(f"levers, {where}: {error}") from None
        for change in self._document.standing:
            for place in _places(change.said):
                self._since[place] = change.at
        self._stages = self._stages_of(self.levers, self._clock())
        self._begin_anew()

    def _begin_anew(self) -> None:
        levers = self.levers
        self.is_set = bool(levers.routes or levers.clients or levers.shadow)
        if not self._has_routes:
            self._rules, self._shadowed = Rules(levers.routes), Rules(levers.shadow)
        said = (*levers.routes.values(), *(route.levers for route in self._routes))
        self._draws_payers = any(lever.by == BY_PAYER for own in said for lever in own.values())
        if not self._draws_payers:
            self._acquaintances.forget()
        self._tables.clear()
        self._notices.clear()

    def check(self, levers: Levers) -> None:
        """Raise `ValueError` for what makes no sense on these routes."""
        if self._has_routes:
            check_levers(levers, {route.name: (_payable(route), route.levers) for route in self._routes})
            return
        names = {EVERY_ROUTE, *levers.routes, *levers.shadow}
        Rules(names)
        check_levers(levers, dict.fromkeys(names, (self._protocols, None)))

    async def run(self) -> None:
        """Keep up with the source and with the dates, until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            await self.catch_up() if self.source is not None else await self.refresh()

    async def catch_up(self) -> None:
        """Look now; whoever asks while somebody looks waits for that."""
        if self.source is None:
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self.refresh())
        await asyncio.shield(self._looking)

    async def refresh(self) -> None:
        """Look once. What cannot be read, or makes no sense, changes nothing and is logged once."""
        log = structlog.get_logger("x402_mpp")
        text = self._text
        if self.source is not None:
            try:
                text = await self.source.read()
                self._is_away = False
            except Exception as error:
                # Whatever a driver raises: the stages that count must not depend on it.
                if not self._is_away:
                    problem = error.detail if isinstance(error, Unavailable) else str(error)
                    log.error("levers.unreadable", source=self.source.name, problem=problem)
                self._is_away = True
                text = self._text
        if text is not None and text != self._text and text != self._refused_text:
            try:
                document = parse_document(text)
                self.check(document.levers)
            except ValueError as error:
                self._refused_text = text
                log.error("levers.invalid", source=self.source and self.source.name, problem=str(error))
            else:
                self._text, self._refused_text = text, None
                self._take(document)
                return
        elif text == self._text:
            self._refused_text = None
        self._announce(self._document, self._clock())

    def _take(self, document: Document) -> None:
        before, self._document = self._document, document
        now = self._clock()
        if not self._has_routes:
            self._moved_at |= dict.fromkeys(before.levers.routes.keys() ^ document.levers.routes.keys(), now)
            self._moved = Rules(self._moved_at)
        self._announce(before, now)
        self._begin_anew()

    def _announce(self, before: Document, now: float) -> None:
        """Say every stage that is another one than at the last look, and remember since when."""
        stages = self._stages_of(self.levers, now)
        earlier = self._stages_of(before.levers, now) if before is not self._document else stages
        for place, stage in stages.items():
            # A route that had no lever of its own did as every route does.
            was = self._stages.get(place) or earlier.get(place) or self._stages.get((EVERY_ROUTE, place[1]), _ON)
            self._tell(place, was, stage, before, now)
        for place in self._stages.keys() - stages.keys():
            every = stages.get((EVERY_ROUTE, place[1]), _ON)
            self._tell(place, self._stages[place], every, before, now)
        self._stages = stages

    def _tell(self, place: Place, was: Told, stage: Told, before: Document, now: float) -> None:
        if was == stage:
            return
        route, protocol = place
        changes = self._document.changes
        if before is self._document:
            lever = lever_of(self.levers, route, protocol, self._own(route))
            at, by, source = max((m for m in boundaries(lever) if m <= now), default=now), None, "plan"
        elif len(changes) > len(before.changes):
            at, by, source = changes[-1].at, changes[-1].by or None, "change"
        else:
            at, by, source = now, None, "edit"
        self._since[place] = now if source == "edit" else at
        self._events.emit(
            "lever.changed",
            route=route,
            protocol=protocol.value,
            before=was[0].value,
            after=stage[0].value,
            share=stage[1] or None,
            at=round(at, 3),
            by=by,
            source=source,
        )

    def _stages_of(self, levers: Levers, now: float) -> dict[Place, Told]:
        """By place: every route together, and each that has a lever of its own."""
        places = {(EVERY_ROUTE, protocol) for protocol in Protocol}
        places |= {(route, protocol) for route, own in levers.routes.items() for protocol in own}
        places |= {(route.name, protocol) for route in self._routes for protocol in route.levers}
        found = {(route, protocol): lever_of(levers, route, protocol, self._own(route)) for route, protocol in places}
        return {place: (stage_at(lever, now), lever.share) for place, lever in sorted(found.items())}

    def _own(self, name: str) -> Mapping[Protocol, Lever] | None:
        return next((route.levers for route in self._routes if route.name == name), None)

    # What a request asks

    def touches(self, route: PaidRoute) -> bool:
        """Whether anybody said anything that concerns the route; where not, each of its protocols is on."""
        return self.is_set or bool(route.levers)

    def leaves_open(self, route: PaidRoute) -> bool:
        """Whether everybody is offered one of the route's protocols now."""
        return any(standing.stage in OPEN for standing in self.table(route).standings.values())

    def _name(self, route: PaidRoute) -> str:
        """What the levers call a route."""
        return route.name if self._has_routes else self._rules.find(route.name)

    def table(self, route: PaidRoute) -> RouteTable:
        """The stages of a route now."""
        now = self._clock()
        name = self._name(route)
        table = self._tables.get((name, route.protocols))
        if table is None or (table.valid_until is not None and now >= table.valid_until):
            table = table_at(self.levers, name, route.protocols, now, route.levers)
            self._tables[name, route.protocols] = table
            for protocol in Protocol:
                self._notices.pop((name, protocol), None)
        return table

    def doors(self, route: PaidRoute, request: PaidRequest, came_in: Protocol | None = None, payer: str = "") -> Doors:
        """What the client of `request` is offered and refused.

        `came_in` is the protocol of the request's credential, `payer` who made that, once it was checked.
        """
        asking = _asking(request)
        if self._draws_payers:
            asking = self._acquaintances.recognise(asking)
        if came_in is not None:
            asking = replace(asking, speaks=asking.speaks | {came_in}, payer=payer or asking.payer)
        return decide(self.table(route), self.levers.clients, asking, self._key)

    def remember(self, request: PaidRequest, payer: str, protocol: Protocol) -> None:
        """Know the client of `request` again, whose payment was verified, where payers are drawn."""
        if self._draws_payers and payer:
            self._acquaintances.remember(_asking(request), payer, protocol)

    def notice(self, route: PaidRoute, protocol: Protocol) -> Notice:
        """The headers of every answer in `protocol`: empty, unless it is deprecated or worse."""
        table = self.table(route)
        place = (self._name(route), protocol)
        if place not in self._notices:
            standing = table.standings.get(protocol)
            if standing is None:
                return NO_NOTICE
            since = self._changed_at(route, protocol)
            self._notices[place] = notice_of(standing, self.levers.migration, 0.0 if since is None else since)
        return self._notices[place]

    def shut_since(self, route: PaidRoute, protocol: Protocol) -> float | None:
        """When the protocol was shut on the route; None where that is long ago, or not known."""
        standing = self.table(route).standings.get(protocol)
        since = standing.since if standing is not None else None
        since = self._changed_at(route, protocol) if since is None else since
        moved = [self._moved_at[name] for name in self._moved.matching(route.name)]
        return max(moved if since is None else [*moved, since], default=None)

    def _changed_at(self, route: PaidRoute, protocol: Protocol) -> float | None:
        """When the stage last became another one on the route, where that is known."""
        name = self._name(route)
        own = self._since.get((name, protocol))
        if protocol in route.levers or protocol in self.levers.routes.get(name, ()):
            return own
        known = [since for since in (own, self._since.get((EVERY_ROUTE, protocol))) if since is not None]
        return max(known, default=None)

    def refusal(self, route: PaidRoute, protocol: Protocol, doors: Doors) -> ProtocolRefused:
        """What a client is told whose protocol is shut."""
        standing = self.table(route).standings[protocol]
        instead = tuple(offered.value for offered in doors.offered)
        wait = max(1, round(standing.until - self._clock())) if standing.until is not None else None
        use = " or ".join(instead)
        match standing.stage:
            case Stage.BROWNOUT:
                detail = f"{protocol.value} is refused for a while, because it will end here: use {use}"
            case Stage.REFUSED:
                detail = f"{protocol.value} is not taken here any more: use {use}"
            case _:
                detail = f"{protocol.value} is not taken from this client here: use {use}"
        return ProtocolRefused(
            detail, stage=standing.stage.value, instead=instead, migration=self.levers.migration, over_in=wait
        )

    def has_shadow(self, route: PaidRoute) -> bool:
        """Whether MPP is tried out on the route: where it is asked for, and clients are not offered it anyway."""
        shadow = self.levers.shadow
        name = route.name if self._has_routes else self._shadowed.find(route.name)
        if not shadow or (EVERY_ROUTE not in shadow and name not in shadow):
            return False
        standing = self.table(route).standings.get(Protocol.MPP)
        return standing is None or standing.stage is Stage.OFF


def _asking(request: PaidRequest) -> Asking:
    client = request.scope.get("client")
    return Asking(lambda name: request.header(name.encode("latin-1")), str(client[0]) if client else "")


def _places(said: Mapping[str, dict[str, dict[str, object]]]) -> Iterable[Place]:
    for route, own in said.get("levers", {}).items():
        for protocol in own:
            yield route, Protocol(protocol)


def _payable(route: PaidRoute) -> tuple[Protocol, ...]:
    """The protocols that can carry what a route offers, as far as start-up knows."""
    offers = route.offers if isinstance(route.offers, tuple) else ()
    return tuple(protocol for protocol in Protocol if protocol in route.protocols and _carries(protocol, offers))


def _carries(protocol: Protocol, offers: tuple[Offer, ...]) -> bool:
    if not offers or protocol is Protocol.X402_V2:
        return True
    own = [offer for offer in offers if offer.foreign is None]
    if protocol is Protocol.X402_V1:
        return any(v1_network(offer.asset.chain_id) is not None for offer in own)
    return bool(own)
