"""Payments in PostgreSQL: the statements."""

from bridge.stores import rules
from bridge.stores.base import Record
from bridge.stores.postgres_job import Cursor
from bridge.stores.rows import COLUMNS, from_row
from translators.lifecycle import State

__all__ = ["Statements", "fetch_record", "storable"]


class Statements:
    """The statements, for the tables in `schema`. The states in them are literals: so PostgreSQL uses the indices."""

    def __init__(self, schema: str) -> None:
        table, places = f"{schema}.payments", ", ".join(["%s"] * len(Record.__struct_fields__))
        columns = ", ".join(f"payments.{column.strip()}" for column in COLUMNS.split(","))
        self.get = f"SELECT {COLUMNS} FROM {table} WHERE id = %s"  # noqa: S608  (constants, here and below)
        self.lock = f"{self.get} FOR UPDATE"
        self.insert = f"INSERT INTO {table} ({COLUMNS}) VALUES ({places}) ON CONFLICT DO NOTHING"  # noqa: S608
        self.replace = f"UPDATE {table} SET ({COLUMNS}) = ROW ({places}) WHERE id = %s"  # noqa: S608
        self.advance = f"""
            UPDATE {table} SET state = %(to)s, updated_at = %(now)s,
                lease_until = coalesce(%(lease_until)s, lease_until),
                transaction = coalesce(%(transaction)s, transaction),
                reason = coalesce(%(reason)s, reason)
            WHERE id = %(id)s AND owner = %(owner)s AND state = ANY (%(from)s) RETURNING {COLUMNS}"""  # noqa: S608
        self.deliver = f"""
            WITH moved AS ({self.advance}), kept AS (
                INSERT INTO {schema}.responses SELECT id, %(response)s, %(expires_at)s FROM moved
                ON CONFLICT (payment_id) DO UPDATE
                SET response = excluded.response, expires_at = excluded.expires_at
            )
            SELECT {COLUMNS} FROM moved"""  # noqa: S608
        self.response = f"SELECT response FROM {schema}.responses WHERE payment_id = %s AND expires_at > %s"  # noqa: S608
        self.bound = f"SELECT bound_to FROM {schema}.idempotency_keys WHERE key = %s AND expires_at > %s"  # noqa: S608
        gives_way = "k.expires_at <= %(now)s OR k.bound_to IN (excluded.bound_to, %(instead_of)s)"
        self.bind_key = f"""
            INSERT INTO {schema}.idempotency_keys AS k VALUES (%(key)s, %(to)s, %(expires_at)s)
            ON CONFLICT (key) DO UPDATE SET
                bound_to = CASE WHEN {gives_way} THEN excluded.bound_to ELSE k.bound_to END,
                expires_at = CASE WHEN {gives_way} THEN excluded.expires_at ELSE k.expires_at END
            RETURNING bound_to"""  # noqa: S608
        self.records = f"""
            SELECT {COLUMNS} FROM {table} WHERE %(states)s::text[] IS NULL OR state = ANY (%(states)s)
            ORDER BY updated_at DESC, id LIMIT %(limit)s"""  # noqa: S608
        self.purge_kept = tuple(
            f"""
            DELETE FROM {schema}.{kept} WHERE {key} IN (
                SELECT {key} FROM {schema}.{kept} WHERE expires_at <= %(now)s LIMIT %(limit)s
            ) AND expires_at <= %(now)s"""  # noqa: S608
            for kept, key in (("responses", "payment_id"), ("idempotency_keys", "key"))
        )
        # MATERIALIZED: found once. A plan may run a subquery again, which would pass over what it has locked itself.
        self.take_over = f"""
            WITH orphans AS MATERIALIZED (
                SELECT id FROM {table} WHERE {_state_in(rules.OUTCOME_OPEN)} AND lease_until <= %(now)s
                AND (%(payment_id)s::text IS NULL OR id = %(payment_id)s)
                ORDER BY lease_until, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
            )
            UPDATE {table} SET owner = %(owner)s, lease_until = %(lease_until)s, updated_at = %(now)s
            FROM orphans WHERE payments.id = orphans.id RETURNING {columns}"""  # noqa: S608
        self.purge = f"""
            WITH disposable AS MATERIALIZED (
                SELECT id FROM {table} WHERE {_state_in(rules.FORGETTABLE)} AND valid_before <= %(now)s::numeric
                AND ({_state_in(rules.FINISHED)} OR lease_until <= %(now)s) LIMIT %(limit)s FOR UPDATE SKIP LOCKED
            )
            DELETE FROM {table} USING disposable WHERE payments.id = disposable.id"""  # noqa: S608


def _state_in(states: tuple[State, ...]) -> str:
    return f"state IN ({', '.join(repr(state.value) for state in states)})"


def storable(text: str) -> str:
    """A text without NUL: PostgreSQL holds none; a facilitator's reason can, and what it says has happened."""
    return text.replace("\0", "\ufffd")


async def fetch_record(cursor: Cursor) -> Record | None:
    """The one row that a statement returned, or None."""
    row = await cursor.fetchone()
    return None if row is None else from_row(row)
