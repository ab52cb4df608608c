"""A store in Redis or Valkey: for any number of machines. It needs the extra `redis`."""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, TypeVar

import msgspec

from bridge.stores import rules
from bridge.stores.base import Claim, Record, StoredResponse
from bridge.stores.home_loop import HomeLoop
from bridge.stores.redis_rows import from_fields, number, pairs, to_fields, to_record
from bridge.stores.redis_scripts import KEEP_FINISHED_SECONDS, Scripts
from bridge.stores.store_url import split_store_url
from translators.errors import Unavailable
from translators.lifecycle import State

try:
    from bridge.stores.redis_pipe import RedisPipe
    from bridge.stores.redis_server import check_server, open_pool, readable_url
except ImportError as error:
    raise ImportError('a redis: store needs redis-py: pip install "x402-mpp-bridge[redis]"') from error

__all__ = ["RedisStore"]

T = TypeVar("T")

_PURGED_AT_ONCE = 500
"""Rows looked at by one script: the claims that wait behind it notice nothing."""


class RedisStore:
    """Claims in the Redis or Valkey server at `url`, one winner among all processes of all machines that use it.

    `url` is redis-py's (`redis://[[user]:password@]host[:port][/database]`, `rediss://` for TLS; `valkey://` and
    `valkeys://` mean the same), with two settings of ours in the query: `prefix`, what our keys begin with
    (`x402-mpp`); and `timeout`, after how many seconds a call gives up (2). All keys share one hash slot.

    Redis keeps what it was told only as well as it is configured to. With `appendonly no` a crash loses every claim
    since the last snapshot, with `appendfsync everysec` the last second of them, and a failover what the replica had
    not received; only `appendfsync always` loses none. A lost claim lets the same credential be claimed again: it is
    never settled twice, because the chain takes a nonce once, but a handler may run twice for one payment; and a lost
    `settling` row is one that no reconciler will look into. `start` warns where the append-only file is off. Where
    that is too little, use PostgreSQL.

    `start` refuses a server that may evict any key (`maxmemory-policy allkeys-*`), because it would forget claims.
    Finished rows, kept answers and idempotency keys end by themselves a day after they are over, and never before; not
    so where a server may evict what has an end (`volatile-*`): there only `purge` forgets.

    A call that gets no answer in time raises `Unavailable`. What the server did with it is then not known to anybody
    but the server: a claim that it did take is freed when its lease is over. A server that comes back is used again.

    Calls may come from any event loop; the connections belong to the one that called `start`, which has to be running.
    Each process calls `start` itself, after it was forked.
    """

    def __init__(self, url: str) -> None:
        parts = split_store_url(url, setting="prefix", default="x402-mpp", pattern="[A-Za-z0-9_.:-]{1,64}")
        self._timeout = parts.timeout
        self._url = readable_url(parts.driver_url)
        # The braces make it the hash tag by which a cluster puts all of these keys into one slot.
        prefix = f"{{{parts.name}}}:"
        self._version = f"{prefix}version"
        self._row = f"{prefix}payment:".encode()
        self._response = f"{prefix}response:".encode()
        self._key = f"{prefix}idempotency:".encode()
        self._kept = f"{prefix}kept".encode()
        self._indices = (f"{prefix}open".encode(), f"{prefix}expiry".encode())
        self._home: HomeLoop | None = None
        self._pipe: RedisPipe | None = None
        self._expires, self._scripts = False, Scripts(expires=False)

    async def start(self) -> None:
        """Connect, and check that the server keeps what it is given.

        Raises `Unavailable` where it cannot be had, and `RuntimeError` where it must not be used.
        """
        if self._home is not None and not self._home.is_over:
            raise RuntimeError("the payment store is started already")
        home, pipe = HomeLoop(), RedisPipe(open_pool(self._url, self._timeout), timeout=self._timeout)
        try:
            expires = await pipe.in_time(lambda: check_server(pipe, self._version))
        except BaseException:
            await pipe.close()
            raise
        # A volatile policy evicts keys that have an end. Without one ours are safe from it, and only `purge` forgets.
        self._expires, self._scripts = expires, Scripts(expires=expires)
        self._home, self._pipe = home, pipe

    async def close(self) -> None:
        """Finish what is under way and close; the store can be started again."""
        home, pipe, self._home, self._pipe = self._home, self._pipe, None, None
        if home is not None and pipe is not None and not home.is_over:
            await home.run(pipe.close)

    async def claim(self, record: Record, *, now: float) -> Claim:
        """See `Store.claim`."""
        answer = rules.claim(None, record, now)
        arguments = [record.id.encode(), number(now), *to_fields(record)]

        async def operation(pipe: RedisPipe) -> Claim:
            # Round, when the row changes between two looks at it.
            while True:
                stored = await pipe.run(self._scripts.insert, self._keys(record.id), arguments)
                if not stored:
                    return answer
                row = from_fields(stored)
                renewed = rules.claim(row, record, now)
                if not renewed.won:
                    return renewed
                seen_and_following = [*to_fields(row), *to_fields(renewed.record)]
                if await pipe.run(self._scripts.replace, self._keys(record.id), [*arguments[:2], *seen_and_following]):
                    return renewed

        return await self._run(operation)

    async def advance(
        self,
        payment_id: str,
        to: State,
        *,
        owner: str,
        now: float,
        lease_until: float | None = None,
        transaction: str | None = None,
        reason: str | None = None,
        response: StoredResponse | None = None,
    ) -> Record:
        """See `Store.advance`."""
        changes: dict[str, Any] = {"lease_until": lease_until, "transaction": transaction, "reason": reason}
        given = {name: value for name, value in changes.items() if value is not None}
        sources = f",{','.join(rules.leading_to(to))},"
        arguments: list[bytes | int] = [payment_id.encode(), number(now), owner.encode(), sources.encode()]
        script, keys = self._scripts.advance, self._keys(payment_id)
        if response is not None:
            script, keys = self._scripts.deliver, (*keys, self._response + payment_id.encode(), self._kept)
            arguments += [
                msgspec.msgpack.encode(response),
                number(response.expires_at),
                self._life(response.expires_at - now),
            ]
        arguments += pairs({"state": to, "updated_at": now, **given})

        async def operation(pipe: RedisPipe) -> Record:
            while True:
                moved, stored = await pipe.run(script, keys, arguments)
                row = from_fields(stored) if stored else None
                if moved and row is not None:
                    return row
                # Why not?
                rules.advance(row, to, owner=owner, now=now, **changes)

        return await self._run(operation)

    async def get(self, payment_id: str) -> Record | None:
        """See `Store.get`."""

        async def operation(pipe: RedisPipe) -> Record | None:
            fields = await pipe.call("HGETALL", self._keys(payment_id)[0])
            return to_record(fields) if fields else None

        return await self._run(operation)

    async def response(self, payment_id: str, *, now: float) -> StoredResponse | None:
        """See `Store.response`."""
        kept = await self._run(lambda pipe: pipe.call("GET", self._response + payment_id.encode()))
        response = None if kept is None else msgspec.msgpack.decode(kept, type=StoredResponse)
        return response if response is not None and response.expires_at > now else None

    async def bind_key(
        self, key: str, payment_id: str, *, now: float, expires_at: float, instead_of: str | None = None
    ) -> str:
        """See `Store.bind_key`."""
        keys = (self._key + key.encode(), self._kept)
        arguments = (
            payment_id.encode(),
            number(now),
            number(expires_at),
            self._life(expires_at - now),
            (instead_of or "").encode(),
        )
        bound: bytes = await self._run(lambda pipe: pipe.run(self._scripts.bind_key, keys, arguments))
        return bound.decode()

    async def bound(self, key: str, *, now: float) -> str | None:
        """See `Store.bound`."""
        bound, until = await self._run(lambda pipe: pipe.call("HMGET", self._key + key.encode(), "to", "until"))
        return bound.decode() if bound is not None and float(until) > now else None

    async def records(self, *, states: Collection[State] = (), limit: int = 100) -> list[Record]:
        """See `Store.records`. Looks at every row: for a person who asks, not for a request."""
        rows: list[Record] = []
        cursor = 0
        while True:
            at = cursor
            cursor, keys = await self._run(
                lambda pipe, at=at: pipe.call("SCAN", at, "MATCH", _literal(self._row) + b"*", "COUNT", 500)  # type: ignore[misc]
            )
            found = await self._run(
                lambda pipe, keys=keys: _all(pipe.call("HGETALL", key) for key in set(keys))  # type: ignore[misc]
            )
            rows += [to_record(fields) for fields in found if fields]
            if not int(cursor):
                break
        # A scan may come by a row twice.
        listed = {row.id: row for row in rows if not states or row.state in states}
        return sorted(listed.values(), key=lambda row: (-row.updated_at, row.id))[:limit]

    async def take_over(
        self, *, owner: str, now: float, lease_until: float, limit: int = 100, payment_id: str | None = None
    ) -> list[Record]:
        """See `Store.take_over`."""
        arguments = (owner.encode(), number(now), number(lease_until), limit, (payment_id or "").encode())

        async def operation(pipe: RedisPipe) -> list[Record]:
            rows = await pipe.run(self._scripts.take_over, self._keys(""), arguments)
            return [from_fields(stored) for stored in rows]

        return await self._run(operation)

    async def purge(self, *, now: float) -> int:
        """See `Store.purge`."""
        while await self._run(
            lambda pipe: pipe.run(self._scripts.forget, (self._kept,), (number(now), _PURGED_AT_ONCE))
        ):
            pass
        purged = passed_over = 0

        async def operation(pipe: RedisPipe) -> list[int]:
            arguments = (number(now), passed_over, _PURGED_AT_ONCE)
            counts: list[int] = await pipe.run(self._scripts.purge, self._keys(""), arguments)
            return counts

        while True:
            looked_at, went, stayed = await self._run(operation)
            purged += went
            passed_over += stayed
            if looked_at < _PURGED_AT_ONCE:
                return purged

    async def _run(self, operation: Callable[[RedisPipe], Awaitable[T]]) -> T:
        home, pipe = self._home, self._pipe
        if home is None or pipe is None:
            raise Unavailable("The payment store is closed.")
        return await home.run(lambda: pipe.in_time(lambda: operation(pipe)))

    def _life(self, seconds: float) -> int:
        """How long Redis itself keeps what is over after `seconds`: no less than clocks can differ; 0 is for ever."""
        return KEEP_FINISHED_SECONDS + max(0, math.ceil(seconds)) if self._expires else 0

    def _keys(self, payment_id: str) -> tuple[bytes, ...]:
        return (self._row + payment_id.encode(), *self._indices)


def _literal(prefix: bytes) -> bytes:
    """A prefix as a pattern that matches nothing else."""
    return re.sub(rb"([*?\[\]\\])", rb"\\\1", prefix)


async def _all(calls: Iterable[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*calls))
