"""What `bridge.stores.base.Store` promises of kept answers, idempotency keys and looking rows up, for every store."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from bridge.stores import Store
from bridge.stores.base import StoredResponse
from tests.bridge.stores.rows import LEASE, NOW, fresh, put
from translators.lifecycle import State

Run = Callable[[Callable[[Store], Awaitable[Any]]], Any]

LATER = NOW + LEASE

RESPONSE = StoredResponse(
    status=200,
    headers=[(b"content-type", b"application/json"), (b"x-odd", b"\xff\x00"), (b"x-odd", b"twice")],
    body=bytes(range(256)) * 10,
    fingerprint="f" * 64,
    proof="p" * 64,
    expires_at=NOW + 600,
    trailers=[(b"x-odd", b"\xff")],
)


def test_an_answer_is_kept_with_its_delivery(run: Run) -> None:
    """The answer given to `advance` is read back byte for byte until it expires, and only for its payment."""

    async def use(store: Store) -> None:
        row = await put(store, State.SETTLED)
        assert await store.response(row.id, now=NOW) is None
        await store.advance(row.id, State.DELIVERED, owner=row.owner, now=NOW, response=RESPONSE)
        assert await store.response(row.id, now=NOW + 599) == RESPONSE
        assert await store.response(row.id, now=NOW + 600) is None
        assert await store.response(fresh(2).id, now=NOW) is None

    run(use)


def test_an_answer_of_a_lost_claim_is_not_kept(run: Run) -> None:
    """Nobody but the row's owner puts an answer there."""

    async def use(store: Store) -> None:
        row = await put(store, State.SETTLED)
        with pytest.raises(Exception, match="no longer held"):
            await store.advance(row.id, State.DELIVERED, owner="somebody else", now=NOW, response=RESPONSE)
        assert await store.response(row.id, now=NOW) is None

    run(use)


def test_the_first_binding_of_a_key_stands(run: Run) -> None:
    """A key is bound to the first payment that comes with it, until it expires."""

    async def use(store: Store) -> None:
        assert await store.bind_key("key", "first", now=NOW, expires_at=NOW + 10) == "first"
        assert await store.bind_key("key", "second", now=NOW, expires_at=NOW + 10) == "first"
        assert await store.bind_key("other", "second", now=NOW, expires_at=NOW + 10) == "second"
        assert await store.bind_key("key", "second", now=NOW + 10, expires_at=NOW + 20) == "second"

    run(use)


def test_binding_again_renews(run: Run) -> None:
    """The same payment with the same key keeps it for longer."""

    async def use(store: Store) -> None:
        await store.bind_key("key", "first", now=NOW, expires_at=NOW + 10)
        assert await store.bind_key("key", "first", now=NOW + 9, expires_at=NOW + 19) == "first"
        assert await store.bind_key("key", "second", now=NOW + 18, expires_at=NOW + 28) == "first"

    run(use)


def test_a_binding_gives_way_to_who_names_it(run: Run) -> None:
    """`instead_of` replaces exactly the binding it names, and no other."""

    async def use(store: Store) -> None:
        await store.bind_key("key", "first", now=NOW, expires_at=NOW + 10)
        assert await store.bind_key("key", "third", now=NOW, expires_at=NOW + 10, instead_of="second") == "first"
        assert await store.bind_key("key", "second", now=NOW, expires_at=NOW + 10, instead_of="first") == "second"
        assert await store.bind_key("key", "third", now=NOW, expires_at=NOW + 10, instead_of="first") == "second"

    run(use)


def test_what_a_key_is_bound_to_can_be_read(run: Run) -> None:
    """Nothing before, the payment until it expires, nothing after; and reading binds nothing."""

    async def use(store: Store) -> None:
        assert await store.bound("key", now=NOW) is None
        await store.bind_key("key", "first", now=NOW, expires_at=NOW + 10)
        assert await store.bound("key", now=NOW + 9) == "first"
        assert await store.bound("other", now=NOW + 9) is None
        assert await store.bound("key", now=NOW + 10) is None
        assert await store.bind_key("other", "second", now=NOW, expires_at=NOW + 10) == "second"

    run(use)


def test_one_of_many_gets_the_key(run: Run) -> None:
    """Of fifty payments that come with one key at once, all learn the same one."""

    async def use(store: Store) -> None:
        bound = await asyncio.gather(
            *(store.bind_key("key", f"payment {number}", now=NOW, expires_at=NOW + 10) for number in range(50))
        )
        assert len(set(bound)) == 1

    run(use)


def test_rows_are_listed_by_their_last_change(run: Run) -> None:
    """The newest come first, `states` narrows, `limit` bounds."""

    async def use(store: Store) -> None:
        for number in range(1, 6):
            row = await put(store, State.CLAIMED, number)
            to = State.RELEASED if number % 2 else State.CLAIMED
            await store.advance(row.id, to, owner=row.owner, now=NOW + number)
        ids = [fresh(number).id for number in range(1, 6)]
        assert [row.id for row in await store.records()] == ids[::-1]
        assert [row.id for row in await store.records(limit=2)] == [ids[4], ids[3]]
        assert [row.id for row in await store.records(states=[State.CLAIMED])] == [ids[3], ids[1]]
        assert [row.id for row in await store.records(states=[State.CLAIMED, State.RELEASED], limit=4)] == ids[:0:-1]
        assert await store.records(states=[State.UNKNOWN]) == []

    run(use)


@pytest.mark.parametrize("state", [State.SETTLING, State.UNKNOWN])
def test_taking_over_one_payment(run: Run, state: State) -> None:
    """With `payment_id`, only that row changes hands, and only when its lease is over."""

    async def use(store: Store) -> None:
        rows = [await put(store, state, number) for number in (1, 2)]
        taking = {"owner": "reconciler", "lease_until": LATER + LEASE}
        assert await store.take_over(now=LATER - 1, payment_id=rows[0].id, **taking) == []
        taken = await store.take_over(now=LATER, payment_id=rows[0].id, **taking)
        assert taken == [replace(rows[0], owner="reconciler", lease_until=LATER + LEASE, updated_at=LATER)]
        assert await store.get(rows[1].id) == rows[1]
        assert await store.take_over(now=LATER, payment_id=fresh(3).id, **taking) == []

    run(use)


def test_purging_forgets_what_has_expired(run: Run) -> None:
    """Kept answers and keys go when they expire, and not before."""

    async def use(store: Store) -> None:
        row = await put(store, State.SETTLED)
        await store.advance(row.id, State.DELIVERED, owner=row.owner, now=NOW, response=RESPONSE)
        await store.bind_key("key", "first", now=NOW, expires_at=NOW + 10)
        await store.purge(now=NOW + 9)
        assert await store.bind_key("key", "second", now=NOW + 9, expires_at=NOW + 10) == "first"
        assert await store.response(row.id, now=NOW + 9) == RESPONSE
        await store.purge(now=NOW + 601)
        # Asked as of then, they would still be there if they had stayed.
        assert await store.response(row.id, now=NOW) is None
        assert await store.bind_key("key", "second", now=NOW, expires_at=NOW + 10) == "second"

    run(use)
