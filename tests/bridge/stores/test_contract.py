"""What `bridge.stores.base.Store` promises, held against every store."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from bridge.stores import ClaimLost, Record, Store, store_from_url
from tests.bridge.stores.rows import LEASE, NOW, fresh, outcome, put
from translators.lifecycle import TRANSITIONS, IllegalTransition, State
from translators.payment import Protocol

Run = Callable[[Callable[[Store], Awaitable[Any]]], Any]

LATER = NOW + LEASE
"""The first moment at which the lease of a fresh row is over."""
UINT256_MAX = 2**256 - 1


def second(**changes: Any) -> Record:
    """The same authorization as `fresh()`, brought again: another request, another protocol, another route."""
    changes = {"protocol": Protocol.X402_V1, "route": "GET /other", "correlation_id": "correlation-2", **changes}
    return fresh(owner="request-2", now=LATER, **changes)


def test_a_new_payment_is_won_and_kept_as_it_came(run: Run) -> None:
    """The first claim is won, and every field is read back as it was given, uint256 included."""
    record = fresh(value=UINT256_MAX, valid_after=UINT256_MAX - 1, valid_before=UINT256_MAX, reason="é\n'\"")

    async def use(store: Store) -> None:
        claim = await store.claim(record, now=NOW)
        assert claim.won
        assert claim.record == record
        assert await store.get(record.id) == record

    run(use)


def test_an_unknown_payment_is_none(run: Run) -> None:
    """`get` answers None for an id that nobody claimed."""

    async def use(store: Store) -> None:
        await put(store, State.CLAIMED, 1)
        assert await store.get(fresh(2).id) is None

    run(use)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("lease_over", [False, True])
def test_claiming_again(run: Run, state: State, lease_over: bool) -> None:
    """A released row is won at once, a claimed or settled one when its lease is over, any other never."""
    now = LATER if lease_over else LATER - 0.001
    wins = state is State.RELEASED or (lease_over and state in {State.CLAIMED, State.SETTLED})

    async def use(store: Store) -> None:
        row = await put(store, state)
        claim = await store.claim(second(), now=now)
        assert claim.won is wins
        if not wins:
            assert claim.record == row
        elif state is State.SETTLED:
            assert claim.record == replace(row, owner="request-2", lease_until=second().lease_until, updated_at=now)
        else:
            assert claim.record == second()
        assert await store.get(row.id) == claim.record

    run(use)


def test_a_paid_payment_keeps_what_is_known_of_it(run: Run) -> None:
    """Taking over a settled row keeps transaction, protocol, route and creation time: they say how it was paid."""

    async def use(store: Store) -> None:
        row = await put(store, State.SETTLED)
        await store.advance(row.id, State.SETTLED, owner=row.owner, now=NOW, transaction="0x" + "1" * 64)
        record = (await store.claim(second(), now=LATER)).record
        assert record.state is State.SETTLED
        assert record.transaction == "0x" + "1" * 64
        assert (record.protocol, record.route, record.created_at) == (row.protocol, row.route, row.created_at)
        delivered = await store.advance(row.id, State.DELIVERED, owner="request-2", now=LATER)
        assert delivered.state is State.DELIVERED

    run(use)


def test_a_renewed_claim_remembers_nothing_of_the_old_one(run: Run) -> None:
    """Claiming a released payment starts over: no transaction and no reason are left."""

    async def use(store: Store) -> None:
        row = await put(store, State.SETTLING)
        await store.advance(row.id, State.RELEASED, owner=row.owner, now=NOW, transaction="0x1", reason="reverted")
        assert (await store.claim(second(), now=NOW)).record == second()

    run(use)


def test_an_owner_does_not_win_twice(run: Run) -> None:
    """The owner of a row loses a second claim on it like anybody else."""

    async def use(store: Store) -> None:
        assert (await store.claim(fresh(), now=NOW)).won
        assert not (await store.claim(fresh(), now=NOW)).won

    run(use)


@pytest.mark.parametrize("state", [state for state in State if state is not State.CLAIMED])
def test_a_claim_begins_as_claimed(run: Run, state: State) -> None:
    """A record in any other state is refused and not stored: nothing enters the table in its middle."""

    async def use(store: Store) -> None:
        with pytest.raises(ValueError, match="a claim begins as claimed"):
            await store.claim(fresh(state=state), now=NOW)
        assert await store.get(fresh().id) is None

    run(use)


@pytest.mark.parametrize("following", State)
@pytest.mark.parametrize("current", State)
def test_every_step_of_the_lifecycle(run: Run, current: State, following: State) -> None:
    """From each state the table's steps are taken, staying is allowed, and every other step changes nothing."""

    async def use(store: Store) -> None:
        row = await put(store, current)
        moved = await outcome(store.advance(row.id, following, owner=row.owner, now=NOW + 1))
        if following is current or following in TRANSITIONS[current]:
            assert moved == replace(row, state=following, updated_at=NOW + 1)
            assert await store.get(row.id) == moved
        else:
            assert moved is IllegalTransition
            assert await store.get(row.id) == row

    run(use)


