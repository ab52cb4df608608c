"""What only `SQLiteStore` promises: processes, crashes, grouped commits, and what a broken file is called."""

import asyncio
import hashlib
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from bridge.stores import ClaimLost, Record, SQLiteStore, Store, sqlite, sqlite_file, sqlite_rows, sqlite_thread
from bridge.stores.base import StoredResponse
from bridge.stores.rows import COLUMNS, to_row
from tests.bridge.stores.rows import LEASE, NOW, count_wins, fresh, put, with_store
from translators.errors import Unavailable
from translators.lifecycle import State

ROOT = Path(__file__).parents[3]
LATER = NOW + LEASE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "payments.db"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that a store's connection runs from here on."""
    seen: list[str] = []

    class Traced(sqlite3.Connection):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            self.set_trace_callback(seen.append)

    original = sqlite3.connect
    monkeypatch.setattr(sqlite_file.sqlite3, "connect", lambda *a, **k: original(*a, factory=Traced, **k))
    return seen


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program holds the write lock of the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def log_size(path: Path) -> int:
    """Bytes in the write-ahead log: every page that a commit touches is written to it whole."""
    return Path(f"{path}-wal").stat().st_size


def test_one_winner_among_processes(path: Path) -> None:
    """Four processes of 50 tasks, started at once on a file that is not there yet, win 20 payments 20 times."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        wins = pool.starmap(count_wins, [(f"sqlite:{path}", worker, 50, 20) for worker in range(4)], chunksize=1)
    assert sum(wins) == 20


def test_a_killed_process_leaves_every_answer_it_got(path: Path) -> None:
    """After SIGKILL the file is whole, and holds each row that was acknowledged, in the state that was."""
    for _ in range(3):
        path.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.bridge.stores.rows", f"sqlite:{path}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout is not None
            acknowledged = [int(process.stdout.readline()) for _ in range(50)]
            process.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in process.stdout.read().splitlines(keepends=True) if b"\n" in line]

        async def use(store: Store, numbers: list[int]) -> None:
            for number in numbers:
                row = await store.get(fresh(number).id)
                assert row is not None
                assert row.state is State.SETTLED

        with_store(f"sqlite:{path}", lambda store, numbers=acknowledged: use(store, numbers))
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_rows_outlive_the_process_that_wrote_them(path: Path) -> None:
    """What is closed is opened again as it was, by the same object too."""

    async def use() -> None:
        store = SQLiteStore(path)
        await store.start()
        row = await put(store, State.UNKNOWN)
        await store.close()
        await store.start()
        assert await store.get(row.id) == row
        await store.close()

    asyncio.run(use())


def test_claims_that_wait_together_are_committed_together(path: Path, statements: list[str]) -> None:
    """400 concurrent claims need a few commits, and claims one after the other need one each."""

    async def use(store: Store) -> None:
        statements.clear()
        claims = await asyncio.gather(*(store.claim(fresh(number), now=NOW) for number in range(400)))
        assert all(claim.won for claim in claims)
        assert statements.count("COMMIT") < 40
        statements.clear()
        for number in range(400, 410):
            await store.claim(fresh(number), now=NOW)
        assert statements.count("COMMIT") == 10

    with_store(f"sqlite:{path}", use)


def test_what_one_turn_of_the_loop_brings_is_one_commit(path: Path, statements: list[str]) -> None:
    """The thread is woken when the loop's turn is over, and not by the first of its operations."""

    async def use(store: Store) -> None:
        rows = [(await store.claim(fresh(number), now=NOW)).record for number in range(50)]
        for step in (State.SETTLING, State.SETTLED, State.DELIVERED):
            statements.clear()
            await asyncio.gather(*(store.advance(row.id, step, owner=row.owner, now=NOW) for row in rows))
            assert statements.count("COMMIT") == 1

    with_store(f"sqlite:{path}", use)


