"""Commands to Redis from many tasks, sent together: while one round trip lasts, the next commands gather for the next.

Sending a command costs more in Python than Redis needs to carry it out; under load, a group shares that cost.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)

from bridge.stores.redis_scripts import Script
from translators.errors import Unavailable

__all__ = ["RedisPipe", "unavailable"]

T = TypeVar("T")

LANES = 2
"""Round trips under way at once: one is read while the other is on its way. More make the groups smaller."""

LARGEST_GROUP = 100
"""Commands in one round trip: some milliseconds of Redis's only thread."""


def unavailable(error: BaseException) -> Unavailable:
    """What a caller is told about `error`: a sentence that names no server, with the error itself as its cause."""
    match error:
        case OutOfMemoryError():
            detail = "The payment store has no room left."
        case ReadOnlyError():
            detail = "The payment store cannot be written to."
        case BusyLoadingError():
            detail = "The payment store is starting."
        case _:
            detail = "The payment store does not answer."
    answer = Unavailable(detail)
    answer.__cause__ = error
    return answer


class _Command:
    """A command, until when it is of use, and where its answer goes."""

    __slots__ = ("arguments", "deadline", "future")

    def __init__(self, arguments: tuple[str | bytes | int, ...], timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self.arguments = arguments
        self.deadline = loop.time() + timeout
        self.future: asyncio.Future[Any] = loop.create_future()


class RedisPipe:
    """Sends commands over the connections of `pool`.

    A command that was called is sent, even if the calling task is cancelled meanwhile; not, if it waited for longer
    than `timeout` seconds.
    """

    def __init__(self, pool: ConnectionPool, *, timeout: float) -> None:
        self._client: Redis = Redis(connection_pool=pool)
        self._timeout = timeout
        self._waiting: deque[_Command] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._closed = False

    async def close(self) -> None:
        """Finish what is waiting, and close all connections."""
        self._closed = True
        await asyncio.gather(*self._lanes, return_exceptions=True)
        await self._client.aclose()
        await self._client.connection_pool.aclose()

    async def in_time(self, operation: Callable[[], Awaitable[T]]) -> T:
        """The result of `operation`, any number of commands; raises `Unavailable` after `timeout` seconds."""
        try:
            async with asyncio.timeout(self._timeout):
                return await operation()
        except TimeoutError as error:
            raise unavailable(error) from error

    async def run(self, script: Script, keys: tuple[bytes, ...], arguments: Sequence[bytes | str | int]) -> Any:
        """The answer of a script; raises `Unavailable`."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # the server is new, or was restarted, or told to forget its scripts
            return await self.call("EVAL", script.text, len(keys), *keys, *arguments)

    async def call(self, *arguments: str | bytes | int) -> Any:
        """The answer to a command; raises `Unavailable`."""
        if self._closed:
            raise Unavailable("The payment store is closed.")
        command = _Command(arguments, self._timeout)
        self._waiting.append(command)
        if len(self._lanes) < LANES:
            self._lanes.add(asyncio.create_task(self._serve(), name="x402-mpp-redis"))
        try:
            return await command.future
        except NoScriptError:
            raise
        except (RedisError, OSError, TimeoutError) as error:
            raise unavailable(error) from error

    async def _serve(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST_GROUP))]
                # Whoever waited for the others has been told by now that nothing was done.
                now = asyncio.get_running_loop().time()
                if in_time := [command for command in group if command.deadline > now]:
                    await self._send(in_time)
        finally:
            # Here and not when the task is done, which is later: who comes in between would wait for a lane that ended.
            self._lanes.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _send(self, group: list[_Command]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for command in group:
            pipeline.execute_command(*command.arguments)
        try:
            answers = await asyncio.wait_for(pipeline.execute(raise_on_error=False), self._timeout)
        except Exception as error:
            answers = [error] * len(group)
        for command, answer in zip(group, answers, strict=True):
            if command.future.done():  # the caller was cancelled, or gave up
                continue
            if isinstance(answer, Exception):
                command.future.set_exception(answer)
            else:
                command.future.set_result(answer)
