"""How an application is found: what its OpenAPI document says of payment, for any framework."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.routes import PaidRoute
from translators.discovery import METHODS, Priced, ServiceInfo, annotate

__all__ = ["Discovery", "ServiceInfo", "describe", "priced"]


@dataclass(frozen=True)
class Discovery:
    """How a Litestar application is found.

    Raises `ValueError` for a path that is none.
    """

    path: str | None = "/openapi.json"
    """Where the document is served besides Litestar's own pages; the draft and its registries look here. None: nowhere
    else."""

    service: ServiceInfo | None = None
    """What the service says of itself: categories and links."""

    max_age: int = 300
    """How long the document may be cached, in seconds."""

    def __post_init__(self) -> None:
        if self.path is not None and not self.path.startswith("/"):
            raise ValueError("path: begin it with a slash")


def priced(route: PaidRoute) -> Priced:
    """What a route asks for, as a document says it."""
    return Priced(route.offers if isinstance(route.offers, tuple) else None, route.protocols)


def describe(
    document: Mapping[str, Any] | None,
    find: Callable[[str, str], PaidRoute | None],
    names: Iterable[str] = (),
    *,
    title: str = "Paid API",
    version: str = "1",
    service: ServiceInfo | None = None,
) -> dict[str, Any]:
    """The document with what is paid in it; without a document, one of the priced routes alone.

    `find` is asked with a method and a path; `names` are the routes as they were priced (`GET /report`), for a document
    that has to be made. A route for every method is written as GET, and one with a `*` is not written: neither says
    what may be called.
    """
    if document is None:
        document = {"openapi": "3.1.0", "info": {"title": title, "version": version}, "paths": _paths(names)}

    def find_priced(method: str, path: str) -> Priced | None:
        route = find(method, path)
        return priced(route) if route is not None else None

    return annotate(document, find_priced, service)


def _paths(names: Iterable[str]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for name in names:
        method, _, path = name.rpartition(" ")
        verb = (method or "GET").lower()
        if "*" not in path and verb in METHODS:
            parameters = [
                {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
                for part in path.split("/")
                if part.startswith("{")
            ]
            operation: dict[str, Any] = {"responses": {"200": {"description": "What was paid for"}}}
            if verb in ("post", "put", "patch"):
                operation["requestBody"] = {"content": {"*/*": {"schema": {}}}}
            paths.setdefault(path, {}).setdefault(verb, operation | ({"parameters": parameters} if parameters else {}))
    return paths
