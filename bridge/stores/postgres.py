"""A store in PostgreSQL: for any number of machines. It needs the extra `postgres`."""

import asyncio
import math
from collections.abc import Collection
from typing import Any

import msgspec

from bridge.stores import rules
from bridge.stores.base import Claim, Record, StoredResponse
from bridge.stores.rows import from_row, to_row
from bridge.stores.store_url import split_store_url
from translators.errors import Unavailable
from translators.lifecycle import State

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    from bridge.stores.postgres_job import Connection, Cursor, Shortcut, unavailable
    from bridge.stores.postgres_lanes import PostgresLanes
    from bridge.stores.postgres_rows import Statements, fetch_record, storable
    from bridge.stores.postgres_schema import MIGRATION_SECONDS, migrate
except ImportError as error:
    raise ImportError('a postgresql: store needs psycopg: pip install "x402-mpp-bridge[postgres]"') from error

__all__ = ["PostgreSQLStore"]

_DEFAULTS = {"application_name": "x402-mpp", "keepalives_idle": "30", "keepalives_interval": "10"}
"""What we tell libpq unless the URL says something else."""

_CONFIGURE = """
    SELECT set_config('statement_timeout', %(milliseconds)s, false),
        set_config('idle_in_transaction_session_timeout', %(milliseconds)s, false),
        set_config('default_transaction_isolation', 'read committed', false),
        set_config('synchronous_commit', CASE current_setting('synchronous_commit')
            WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)"""
# synchronous_commit: whoever has turned it off for other work would lose the latest claims in a crash.
# idle_in_transaction: a worker that is frozen inside a transaction lets go of its row, as one that died does.

_PURGED_AT_ONCE = 1_000
"""Rows deleted by one statement: the claims that wait behind it notice nothing."""


