"""The thread that owns a SQLite connection: it runs everything that waits in one transaction, then answers.

A commit that is on the disk costs a flush of the disk, whatever is in it. While one flush lasts, the next operations
gather in the queue and share the next: under load a flush serves many requests, and a lone request waits for nobody.
Nor is the thread woken for each operation: an event loop wakes it once nothing more comes, and is woken once a group.
"""

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

from bridge.stores.home_loop import HomeLoop
from bridge.stores.sqlite_file import is_busy, is_storage_error, unavailable
from translators.errors import Unavailable

__all__ = ["Operation", "SQLiteThread"]

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
"""Reads what it likes and writes with at most one statement, so that one that fails leaves nothing half-done."""

ENOUGH = 100
"""Operations that are worth a flush, whatever else the event loop may bring."""

LATE_SECONDS = 0.005
"""How long an operation that nobody waits for waits for a flush that others need."""

LARGEST_GROUP = 500
"""Operations in one transaction: some ten milliseconds for which other processes wait."""


class _Job:
    """An operation, where its answer goes, and the answer once there is one."""

    __slots__ = ("error", "future", "loop", "operation", "result", "writes")

    def __init__(self, operation: Operation[Any] | None, loop: asyncio.AbstractEventLoop, *, writes: bool) -> None:
        self.operation = operation
        """None asks the thread to end."""
        self.writes = writes
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: Exception | None = None


class SQLiteThread:
    """Runs operations on the connection that `opener` opens, in the order they came, from any number of event loops.

    It is made in a running one, which most of them come from, and ends with the process that it was made in.
    A group of them waits at most `busy_timeout` seconds for other processes.
    An operation that was queued is executed, even when the task that waits for it is cancelled meanwhile.
    """

    def __init__(self, opener: Callable[[], sqlite3.Connection], busy_timeout: float) -> None:
        self._opener = opener
        self._busy_timeout = busy_timeout
        self._jobs: deque[_Job] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        """What the thread waits for: that there are jobs."""
        self._ringing: set[asyncio.AbstractEventLoop] = set()
        """Loops that will ring as soon as they bring nothing more."""
        self._ringing_late: set[asyncio.AbstractEventLoop] = set()
        """Loops that will ring after `LATE_SECONDS`."""
        # Held while queueing: nothing comes to stand behind the job that ends the thread.
        self._lock = Lock()
        self._stopping: _Job | None = None
        self._home = HomeLoop()

    async def start(self) -> None:
        """Start the thread and wait until the connection is open; raises what `opener` raises."""
        opening = _Job(None, self._home.running(), writes=False)
        # A daemon: a program that never closes its store still ends, and SQLite survives being cut off anywhere.
        Thread(target=self._run, args=(opening,), name="x402-mpp-sqlite", daemon=True).start()
        try:
            await opening.future
        except BaseException:
            self._enqueue_stop()
            raise

    async def stop(self) -> None:
        """Finish what is queued, close the connection and end the thread."""
        if self._home.is_forked:  # a forked child: the thread stayed in its parent
            return
        waiting = _Job(None, self._home.running(), writes=False)
        if self._enqueue_stop(waiting) is waiting:
            await waiting.future

    async def run(self, operation: Operation[T], *, writes: bool, late: bool = False) -> T:
        """The result of `operation`, once the transaction it ran in is committed: at once, or a little `late`.

        Raises `Unavailable` when it is not committed, and whatever `operation` itself raises.
        """
        self._home.check_process()
        job = _Job(operation, self._home.running(), writes=writes)
        with self._lock:
            if self._stopping is not None:
                raise Unavailable("The payment store is closed.")
            self._jobs.append(job)
            if late:
                if job.loop not in self._ringing_late:
                    self._ringing_late.add(job.loop)
                    job.loop.call_later(LATE_SECONDS, self._ring_late, job.loop)
            elif job.loop not in self._ringing:
                self._ringing.add(job.loop)
                job.loop.call_soon(self._ring, job.loop, 0)
        result: T = await job.future
        return result

    def _ring_late(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ringing_late.discard(loop)
        if self._jobs:
            self._bell.put(None)

    def _ring(self, loop: asyncio.AbstractEventLoop, seen: int) -> None:
        waiting = len(self._jobs)
        if seen < waiting < ENOUGH:
            # Not yet: what the next turn of the loop brings shares the flush and the wake-up.
            loop.call_soon(self._ring, loop, waiting)
            return
        self._ringing.discard(loop)
        self._bell.put(None)

    def _enqueue_stop(self, job: _Job | None = None) -> _Job:
        with self._lock:
            if self._stopping is None:
                self._stopping = job or _Job(None, self._home.running(), writes=False)
                self._jobs.append(self._stopping)
                self._bell.put(None)
            return self._stopping

    def _run(self, opening: _Job) -> None:
        # The connection is never kept in `self`: a forked child would close its copy, and SQLite forbids even that.
        try:
            connection = self._opener()
        except Exception as error:
            opening.error = error
            _answer([opening])
            return
        _answer([opening])
        while True:
            group, stop = self._next_group()
            if group:
                self._commit(connection, group)
                _answer(group)
            if stop is not None:
                with suppress(sqlite3.Error):
                    connection.close()
                _answer([stop])
                return

    def _next_group(self) -> tuple[list[_Job], _Job | None]:
        self._bell.get()
        group: list[_Job] = []
        while self._jobs:
            if len(group) == LARGEST_GROUP:
                self._bell.put(None)  # for the rest
                break
            job = self._jobs.popleft()
            if job.operation is None:
                return group, job
            group.append(job)
        return group, None

    def _commit(self, connection: sqlite3.Connection, group: list[_Job]) -> None:
        deadline = time.monotonic() + self._busy_timeout
        while (error := _try_to_commit(connection, group)) is not None:
            if not is_busy(error) or time.monotonic() > deadline:
                for job in group:
                    job.error = unavailable(error)
                return
            time.sleep(0.001)  # some of SQLite's refusals come at once


def _try_to_commit(connection: sqlite3.Connection, group: list[_Job]) -> Exception | None:
    try:
        # IMMEDIATE: wait for other processes here, where nothing is decided yet. Reads alone wait for nobody.
        connection.execute("BEGIN IMMEDIATE" if any(job.writes for job in group) else "BEGIN")
        for job in group:
            _execute(connection, job)
        connection.execute("COMMIT")
    except Exception as error:
        with suppress(sqlite3.Error):
            connection.rollback()
        return error
    return None


def _execute(connection: sqlite3.Connection, job: _Job) -> None:
    assert job.operation is not None
    job.error = None  # of an attempt that was rolled back
    try:
        job.result = job.operation(connection)
    except Exception as error:
        if is_storage_error(error):
            raise
        # A lost claim or an illegal step is this caller's answer. Its neighbours are committed.
        job.error = error


def _answer(group: list[_Job]) -> None:
    # One wake-up a loop, not one a job: each costs a system call.
    for loop in {job.loop for job in group}:
        jobs = [job for job in group if job.loop is loop]
        # RuntimeError: the loop was closed meanwhile, so nobody waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, jobs)


def _resolve(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():  # the waiting task was cancelled
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
