"""Which requests the key of a route stands for: `GET /report/{id}`, or `/files/*` for every method."""

import re
from collections.abc import Iterable

__all__ = ["RoutePattern", "normalize"]


class RoutePattern:
    """A key of a route table: `{name}` stands for one segment of the path, and `*` for the rest of it.

    Without a method it is for every one but OPTIONS. Raises `ValueError` for what is no route.
    """

    def __init__(self, key: str) -> None:
        method, _, path = key.strip().rpartition(" ")
        if not path.startswith("/"):
            raise ValueError(f"{key!r} is not a route: write 'GET /path' or '/path'")
        self._method = method.strip().upper() or None
        if self._method in ("HEAD", "OPTIONS"):
            raise ValueError(f"{key!r}: HEAD costs what GET costs, and OPTIONS is never charged")
        # The rest of a path may be nothing: what `/files/` answers belongs to `/files/*` as well.
        parts = re.split(r"(\{[^/{}]+\}|/\*$|\*)", normalize(path))
        self._path = re.compile("".join(map(_regex, parts)), re.DOTALL)
        self.closeness = (sum(map(len, parts[::2])), "*" not in path, self._method is not None)
        """How closely it says what it is for: of two that match, the greater one is about fewer requests."""

    def matches(self, method: str, paths: Iterable[str]) -> bool:
        """Whether the route has any of `paths`, which are normalized; HEAD is priced as the GET that it stands for."""
        if self._method is not None and self._method != ("GET" if method == "HEAD" else method):
            return False
        return any(self._path.fullmatch(path) for path in paths)


def _regex(part: str) -> str:
    match part:
        case "/*":
            return "/?(?:(?<=/).*)?"
        case "*":
            return ".*"
        case _:
            return "[^/]+" if part[:1] == "{" else re.escape(part)


def normalize(path: str) -> str:
    """Frameworks serve `/report/` and `//report` as `/report`, so they cost the same.

    So does a line feed at the end, which the `$` of Starlette's route patterns lets pass.
    """
    return "/" + re.sub(r"/{2,}", "/", path).strip("/\n")
