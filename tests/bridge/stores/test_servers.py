"""What both stores on servers promise: processes, crashes, and a server that is down, slow, killed or back again."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.stores import ClaimLost, Store, store_from_url
from tests.bridge.stores import servers
from tests.bridge.stores.rows import NOW, count_wins, fresh, put, with_store
from translators.errors import Unavailable
from translators.lifecycle import State

ROOT = Path(__file__).parents[3]
KINDS = ["postgresql", "redis"]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest) -> str:
    """An empty store on the machine's own server."""
    return str(request.getfixturevalue({"postgresql": "postgres_url", "redis": "redis_url"}[request.param]))


@pytest.fixture(params=KINDS)
def private(request: pytest.FixtureRequest) -> Iterator[tuple[servers.Server, str]]:
    """A server that a test may stop."""
    with servers.private_postgres() if request.param == "postgresql" else servers.private_redis() as server_and_url:
        yield server_and_url


def test_one_winner_among_processes(url: str) -> None:
    """Four processes of 50 tasks, started at once on a schema that is not there yet, win 20 payments 20 times."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        wins = pool.starmap(count_wins, [(url, worker, 50, 20) for worker in range(4)], chunksize=1)
    assert sum(wins) == 20


def test_a_killed_process_leaves_every_answer_it_got(url: str) -> None:
    """After SIGKILL the store holds each row that was acknowledged, in the state that was, and still takes claims."""
    command = [sys.executable, "-m", "tests.bridge.stores.rows", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        lines += [line for line in process.stdout.read().splitlines(keepends=True) if b"\n" in line]
    acknowledged = [int(line) for line in lines if line.strip().isdigit()]  # not what the store logs
    assert len(acknowledged) > 40

    async def use(store: Store) -> None:
        for number in acknowledged:
            row = await store.get(fresh(number).id)
            assert row is not None
            assert row.state is State.SETTLED
        assert (await store.claim(fresh(10**9), now=NOW)).won

    with_store(url, use)


def test_starting_and_closing(url: str) -> None:
    """Calls before `start` and after `close` get `Unavailable`; rows stay; closing twice is fine."""

    async def use() -> None:
        store = store_from_url(url)
        with pytest.raises(Unavailable, match="closed"):
            await store.get("x")
        await store.start()
        with pytest.raises(RuntimeError, match="started already"):
            await store.start()
        row = await put(store, State.UNKNOWN)
        await store.close()
        with pytest.raises(Unavailable, match="closed"):
            await store.claim(fresh(), now=NOW)
        await store.close()
        await store.start()
        assert await store.get(row.id) == row
        await store.close()

    asyncio.run(use())


def test_closing_finishes_what_is_queued(url: str) -> None:
    """Claims that were called before `close` are carried out."""

    async def use() -> None:
        store = store_from_url(url)
        await store.start()
        claims = [asyncio.create_task(store.claim(fresh(number), now=NOW)) for number in range(300)]
        await asyncio.sleep(0)
        await store.close()
        assert all(claim.won for claim in await asyncio.gather(*claims))

    asyncio.run(use())


def test_what_was_reported_is_recorded_though_the_caller_goes_away(url: str) -> None:
    """An `advance` whose task is cancelled as soon as it was called is carried out: outcomes are never lost so."""

    async def use(store: Store) -> None:
        rows = [await put(store, State.SETTLING, number) for number in range(20)]
        tasks = [
            asyncio.create_task(store.advance(row.id, State.SETTLED, owner=row.owner, now=NOW, transaction="0x1"))
            for row in rows
        ]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.2)
        states = [(await store.get(row.id) or row).state for row in rows]
        assert states == [State.SETTLED] * 20

    with_store(url, use)


def test_an_event_loop_that_ends_first(url: str) -> None:
    """Where the loop of `start` was closed, calls say so, and the store can be started in another."""

    async def abandon(store: Store) -> None:
        await store.start()
        assert (await store.claim(fresh(), now=NOW)).won

    async def go_on(store: Store) -> None:
        with pytest.raises(RuntimeError, match=r"event loop in which .* is closed"):
            await store.get(fresh().id)
        await store.start()
        assert await store.get(fresh().id) == fresh()
        await store.close()

    store = store_from_url(url)
    asyncio.run(abandon(store))
    asyncio.run(go_on(store))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_store_opened_before_a_fork_says_so(url: str) -> None:
    """In a forked child an open store refuses with the reason and opens anew; its parent goes on undisturbed."""

    async def child(store: Store) -> None:
        with pytest.raises(RuntimeError, match="fork first, then start"):
            await store.claim(fresh(), now=NOW)
        await store.start()
        assert (await store.claim(fresh(1), now=NOW)).won
        await store.close()

    async def parent(store: Store) -> None:
        await store.start()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                # The parent's loop is running here too, as far as asyncio knows.
                asyncio.events._set_running_loop(None)
                asyncio.run(asyncio.wait_for(child(store), 10))
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1]) == 0
        assert (await store.claim(fresh(), now=NOW)).won
        assert not (await store.claim(fresh(1), now=NOW)).won
        await store.close()

    asyncio.run(parent(store_from_url(url)))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_listens(kind: str) -> None:
    """A server that is not there is `Unavailable` at start, soon, and the client is not told where it should be."""

    async def use() -> None:
        store = store_from_url(f"{kind}://u:hunter2@127.0.0.1:{servers.free_port()}/0?timeout=0.5")
        began = time.monotonic()
        with pytest.raises(Unavailable) as refusal:
            await store.start()
        assert time.monotonic() - began < 2
        assert refusal.value.detail == "The payment store does not answer."
        assert "hunter2" not in f"{refusal.value!r} {refusal.value.__cause__!r} {store!r}"
        with pytest.raises(Unavailable, match="closed"):
            await store.get("x")

    asyncio.run(use())


@pytest.mark.parametrize(
    "query",
    [
        *("timeout=never", "timeout=0", "timeout=nan", "timeout=3600", "schema=a b", "schema=", 'schema="x"'),
        *("schema=" + "x" * 65, "schema=x;drop"),
    ],
)
def test_settings_refused(query: str) -> None:
    """A setting outside its bounds is refused where the store is named, without the URL."""
    for kind in KINDS:
        with pytest.raises(ValueError, match=r"the payment store's (timeout|schema|prefix) is not") as refusal:
            store_from_url(
                f"{kind}://u:hunter2@h/0?" + (query if kind == "postgresql" else query.replace("schema", "prefix"))
            )
        assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        *("postgresql://u:hun/ter2@h/d", "postgresql://u:p@hunter2@h/d", "postgresql://u:hunter2%zz@h/d"),
        *("redis://:hun#ter2@h/0", "redis://u:hunter2/x@h/0"),
    ],
)
def test_passwords_that_are_not_encoded(url: str) -> None:
    """A URL that falls apart at its password is refused at once, and no piece of the password is repeated."""
    with pytest.raises(ValueError, match="percent-encode") as refusal:
        store_from_url(url)
    assert "ter2" not in str(refusal.value)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize(("kind", "driver"), [("postgresql", "psycopg"), ("redis", "redis")])
def test_a_missing_extra_is_named(kind: str, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its driver, a store says what to install; the other stores work."""
    for module in [name for name in sys.modules if name.startswith((driver, f"bridge.stores.{kind[:8]}"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, driver, None)
    extra = {"postgresql": "postgres"}.get(kind, kind)
    with pytest.raises(ImportError, match=rf'pip install "x402-mpp-bridge\[{extra}\]"'):
        store_from_url(f"{kind}://h/0")
    assert store_from_url("memory:") is not None


async def claim_while(store: Store, numbers: Iterator[int], stop: asyncio.Event, won: list[int]) -> int:
    """Claim new payments until `stop`; those won are added to `won`. Returns how many were refused as `Unavailable`."""
    refused = 0
    while not stop.is_set():
        number = next(numbers)
        try:
            claim = await store.claim(fresh(number), now=NOW)
        except Unavailable:
            refused += 1
        else:
            assert claim.won
            won.append(number)
    return refused


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["in order", "at once"])
def test_a_server_that_is_stopped_and_started_under_load(
    private: tuple[servers.Server, str], how: signal.Signals
) -> None:
    """While it is down, calls get `Unavailable` in time; back again it is used, and no acknowledged row is lost."""
    server, url = private
    url = servers.with_setting(url, "timeout=1")

    async def use(store: Store) -> None:
        stop, won = asyncio.Event(), list[int]()
        numbers = iter(range(10**9))
        work = [asyncio.create_task(claim_while(store, numbers, stop, won)) for _ in range(20)]
        try:
            await asyncio.sleep(0.3)
            await asyncio.to_thread(server.stop, how)
            before = len(won)
            assert before
            for _ in range(3):
                began = time.monotonic()
                with pytest.raises(Unavailable):
                    await store.claim(fresh(10**9), now=NOW)
                assert time.monotonic() - began < 1.5
            assert len(won) == before
            await asyncio.to_thread(server.start)
            for _ in range(100):
                if len(won) > before + 100:
                    break
                await asyncio.sleep(0.1)
            assert len(won) > before + 100
        finally:
            stop.set()
        assert sum(await asyncio.gather(*work)) > 0
        assert (await store.claim(fresh(10**9), now=NOW)).won
        # A few at a time: all of them at once would have to be read within the one second that a call may take.
        for first in range(0, len(won), 100):
            rows = await asyncio.gather(*(store.get(fresh(number).id) for number in won[first : first + 100]))
            assert None not in rows

    with_store(url, use)


def test_a_server_that_hangs(private: tuple[servers.Server, str]) -> None:
    """Every call gets `Unavailable` at its deadline while the event loop turns; later all is well, and consistent."""
    server, url = private

    async def use(store: Store) -> None:
        row = await put(store, State.SETTLING)
        await asyncio.gather(*(store.claim(fresh(number), now=NOW) for number in range(1_000, 1_050)))
        freeze(server, signal.SIGSTOP)
        began = time.monotonic()
        calls = [
            *(store.claim(fresh(number), now=NOW) for number in range(1, 100)),
            store.advance(row.id, State.SETTLED, owner=row.owner, now=NOW),
            store.get(row.id),
            store.take_over(owner="reconciler", now=NOW, lease_until=NOW),
            store.purge(now=NOW),
        ]
        waiting = asyncio.gather(*calls, return_exceptions=True)
        turns = 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert {type(answer) for answer in await waiting} == {Unavailable}
        assert time.monotonic() - began < 1
        assert turns > 10
        freeze(server, signal.SIGCONT)
        await asyncio.sleep(1)  # what had been sent is carried out, or not
        assert (await store.get(row.id) or row).state in {State.SETTLING, State.SETTLED}
        settled = await store.advance(row.id, State.SETTLED, owner=row.owner, now=NOW)
        assert settled.state is State.SETTLED
        # A claim that was told `Unavailable` is free, or is held by the one who was told so: never by somebody else.
        for number in range(1, 100):
            stored = await store.get(fresh(number).id)
            assert stored in {None, fresh(number)}
        assert (await store.claim(fresh(100), now=NOW)).won

    with_store(servers.with_setting(url, "timeout=0.5"), use)


def freeze(server: servers.Server, number: signal.Signals) -> None:
    """Send a signal to the server and to all of its children: PostgreSQL's work is done by those."""
    assert server.process is not None
    children = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, check=False, text=True)
    for pid in [server.process.pid, *map(int, children.stdout.split())]:
        os.kill(pid, number)


def test_a_lost_row_is_lost_to_its_former_owner_only(url: str) -> None:
    """Two stores on one server see one row: what one takes over, the other's owner can no longer move."""

    async def use(one: Store) -> None:
        other = store_from_url(url)
        await other.start()
        row = await put(one, State.SETTLING)
        (taken,) = await other.take_over(owner="reconciler", now=NOW + 100, lease_until=NOW + 200)
        assert taken.id == row.id
        with pytest.raises(ClaimLost):
            await one.advance(row.id, State.SETTLED, owner=row.owner, now=NOW + 100)
        assert (await other.advance(row.id, State.RELEASED, owner="reconciler", now=NOW + 100)).owner == "reconciler"
        await other.close()

    with_store(url, use)
