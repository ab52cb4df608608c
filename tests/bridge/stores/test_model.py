"""Every other store does what `MemoryStore` does, whatever is asked of them."""

import asyncio
import tempfile
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.stores import MemoryStore, Store, store_from_url
from tests.bridge.stores import servers
from tests.bridge.stores.rows import fresh, outcome
from translators.lifecycle import State
from translators.payment import Protocol

Step = Callable[[Store], Any]

NUMBERS = st.integers(0, 3)
OWNERS = st.sampled_from(["a", "b", "c"])
TIMES = st.one_of(st.integers(0, 40).map(float), st.floats(0, 40))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
UINT256 = st.one_of(st.integers(0, 50), st.integers(0, 2**256 - 1))


@st.composite
def claims(draw: st.DrawFn) -> Step:
    now = draw(TIMES)
    record = fresh(
        draw(NUMBERS),
        owner=draw(OWNERS),
        now=now,
        lease_until=now + draw(st.floats(0, 20)),
        protocol=draw(st.sampled_from(Protocol)),
        route=draw(TEXTS),
        value=draw(UINT256),
        valid_after=draw(UINT256),
        valid_before=draw(UINT256),
    )
    return lambda store: store.claim(record, now=now)


@st.composite
def advances(draw: st.DrawFn) -> Step:
    payment_id, to = fresh(draw(NUMBERS)).id, draw(st.sampled_from(State))
    given_or_not = {
        "lease_until": draw(st.none() | TIMES),
        "transaction": draw(st.none() | TEXTS),
        "reason": draw(st.none() | TEXTS),
    }
    owner, now = draw(OWNERS), draw(TIMES)
    return lambda store: store.advance(payment_id, to, owner=owner, now=now, **given_or_not)


@st.composite
def take_overs(draw: st.DrawFn) -> Step:
    owner, now, lease_until, limit = draw(OWNERS), draw(TIMES), draw(TIMES), draw(st.integers(0, 4))

    async def step(store: Store) -> Any:
        taken = await store.take_over(owner=owner, now=now, lease_until=lease_until, limit=limit)
        return {row.id: row for row in taken}

    return step


@st.composite
def purges(draw: st.DrawFn) -> Step:
    now = draw(TIMES)
    return lambda store: store.purge(now=now)


STEPS = st.lists(st.one_of(claims(), advances(), advances(), advances(), take_overs(), purges()), max_size=40)


def compare(url: str, steps: list[Step]) -> None:
    """Any sequence of operations gets the same answers and leaves the same rows, also after closing and opening."""

    async def use() -> None:
        model, store = MemoryStore(), store_from_url(url)
        await store.start()
        try:
            for step in steps:
                assert await outcome(step(store)) == await outcome(step(model))
            await store.close()
            await store.start()
            for number in range(4):
                assert await store.get(fresh(number).id) == await model.get(fresh(number).id)
        finally:
            await store.close()

    asyncio.run(use())


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_sqlite_does_what_memory_does(steps: list[Step]) -> None:
    """SQLite's answers and rows are those of the model."""
    with tempfile.TemporaryDirectory() as directory:
        compare(f"sqlite:{directory}/payments.db", steps)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_postgresql_does_what_memory_does(steps: list[Step]) -> None:
    """PostgreSQL's answers and rows are those of the model, though it decides in SQL."""
    with servers.postgres_schema() as url:
        compare(url, steps)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_redis_does_what_memory_does(steps: list[Step]) -> None:
    """Redis' answers and rows are those of the model, though it decides in Lua."""
    with servers.redis_prefix() as url:
        compare(url, steps)
