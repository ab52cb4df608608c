"""Which upstream a path belongs to, and what the path is called there."""

from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

__all__ = ["Upstream", "Upstreams"]


class Upstream:
    """One server behind the gateway.

    As with nginx: a URL with a path, even a slash, has that path in the place of `prefix`; one without gets the path as
    the client sent it. Raises `ValueError` for a URL or prefix that cannot work.
    """

    def __init__(self, prefix: str, url: str) -> None:
        parts = urlsplit(url)
        # Not quoted: what does not belong there may be a password.
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError(f"what {prefix} leads to is not an http or https URL")
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError(f"what {prefix} leads to: give scheme, host and path only")
        if not prefix.startswith("/") or "?" in prefix or "#" in prefix:
            raise ValueError(f"{prefix!r} is not a path: begin it with a slash")
        self.prefix = prefix.rstrip("/")
        self.replaces = bool(parts.path)
        self.path = parts.path.rstrip("/") if self.replaces else self.prefix
        self.authority = parts.netloc
        self.hostname = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.is_tls = parts.scheme == "https"
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.own = self.origin + self.path
        """Where the upstream sees what clients see at `prefix`."""
        self.name = url

    def target(self, path: str, query: bytes) -> bytes:
        """The request target for a client's path, byte for byte but for the prefix."""
        at = self.path + path[len(self.prefix) :] if self.replaces else path
        target = (at or "/").encode("latin-1")
        return target + b"?" + query if query else target


class Upstreams:
    """All of them, the longest prefix first."""

    def __init__(self, urls: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        pairs = urls.items() if isinstance(urls, Mapping) else urls
        self.all = sorted((Upstream(prefix, url) for prefix, url in pairs), key=lambda u: -len(u.prefix))
        prefixes = [upstream.prefix for upstream in self.all]
        if not prefixes:
            raise ValueError("give at least one upstream")
        if len(set(prefixes)) != len(prefixes):
            raise ValueError("two upstreams have the same path")

    def find(self, path: str) -> Upstream | None:
        """The upstream of a path, as it was sent; None where none has it.

        A request's target may be no path (`*`, or what a careless server lets pass). Behind an upstream's address
        `@elsewhere/` would name another host. Nor has a path that climbs out of the part of a server which is shown.
        """
        if not path.startswith("/"):
            return None
        for upstream in self.all:
            prefix = upstream.prefix
            if path.startswith(prefix) and (len(path) == len(prefix) or not prefix or path[len(prefix)] == "/"):
                return None if upstream.path and _climbs(path[len(prefix) :]) else upstream
        return None


def _climbs(rest: str) -> bool:
    """Whether `..` leads out of where it stands: whoever resolves it would find what the gateway does not show."""
    depth = 0
    for segment in unquote(rest).replace("\\", "/").split("/"):
        # Some servers take what stands behind a semicolon for a parameter.
        name = segment.partition(";")[0]
        depth += -1 if name == ".." else name not in ("", ".")
        if depth < 0:
            return True
    return False
