"""Stores: where claims and the payment journal live."""

from bridge.stores.base import Claim, ClaimLost, Record, Store
from bridge.stores.memory import MemoryStore
from bridge.stores.sqlite import SQLiteStore

__all__ = ["Claim", "ClaimLost", "MemoryStore", "Record", "SQLiteStore", "Store", "store_from_url"]


def store_from_url(url: str) -> Store:
    """The store that `url` names, not yet started.

    `memory:`, `sqlite:PATH`, `postgresql://...` (see `bridge.stores.postgres`), or `redis://...`, `rediss://...` or
    `valkey://...` (see `bridge.stores.redis`). Raises `ValueError`, which names the kind of store asked for and never
    the whole URL: it may hold a password. Raises `ImportError` where the extra for that kind is not installed.
    """
    scheme, _, rest = url.partition(":")
    match scheme:
        case "memory" if not rest:
            return MemoryStore()
        # SQLAlchemy's sqlite:///PATH is relative where a reader takes it for absolute; ":memory:" is not shared.
        case "sqlite" if rest and not rest.startswith(("//", ":")):
            return SQLiteStore(rest)
        # The drivers are extras: their modules are imported when they are asked for.
        case "postgresql" | "postgres" if rest.startswith("//"):
            from bridge.stores.postgres import PostgreSQLStore

            return PostgreSQLStore(url)
        case "redis" | "rediss" | "valkey" | "valkeys" if rest.startswith("//"):
            from bridge.stores.redis import RedisStore

            return RedisStore(url)
        case "memory" | "sqlite" | "postgresql" | "postgres" | "redis" | "rediss" | "valkey" | "valkeys":
            asked = f"this {scheme}: URL"
        case _:
            asked = "this URL"
    raise ValueError(
        f"{asked} names no store that is supported; supported are memory:, sqlite:PATH, postgresql://..., redis://..., "
        "rediss://... and valkey://..."
    )
