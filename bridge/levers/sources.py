"""Where levers are kept: a file that people edit, or a table that all machines share.

Both hold the same text (`translators.levers_toml`). It only ever grows by changes at its end, so that what a change
does can be told from the text alone, and two people who change at once lose nothing.
"""

from typing import Protocol

__all__ = ["LeverSource", "source_from_spec"]


class LeverSource(Protocol):
    """Where levers are kept. What cannot be reached raises `Unavailable`."""

    name: str
    """As logs and people call it; it holds no password."""

    async def read(self) -> str:
        """The whole document."""
        ...

    async def append(self, text: str, *, after: str) -> bool:
        """Add `text` at the end, if the document is still `after`; else do nothing and answer false."""
        ...


def source_from_spec(spec: str) -> LeverSource:
    """The source that `spec` names: the path of a TOML file, or a store's URL, whose database then holds the levers.

    Raises `ValueError`, which never repeats a URL: it may hold a password. Raises `ImportError` where the extra for a
    kind of database is not installed.
    """
    scheme, colon, rest = spec.partition(":")
    match scheme:
        case "sqlite" if rest and not rest.startswith(("//", ":")):
            from bridge.levers.sqlite import SQLiteLevers

            return SQLiteLevers(rest)
        case "postgresql" | "postgres" if rest.startswith("//"):
            from bridge.levers.postgres import PostgreSQLLevers

            return PostgreSQLLevers(spec)
        case "redis" | "rediss" | "valkey" | "valkeys" if rest.startswith("//"):
            from bridge.levers.redis import RedisLevers

            return RedisLevers(spec)
        case _ if spec.endswith(".toml") and not rest.startswith("//"):
            from bridge.levers.file import FileLevers

            return FileLevers(spec)
    asked = f"this {scheme}: URL" if colon else f"{spec!r}"
    raise ValueError(
        f"{asked} holds no levers: give a file that ends in .toml, sqlite:PATH, postgresql://... or redis://..."
    )
