"""What only `PostgreSQLStore` promises: its schema, grouped commits, lost connections, and waits that end."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from bridge.stores import ClaimLost, Record, Store, postgres_rows, postgres_schema, store_from_url
from bridge.stores.postgres import PostgreSQLStore
from bridge.stores.rows import COLUMNS
from tests.bridge.stores import servers
from tests.bridge.stores.rows import LEASE, NOW, fresh, put, with_store
from translators.errors import Unavailable
from translators.lifecycle import State


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
def other() -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Another program's connection to the same database."""
    with closing(psycopg.connect(servers.POSTGRES, autocommit=True)) as connection:
        yield connection


def named(url: str) -> str:
    """The URL with an application name that tells this store's connections from all others."""
    return servers.with_setting(url, f"application_name={servers.schema_of(url)}")


def test_the_columns_are_the_records_fields(url: str, other: psycopg.Connection[tuple[object, ...]]) -> None:
    """Table, statements and `Record` name the same fields in the same order."""
    with_store(url, lambda store: put(store, State.CLAIMED))
    columns = other.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = 'payments' "
        "ORDER BY ordinal_position",
        (servers.schema_of(url),),
    ).fetchall()
    assert tuple(name for (name,) in columns) == Record.__struct_fields__
    assert tuple(column.strip(' \n"') for column in COLUMNS.split(",")) == Record.__struct_fields__


@pytest.mark.parametrize(
    ("statement", "index"),
    [("take_over", "payments_by_lease"), ("purge", "payments_by_expiry"), ("records", "payments_by_update")],
)
def test_sweeps_use_an_index(
    url: str, other: psycopg.Connection[tuple[object, ...]], statement: str, index: str
) -> None:
    """Reconciling and purging look at the rows they want, not at all that were ever paid."""
    with_store(url, lambda store: put(store, State.CLAIMED))
    query = getattr(postgres_rows.Statements(servers.schema_of(url)), statement)
    parameters = {"owner": "", "lease_until": 0.0, "now": 0.0, "limit": 1, "payment_id": None, "states": None}
    # The table is all but empty: without this, reading all of it would be the better plan.
    other.execute("SET enable_seqscan = off")
    plan = other.execute(f"EXPLAIN {query}", parameters).fetchall()
    assert f"using {index}" in " ".join(str(line) for (line,) in plan)


def test_claims_that_wait_together_are_committed_together(
    url: str, other: psycopg.Connection[tuple[object, ...]]
) -> None:
    """400 concurrent claims need a few transactions, and claims one after the other need one each."""

    def transactions(first: int, last: int) -> object:
        ids = [fresh(number).id for number in range(first, last)]
        query = f"SELECT count(DISTINCT xmin::text) FROM {servers.schema_of(url)}.payments WHERE id = ANY (%s)"
        row = other.execute(query, (ids,)).fetchone()
        assert row is not None
        return row[0]

    async def use(store: Store) -> None:
        claims = await asyncio.gather(*(store.claim(fresh(number), now=NOW) for number in range(400)))
        assert all(claim.won for claim in claims)
        for number in range(400, 410):
            await store.claim(fresh(number), now=NOW)
        assert transactions(0, 400) < 40
        assert transactions(400, 410) == 10

    with_store(url, use)


def test_one_that_fails_does_not_spoil_its_neighbours(url: str) -> None:
    """In one group, a lost claim, an illegal step and ids that cannot be stored leave the others as they should be."""

    async def use(store: Store) -> None:
        held = await put(store, State.SETTLING)
        answers = await asyncio.gather(
            *(store.claim(fresh(number), now=NOW) for number in range(1, 60)),
            store.claim(fresh(100, id="\ud800"), now=NOW),
            store.claim(fresh(101, id="\0"), now=NOW),
            store.claim(fresh(102, chain_id=2**70), now=NOW),
            store.advance(held.id, State.SETTLED, owner="nobody", now=NOW),
            store.advance(held.id, State.UNKNOWN, owner=held.owner, now=NOW),
            *(store.claim(fresh(number), now=NOW) for number in range(200, 260)),
            return_exceptions=True,
        )
        claims, (surrogate, nul, number, lost, moved), others = answers[:59], answers[59:64], answers[64:]
        assert all(not isinstance(claim, BaseException) and claim.won for claim in claims + others)
        assert isinstance(surrogate, UnicodeEncodeError)
        assert isinstance(nul, psycopg.DataError)
        assert isinstance(number, psycopg.DataError)
        assert isinstance(lost, ClaimLost)
        assert moved.state is State.UNKNOWN
        assert await store.get(fresh(102).id) is None

    with_store(url, use)


