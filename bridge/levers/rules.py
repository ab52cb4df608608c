"""The levers' routes where nobody has a table of routes: they are patterns, of which the closest counts."""

from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from bridge.patterns import RoutePattern, normalize
from translators.levers import EVERY_ROUTE

__all__ = ["Rules"]


class Rules:
    """The patterns among `names`. Raises `ValueError` for what is none."""

    def __init__(self, names: Iterable[str]) -> None:
        patterns = [(RoutePattern(name), name) for name in sorted(set(names) - {EVERY_ROUTE})]
        self._patterns = sorted(patterns, key=lambda found: found[0].closeness, reverse=True)

    def find(self, route: str) -> str:
        """The closest of them for a request, which events call `route`: method and path as they were sent; else `*`."""
        return next(self.matching(route), EVERY_ROUTE)

    def matching(self, route: str) -> Iterator[str]:
        """All of them for a request, the closest first."""
        method, _, path = route.partition(" ")
        paths = (normalize(unquote(path)),) if self._patterns else ()
        return (name for pattern, name in self._patterns if pattern.matches(method, paths))
