"""The levers' routes where nobody has a table of routes: they are patterns, of which the closest counts."""

from collections.abc import Iterable
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
        if not self._patterns:
            return EVERY_ROUTE
        method, _, path = route.partition(" ")
        paths = (normalize(unquote(path)),)
        return next((name for pattern, name in self._patterns if pattern.matches(method, paths)), EVERY_ROUTE)
