"""Who comes just when all lanes have nothing left to do is served at once: no call waits for a lane that has ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.stores import postgres_lanes, redis_pipe


class Answers:
    """Calls to a server that wait until the test answers them, all at once."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []

    async def ask(self) -> None:
        self.waiting.append(asyncio.get_running_loop().create_future())
        await self.waiting[-1]

    def give(self) -> None:
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            future.set_result(None)


async def come_when_all_is_done(call: Any, answers: Answers, lanes: int) -> None:
    """Keep every lane busy, end all at one moment, and have the first caller call again as soon as it is answered."""

    async def calls(count: int) -> None:
        for _ in range(count):
            await call()

    callers = []
    for lane in range(lanes):
        callers.append(asyncio.create_task(calls(1 if lane else 2)))
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(answers.waiting) == lane + 1
    done = asyncio.gather(*callers)
    for _ in range(100):
        answers.give()
        await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
    assert done.done()


def test_redis_lanes_leave_nobody_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is called when both lanes have just run out of commands is sent."""
    answers = Answers()

    class Pipeline:
        def execute_command(self, *_arguments: object) -> None:
            pass

        async def execute(self, *, raise_on_error: bool) -> list[object]:
            assert not raise_on_error
            await answers.ask()
            return [None]

    class Client:
        def pipeline(self, *, transaction: bool) -> Pipeline:
            assert not transaction
            return Pipeline()

    monkeypatch.setattr(redis_pipe, "LARGEST_GROUP", 1)

    async def use() -> None:
        pipe = redis_pipe.RedisPipe(None, timeout=5)  # type: ignore[arg-type]
        monkeypatch.setattr(pipe, "_client", Client())
        await come_when_all_is_done(lambda: pipe.call("PING"), answers, redis_pipe.LANES)

    asyncio.run(use())


class Lanes:
    """Lanes to PostgreSQL whose connections ask `answers`."""

    def __init__(self, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
        class Connection:
            closed = False

        class Pool:
            @asynccontextmanager
            async def connection(self) -> AsyncIterator[Connection]:
                yield Connection()

        async def configure(_connection: object) -> None:
            pass

        self._answers = answers
        self._lanes = postgres_lanes.PostgresLanes(parameters={}, configure=configure, timeout=5, max_connections=3)
        monkeypatch.setattr(self._lanes, "_pool", Pool())

    async def call(self) -> None:
        async def operation(_connection: object, _again: bool) -> None:
            await self._answers.ask()

        await self._lanes.run(operation)


def test_postgresql_lanes_leave_nobody_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation that is called when all lanes have just run out of operations is carried out."""
    # Every lane is opened at once.
    monkeypatch.setattr(postgres_lanes, "HELD_UP_SECONDS", 0)

    async def use() -> None:
        answers = Answers()
        await come_when_all_is_done(Lanes(answers, monkeypatch).call, answers, 3)

    asyncio.run(use())


@pytest.mark.parametrize(("seconds", "lanes_at_once"), [(60.0, 1), (0.01, 3)])
def test_postgresql_has_another_lane_for_those_who_are_held_up(
    seconds: float, lanes_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before: whoever comes meanwhile shares the next commit. And no more than there may be connections."""
    monkeypatch.setattr(postgres_lanes, "HELD_UP_SECONDS", seconds)

    async def use() -> None:
        answers = Answers()
        lanes = Lanes(answers, monkeypatch)
        calls = [asyncio.create_task(lanes.call()) for _ in range(5)]
        for _ in range(500):
            if len(answers.waiting) == lanes_at_once:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(answers.waiting) == lanes_at_once
        for _ in range(5):
            answers.give()
            await asyncio.sleep(0.01)
        await asyncio.wait_for(asyncio.gather(*calls), 5)

    asyncio.run(use())