def test_texts_with_nul(url: str) -> None:
    """PostgreSQL cannot hold NUL; a facilitator's reason that has one is kept all the same, without it."""

    async def use(store: Store) -> None:
        row = (await store.claim(fresh(route="GET /\0"), now=NOW)).record
        moved = await store.advance(row.id, State.RELEASED, owner=row.owner, now=NOW, reason="no\0pe", transaction="\0")
        assert (moved.reason, moved.transaction, moved.route) == ("no\ufffdpe", "\ufffd", "GET /\ufffd")

    with_store(url, use)


def test_an_answer_is_on_the_disk_before_it_is_given(url: str) -> None:
    """`synchronous_commit` is on for us, though the database or the URL has it off."""

    async def use() -> None:
        store = PostgreSQLStore(servers.with_setting(url, "options=-c%20synchronous_commit%3Doff"))
        await store.start()

        async def ask(connection: psycopg.AsyncConnection[tuple[object, ...]], _again: bool) -> object:
            return await (await connection.execute("SHOW synchronous_commit")).fetchone()

        assert store._lanes is not None
        assert await store._lanes.run(ask) == ("on",)
        await store.close()

    asyncio.run(use())


def test_connections_are_bounded(url: str, other: psycopg.Connection[tuple[object, ...]]) -> None:
    """However many tasks there are, a process opens `max_connections` at most, and closing leaves none."""

    async def use() -> None:
        store = PostgreSQLStore(named(url), max_connections=3)
        await store.start()
        await asyncio.gather(*(store.claim(fresh(number), now=NOW) for number in range(1_000)))
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        row = other.execute(count, (servers.schema_of(url),)).fetchone()
        assert row is not None
        assert 1 <= int(str(row[0])) <= 3
        await store.close()
        for _ in range(100):
            if other.execute(count, (servers.schema_of(url),)).fetchone() == (0,):
                break
            await asyncio.sleep(0.05)
        assert other.execute(count, (servers.schema_of(url),)).fetchone() == (0,)

    asyncio.run(use())


def terminate(other: psycopg.Connection[tuple[object, ...]], name: str) -> int:
    """End all connections of that name, as an administrator does, or a server that restarts."""
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
    return len(other.execute(query, (name,)).fetchall())


def test_connections_that_were_lost_meanwhile(url: str, other: psycopg.Connection[tuple[object, ...]]) -> None:
    """Nobody is refused because the pool's connections died while they were idle."""

    async def use(store: Store) -> None:
        await asyncio.gather(*(store.claim(fresh(number), now=NOW) for number in range(500)))
        assert terminate(other, servers.schema_of(url)) > 0
        for number in range(500, 510):
            assert (await store.claim(fresh(number), now=NOW)).won

    with_store(named(url), use)


def test_connections_that_are_lost_at_work(url: str, other: psycopg.Connection[tuple[object, ...]]) -> None:
    """A claim whose answer was lost on the way is claimed again and won: it is not mistaken for another's."""

    async def use(store: Store) -> None:
        numbers = iter(range(100_000))
        done = asyncio.Event()

        async def work() -> int:
            won = 0
            while not done.is_set():
                row = await put(store, State.SETTLED, next(numbers))
                assert row.state is State.SETTLED
                won += 1
            return won

        tasks = [asyncio.create_task(work()) for _ in range(20)]
        ended = 0
        for _ in range(20):
            await asyncio.sleep(0.05)
            ended += await asyncio.to_thread(terminate, other, servers.schema_of(url))
        done.set()
        assert sum(await asyncio.gather(*tasks)) > 100
        assert ended > 10

    with_store(named(url), use)


