"""Durations in a histogram that can be added to others, with quantiles that are right to one part in a hundred.

The buckets grow by a constant factor, as in DDSketch (https://arxiv.org/abs/1908.10693): a value and the middle of its
bucket differ by at most `ERROR` of the value, whatever its size, and two histograms are added bucket by bucket.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

__all__ = ["ERROR", "Histogram", "exact_quantile"]

ERROR = 0.01
"""How far a quantile is from the exact one at most, relative to it."""

_GROWTH = (1 + ERROR) / (1 - ERROR)
_LOG = math.log(_GROWTH)
_LEAST = 0.001
"""Milliseconds: what is shorter counts as this."""


class Histogram:
    """Counts of durations in milliseconds."""

    __slots__ = ("buckets",)

    def __init__(self, buckets: Mapping[int, int] | None = None) -> None:
        self.buckets: dict[int, int] = dict(buckets or {})

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.buckets.values())

    def add(self, milliseconds: float, times: int = 1) -> None:
        """Count a value."""
        bucket = math.ceil(math.log(max(milliseconds, _LEAST)) / _LOG)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times

    def merge(self, other: "Histogram") -> None:
        """Count all of another's values."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def quantile(self, share: float) -> float | None:
        """The value that `share` of all are at most, within `ERROR`; None where there are none."""
        rank = math.ceil(share * self.count)
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                # The point from which both ends of the bucket are equally far, relative to themselves.
                return float(2 * _GROWTH**bucket / (_GROWTH + 1))
        return None

    def encode(self) -> bytes:
        """As it is stored."""
        return msgspec.msgpack.encode(sorted(self.buckets.items()))

    @classmethod
    def decode(cls, data: bytes) -> "Histogram":
        """From what is stored."""
        return cls(dict(msgspec.msgpack.decode(data, type=list[tuple[int, int]])))

    @classmethod
    def of(cls, values: Iterable[float]) -> "Histogram":
        """Of these values."""
        histogram = cls()
        for value in values:
            histogram.add(value)
        return histogram


def exact_quantile(ordered: Sequence[float], share: float) -> float | None:
    """The same quantile of values in ascending order, exact: the nearest rank."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