class PostgreSQLStore:
    """Claims in the PostgreSQL database at `url`, one winner among all processes of all machines that use it.

    `url` is libpq's (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS), with two
    settings of ours in the query: `schema`, where the tables are, created if it is not there (`x402_mpp`); and
    `timeout`, after how many seconds a call gives up (2). One process opens at most `max_connections`.

    A call that gets no answer in time raises `Unavailable`. What the server did with it is then not known to anybody
    but the server: a claim that it did commit is freed when its lease is over. A server that comes back is used again.
    What was called is carried out, even if the calling task is cancelled meanwhile.

    Calls may come from any event loop; the connections belong to the one that called `start`, which has to be running.
    Each process calls `start` itself, after it was forked. Behind PgBouncer, pool sessions, not transactions.
    """

    def __init__(self, url: str, *, max_connections: int = 4) -> None:
        parts = split_store_url(url, setting="schema", default="x402_mpp", pattern="[a-z_][a-z0-9_]{0,62}")
        self._schema, self._timeout = parts.name, parts.timeout
        self._parameters = {
            **_DEFAULTS,
            **_read_url(parts.driver_url),
            "connect_timeout": max(2, math.ceil(parts.timeout)),  # libpq takes 1 for 2
            "autocommit": True,
        }
        self._max_connections = max_connections
        self._sql = Statements(self._schema)
        self._lanes: PostgresLanes | None = None

    async def start(self) -> None:
        """Connect, and create or migrate the schema.

        Raises `Unavailable` where the database cannot be had, and `RuntimeError` for a schema of a later release.
        """
        if self._lanes is not None and not self._lanes.is_over:
            raise RuntimeError("the payment store is started already")
        try:
            # By a connection of its own: a pool only says that it has none, and this one says why.
            async with (
                asyncio.timeout(MIGRATION_SECONDS),
                await psycopg.AsyncConnection.connect(**self._parameters) as connection,
            ):
                await self._configure(connection)
                await migrate(connection, self._schema)
        except (psycopg.Error, TimeoutError) as error:
            raise unavailable(error) from error
        lanes = PostgresLanes(
            parameters=self._parameters,
            configure=self._configure,
            timeout=self._timeout,
            max_connections=self._max_connections,
        )
        try:
            await lanes.open()
        except psycopg.Error as error:
            raise unavailable(error) from error
        self._lanes = lanes

    async def close(self) -> None:
        """Finish what is queued and close; the store can be started again."""
        lanes, self._lanes = self._lanes, None
        if lanes is not None:
            await lanes.close()

    async def claim(self, record: Record, *, now: float) -> Claim:
        """See `Store.claim`."""
        answer = rules.claim(None, record, now)

        async def conclude(cursor: Cursor) -> Claim | None:
            return answer if cursor.rowcount == 1 else None

        insert = Shortcut(record.id, self._sql.insert, to_row(record, storable), conclude)

        async def operation(connection: Connection, again: bool) -> Claim:
            # Round, when the row changes between two looks at it.
            while True:
                if (claim := await conclude(await connection.execute(insert.query, insert.parameters))) is not None:
                    return claim
                row = await self._get(connection, record.id)
                if row is None:
                    continue
                if again and row.owner == record.owner:
                    return Claim(won=True, record=row)  # by the call whose answer was lost
                if not rules.claim(row, record, now).won:
                    return Claim(won=False, record=row)
                if (settled := await self._inherit(connection, record, now)) is not None:
                    return settled

        return await self._opened().run(operation, insert)

    async def _inherit(self, connection: Connection, record: Record, now: float) -> Claim | None:
        """Claim a payment that has a row already; None if it has none any more."""
        async with connection.transaction():
            row = await self._get(connection, record.id, lock=True)
            if row is None:
                return None
            answer = rules.claim(row, record, now)
            if answer.won:
                await connection.execute(self._sql.replace, (*to_row(answer.record, storable), record.id))
            return answer

    async def advance(
        self,
        payment_id: str,
        to: State,
        *,
        owner: str,
        now: float,
        lease_until: float | None = None,
        transaction: str | None = None,
        reason: str | None = None,
        response: StoredResponse | None = None,
    ) -> Record:
        """See `Store.advance`."""
        changes: dict[str, Any] = {
            "lease_until": lease_until,
            "transaction": None if transaction is None else storable(transaction),
            "reason": None if reason is None else storable(reason),
        }
        sources = [state.value for state in rules.leading_to(to)]
        parameters = {"id": payment_id, "to": to.value, "owner": owner, "now": now, "from": sources, **changes}

        if response is None:
            update = Shortcut(payment_id, self._sql.advance, parameters, fetch_record)
        else:
            parameters |= {"response": msgspec.msgpack.encode(response), "expires_at": response.expires_at}
            update = Shortcut(payment_id, self._sql.deliver, parameters, fetch_record)

        async def operation(connection: Connection, _again: bool) -> Record:
            while True:
                if (row := await fetch_record(await connection.execute(update.query, update.parameters))) is not None:
                    return row
                # Why not? Going round if the row has changed meanwhile, and now may be moved.
                current = await self._get(connection, payment_id)
                rules.advance(current, to, owner=owner, now=now, **changes)

        return await self._opened().run(operation, update)

    async def get(self, payment_id: str) -> Record | None:
        """See `Store.get`."""
        return await self._opened().run(lambda connection, _again: self._get(connection, payment_id))

    async def response(self, payment_id: str, *, now: float) -> StoredResponse | None:
        """See `Store.response`."""

        async def operation(connection: Connection, _again: bool) -> StoredResponse | None:
            cursor = await connection.execute(self._sql.response, (payment_id, now))
            row = await cursor.fetchone()
            return None if row is None else msgspec.msgpack.decode(row[0], type=StoredResponse)

        return await self._opened().run(operation)

    async def bind_key(
        self, key: str, payment_id: str, *, now: float, expires_at: float, instead_of: str | None = None
    ) -> str:
        """See `Store.bind_key`."""
        parameters = {"key": key, "to": payment_id, "now": now, "expires_at": expires_at, "instead_of": instead_of}

        async def operation(connection: Connection, _again: bool) -> str:
            cursor = await connection.execute(self._sql.bind_key, parameters)
            row = await cursor.fetchone()
            assert row is not None
            return str(row[0])

        return await self._opened().run(operation)

    async def bound(self, key: str, *, now: float) -> str | None:
        """See `Store.bound`."""

        async def operation(connection: Connection, _again: bool) -> str | None:
            row = await (await connection.execute(self._sql.bound, (key, now))).fetchone()
            return None if row is None else str(row[0])

        return await self._opened().run(operation)

    async def records(self, *, states: Collection[State] = (), limit: int = 100) -> list[Record]:
        """See `Store.records`."""
        return await self._fetch(
            self._sql.records, {"states": [state.value for state in states] or None, "limit": limit}
        )

    async def take_over(
        self, *, owner: str, now: float, lease_until: float, limit: int = 100, payment_id: str | None = None
    ) -> list[Record]:
        """See `Store.take_over`."""
        parameters = {"owner": owner, "now": now, "lease_until": lease_until, "limit": limit, "payment_id": payment_id}
        return await self._fetch(self._sql.take_over, parameters)

    async def purge(self, *, now: float) -> int:
        """See `Store.purge`."""
        for query in self._sql.purge_kept:
            await self._purge(query, now)
        return await self._purge(self._sql.purge, now)

    async def _purge(self, query: str, now: float) -> int:
        parameters = {"now": now, "limit": _PURGED_AT_ONCE}

        async def operation(connection: Connection, _again: bool) -> int:
            return (await connection.execute(query, parameters)).rowcount

        purged = 0
        while True:
            count = await self._opened().run(operation)
            purged += count
            if count < _PURGED_AT_ONCE:
                return purged

    async def _fetch(self, query: str, parameters: dict[str, Any]) -> list[Record]:
        async def operation(connection: Connection, _again: bool) -> list[Record]:
            cursor = await connection.execute(query, parameters)
            return [from_row(row) for row in await cursor.fetchall()]

        return await self._opened().run(operation)

    def _opened(self) -> PostgresLanes:
        if self._lanes is None:
            raise Unavailable("The payment store is closed.")
        return self._lanes

    async def _configure(self, connection: Connection) -> None:
        # A little sooner than the deadline: where the server itself gives up, it is certain that nothing was done.
        await connection.execute(_CONFIGURE, {"milliseconds": str(int(self._timeout * 900))})

    async def _get(self, connection: Connection, payment_id: str, *, lock: bool = False) -> Record | None:
        return await fetch_record(await connection.execute(self._sql.lock if lock else self._sql.get, (payment_id,)))


def _read_url(url: str) -> dict[str, Any]:
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.Error:  # whose text may repeat a part of the password
        parameters = {"port": "unreadable"}
    # A password with unescaped characters is read as a part of the host or port, and connecting would name them.
    ports, hosts = str(parameters.get("port", "")), str(parameters.get("host", ""))
    if "@" in hosts or not all(port.isdigit() for port in ports.split(",") if port):
        raise ValueError("this postgresql: URL cannot be read; percent-encode what is special in its password")
    return parameters
