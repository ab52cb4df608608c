"""Rows for the store tests, and what other processes do to a store there."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from bridge.stores import ClaimLost, Record, Store, store_from_url
from translators.lifecycle import IllegalTransition, State
from translators.payment import Protocol

NOW = 1_000.0
LEASE = 60.0
ASSET = "0x" + "a" * 40
PAYER = "0x" + "b" * 40

PATHS: dict[State, tuple[State, ...]] = {
    State.CLAIMED: (),
    State.SETTLING: (State.SETTLING,),
    State.SETTLED: (State.SETTLING, State.SETTLED),
    State.DELIVERED: (State.SETTLING, State.SETTLED, State.DELIVERED),
    State.RELEASED: (State.RELEASED,),
    State.UNKNOWN: (State.SETTLING, State.UNKNOWN),
}
"""How a fresh claim gets to each state."""


def fresh(number: int = 0, *, owner: str = "request-1", now: float = NOW, **changes: Any) -> Record:
    """What a request hands to `Store.claim`."""
    nonce = f"0x{number:064x}"
    record = Record(
        id=f"eip155:8453/{ASSET}/{PAYER}/{nonce}",
        state=State.CLAIMED,
        protocol=Protocol.MPP,
        route="GET /report",
        correlation_id="correlation-1",
        chain_id=8453,
        asset=ASSET,
        payer=PAYER,
        recipient="0x" + "c" * 40,
        value=10_000,
        nonce=nonce,
        valid_after=0,
        valid_before=2_000,
        owner=owner,
        lease_until=now + LEASE,
        created_at=now,
        updated_at=now,
    )
    return replace(record, **changes)


async def put(store: Store, state: State, number: int = 0, **changes: Any) -> Record:
    """A row in `state`, held by the owner of `fresh(number, **changes)`."""
    claim = await store.claim(fresh(number, **changes), now=NOW)
    assert claim.won
    record = claim.record
    for step in PATHS[state]:
        record = await store.advance(record.id, step, owner=record.owner, now=NOW)
    return record


async def outcome(call: Awaitable[Any]) -> Any:
    """What `call` returns, or the kind of refusal that it raises."""
    try:
        return await call
    except (ClaimLost, IllegalTransition) as error:
        return type(error)


def with_store(url: str, use: Callable[[Store], Awaitable[Any]]) -> Any:
    """Run `use` with the store at `url`, started and closed around it."""

    async def run() -> Any:
        store = store_from_url(url)
        await store.start()
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(run())


def count_wins(url: str, worker: int, tasks: int, ids: int) -> int:
    """In a process of its own: claim `ids` ids from `tasks` tasks at once, and say how many claims were won."""

    async def use(store: Store) -> int:
        records = [fresh(task % ids, owner=f"worker-{worker}-task-{task}") for task in range(tasks)]
        claims = await asyncio.gather(*(store.claim(record, now=NOW) for record in records))
        return sum(claim.won for claim in claims)

    wins: int = with_store(url, use)
    return wins


def claim_until_killed(url: str) -> None:
    """In a process of its own: claim and settle without end, and print a number after each row that is acknowledged."""

    async def use(store: Store) -> None:
        async def work(first: int) -> None:
            for number in range(first, sys.maxsize, 4):
                await put(store, State.SETTLED, number)
                print(number, flush=True)

        await asyncio.gather(*(work(first) for first in range(4)))

    with_store(url, use)


if __name__ == "__main__":
    claim_until_killed(sys.argv[1])
