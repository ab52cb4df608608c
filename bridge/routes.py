"""A priced route: what it charges, in which protocols, and when the money moves."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import msgspec

from translators.payment import Offer, Protocol, Resource
from translators.stages import Lever

__all__ = ["ALL_PROTOCOLS", "OffersOf", "PaidRoute", "SettlePolicy"]

ALL_PROTOCOLS = frozenset(Protocol)
NO_LEVERS: Mapping[Protocol, Lever] = MappingProxyType({})


class SettlePolicy(StrEnum):
    """When money moves: after the handler succeeded (x402: `authorization`), or before it runs (`upfront`)."""

    ON_SUCCESS = "on_success"
    FIRST = "first"


OffersOf = Callable[[Any], Awaitable[Sequence[Offer] | None]]
"""The offers for one request, when they depend on it; None makes that request free."""


class PaidRoute(msgspec.Struct, frozen=True):
    """What one route charges, and how."""

    name: str
    """The route as events and reports name it, such as `GET /report/{id}`."""
    offers: tuple[Offer, ...] | OffersOf
    settle: SettlePolicy = SettlePolicy.ON_SUCCESS
    protocols: frozenset[Protocol] = ALL_PROTOCOLS
    description: str = ""
    mime_type: str = ""
    levers: Mapping[Protocol, Lever] = NO_LEVERS
    """What the application says beside the price; the owner's levers of this very route come before it."""
    bazaar: str | None = None
    """x402's extension `bazaar` for this route's challenges, as JSON."""

    def resource(self, url: str) -> Resource:
        """What is paid for, at `url`."""
        return Resource(url, self.description, self.mime_type)
