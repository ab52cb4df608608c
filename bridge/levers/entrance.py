"""What one request's client is offered, what is shut to it, and whom a shut protocol still lets in."""

from functools import lru_cache

from bridge.levers.board import LeverBoard
from bridge.levers.notices import NO_NOTICE, Notice
from bridge.request import PaidRequest
from bridge.routes import PaidRoute
from bridge.verifier import Verified
from translators.errors import PaymentExpired, ProtocolRefused
from translators.levers import ORDER, Doors
from translators.payment import ChallengeBinding, Protocol

__all__ = ["Entrance"]


class Entrance:
    """The levers, as they concern one request; where nobody touched one, every protocol of the route is on."""

    __slots__ = ("_board", "_request", "_route", "doors")

    def __init__(self, board: LeverBoard | None, route: PaidRoute, request: PaidRequest) -> None:
        self._board = board if board is not None and board.touches(route) else None
        self._route = route
        self._request = request
        self.doors: Doors = _all_on(route.protocols) if self._board is None else self._board.doors(route, request)

    @property
    def is_levered(self) -> bool:
        """Whether anybody said anything that concerns the route."""
        return self._board is not None

    @property
    def migration(self) -> str | None:
        """The page that tells clients what to do."""
        return self._board.levers.migration if self._board is not None else None

    @property
    def has_shadow(self) -> bool:
        """Whether MPP is tried out on the route."""
        return self._board is not None and self._board.has_shadow(self._route)

    def notice(self, protocol: Protocol | None) -> Notice:
        """The headers of every answer in a protocol that will end here.

        An answer is in the protocol of its request's credential; without one, in the only protocol that it offers.
        """
        if self._board is None:
            return NO_NOTICE
        if protocol is None and len(self.doors.offered) == 1:
            (protocol,) = self.doors.offered
        return self._board.notice(self._route, protocol) if protocol is not None else NO_NOTICE

    async def is_shut(self, protocol: Protocol) -> bool:
        """Whether a payment in `protocol` is to be refused; if so, the levers have just been looked at.

        For another server may have seen already that it was opened, and offered it.
        """
        if protocol not in self.doors.shut:
            return False
        assert self._board is not None
        await self._board.catch_up()
        self.doors = self._board.doors(self._route, self._request)
        return protocol in self.doors.shut

    def was_asked_in_time(self, verified: Verified, now: float) -> bool:
        """Whether a payment may answer a 402 from before its protocol was shut.

        An MPP payment answers a challenge of ours, and while the protocol is shut none is issued. An x402 payment does
        not say which 402 it answers, so that it has as long after the change as the 402 gave it.
        """
        if isinstance(verified.payment.binding, ChallengeBinding):
            return not isinstance(verified.refused, PaymentExpired)
        return self.is_in_time(verified.payment.protocol, verified.offer.max_timeout_seconds, now)

    def is_in_time(self, protocol: Protocol, seconds: float, now: float) -> bool:
        """Whether a payment may answer a 402 from before `protocol` was shut, that gave it so many `seconds`."""
        assert self._board is not None
        since = self._board.shut_since(self._route, protocol)
        return since is not None and now < since + seconds

    def came_in(self, protocol: Protocol, payer: str) -> None:
        """The request has a credential in `protocol`, of `payer` where that is known: its answer heeds both."""
        if self._board is not None:
            self.doors = self._board.doors(self._route, self._request, protocol, payer)

    def remember(self, payer: str, protocol: Protocol) -> None:
        """A payment of `payer` was verified: its client is drawn as he is from now on."""
        if self._board is not None:
            self._board.remember(self._request, payer, protocol)

    def refusal(self, protocol: Protocol) -> ProtocolRefused:
        """What a client is told whose protocol is shut."""
        assert self._board is not None
        return self._board.refusal(self._route, protocol, self.doors)


@lru_cache(maxsize=64)
def _all_on(protocols: frozenset[Protocol]) -> Doors:
    return Doors(tuple(protocol for protocol in ORDER if protocol in protocols))
