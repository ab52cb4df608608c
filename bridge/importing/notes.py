"""What is said about an import: what carried over, what did not, and what clients will see change."""

from enum import StrEnum

import msgspec

__all__ = ["EVERY_ROUTE", "Kind", "Note", "changed", "lost"]

EVERY_ROUTE = ""


class Kind(StrEnum):
    """What became of something that the old server says."""

    LOST = "lost"
    """It has no place here: nothing does what it did."""
    CHANGED = "changed"
    """It works, and a client can tell the difference."""


class Note(msgspec.Struct, frozen=True):
    """One thing that is not as it was. `route` is empty where it is so on every route."""

    kind: Kind
    route: str
    what: str
    says: str


def lost(route: str, what: str, says: str) -> Note:
    """Something that has no place here."""
    return Note(Kind.LOST, route, what, says)


def changed(route: str, what: str, says: str) -> Note:
    """Something that a client can tell the difference of."""
    return Note(Kind.CHANGED, route, what, says)