def test_advance_changes_what_it_is_given(run: Run) -> None:
    """Lease, transaction and reason are set when given, kept when None, and emptied when empty."""

    async def use(store: Store) -> None:
        row = await put(store, State.CLAIMED)
        full = await store.advance(
            row.id, State.SETTLING, owner=row.owner, now=NOW + 1, lease_until=NOW + 500, transaction="0x1", reason="why"
        )
        assert full == replace(
            row, state=State.SETTLING, updated_at=NOW + 1, lease_until=NOW + 500, transaction="0x1", reason="why"
        )
        kept = await store.advance(row.id, State.UNKNOWN, owner=row.owner, now=NOW + 2)
        assert kept == replace(full, state=State.UNKNOWN, updated_at=NOW + 2)
        emptied = await store.advance(row.id, State.UNKNOWN, owner=row.owner, now=NOW + 2, transaction="", reason="")
        assert emptied == replace(kept, transaction="", reason="")
        assert await store.get(row.id) == emptied

    run(use)


def test_only_the_owner_advances(run: Run) -> None:
    """Another owner gets `ClaimLost`, even for a step the table forbids, and so does everybody for a missing row."""

    async def use(store: Store) -> None:
        row = await put(store, State.CLAIMED)
        for step in (State.SETTLING, State.CLAIMED, State.DELIVERED):
            with pytest.raises(ClaimLost):
                await store.advance(row.id, step, owner="request-2", now=NOW)
        with pytest.raises(ClaimLost):
            await store.advance(fresh(1).id, State.SETTLING, owner=row.owner, now=NOW)
        assert await store.get(row.id) == row

    run(use)


def test_a_lease_that_is_over_is_no_obstacle_until_somebody_takes_the_row(run: Run) -> None:
    """A slow owner goes on while nobody took its place, and gets `ClaimLost` as soon as somebody did."""

    async def use(store: Store) -> None:
        row = await put(store, State.CLAIMED)
        slow = await put(store, State.CLAIMED, 1)
        assert (await store.advance(slow.id, State.SETTLING, owner=slow.owner, now=LATER + 1)).state is State.SETTLING
        assert (await store.claim(second(), now=LATER)).won
        with pytest.raises(ClaimLost):
            await store.advance(row.id, State.SETTLING, owner=row.owner, now=LATER)

    run(use)


def test_a_renewed_lease_holds(run: Run) -> None:
    """Staying in a state with a later `lease_until` keeps others out until then."""

    async def use(store: Store) -> None:
        row = await put(store, State.CLAIMED)
        await store.advance(row.id, State.CLAIMED, owner=row.owner, now=NOW, lease_until=LATER + 10)
        assert not (await store.claim(second(), now=LATER)).won
        assert (await store.claim(second(), now=LATER + 10)).won

    run(use)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("lease_over", [False, True])
def test_taking_over(run: Run, state: State, lease_over: bool) -> None:
    """Rows whose outcome is open and whose lease is over change hands, and no others."""
    now = LATER if lease_over else LATER - 0.001

    async def use(store: Store) -> None:
        row = await put(store, state)
        taken = await store.take_over(owner="reconciler", now=now, lease_until=now + 30)
        if lease_over and state in {State.SETTLING, State.UNKNOWN}:
            assert taken == [replace(row, owner="reconciler", lease_until=now + 30, updated_at=now)]
            assert await store.get(row.id) == taken[0]
            with pytest.raises(ClaimLost):
                await store.advance(row.id, State.SETTLED, owner=row.owner, now=now)
            assert (await store.advance(row.id, State.SETTLED, owner="reconciler", now=now)).state is State.SETTLED
        else:
            assert taken == []
            assert await store.get(row.id) == row

    run(use)


def test_taking_over_begins_with_those_that_waited_longest(run: Run) -> None:
    """With a limit, the rows whose leases ended first are taken, each by one reconciler."""

    async def use(store: Store) -> None:
        for number in (3, 1, 4, 0, 2):
            await put(store, State.SETTLING, number, lease_until=LATER - number)
        rounds = [
            await store.take_over(owner=f"reconciler-{turn}", now=LATER, lease_until=LATER + 30, limit=2)
            for turn in range(4)
        ]
        taken = [sorted(int(row.nonce, 16) for row in rows) for rows in rounds]
        assert taken == [[3, 4], [1, 2], [0], []]

    run(use)


def test_two_reconcilers_never_hold_one_row(run: Run) -> None:
    """Of many that ask at once, each open row goes to exactly one."""

    async def use(store: Store) -> None:
        for number in range(20):
            await put(store, State.UNKNOWN, number)
        rounds = await asyncio.gather(
            *(store.take_over(owner=f"r{turn}", now=LATER, lease_until=LATER + 30, limit=3) for turn in range(20))
        )
        taken = [row.id for rows in rounds for row in rows]
        assert len(taken) == len(set(taken)) == 20

    run(use)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("lease_over", [False, True])
