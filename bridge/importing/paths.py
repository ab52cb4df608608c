"""Route patterns of the x402 SDKs as keys of our route table, with what the difference is where there is one.

The SDKs match without regard to case; our `{name}` is one segment, and our `*` the rest, slashes included.
"""

import re

from bridge.importing.notes import Note, changed

__all__ = ["UnknownPattern", "key_from_glob", "key_from_sdk", "longest_first"]

_PARAMETER = re.compile(r"\[([^\]/]+)\]|:([a-zA-Z_]\w*)")
_NAME = re.compile(r"\W+")


class UnknownPattern(ValueError):
    """A pattern that our route table cannot say."""


def key_from_sdk(pattern: str, *, v1: bool = False) -> tuple[str, list[Note]]:
    """Our key for a key of an SDK's route table: `GET /users/[id]`, `/users/:id`, `GET /files/*`, or `*`.

    Raises `UnknownPattern` for what would leave a priced request unpriced here.
    """
    verb, _, path = pattern.strip().rpartition(" ")
    verb, path = verb.strip().upper() or "*", path.strip()
    notes: list[Note] = []
    if verb == "OPTIONS":
        raise UnknownPattern("OPTIONS is never charged: a browser's preflight cannot pay")
    if verb == "HEAD":
        raise UnknownPattern("HEAD costs what GET costs: price GET")
    if path[:1] not in ("/", "*"):
        raise UnknownPattern(f"{path!r} does not begin with a slash: no request has such a path")
    ours = path if path.startswith("/") else "/" + path
    braces = re.search(r"\{[^/{}]+\}", ours)
    ours = _PARAMETER.sub(lambda m: "{" + _NAME.sub("_", m[1] or m[2]) + "}", ours)
    key = ours if verb == "*" else f"{verb} {ours}"
    if braces:
        notes.append(
            changed(
                key, "path", f"to the SDK {braces[0]} is a literal, which no request has: the route was free so far"
            )
        )
    if v1 and ours.endswith("/*"):
        notes.append(changed(key, "path", f"{ours[:-2] or '/'} itself is charged too; x402 v1's `/*` left it free"))
    if verb == "*":
        notes.append(changed(key, "method", "OPTIONS is free: a browser's preflight cannot pay"))
    elif verb == "GET":
        notes.append(changed(key, "method", "HEAD costs what GET costs; the SDK let it through for free"))
    return key, notes


def key_from_glob(pattern: str) -> tuple[str, list[Note]]:
    """Our key for a path of x402 0.2.1's `require_payment`, which holds for every method.

    Raises `UnknownPattern` for a regular expression, and for globs beyond `*`.
    """
    if pattern.startswith("regex:"):
        raise UnknownPattern(f"{pattern!r}: a regular expression; write the paths with {{name}} and *")
    if "?" in pattern or "[" in pattern:
        raise UnknownPattern(f"{pattern!r}: of globs only * is known; write {{name}} for one segment")
    return key_from_sdk(pattern, v1=True)


def longest_first(patterns: list[str]) -> list[str]:
    """x402 v1's TypeScript servers take the longest of the patterns that match, our table the first."""

    def length(pattern: str) -> int:
        path = pattern.rpartition(" ")[2]
        path = re.sub(r"\[[^\]]+\]", "[^/]+", re.sub(r"\*", ".*?", re.sub(r"([$()+.?^{|}])", r"\\\1", path)))
        return len(path.replace("/", "\\/"))

    return sorted(patterns, key=length, reverse=True)
