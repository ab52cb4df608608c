"""A priced route: what it charges, in which protocols, and when the money moves."""

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from translators.payment import Offer, Protocol, Resource

__all__ = ["ALL_PROTOCOLS", "OffersOf", "PaidRoute", "SettlePolicy"]

ALL_PROTOCOLS = frozenset(Protocol)


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

    def resource(self, url: str) -> Resource:
        """What is paid for, at `url`."""
        return Resource(url, self.description, self.mime_type)
