"""Lanes to PostgreSQL: pooled connections, each held for as long as operations wait, and a deadline for each of them.

A pool lends a connection out for one operation at a time, which costs as much as a claim does. A lane keeps what it
has borrowed until nobody waits any more, and sends what waits together: one round trip and one commit for all of it.
Another lane is opened only where an operation is kept waiting, as those that are open are held up by a lock or a long
statement: more lanes have smaller groups, and more commits.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from bridge.stores.home_loop import HomeLoop
from bridge.stores.postgres_job import Connection, Job, Operation, Shortcut, unavailable
from translators.errors import Unavailable

__all__ = ["PostgresLanes"]

T = TypeVar("T")
LARGEST_GROUP = 50
"""Operations in one round trip and transaction: some milliseconds for which others may wait for one of its rows."""

HELD_UP_SECONDS = 0.01
"""How long an operation waits for a lane before another one is opened for it: longer than a round trip takes."""

RECONNECT_SECONDS = 0.5
"""How long the pool waits between attempts to connect, while the server is down and somebody asks."""

_CALLERS_FAULT = (psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError)
"""What no other attempt and no other server would do better."""

_GONE = ("08", "57P0")
"""How the SQLSTATEs begin that say that the connection was lost, or that the server shuts down."""

_TRANSIENT = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
"""Refused for the sake of another transaction; nothing was done."""


class PostgresLanes:
    """Runs operations on at most `max_connections` connections with libpq's `parameters`, in the order they came.

    An operation that has no answer after `timeout` seconds ends with `Unavailable`. One whose connection is lost runs
    again on another, within that time. One whose caller is cancelled is carried out all the same.
    """

    def __init__(
        self,
        *,
        parameters: dict[str, Any],
        configure: Callable[[Connection], Awaitable[None]],
        timeout: float,
        max_connections: int,
    ) -> None:
        self._home = HomeLoop()
        self._timeout = timeout
        self._max_connections = max_connections
        self._queue: deque[Job] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._looking: asyncio.TimerHandle | None = None
        """When somebody looks next whether an operation is held up."""
        self._closed = False
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            kwargs=parameters,
            configure=configure,
            min_size=1,
            max_size=max_connections,
            timeout=timeout,
            reconnect_timeout=RECONNECT_SECONDS,
            name="x402-mpp",
            open=False,
        )

    @property
    def is_over(self) -> bool:
        """Whether the event loop or the process that opened it is gone."""
        return self._home.is_over

    async def open(self) -> None:
        """Connect; raises `psycopg.Error`."""
        await self._pool.open(wait=True, timeout=self._timeout)

    async def close(self) -> None:
        """Finish what is queued, and close all connections."""
        if not self.is_over:
            await self._home.run(self._close)

    async def _close(self) -> None:
        self._closed = True
        # Each job ends within its deadline, and a lane with its last job.
        await asyncio.gather(*self._lanes, return_exceptions=True)
        await self._pool.close()

    async def run(self, operation: Operation[T], shortcut: Shortcut[T] | None = None) -> T:
        """The result of `operation`; raises `Unavailable`, and whatever `operation` itself raises."""
        return await self._home.run(lambda: self._enqueue(operation, shortcut))

    async def _enqueue(self, operation: Operation[T], shortcut: Shortcut[T] | None) -> T:
        if self._closed:
            raise Unavailable("The payment store is closed.")
        job = Job(operation, shortcut, self._timeout)
        self._queue.append(job)
        if not self._lanes:
            self._open_lane()
        elif self._looking is None:
            self._look_later(HELD_UP_SECONDS)
        result: T = await job.future
        return result

    def _open_lane(self) -> None:
        self._lanes.add(asyncio.create_task(self._serve(), name="x402-mpp-postgres"))

    def _look_later(self, seconds: float) -> None:
        self._looking = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Open a lane for the operation that waits longest, where it has waited too long, and look again."""
        self._looking = None
        if not self._queue or len(self._lanes) >= self._max_connections:
            return
        left = self._queue[0].since + HELD_UP_SECONDS - asyncio.get_running_loop().time()
        if left <= 0:
            self._open_lane()
            left = HELD_UP_SECONDS
        self._look_later(left)

    async def _serve(self) -> None:
        try:
            while self._queue:
                # PoolTimeout: there is no connection; those who waited have been told, those who came later still wait.
                # Any other error of the pool concerns a connection that is given up anyway.
                with suppress(PoolTimeout, psycopg.Error):
                    async with self._pool.connection() as connection:
                        while self._queue and not connection.closed:
                            await self._execute_next(connection)
                while self._queue and self._queue[0].ended:
                    self._queue.popleft()
        finally:
            # Here and not when the task is done, which is later: who comes in between would wait for a lane that ended.
            self._lanes.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _execute_next(self, connection: Connection) -> None:
        group: list[tuple[Job, Shortcut[Any]]] = []
        while self._queue and len(group) < LARGEST_GROUP:
            job = self._queue[0]
            if job.shortcut is None or job.again:
                break
            group.append((job, job.shortcut))
            self._queue.popleft()
        if len(group) > 1:
            # Row locks are taken in one order everywhere, so that two groups never wait for each other.
            group.sort(key=lambda entry: entry[1].payment_id)
            await self._execute_together(group, connection)
        elif group:
            await self._execute(group[0][0], connection)
        else:
            await self._execute(self._queue.popleft(), connection)

    async def _execute_together(self, group: list[tuple[Job, Shortcut[Any]]], connection: Connection) -> None:
        group = [(job, shortcut) for job, shortcut in group if not job.ended]
        for job, _ in group:
            job.connection = connection
        try:
            # One implicit transaction: nobody is answered before it is committed.
            async with connection.pipeline():
                cursors = [await connection.execute(shortcut.query, shortcut.parameters) for _, shortcut in group]
            for (job, shortcut), cursor in zip(group, cursors, strict=True):
                if (result := await shortcut.conclude(cursor)) is not None:
                    job.succeed(result)
        except Exception:
            # One that fails does not spoil its neighbours: each goes on alone. What came before it may be committed.
            for job, _ in group:
                job.again = True
            # psycopg may now take statements for prepared that the server threw away with the rest of the pipeline.
            await connection.close()
        finally:
            for job, _ in group:
                job.connection = None
        left = [job for job, _ in group if not job.ended]
        if connection.closed:
            self._queue.extendleft(reversed(left))
        else:
            for job in left:
                await self._execute(job, connection)

    async def _execute(self, job: Job, connection: Connection) -> None:
        if job.ended:
            return
        job.connection = connection
        try:
            job.succeed(await job.operation(connection, job.again))
        except psycopg.Error as error:
            await self._failed(job, connection, error)
        except Exception as error:
            job.fail(error)
        finally:
            job.connection = None

    async def _failed(self, job: Job, connection: Connection, error: psycopg.Error) -> None:
        gone = connection.closed or (error.sqlstate or "").startswith(_GONE)
        # A server that became a read-only standby is left as well: there may be another behind the same name.
        if gone or isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            await connection.close()  # the pool replaces it
        if isinstance(error, _CALLERS_FAULT):
            job.fail(error)
        elif (gone or isinstance(error, _TRANSIENT)) and not job.ended:
            job.again = True
            self._queue.appendleft(job)
        else:
            job.fail(unavailable(error))
