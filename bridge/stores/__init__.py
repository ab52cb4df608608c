"""Stores: where claims and the payment journal live."""

from bridge.stores.base import Claim, ClaimLost, Record, Store
from bridge.stores.memory import MemoryStore
from bridge.stores.sqlite import SQLiteStore

__all__ = ["Claim", "ClaimLost", "MemoryStore", "Record", "SQLiteStore", "Store", "store_from_url"]


def store_from_url(url: str) -> Store:
    """The store that `url` names, not yet started: `memory:`, or `sqlite:PATH`.

    Raises `ValueError`, which names the kind of store asked for and never the whole URL: it may hold a password.
    """
    scheme, _, rest = url.partition(":")
    match scheme:
        case "memory" if not rest:
            return MemoryStore()
        # SQLAlchemy's sqlite:///PATH is relative where a reader takes it for absolute; ":memory:" is not shared.
        case "sqlite" if rest and not rest.startswith(("//", ":")):
            return SQLiteStore(rest)
        case "memory" | "sqlite" | "postgresql" | "redis":
            asked = f"this {scheme}: URL"
        case _:
            asked = "this URL"
    raise ValueError(f"{asked} names no store that is supported; supported are memory: and sqlite:PATH")