@pytest.mark.parametrize("expired", [False, True])
def test_purging(run: Run, state: State, lease_over: bool, expired: bool) -> None:
    """Expired rows go when they are delivered, released, or claimed with the lease over; nothing else ever does."""
    now = 2_000.0
    goes = expired and (state in {State.DELIVERED, State.RELEASED} or (state is State.CLAIMED and lease_over))
    changes = {"valid_before": 2_000 if expired else 2_001, "lease_until": now if lease_over else now + 0.001}

    async def use(store: Store) -> None:
        row = await put(store, state, **changes)
        assert await store.purge(now=now) == int(goes)
        assert await store.get(row.id) == (None if goes else row)

    run(use)


def test_purging_compares_numbers(run: Run) -> None:
    """`valid_before` is compared as a number: 9 is before 10, and the greatest uint256 is after everything."""

    async def use(store: Store) -> None:
        for number, valid_before in enumerate((9, 10, 11, 1_000_000, UINT256_MAX)):
            await put(store, State.RELEASED, number, valid_before=valid_before)
        assert await store.purge(now=10.5) == 2
        assert [await store.get(fresh(number).id) is None for number in range(5)] == [True, True, False, False, False]

    run(use)


def test_purging_thousands(run: Run) -> None:
    """However many rows are disposable, one call forgets them all."""

    async def use(store: Store) -> None:
        await asyncio.gather(*(put(store, State.RELEASED, number) for number in range(2_500)))
        assert await store.purge(now=2_000) == 2_500
        assert await store.purge(now=2_000) == 0

    run(use)


def test_many_tasks_one_winner(run: Run) -> None:
    """Of 200 simultaneous claims of one payment exactly one is won, and the losers are shown the winner's row."""

    async def use(store: Store) -> None:
        records = [fresh(owner=f"request-{number}") for number in range(200)]
        claims = await asyncio.gather(*(store.claim(record, now=NOW) for record in records))
        (winner,) = [claim.record for claim in claims if claim.won]
        assert {claim.record for claim in claims} == {winner}

    run(use)


def test_many_tasks_one_taker_of_a_dead_claim(run: Run) -> None:
    """When a lease is over, exactly one of those who wait gets the payment."""

    async def use(store: Store) -> None:
        await put(store, State.CLAIMED)
        records = [fresh(owner=f"heir-{number}", now=LATER) for number in range(200)]
        claims = await asyncio.gather(*(store.claim(record, now=LATER) for record in records))
        assert sum(claim.won for claim in claims) == 1

    run(use)


def test_event_loops_in_several_threads(run: Run) -> None:
    """One store object serves event loops in other threads, and a payment has one winner among them all."""

    async def use(store: Store) -> None:
        wins: list[bool] = []
        barrier = threading.Barrier(8)

        async def claim_all(thread: int) -> None:
            records = [fresh(number, owner=f"thread-{thread}") for number in range(50)]
            claims = await asyncio.gather(*(store.claim(record, now=NOW) for record in records))
            wins.extend(claim.won for claim in claims)

        def work(thread: int) -> None:
            barrier.wait()
            asyncio.run(claim_all(thread))

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert len(wins) == 400
        assert sum(wins) == 50

    run(use)


def test_a_cancelled_caller_harms_nobody(run: Run) -> None:
    """Claims whose callers are cancelled at once are lost or kept until the lease is over; the rest go on."""

    async def use(store: Store) -> None:
        tasks = [asyncio.create_task(store.claim(fresh(number), now=NOW)) for number in range(100)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(not isinstance(answer, BaseException) and answer.won for answer in answers[1::2])
        for number in range(0, 100, 2):
            assert (await store.claim(fresh(number, owner="request-2", now=LATER), now=LATER)).won

    run(use)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        *(("memory", "MemoryStore"), ("memory:", "MemoryStore")),
        *(("sqlite:payments.db", "SQLiteStore"), ("sqlite:/srv/payments.db", "SQLiteStore")),
        *(
            ("postgresql://u:p@nowhere/d?schema=s&sslmode=require", "PostgreSQLStore"),
            ("postgres://", "PostgreSQLStore"),
        ),
        *(("redis://:p@nowhere:1/2?prefix=p&timeout=0.5", "RedisStore"), ("rediss://nowhere", "RedisStore")),
        *(("valkey://nowhere", "RedisStore"), ("valkeys://nowhere", "RedisStore")),
    ],
)
def test_urls(url: str, kind: str) -> None:
    """A URL names a store, and naming it opens nothing."""
    assert type(store_from_url(url)).__name__ == kind


@pytest.mark.parametrize(
    "url",
    [
        *("", "mysql://u:hunter2@h/d", "postgresql:hunter2@h/d", "redis::hunter2@h", "memory:hunter2"),
        *("sqlite", "sqlite:", "sqlite::memory:", "sqlite:///hunter2.db", "hunter2"),
    ],
)
def test_urls_refused(url: str) -> None:
    """Another URL is refused with the names of those that work, and without repeating a password."""
    with pytest.raises(ValueError, match=r"supported are memory:, sqlite:PATH, postgresql://") as refusal:
        store_from_url(url)
    assert "hunter2" not in str(refusal.value)
