"""Levers in a table of a PostgreSQL database, for all machines that use it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bridge.stores.store_url import split_store_url
from translators.errors import Unavailable

try:
    import psycopg
    from psycopg import sql
except ImportError as error:
    raise ImportError('levers in postgresql: need psycopg: pip install "x402-mpp-bridge[postgres]"') from error

__all__ = ["PostgreSQLLevers"]

T = TypeVar("T")


class PostgreSQLLevers:
    """The table `lever_changes` in the payment store's schema; it is created where it is missing."""

    def __init__(self, url: str) -> None:
        self._url = split_store_url(url, setting="schema", default="x402_mpp", pattern=r"[a-z_][a-z0-9_]{0,62}")
        self.name = f"the table lever_changes in the schema {self._url.name}"
        self._table = sql.Identifier(self._url.name, "lever_changes")

    async def read(self) -> str:
        """See `LeverSource.read`."""
        return await self._on_connection(self._text)

    async def append(self, text: str, *, after: str) -> bool:
        """See `LeverSource.append`."""

        async def add(connection: psycopg.AsyncConnection) -> bool:
            await self._text(connection)  # makes the table, where there is none
            async with connection.transaction():
                await connection.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(self._table))
                if await self._text(connection) != after:
                    return False
                await connection.execute(sql.SQL("INSERT INTO {} (text) VALUES (%s)").format(self._table), (text,))
                return True

        return await self._on_connection(add)

    async def _on_connection(self, work: Callable[[psycopg.AsyncConnection], Awaitable[T]]) -> T:
        try:
            # Twice: to connect, and to work.
            async with asyncio.timeout(self._url.timeout * 2), await self._connect() as connection:
                return await work(connection)
        except (psycopg.Error, TimeoutError) as error:
            raise Unavailable(f"{self.name}: {type(error).__name__}") from None

    async def _connect(self) -> psycopg.AsyncConnection:
        # A connection each time: it is looked at once in a while, and a server that was away is simply asked again.
        return await psycopg.AsyncConnection.connect(
            self._url.driver_url, autocommit=True, connect_timeout=max(2, round(self._url.timeout))
        )

    async def _text(self, connection: psycopg.AsyncConnection) -> str:
        try:
            read = sql.SQL("SELECT text FROM {} ORDER BY number").format(self._table)
            rows = await (await connection.execute(read)).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            await self._create(connection)
            rows = []
        return "".join(row[0] for row in rows)

    async def _create(self, connection: psycopg.AsyncConnection) -> None:
        async with connection.transaction():
            # Servers that start at once would trip over each other's.
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"x402-mpp-bridge {self._url.name}",)
            )
            found = await connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", (self._url.name,))
            if await found.fetchone() == (0,):
                await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(self._url.name)))
            create = "CREATE TABLE IF NOT EXISTS {} (number bigserial PRIMARY KEY, text text NOT NULL)"
            await connection.execute(sql.SQL(create).format(self._table))