def test_a_row_that_is_locked_for_longer_than_the_timeout(
    url: str, other: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Who needs that row gets `Unavailable` in time and has changed nothing; everybody else is served."""

    async def use(store: Store) -> None:
        row = await put(store, State.SETTLING)
        with other.transaction():
            other.execute(f"SELECT * FROM {servers.schema_of(url)}.payments WHERE id = %s FOR UPDATE", (row.id,))
            began = time.monotonic()
            waiting = asyncio.create_task(store.advance(row.id, State.SETTLED, owner=row.owner, now=NOW))
            await asyncio.sleep(0.1)
            claims = await asyncio.gather(*(store.claim(fresh(number), now=NOW) for number in range(1, 100)))
            assert all(claim.won for claim in claims)
            assert not waiting.done()
            with pytest.raises(Unavailable, match="too slow"):
                await waiting
            assert time.monotonic() - began < 1
        assert await store.get(row.id) == row
        assert (await store.advance(row.id, State.SETTLED, owner=row.owner, now=NOW)).state is State.SETTLED

    with_store(servers.with_setting(url, "timeout=0.5"), use)


def test_two_groups_never_wait_for_each_other(url: str) -> None:
    """Two stores that claim and move the same payments in opposite orders answer all of them: no deadlock."""

    async def use(one: Store) -> None:
        two = store_from_url(url)
        await two.start()
        for turn in range(10):
            numbers = range(turn * 100, turn * 100 + 100)
            claims = await asyncio.gather(
                *(one.claim(fresh(number, owner="one"), now=NOW) for number in numbers),
                *(two.claim(fresh(number, owner="two"), now=NOW) for number in reversed(numbers)),
            )
            assert sum(claim.won for claim in claims) == 100
            heirs = await asyncio.gather(
                *(one.claim(fresh(number, owner="three", now=NOW + LEASE), now=NOW + LEASE) for number in numbers),
                *(two.claim(fresh(number, owner="four", now=NOW + LEASE), now=NOW + LEASE) for number in numbers[::-1]),
            )
            assert sum(claim.won for claim in heirs) == 100
        await two.close()

    with_store(url, use)


def test_a_schema_of_a_later_release(url: str, other: psycopg.Connection[tuple[object, ...]]) -> None:
    """A newer schema is refused with both versions named, and stays as it is."""
    newer = len(postgres_schema.MIGRATIONS) + 1
    with_store(url, lambda store: put(store, State.CLAIMED))
    other.execute(f"UPDATE {servers.schema_of(url)}.schema_version SET version = %s", (newer,))

    async def use() -> None:
        with pytest.raises(RuntimeError, match=f"schema version {newer}.*knows up to {newer - 1}.*later release"):
            await store_from_url(url).start()

    asyncio.run(use())
    count = other.execute(f"SELECT count(*), max(version) FROM {servers.schema_of(url)}.schema_version").fetchone()
    assert count == (1, newer)


def test_migrations_keep_what_is_there(
    url: str, other: psycopg.Connection[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later release's migration is carried out once, by whoever comes first, and one that fails changes nothing."""
    with_store(url, lambda store: put(store, State.SETTLED))
    first = postgres_schema.MIGRATIONS

    async def start_at_once() -> None:
        stores = [store_from_url(url) for _ in range(8)]
        await asyncio.gather(*(store.start() for store in stores))
        assert (await stores[0].get(fresh().id)) is not None
        await asyncio.gather(*(store.close() for store in stores))

    async def start_in_vain() -> None:
        with pytest.raises(Unavailable):
            await store_from_url(url).start()

    extra = "ALTER TABLE {schema}.payments ADD COLUMN extra text"
    monkeypatch.setattr(postgres_schema, "MIGRATIONS", (*first, (extra, "SELECT 1 / 0")))
    asyncio.run(start_in_vain())
    monkeypatch.setattr(postgres_schema, "MIGRATIONS", (*first, (extra,)))
    asyncio.run(start_at_once())
    version = other.execute(f"SELECT version FROM {servers.schema_of(url)}.schema_version").fetchall()
    assert version == [(len(first) + 1,)]


def test_a_schema_that_somebody_else_created(url: str, other: psycopg.Connection[tuple[object, ...]]) -> None:
    """Where the schema is there, its owner needs no right to create schemas; and then to read and write is enough."""
    schema = servers.schema_of(url)
    other.execute(f"CREATE ROLE {schema} LOGIN")
    try:
        other.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {schema}")
        theirs = psycopg.conninfo.make_conninfo(servers.POSTGRES, user=schema)
        parts = psycopg.conninfo.conninfo_to_dict(theirs)
        limited = f"postgresql://{schema}@{parts['host']}:{parts.get('port', 5432)}/{parts['dbname']}?schema={schema}"
        assert with_store(limited, lambda store: put(store, State.DELIVERED)).state is State.DELIVERED
    finally:
        other.execute(f"SET client_min_messages = error; DROP OWNED BY {schema} CASCADE; DROP ROLE {schema}")


def test_a_server_without_room(url: str, other: psycopg.Connection[tuple[object, ...]]) -> None:
    """A server that refuses to write is `Unavailable` with the reason, and is used again when it writes again."""

    async def use() -> None:
        schema = servers.schema_of(url)
        store = PostgreSQLStore(servers.with_setting(url, "timeout=0.5"))
        await store.start()
        row = await put(store, State.CLAIMED)
        other.execute(f"""
            CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {schema}.payments EXECUTE FUNCTION {schema}.refuse()""")
        calls = [store.claim(fresh(number), now=NOW) for number in range(1, 30)]
        refusals = await asyncio.gather(*calls, return_exceptions=True)
        assert {str(refusal) for refusal in refusals} == {"The payment store has no room left."}
        assert {type(refusal) for refusal in refusals} == {Unavailable}
        assert await store.get(row.id) == row
        other.execute(f"DROP TRIGGER refuse ON {schema}.payments")
        assert (await store.claim(fresh(1), now=NOW)).won
        await store.close()

    asyncio.run(use())
