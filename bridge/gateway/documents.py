"""An upstream's OpenAPI document, with what its paid operations cost: as it was seen, and where it was not, asked."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec

from bridge.gateway.forward import Answer
from bridge.gateway.headers import without
from translators.discovery import METHODS, Priced, annotate, relocate
from translators.payment import Protocol
from translators.upstream import Demand

__all__ = ["CONDITIONS", "describe", "is_document", "unseen"]

CONDITIONS: Final = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range", b"if-range")
"""Headers of a request for a document that are not passed on: what comes back is changed, and has to be whole."""

_MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_ASKED: Final = 32
_VALIDATORS: Final = (b"content-length", b"etag", b"last-modified", b"digest", b"content-digest", b"repr-digest")

Seen = Iterable[tuple[str, str, Demand]]
"""Method, path (as the document would write it) and 402 of each route that was seen to ask for payment."""


def is_document(method: str, path: str) -> bool:
    """Whether a request is for a document, by the name that the draft gives it."""
    return method == "GET" and path.endswith("/openapi.json")


async def describe(
    answer: Answer,
    seen: Callable[[], Seen],
    ask: Callable[[str], Awaitable[None]],
    protocols: Callable[[Demand], frozenset[Protocol]],
    bases: tuple[str, str],
) -> None:
    """Put prices into `answer`, which is for a document; any other answer is left as it is.

    `seen` are the routes that were seen to ask for payment; `ask` asks for a path unpaid, so that it is; `protocols`
    are those that a route is paid in here; `bases` are where the upstream sees itself, and where clients find it.
    """
    kinds = [value.partition(b";")[0].strip().lower() for name, value in answer.headers if name == b"content-type"]
    encoded = any(name == b"content-encoding" and value.lower() != b"identity" for name, value in answer.headers)
    if answer.status != 200 or encoded or not kinds or not kinds[0].endswith(b"json"):
        return
    content = await answer.read(_MAX_BYTES)
    try:
        document = msgspec.json.decode(content) if content is not None else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        return
    waiting = unseen(document, seen())[:_MAX_ASKED]
    if waiting:
        await asyncio.gather(*(ask(path) for path in waiting), return_exceptions=True)
    routes = list(seen())

    def find(method: str, path: str) -> Priced | None:
        demand = next((d for m, p, d in routes if m == method and _is_at(path, p)), None)
        if demand is None:
            return None
        return Priced(tuple(terms.offer for terms in demand.terms), protocols(demand))

    made = msgspec.json.encode(relocate(annotate(document, find), *bases))
    answer.replace(made)
    kept = without(answer.headers, _VALIDATORS, mpp=False)
    if routes and not any(name == b"cache-control" for name, _ in kept):
        # draft-payment-discovery-00, section "Caching", recommends five minutes; here prices are learned as they are
        # seen, so that a document is soon another.
        kept = [*kept, (b"cache-control", b"max-age=60")]
    answer.headers = [*kept, (b"content-length", str(len(made)).encode())]


def unseen(document: dict[str, Any], seen: Seen) -> list[str]:
    """Paths whose GET the document declares to be paid, which nobody has asked for yet.

    Only these are asked for: a GET that is declared paid does nothing unpaid.
    """
    paths = document.get("paths")
    known = [path for method, path, _ in seen if method == "GET"]
    found = []
    for path, item in paths.items() if isinstance(paths, dict) else ():
        operation = item.get(METHODS[0]) if isinstance(item, dict) else None
        if isinstance(operation, dict) and "{" not in path and not any(_is_at(path, at) for at in known):
            responses = operation.get("responses")
            if "x-payment-info" in operation or (isinstance(responses, dict) and "402" in responses):
                found.append(path)
    return found


def _is_at(template: str, path: str) -> bool:
    return _pattern(template).fullmatch(path) is not None


@lru_cache(maxsize=4096)
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{[^/{}]+\}", template)
    return re.compile("[^/]+".join(re.escape(part) for part in parts))
