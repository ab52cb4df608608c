"""What only `RedisStore` promises: its keys and their ends, servers that would forget, and forgotten scripts."""

import asyncio
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
from structlog.testing import capture_logs

from bridge.stores import Record, Store, store_from_url
from bridge.stores.base import StoredResponse
from bridge.stores.redis import RedisStore
from bridge.stores.redis_scripts import KEEP_FINISHED_SECONDS
from bridge.stores.redis_server import SCHEMA_VERSION
from tests.bridge.stores import servers
from tests.bridge.stores.rows import LEASE, NOW, fresh, put, with_store
from translators.errors import Unavailable
from translators.lifecycle import State

FINISHED = {State.DELIVERED, State.RELEASED}


@pytest.fixture
def url(redis_url: str) -> str:
    return redis_url


@pytest.fixture(scope="module")
def private() -> Iterator[str]:
    """A server that these tests may configure, and leave as they found it."""
    with servers.private_redis() as (_, url):
        yield url


@pytest.fixture
def client(private: str) -> Iterator["redis.Redis[bytes]"]:
    with closing(redis.Redis.from_url(private)) as client:
        yield client
        client.flushall()
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("appendonly", "yes")


def row_key(url: str, record: Record) -> str:
    return f"{{{servers.prefix_of(url)}}}:payment:{record.id}"


def keys(client: "redis.Redis[bytes]", url: str) -> set[str]:
    return {key.decode() for key in client.scan_iter("*", count=1_000) if servers.prefix_of(url).encode() in key}


def test_a_row_is_a_hash_of_the_records_fields(url: str) -> None:
    """Whoever looks with redis-cli sees every field by its name, and all keys have one hash tag."""
    record = with_store(url, lambda store: put(store, State.SETTLING))
    with closing(redis.Redis.from_url(servers.REDIS)) as client:
        fields = client.hgetall(row_key(url, record))
        assert {name.decode() for name in fields} == set(Record.__struct_fields__)
        assert fields[b"state"] == b"settling"
        assert all(key.startswith(f"{{{servers.prefix_of(url)}}}:") for key in keys(client, url))


@pytest.mark.parametrize("state", State)
def test_only_finished_rows_end_by_themselves(url: str, state: State) -> None:
    """A delivered or released row ends no sooner than its authorization; no other ever does."""

    async def use(store: Store) -> None:
        row = await put(store, state)
        with closing(redis.Redis.from_url(servers.REDIS)) as client:
            left = client.pttl(row_key(url, row)) / 1_000
        if state in FINISHED:
            assert left == pytest.approx(row.valid_before - NOW + KEEP_FINISHED_SECONDS, abs=5)
        else:
            assert left == -0.001  # Redis' "no end"

    with_store(url, use)


def test_a_released_row_that_is_claimed_again_does_not_end(url: str) -> None:
    """The end that a released row had is gone when the payment is claimed anew."""

    async def use(store: Store) -> None:
        row = await put(store, State.RELEASED)
        assert (await store.claim(fresh(owner="request-2"), now=NOW)).won
        with closing(redis.Redis.from_url(servers.REDIS)) as client:
            assert client.pttl(row_key(url, row)) == -1

    with_store(url, use)


def test_a_row_that_would_never_end_has_no_end(url: str) -> None:
    """The greatest `valid_before` is more milliseconds than Redis can count: such a row stays until it is purged."""

    async def use(store: Store) -> None:
        row = await put(store, State.RELEASED, valid_before=2**256 - 1)
        with closing(redis.Redis.from_url(servers.REDIS)) as client:
            assert client.pttl(row_key(url, row)) == -1

    with_store(url, use)


def test_purging_leaves_nothing(url: str) -> None:
    """What is purged, and what ended by itself, leaves neither row nor index entry; what is passed over stays."""

    async def use(store: Store) -> None:
        for number in range(1_200):
            await put(
                store, State.RELEASED if number % 2 else State.CLAIMED, number, lease_until=NOW + 2_000 * (number < 600)
            )
        await put(store, State.SETTLED, 2_000)
        with closing(redis.Redis.from_url(servers.REDIS)) as client:
            for number in range(701, 721, 2):
                client.delete(row_key(url, fresh(number)))  # as if it had ended
            assert await store.purge(now=2_000) == 900 - 10
            assert await store.purge(now=2_000) == 0
            assert await store.purge(now=NOW + 2_000) == 300
            left = {row_key(url, fresh(2_000)), f"{{{servers.prefix_of(url)}}}:version"}
            assert keys(client, url) == left

    with_store(url, use)


def test_scripts_that_were_forgotten(url: str) -> None:
    """A server that has lost its scripts is told them again, in the middle of work."""

    async def use(store: Store) -> None:
        for number in range(5):
            with closing(redis.Redis.from_url(servers.REDIS)) as client:
                client.script_flush()
            rows = await asyncio.gather(*(put(store, State.DELIVERED, number * 100 + step) for step in range(50)))
            assert {row.state for row in rows} == {State.DELIVERED}

    with_store(url, use)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_server_that_may_evict_any_key_is_refused(private: str, client: "redis.Redis[bytes]", policy: str) -> None:
    """A server that forgets claims to make room is refused at start, with what to set."""
    client.config_set("maxmemory-policy", policy)

    async def use() -> None:
        with pytest.raises(RuntimeError, match=f"maxmemory-policy {policy}.*set maxmemory-policy noeviction"):
            await store_from_url(private).start()

    asyncio.run(use())