def test_what_the_next_turns_of_the_loop_bring_is_one_commit(path: Path, statements: list[str]) -> None:
    """The thread is woken once a turn has brought nothing more."""

    async def after(turns: int, store: Store) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await store.claim(fresh(turns), now=NOW)

    async def use(store: Store) -> None:
        statements.clear()
        await asyncio.gather(*(after(turns, store) for turns in range(20)))
        assert statements.count("COMMIT") == 1

    with_store(f"sqlite:{path}", use)


def test_the_last_step_of_a_payment_shares_a_commit_that_others_need(
    path: Path, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it. On its own it waits a little, and closing the store waits for nothing."""

    async def deliver(store: Store, row: Record) -> None:
        await store.advance(row.id, State.DELIVERED, owner=row.owner, now=NOW)

    async def use(store: Store) -> None:
        rows = [await put(store, State.SETTLED, number) for number in range(3)]
        await asyncio.wait_for(deliver(store, rows[0]), 5)
        monkeypatch.setattr(sqlite_thread, "LATE_SECONDS", 60)
        statements.clear()
        last = asyncio.create_task(deliver(store, rows[1]))
        await asyncio.sleep(0.05)
        assert not statements
        await store.claim(fresh(4), now=NOW)
        await asyncio.wait_for(last, 5)
        assert statements.count("COMMIT") == 1
        last = asyncio.create_task(deliver(store, rows[2]))
        await asyncio.sleep(0)
        await asyncio.wait_for(store.close(), 5)
        await last

    with_store(f"sqlite:{path}", use)


def test_a_step_is_one_statement_that_reads_nothing_back(path: Path, statements: list[str]) -> None:
    """A process knows the rows that it holds, and looks again where another process has changed one."""

    async def use(store: Store) -> None:
        row = await put(store, State.SETTLING)
        statements.clear()
        settled = await store.advance(row.id, State.SETTLED, owner=row.owner, now=NOW + 1, lease_until=NOW + 2)
        assert [statement.split()[0] for statement in statements] == ["BEGIN", "UPDATE", "COMMIT"]
        other = SQLiteStore(path)
        await other.start()
        assert await other.get(row.id) == settled
        renewed = await other.advance(row.id, State.SETTLED, owner=row.owner, now=NOW + 3, reason="renewed elsewhere")
        heir = fresh(owner="request-2", now=LATER)
        statements.clear()
        delivered = await store.advance(row.id, State.DELIVERED, owner=row.owner, now=NOW + 4)
        assert delivered == replace(renewed, state=State.DELIVERED, updated_at=NOW + 4)
        kinds = [statement.split()[0] for statement in statements]
        assert kinds == ["BEGIN", "UPDATE", "SELECT", "UPDATE", "COMMIT"]

        claimed = await put(store, State.CLAIMED, 1)
        assert (await other.claim(replace(heir, id=claimed.id), now=LATER)).won
        for step in (State.CLAIMED, State.SETTLING, State.DELIVERED):
            with pytest.raises(ClaimLost):
                await store.advance(claimed.id, step, owner=claimed.owner, now=LATER)
        await other.close()

    with_store(f"sqlite:{path}", use)


def test_rows_that_are_remembered_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Payments that nobody ever ends take no more and more memory, and those forgotten are read."""
    monkeypatch.setattr(sqlite_rows, "REMEMBERED", 5)

    async def use(store: SQLiteStore) -> None:
        rows = [await put(store, State.CLAIMED, number) for number in range(20)]
        assert len(store._rows._held) == 5
        for row in rows:
            assert (await store.advance(row.id, State.SETTLING, owner=row.owner, now=NOW)).state is State.SETTLING
            await store.advance(row.id, State.RELEASED, owner=row.owner, now=NOW)
        assert store._rows._held == {}

    with_store(f"sqlite:{path}", use)


def test_payments_that_are_worked_on_at_once_share_pages(path: Path) -> None:
    """A step of 32 payments among a thousand writes the few pages that hold them, wherever their ids are."""

    async def use(store: Store) -> None:
        # Ids in no order, as the nonces of payers are.
        records = [fresh(number, id=hashlib.sha256(b"%d" % number).hexdigest()) for number in range(1_000)]
        await asyncio.gather(*(store.claim(record, now=NOW) for record in records))
        last = records[-32:]
        before = log_size(path)
        await asyncio.gather(*(store.advance(row.id, State.SETTLING, owner=row.owner, now=NOW) for row in last))
        assert 0 < log_size(path) - before < 12 * 4096

    with_store(f"sqlite:{path}", use)


def test_a_group_is_bounded(path: Path, statements: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the queue, a transaction holds the lock for `LARGEST_GROUP` operations at most."""
    monkeypatch.setattr(sqlite_thread, "LARGEST_GROUP", 10)

    async def use(store: Store) -> None:
        statements.clear()
        await asyncio.gather(*(store.claim(fresh(number), now=NOW) for number in range(100)))
        assert statements.count("COMMIT") >= 10

    with_store(f"sqlite:{path}", use)


def test_an_answer_is_on_the_disk_before_it_is_given(path: Path, statements: list[str]) -> None:
    """When a claim returns, its transaction is committed with `synchronous = FULL` to a write-ahead log."""

    async def use(store: Store) -> None:
        await store.claim(fresh(), now=NOW)
        assert statements[-1] == "COMMIT"
        assert "PRAGMA synchronous = FULL" in statements
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT count(*) FROM payments").fetchone() == (1,)
            assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    with_store(f"sqlite:{path}", use)


def test_one_that_fails_does_not_spoil_its_neighbours(path: Path, statements: list[str]) -> None:
    """In one group, a lost claim, an illegal step and an id that SQLite cannot store leave the others committed."""

    async def use(store: Store) -> None:
        held = await put(store, State.SETTLING)
        with locked(path):
            waiting = asyncio.gather(
                store.claim(fresh(1), now=NOW),
                store.claim(fresh(2, id="\ud800"), now=NOW),
                store.claim(fresh(3, lease_until=float("nan")), now=NOW),
                store.advance(held.id, State.SETTLED, owner="nobody", now=NOW),
                store.claim(fresh(4), now=NOW),
                return_exceptions=True,
            )
            await asyncio.sleep(0.2)
            statements.clear()
        first, unstorable, impossible, lost, last = await waiting
        assert statements.count("COMMIT") <= 2
        assert first.won
        assert last.won
        assert isinstance(unstorable, UnicodeEncodeError)
        assert isinstance(impossible, sqlite3.IntegrityError)
        assert isinstance(lost, ClaimLost)
        assert await store.get(fresh(1).id) is not None
        assert await store.get(fresh(3).id) is None
        assert await store.get(fresh(4).id) is not None

    with_store(f"sqlite:{path}", use)


def test_locked_for_longer_than_the_timeout(path: Path) -> None:
    """Writers get `Unavailable` and change nothing, readers are answered, the loop turns, and later all is well."""

    async def use() -> None:
        store = SQLiteStore(path, busy_timeout=0.3)
        await store.start()
        row = await put(store, State.CLAIMED)
        with locked(path):
            assert await store.get(row.id) == row
            began = time.monotonic()
            claim = asyncio.create_task(store.claim(fresh(1), now=NOW))
            turns = 0
            while not claim.done():
                await asyncio.sleep(0.01)
                turns += 1
            with pytest.raises(Unavailable, match="locked by another process"):
                await claim
            assert turns > 10
            assert 0.2 < time.monotonic() - began < 5
            for call in (
                store.advance(row.id, State.SETTLING, owner=row.owner, now=NOW),
                store.take_over(owner="reconciler", now=NOW, lease_until=NOW),
                store.purge(now=NOW),
            ):
                with pytest.raises(Unavailable):
                    await call
        assert await store.get(row.id) == row
        assert await store.get(fresh(1).id) is None
        assert (await store.claim(fresh(1), now=NOW)).won
        await store.close()

    asyncio.run(use())


def test_a_short_lock_is_waited_for(path: Path) -> None:
    """Another program's transaction that ends within the timeout only delays a claim."""

    async def use(store: Store) -> None:
        with locked(path):
            claim = asyncio.create_task(store.claim(fresh(), now=NOW))
            await asyncio.sleep(0.1)
            assert not claim.done()
        assert (await claim).won

    with_store(f"sqlite:{path}", use)


def test_a_commit_that_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody in the group is answered before the commit: when it fails, all get `Unavailable`, and no row is there."""
    broken: list[str] = []

    class Breaking(sqlite3.Connection):
        def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
            if sql in broken:
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *args)

    original = sqlite3.connect
    monkeypatch.setattr(sqlite_file.sqlite3, "connect", lambda *a, **k: original(*a, factory=Breaking, **k))

    async def use(store: Store) -> None:
        broken.append("COMMIT")
        calls = (store.claim(fresh(number), now=NOW) for number in range(20))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} == {Unavailable}
        broken.clear()
        assert [await store.get(fresh(number).id) for number in range(20)] == [None] * 20
        assert (await store.claim(fresh(), now=NOW)).won

    with_store(f"sqlite:{path}", use)


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing more can be written, claims get `Unavailable`, none is half-stored, and reads go on."""
    original = sqlite_file.open_database

    def tiny(path: str, busy_timeout: float) -> sqlite3.Connection:
        connection = original(path, busy_timeout)
        connection.execute("PRAGMA max_page_count = 10")
        return connection

    monkeypatch.setattr(sqlite, "open_database", tiny)

    async def use(store: Store) -> None:
        won: list[Record] = []

        async def fill() -> None:
            for number in range(1_000):
                won.append((await store.claim(fresh(number), now=NOW)).record)  # noqa: PERF401

        with pytest.raises(Unavailable, match="no room left"):
            await fill()
        assert 0 < len(won) < 1_000
        assert [await store.get(row.id) for row in won] == won
        assert await store.get(fresh(len(won)).id) is None

    with_store(f"sqlite:{path}", use)


def test_a_file_that_is_no_database(path: Path) -> None:
    """Another kind of file is refused at start, and left as it is."""
    content = b"not a database " * 1_000
    path.write_bytes(content)

    async def use() -> None:
        with pytest.raises(Unavailable, match="damaged"):
            await SQLiteStore(path).start()

    asyncio.run(use())
    assert path.read_bytes() == content


def test_a_file_damaged_where_start_does_not_look(path: Path) -> None:
    """Damage that shows later is `Unavailable` too, and the store still closes."""

    async def use() -> None:
        store = SQLiteStore(path)
        await store.start()
        for number in range(50):
            await put(store, State.CLAIMED, number)
        await store.close()
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        await store.start()
        with pytest.raises(Unavailable, match="damaged"):
            await store.claim(fresh(), now=NOW)
        await store.close()

    asyncio.run(use())


@pytest.mark.parametrize("name", ["no/such/directory/payments.db", "."])
def test_an_unwritable_path(tmp_path: Path, name: str) -> None:
    """A path that cannot be opened is `Unavailable` at start, and the client is not told where it is."""

    async def use() -> None:
        with pytest.raises(Unavailable) as refusal:
            await SQLiteStore(tmp_path / name).start()
        assert refusal.value.detail == "The payment store cannot be opened."

    asyncio.run(use())


def test_a_file_of_a_later_release(path: Path) -> None:
    """A newer schema is refused with both versions named, and stays as it is."""
    newer = len(sqlite_file.MIGRATIONS) + 1
    with_store(f"sqlite:{path}", lambda store: put(store, State.CLAIMED))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")

    async def use() -> None:
        with pytest.raises(RuntimeError, match=f"schema version {newer}.*knows up to {newer - 1}.*later release"):
            await SQLiteStore(path).start()

    asyncio.run(use())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (newer,)
        assert connection.execute("SELECT count(*) FROM payments").fetchone() == (1,)


def test_a_file_of_an_earlier_release(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration runs once, keeps the rows, and one that fails leaves the file at the version it had."""
    with_store(f"sqlite:{path}", lambda store: put(store, State.CLAIMED))
    known = len(sqlite_file.MIGRATIONS)
    added = ("CREATE TABLE added (x)",)

    def version() -> int:
        with closing(sqlite3.connect(path)) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])

    monkeypatch.setattr(sqlite_file, "MIGRATIONS", (*sqlite_file.MIGRATIONS, added, ("CREATE TABLE broken",)))

    async def refused() -> None:
        with pytest.raises(Unavailable):
            await SQLiteStore(path).start()

    asyncio.run(refused())
    assert version() == known
    monkeypatch.setattr(sqlite_file, "MIGRATIONS", sqlite_file.MIGRATIONS[: known + 1])
    for _ in range(2):
        assert with_store(f"sqlite:{path}", lambda store: store.get(fresh().id)) == fresh()
        assert version() == known + 1


def test_a_file_whose_rows_stood_in_the_order_of_their_ids(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, indices and kept answers of schema version 3 are there in the one that follows."""
    answer = StoredResponse(200, [(b"a", b"b")], b"body", "fingerprint", "proof", NOW + 60)
    rows = [fresh(number, state=state, created_at=NOW - number) for number, state in enumerate(State)]
    with monkeypatch.context() as earlier:
        earlier.setattr(sqlite_file, "MIGRATIONS", sqlite_file.MIGRATIONS[:3])
        connection = sqlite_file.open_database(str(path), 1)
    with closing(connection):
        places = ", ".join("?" * len(Record.__struct_fields__))
        connection.executemany(f"INSERT INTO payments VALUES ({places})", map(to_row, rows))
        kept = (rows[0].id, msgspec.msgpack.encode(answer), answer.expires_at)
        connection.execute("INSERT INTO responses VALUES (?, ?, ?)", kept)

    async def use(store: Store) -> None:
        assert [await store.get(row.id) for row in rows] == rows
        assert await store.response(rows[0].id, now=NOW) == answer
        assert not (await store.claim(fresh(0, owner="request-2"), now=NOW)).won

    with_store(f"sqlite:{path}", use)


def test_an_old_sqlite(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite without `RETURNING` is refused at start by its version, before a file is made."""
    monkeypatch.setattr(sqlite_file.sqlite3, "sqlite_version_info", (3, 34, 1))

    async def use() -> None:
        with pytest.raises(RuntimeError, match=r"SQLite 3\.35\.0 or later is needed"):
            await SQLiteStore(path).start()

    asyncio.run(use())
    assert not path.exists()


def test_columns_are_the_fields_of_a_record(path: Path) -> None:
    """The table, the column list and `Record` name the same things in the same order."""
    with_store(f"sqlite:{path}", lambda store: put(store, State.CLAIMED))
    with closing(sqlite3.connect(path)) as connection:
        columns = tuple(row[1] for row in connection.execute("PRAGMA table_info(payments)"))
    assert columns == Record.__struct_fields__
    assert tuple(column.strip(' \n"') for column in COLUMNS.split(",")) == Record.__struct_fields__


@pytest.mark.parametrize(
    ("query", "parameters", "index"),
    [
        (
            sqlite._TAKE_OVER,
            {**sqlite._STATES, "owner": "", "lease_until": 0, "now": 0, "limit": 1, "payment_id": None},
            "open",
        ),
        (sqlite._PURGE, {**sqlite._STATES, "now": 0, "limit": 1}, "by_expiry"),
    ],
)
def test_sweeps_use_an_index(path: Path, query: str, parameters: Any, index: str) -> None:
    """Reconciling and purging look at the rows they want, not at all that were ever paid."""
    with_store(f"sqlite:{path}", lambda store: put(store, State.CLAIMED))
    with closing(sqlite3.connect(path)) as connection:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", parameters))
    assert f"USING INDEX payments_{index}" in plan or f"USING COVERING INDEX payments_{index}" in plan


def test_purging_never_holds_the_file_for_long(path: Path, statements: list[str]) -> None:
    """However much has expired, rows, answers and keys go by the thousand, and others have their turn in between."""
    kept = StoredResponse(200, [], b"", "fingerprint", "proof", NOW)

    async def use(store: Store) -> None:
        async def pay(number: int) -> None:
            row = await put(store, State.SETTLED, number)
            await store.advance(row.id, State.DELIVERED, owner=row.owner, now=NOW, response=kept)
            await store.bind_key(f"key-{number}", row.id, now=NOW, expires_at=NOW)

        await asyncio.gather(*(pay(number) for number in range(2_500)))
        statements.clear()
        assert await store.purge(now=2_000) == 2_500
        deletions = [statement for statement in statements if statement.lstrip().startswith("DELETE")]
        assert len(deletions) == 9
        assert statements.count("COMMIT") == 9

    with_store(f"sqlite:{path}", use)
    with closing(sqlite3.connect(path)) as connection:
        for table in ("payments", "responses", "idempotency_keys"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_a_new_file_is_its_owners_alone(path: Path) -> None:
    """The database and its companions have mode 0600, whatever the umask; a file that exists keeps its mode."""

    async def use(store: Store) -> None:
        await put(store, State.CLAIMED)
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        assert modes == {"payments.db": 0o600, "payments.db-wal": 0o600, "payments.db-shm": 0o600}

    umask = os.umask(0)
    try:
        with_store(f"sqlite:{path}", use)
        path.chmod(0o640)
        with_store(f"sqlite:{path}", lambda store: put(store, State.CLAIMED, 1))
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o640


def test_closing_finishes_what_is_queued(path: Path) -> None:
    """Claims that were called before `close` are committed; calls after it get `Unavailable`; closing twice is fine."""

    async def use() -> None:
        store = SQLiteStore(path)
        with pytest.raises(Unavailable, match="closed"):
            await store.get("x")
        await store.start()
        with pytest.raises(RuntimeError, match="started already"):
            await store.start()
        claims = [asyncio.create_task(store.claim(fresh(number), now=NOW)) for number in range(600)]
        await asyncio.sleep(0)
        await store.close()
        assert all(claim.won for claim in await asyncio.gather(*claims))
        with pytest.raises(Unavailable, match="closed"):
            await store.claim(fresh(), now=NOW)
        await store.close()
        assert [file.name for file in path.parent.iterdir()] == ["payments.db"]

    asyncio.run(use())


def test_a_start_that_is_cancelled_leaves_nothing_open(path: Path) -> None:
    """Cancelling `start` while the file is locked lets go of it, and the store can be started again."""

    async def use() -> None:
        store = SQLiteStore(path)
        await store.start()
        await store.close()
        with locked(path):
            starting = asyncio.create_task(store.start())
            await asyncio.sleep(0.1)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
        await store.start()
        assert (await store.claim(fresh(), now=NOW)).won
        await store.close()

    asyncio.run(use())


def test_an_event_loop_that_ends_first(path: Path) -> None:
    """A loop that is closed with claims under way takes nothing with it: the thread serves the next loop."""

    async def abandon(store: SQLiteStore) -> None:
        await store.start()
        tasks = [asyncio.create_task(store.claim(fresh(number), now=NOW)) for number in range(100)]
        await asyncio.sleep(0)
        del tasks

    async def go_on(store: SQLiteStore) -> None:
        late = fresh(100, now=NOW + LEASE)
        assert (await store.claim(late, now=NOW + LEASE)).won
        await store.close()

    store = SQLiteStore(path)
    asyncio.run(abandon(store))
    asyncio.run(go_on(store))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_store_opened_before_a_fork_says_so(path: Path) -> None:
    """In a forked child an open store refuses with the reason, where it could only wait; the parent goes on."""

    async def child(store: SQLiteStore) -> None:
        with pytest.raises(RuntimeError, match="fork first, then start"):
            await store.claim(fresh(), now=NOW)
        with pytest.raises(RuntimeError, match="forked"):
            await store.start()
        await store.close()

    async def parent(store: SQLiteStore) -> None:
        assert (await store.claim(fresh(), now=NOW)).won
        await store.close()

    store = SQLiteStore(path)
    asyncio.run(store.start())
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.run(asyncio.wait_for(child(store), 10))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    asyncio.run(parent(store))
