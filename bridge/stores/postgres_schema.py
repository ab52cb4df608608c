"""The PostgreSQL schema: how it is created and migrated while many workers start at once."""

import psycopg

__all__ = ["MIGRATIONS", "MIGRATION_SECONDS", "migrate"]

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # value, valid_after and valid_before are uint256 in EIP-3009, which is up to 78 digits.
        """
        CREATE TABLE {schema}.payments (
            id text PRIMARY KEY,
            state text NOT NULL,
            protocol text NOT NULL,
            route text NOT NULL,
            correlation_id text NOT NULL,
            chain_id bigint NOT NULL,
            asset text NOT NULL,
            payer text NOT NULL,
            recipient text NOT NULL,
            value numeric(78) NOT NULL,
            nonce text NOT NULL,
            valid_after numeric(78) NOT NULL,
            valid_before numeric(78) NOT NULL,
            owner text NOT NULL,
            lease_until double precision NOT NULL,
            created_at double precision NOT NULL,
            updated_at double precision NOT NULL,
            transaction text NOT NULL,
            reason text NOT NULL
        )
        """,
        # Partial: a sweep looks at the rows it may want, not at all that were ever paid.
        """
        CREATE INDEX payments_by_lease ON {schema}.payments (lease_until, id)
            WHERE state IN ('settling', 'unknown')
        """,
        """
        CREATE INDEX payments_by_expiry ON {schema}.payments (valid_before)
            WHERE state IN ('claimed', 'delivered', 'released')
        """,
    ),
    (
        "CREATE INDEX payments_by_update ON {schema}.payments (updated_at DESC, id)",
        """
        CREATE TABLE {schema}.responses (
            payment_id text PRIMARY KEY,
            response bytea NOT NULL,
            expires_at double precision NOT NULL
        )
        """,
        "CREATE INDEX responses_by_expiry ON {schema}.responses (expires_at)",
        """
        CREATE TABLE {schema}.idempotency_keys (
            key text PRIMARY KEY,
            bound_to text NOT NULL,
            expires_at double precision NOT NULL
        )
        """,
        "CREATE INDEX idempotency_keys_by_expiry ON {schema}.idempotency_keys (expires_at)",
    ),
)
"""What leads from each schema version to the next; a released entry never changes. The length is the version."""

MIGRATION_SECONDS = 60
"""How long a migration takes at most, and a worker waits for another that is migrating."""


async def migrate(connection: psycopg.AsyncConnection, schema: str) -> None:
    """Create or migrate `schema`; raises `RuntimeError` for one that a later release wrote.

    `schema` is an identifier that needs no quotes. It may exist already: then no right to create one is needed.
    """
    # Without the lock first: where nothing is to be done, the right to read is enough, and nobody waits.
    if await _version(connection, schema) == len(MIGRATIONS):
        return
    async with connection.transaction():
        await connection.execute(f"SET LOCAL statement_timeout = '{MIGRATION_SECONDS}s'")
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"x402-mpp-bridge {schema}",)
        )
        version = await _version(connection, schema)
        if version is None:
            await _create(connection, schema)
            version = 0
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                await connection.execute(statement.format(schema=schema))
        await connection.execute(f"UPDATE {schema}.schema_version SET version = %s", (len(MIGRATIONS),))  # noqa: S608


async def _version(connection: psycopg.AsyncConnection, schema: str) -> int | None:
    """The version of the schema, or None where there is none; raises `RuntimeError` for a later release's."""
    # Not to_regclass: it answers from a cache that may be older than the lock, and miss what another worker created.
    query = "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = 'schema_version'"
    if await (await connection.execute(query, (schema,))).fetchone() == (0,):
        return None
    cursor = await connection.execute(f"SELECT max(version) FROM {schema}.schema_version")  # noqa: S608
    row = await cursor.fetchone()
    version = int(row[0]) if row and row[0] is not None else 0
    if version > len(MIGRATIONS):
        raise RuntimeError(
            f"the payment store has schema version {version}, and this release knows up to {len(MIGRATIONS)}: "
            "it was written by a later release"
        )
    return version


async def _create(connection: psycopg.AsyncConnection, schema: str) -> None:
    # IF NOT EXISTS asks for the right to create one even where it exists.
    cursor = await connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", (schema,))
    if await cursor.fetchone() == (0,):
        await connection.execute(f"CREATE SCHEMA {schema}")
    await connection.execute(f"CREATE TABLE {schema}.schema_version (version integer NOT NULL)")
    await connection.execute(f"INSERT INTO {schema}.schema_version VALUES (0)")  # noqa: S608