def test_a_server_that_may_evict_keys_with_an_end(private: str, client: "redis.Redis[bytes]") -> None:
    """Under `volatile-*` nothing of ours gets an end, so nothing is evicted, and `purge` forgets what is over."""
    client.config_set("maxmemory-policy", "volatile-lru")
    response = StoredResponse(status=200, headers=[], body=b"", fingerprint="f", proof="p", expires_at=NOW + 600)

    async def use(store: Store) -> None:
        row = await put(store, State.DELIVERED)
        await store.advance(row.id, State.DELIVERED, owner=row.owner, now=NOW, response=response)
        await store.bind_key("key", row.id, now=NOW, expires_at=NOW + 600)
        assert {client.pttl(key) for key in client.scan_iter("{p}:*")} == {-1}
        assert await store.purge(now=NOW + 600) == 0
        assert await store.response(row.id, now=NOW) is None

    with_store(servers.with_setting(private, "prefix=p"), use)


@pytest.mark.parametrize(("appendonly", "events"), [("no", ["store.not_durable"]), ("yes", [])])
def test_a_server_that_keeps_nothing_is_warned_of(
    private: str, client: "redis.Redis[bytes]", appendonly: str, events: list[str]
) -> None:
    """Where the append-only file is off, start says what a crash would cost."""
    client.config_set("appendonly", appendonly)
    with capture_logs() as logs:
        with_store(private, lambda store: put(store, State.CLAIMED))
    assert [entry["event"] for entry in logs] == events


def test_a_user_who_may_not_ask(private: str, client: "redis.Redis[bytes]") -> None:
    """A user without INFO can use the store, is told that it is unchecked, and its rows get no end."""
    client.acl_setuser(
        "limited", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all"], commands=["-info"]
    )
    url = servers.with_setting(private.replace("//", "//limited:secret@"), "prefix=p")
    try:
        with capture_logs() as logs:
            row = with_store(url, lambda store: put(store, State.DELIVERED))
    finally:
        client.acl_deluser("limited")
    assert {entry["event"] for entry in logs} == {"store.unchecked", "store.not_durable"}
    assert client.pttl(row_key(url, row)) == -1


def test_a_wrong_password(private: str, client: "redis.Redis[bytes]") -> None:
    """A server that does not let us in is `Unavailable` at start, and neither user nor password is named."""
    url = private.replace("//", "//nobody:hunter2@")

    async def use() -> None:
        with pytest.raises(Unavailable) as refusal:
            await store_from_url(url).start()
        assert "hunter2" not in f"{refusal.value!r} {refusal.value.__cause__!r}"

    asyncio.run(use())


def test_a_server_without_room(private: str, client: "redis.Redis[bytes]") -> None:
    """A server whose memory is full refuses with the reason and changes nothing; later all is well."""

    async def use(store: Store) -> None:
        row = await put(store, State.SETTLING)
        released = await put(store, State.RELEASED, 1)
        client.config_set("maxmemory", 1)
        for call in (
            store.claim(fresh(2), now=NOW),
            store.claim(fresh(1, owner="request-2"), now=NOW),
            store.advance(row.id, State.SETTLED, owner=row.owner, now=NOW),
            store.take_over(owner="reconciler", now=NOW + LEASE, lease_until=NOW),
        ):
            with pytest.raises(Unavailable, match="no room left"):
                await call
        assert await store.get(row.id) == row
        assert await store.get(released.id) == released
        client.config_set("maxmemory", 0)
        assert (await store.advance(row.id, State.SETTLED, owner=row.owner, now=NOW)).state is State.SETTLED

    with_store(private, use)


def test_a_replica(private: str, client: "redis.Redis[bytes]") -> None:
    """A server that became a replica refuses with the reason, and is used again when it takes writes again."""

    async def use(store: Store) -> None:
        row = await put(store, State.CLAIMED)
        client.execute_command("REPLICAOF", "127.0.0.1", servers.free_port())
        try:
            with pytest.raises(Unavailable, match="cannot be written to"):
                await store.claim(fresh(1), now=NOW)
            assert await store.get(row.id) == row
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")
        assert (await store.claim(fresh(1), now=NOW)).won

    with_store(private, use)


def test_keys_of_a_later_release(url: str) -> None:
    """A newer version is refused with both versions named."""
    with closing(redis.Redis.from_url(servers.REDIS)) as client:
        client.set(f"{{{servers.prefix_of(url)}}}:version", SCHEMA_VERSION + 1)

    async def use() -> None:
        with pytest.raises(RuntimeError, match=r"schema version 2.*knows up to 1.*later release"):
            await store_from_url(url).start()

    asyncio.run(use())


def test_what_the_url_says_of_the_driver(url: str) -> None:
    """Settings of redis-py in the URL reach it, and those that would garble our rows do not."""

    async def use() -> None:
        store = RedisStore(servers.with_setting(url, "client_name=cashier&decode_responses=true&protocol=3"))
        await store.start()
        assert (await store.claim(fresh(), now=NOW)).won
        assert await store.get(fresh().id) == fresh()
        with closing(redis.Redis.from_url(servers.REDIS)) as client:
            assert "cashier" in {entry["name"] for entry in client.client_list()}
        await store.close()

    asyncio.run(use())
