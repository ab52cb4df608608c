"""The owner's levers at a gateway, which learns what a route can be paid in from the upstream's 402."""

import structlog

from bridge.levers.board import LeverBoard
from bridge.levers.entrance import Entrance
from bridge.levers.notices import Notice
from bridge.request import PaidRequest
from bridge.routes import PaidRoute, SettlePolicy
from translators.completion import payable
from translators.payment import Offer, Protocol
from translators.upstream import Demand

__all__ = ["GatewayLevers"]

_X402 = frozenset((Protocol.X402_V1, Protocol.X402_V2))

_NAMED = 256
"""Routes that the log names at most: anybody can ask for more."""


class GatewayLevers:
    """The levers on `board`, where the gateway adds the protocols of `adds` to an upstream's own.

    What they leave of a 402 depends on what can be paid in it. Where they would leave nothing that everybody is
    offered, they are not followed: a challenge that nobody can pay ends the upstream's business, not a protocol.
    """

    def __init__(self, board: LeverBoard | None, adds: frozenset[Protocol]) -> None:
        self._board = board
        self._adds = adds
        self._named: set[str] = set()

    @property
    def is_set(self) -> bool:
        """Whether the levers say anything; where not, nothing here needs to be asked."""
        return self._board is not None and self._board.is_set

    def route(
        self, name: str, offers: tuple[Offer, ...], demand: Demand | None, *more: Protocol
    ) -> tuple[PaidRoute, LeverBoard | None]:
        """The route of a request, with what it can be paid in; and the board, where that is followed.

        `demand` is its 402; None where it is not known. `more` are what it is known to be paid in anyway.
        """
        protocols = self._adds | _X402 if demand is None else payable(demand, self._adds)
        route = PaidRoute(name, offers, SettlePolicy.FIRST, protocols.union(more))
        board = self._board
        if board is None or board.leaves_open(route):
            return route, board
        if route.protocols and name not in self._named and len(self._named) < _NAMED:
            self._named.add(name)
            structlog.get_logger("x402_mpp").warning(
                "levers.nothing_left", route=name, protocols=sorted(route.protocols)
            )
        return route, None

    def entrance(self, name: str, request: PaidRequest, demand: Demand | None, *more: Protocol) -> Entrance:
        """What the levers say about one request; see `route`."""
        route, board = self.route(name, (), demand, *more)
        return Entrance(board, route, request)

    def notice(self, name: str, request: PaidRequest, protocol: Protocol) -> Notice:
        """The headers of every answer in a protocol that will end here, as far as that can be told without the 402."""
        return self.entrance(name, request, None, protocol).notice(protocol)

    def shut(self, name: str, request: PaidRequest) -> frozenset[Protocol]:
        """In which versions of x402 a payment may have to be refused, as far as that can be told without the 402."""
        return self.entrance(name, request, None).doors.shut if self.is_set else frozenset()
