"""`Accept-Payment`: which methods and intents a client can pay by.

draft-httpauth-payment-00, section "Client Payment Preferences".
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

__all__ = ["PaymentRange", "parse_accept_payment", "rank"]

T = TypeVar("T")

_RANGE = re.compile(
    r"(?P<method>[a-z]+|\*)/(?P<intent>[A-Za-z0-9-]+|\*)(?:[ \t]*;[ \t]*[qQ]=(?P<q>0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?"
)
_MAX_LENGTH = 4096


class PaymentRange(NamedTuple):
    """One range of the header; `*` matches anything."""

    method: str
    intent: str
    q: float

    def specificity(self, method: str, intent: str) -> int:
        """How closely this range names `method`/`intent`: 3 for both, 0 for `*/*`, -1 where it does not match."""
        if self.method not in ("*", method) or self.intent not in ("*", intent):
            return -1
        return 2 * (self.method != "*") + (self.intent != "*")


def parse_accept_payment(header: str) -> list[PaymentRange] | None:
    """The ranges of the header; None when it is malformed, and then it is ignored."""
    if len(header) > _MAX_LENGTH:
        return None
    ranges = []
    for member in header.split(","):
        text = member.strip(" \t")
        if not text:
            continue
        match = _RANGE.fullmatch(text)
        if match is None:
            return None
        ranges.append(PaymentRange(match["method"], match["intent"], float(match["q"]) if match["q"] else 1.0))
    return ranges or None


def rank(items: Sequence[T], header: str | None, kind: Callable[[T], tuple[str, str]]) -> Sequence[T]:
    """`items` filtered and ordered as the client prefers; `kind` tells an item's method and intent.

    The most specific range that matches an item decides it. Without a header, with a malformed one, or when nothing
    would be left, all items stay in the server's order: a client may be wrong about what it can pay.
    """
    ranges = parse_accept_payment(header) if header is not None else None
    if ranges is None:
        return items

    def weight(item: T) -> float:
        method, intent = kind(item)
        best = max(ranges, key=lambda candidate: candidate.specificity(method, intent))
        return best.q if best.specificity(method, intent) >= 0 else 0.0

    wanted = [item for item in items if weight(item) > 0]
    return sorted(wanted, key=weight, reverse=True) if wanted else items
