"""The SQLite file: how it is created, opened and migrated, and what its failures are called."""

import hashlib
import os
import sqlite3
import time
from contextlib import suppress

from translators.errors import Unavailable

__all__ = ["MIGRATIONS", "is_busy", "is_storage_error", "open_database", "short_key", "unavailable"]

OLDEST_SQLITE = (3, 35, 0)
"""The first with `RETURNING` (https://sqlite.org/lang_returning.html)."""

CHECKPOINT_PAGES = 4_000
"""Some sixteen megabytes of log."""

BUSY_HANDLER_SECONDS = 0.008
"""How long SQLite itself waits for a lock before we ask again.

It looks after 1, 2, 5, 10, ... and then every 100 ms: the longer a process has waited, the less often it looks, and
busy ones that have just come pass it by for seconds. Asking anew keeps it looking every few milliseconds.
"""

_COLUMNS = """
    id TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL,
    protocol TEXT NOT NULL,
    route TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    chain_id INTEGER NOT NULL,
    asset TEXT NOT NULL,
    payer TEXT NOT NULL,
    recipient TEXT NOT NULL,
    value TEXT NOT NULL,
    nonce TEXT NOT NULL,
    valid_after TEXT NOT NULL,
    valid_before TEXT NOT NULL,
    owner TEXT NOT NULL,
    lease_until REAL NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    "transaction" TEXT NOT NULL,
    reason TEXT NOT NULL
"""
# value, valid_after and valid_before are uint256 in EIP-3009, and SQLite's integers end at 2**63 - 1: text.

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"CREATE TABLE payments ({_COLUMNS}) WITHOUT ROWID",
        "CREATE INDEX payments_by_lease ON payments (state, lease_until)",
        "CREATE INDEX payments_by_expiry ON payments (CAST(valid_before AS REAL))",
    ),
    (
        "CREATE INDEX payments_by_update ON payments (updated_at)",
        """
        CREATE TABLE responses (
            payment_id TEXT NOT NULL PRIMARY KEY,
            response BLOB NOT NULL,
            expires_at REAL NOT NULL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX responses_by_expiry ON responses (expires_at)",
        """
        CREATE TABLE idempotency_keys (
            key TEXT NOT NULL PRIMARY KEY,
            bound_to TEXT NOT NULL,
            expires_at REAL NOT NULL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at)",
    ),
    (
        # A step of a payment writes its row, and no index: only rows whose outcome is open are in one that steps touch,
        # and the few rows that are not purged yet are sorted when somebody lists them.
        "DROP INDEX payments_by_lease",
        "DROP INDEX payments_by_update",
        "CREATE INDEX payments_open ON payments (lease_until) WHERE state IN ('settling', 'unknown')",
    ),
    (
        # In the order they came, and not of their ids: payments that are worked on at once then stand in the same few
        # pages, and each page that a commit touches is written whole. Only the claim touches the index of ids.
        "ALTER TABLE payments RENAME TO payments_by_id",
        f"CREATE TABLE payments ({_COLUMNS})",
        "INSERT INTO payments SELECT * FROM payments_by_id ORDER BY created_at",
        "DROP TABLE payments_by_id",
        "CREATE INDEX payments_by_expiry ON payments (CAST(valid_before AS REAL))",
        "CREATE INDEX payments_open ON payments (lease_until) WHERE state IN ('settling', 'unknown')",
        "ALTER TABLE responses RENAME TO responses_by_id",
        """
        CREATE TABLE responses (
            payment_id BLOB NOT NULL PRIMARY KEY,
            response BLOB NOT NULL,
            expires_at REAL NOT NULL
        )
        """,
        "INSERT INTO responses SELECT short_key(payment_id), response, expires_at FROM responses_by_id",
        "DROP TABLE responses_by_id",
        "CREATE INDEX responses_by_expiry ON responses (expires_at)",
    ),
)
"""What leads from each schema version to the next; a released entry never changes. The length is the version."""

_DETAILS = {
    sqlite3.SQLITE_BUSY: "The payment store is locked by another process.",
    sqlite3.SQLITE_LOCKED: "The payment store is locked by another process.",
    sqlite3.SQLITE_FULL: "The payment store has no room left.",
    sqlite3.SQLITE_CORRUPT: "The payment store is damaged.",
    sqlite3.SQLITE_NOTADB: "The payment store is damaged.",
    sqlite3.SQLITE_READONLY: "The payment store cannot be written to.",
    sqlite3.SQLITE_PERM: "The payment store cannot be opened.",
    sqlite3.SQLITE_CANTOPEN: "The payment store cannot be opened.",
}


def _primary_code(error: BaseException) -> int:
    # An extended result code keeps the primary one in its low byte (https://sqlite.org/rescode.html).
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_busy(error: BaseException) -> bool:
    """Whether another connection holds a lock that this one needs, so that trying again is sensible."""
    return _primary_code(error) == sqlite3.SQLITE_BUSY


def is_storage_error(error: BaseException) -> bool:
    """Whether the database failed, and not the one statement: nothing else in this transaction can be saved either."""
    one_statement = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.NotSupportedError)
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, one_statement)


def unavailable(error: BaseException) -> Unavailable:
    """What a caller is told about `error`: a sentence that names no path, with the error itself as its cause."""
    # An OSError comes from creating the file, and its text holds the path.
    code = sqlite3.SQLITE_CANTOPEN if isinstance(error, OSError) else _primary_code(error)
    answer = Unavailable(_DETAILS.get(code, "The payment store does not answer."))
    answer.__cause__ = error
    return answer


def open_database(path: str, busy_timeout: float) -> sqlite3.Connection:
    """Open `path`, creating and migrating it as needed; the connection belongs to the calling thread.

    Raises `Unavailable` where the file cannot be had, and `RuntimeError` where it must not be used.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise RuntimeError(f"SQLite {needed} or later is needed; this Python has {sqlite3.sqlite_version}")
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            _create_private(path)
            return _open(path)
        except (OSError, sqlite3.Error) as error:
            # Several processes that start at once meet here: while one switches the file to WAL, or recovers the log
            # of a process that was killed, SQLite refuses the others without asking their busy handler.
            if not is_busy(error) or time.monotonic() > deadline:
                raise unavailable(error) from error
            time.sleep(0.01)


def _create_private(path: str) -> None:
    # SQLite would create it readable for all; its -wal and -shm files take over the mode of the file itself.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _open(path: str) -> sqlite3.Connection:
    # isolation_level=None: BEGIN and COMMIT are ours alone, the module adds none.
    connection = sqlite3.connect(path, timeout=BUSY_HANDLER_SECONDS, isolation_level=None)
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise RuntimeError(f"the payment store needs SQLite's write-ahead log, and this file only has {mode!r}")
        # FULL: a commit is on the disk when it returns. NORMAL would lose the latest claims with the power.
        connection.execute("PRAGMA synchronous = FULL")
        # Pages of the log that are carried over into the file at once: a page that changed often is written once.
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def short_key(payment_id: str) -> bytes:
    """What an answer is found by. So many of these go into a page that few pages are written."""
    return hashlib.sha256(payment_id.encode()).digest()[:16]


def _migrate(connection: sqlite3.Connection) -> None:
    connection.create_function("short_key", 1, short_key, deterministic=True)
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise RuntimeError(
            f"the payment store has schema version {version}, and this release knows up to {len(MIGRATIONS)}: "
            "it was written by a later release"
        )
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    if version < len(MIGRATIONS):
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("COMMIT")
