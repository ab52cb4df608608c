"""What this process has seen upstreams ask: it saves asking again, and nothing is ever decided by it alone."""

from collections import OrderedDict
from collections.abc import Iterator

from bridge.gateway.upstreams import Upstream
from translators.upstream import Demand

__all__ = ["Learned"]

_REMEMBERED = 4096
_LONGEST = 1024
"""Characters of a path that is remembered: anybody can ask for longer ones, and thousands of them."""


class Learned:
    """The last 402 of each route, and the versions of x402 that an upstream speaks."""

    def __init__(self) -> None:
        self._demands: OrderedDict[tuple[str, str, str], Demand] = OrderedDict()
        self._versions: dict[str, set[frozenset[int]]] = {}
        self._named: dict[str, str | None] = {}

    def note(self, upstream: Upstream, method: str, path: str, demand: Demand, *, named: str | None) -> None:
        """An upstream was seen to ask this; `named` is where it says that it is, if not what clients say."""
        key = (upstream.name, method, path)
        if len(path) <= _LONGEST:
            self._demands[key] = demand
            self._demands.move_to_end(key)
        if len(self._demands) > _REMEMBERED:
            self._demands.popitem(last=False)
        self._versions.setdefault(upstream.name, set()).add(demand.versions)
        if demand.v2 is not None:
            self._named[upstream.name] = named

    def demand(self, upstream: Upstream, method: str, path: str) -> Demand | None:
        """What this route asked when it was last seen to."""
        return self._demands.get((upstream.name, method, path))

    def all(self, upstream: Upstream) -> Iterator[tuple[str, str, Demand]]:
        """Method, path and 402 of every route of an upstream that is remembered."""
        for (name, method, path), demand in list(self._demands.items()):
            if name == upstream.name:
                yield method, path, demand

    def versions(self, upstream: Upstream) -> frozenset[int] | None:
        """What all routes of an upstream speak, as far as it was seen; None where they differ, or none was."""
        seen = self._versions.get(upstream.name, set())
        return next(iter(seen)) if len(seen) == 1 else None

    def named(self, upstream: Upstream) -> str | None:
        """Where an upstream says that it is, if that is not what clients say."""
        return self._named.get(upstream.name)
