"""Records events without ever making a request wait: a bounded queue, and a thread that writes what is in it.

A store that is away, or too slow, loses events and no payment: what does not fit into the queue is dropped and counted,
and the count is written as soon as something can be.
"""

import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Sequence
from threading import Event, Lock, Thread
from typing import Any

import structlog

from bridge.analytics.database import EventsUnavailable, is_server, open_database
from bridge.analytics.facts import Fact, Mark, Reducer
from bridge.analytics.rollup import bucket_of
from bridge.analytics.settings import EventStore
from bridge.analytics.workers import Part, Worker
from bridge.analytics.writer import Writer
from bridge.clock import Clock, system_clock

__all__ = ["Recorder"]

LARGEST_BATCH = 2_000
"""Events in one transaction."""

RETRY_SECONDS = 2.0
"""How often a store that is away is tried again."""

PURGE_SECONDS = 3600.0

_YIELD_AFTER = 25
"""Events reduced before the interpreter is offered to other threads: well under a millisecond."""


class Recorder:
    """A sink for events: see `bridge.events.Sink`. May be called before it is started and after it is closed.

    Raises `ImportError` where the extra for its database is not installed.
    """

    def __init__(self, settings: EventStore, clock: Clock = system_clock) -> None:
        if is_server(settings.url):
            import bridge.analytics.postgres  # noqa: F401  # a missing extra is said at the start, and not in a thread
        self._settings = settings
        self._clock = clock
        self._reducer = Reducer(settings.key)
        self._queue: deque[tuple[float, str, dict[str, Any]]] = deque()
        self._most = settings.queue_events
        self._many = max(1, self._most // 2)
        """So many that the thread had better begin at once."""
        self._dropped: dict[int, int] = {}
        self._lock = Lock()
        self._thread: Thread | None = None
        self._wake = Event()
        self._closing = False
        self._deadline = 0.0
        self._log = structlog.get_logger("x402_mpp")
        self.is_away = False
        """Whether the store took nothing when it was last tried."""
        self._name = ""
        self._noted: Worker | None = None
        self.is_noted = False
        """Whether the store has a word of how this process does."""
        self.recorded = 0
        """Events that this process has written."""
        self.dropped = 0
        """Events that this process has dropped."""

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        """Take an event; returns at once, whatever state the store is in."""
        if len(self._queue) >= self._most:
            self._drop(self._clock(), 1)
            return
        self._queue.append((self._clock(), event, fields))
        if len(self._queue) == self._many:
            self._wake.set()

    @property
    def url(self) -> str:
        """Where it writes to; it may hold a password."""
        return self._settings.url

    def start(self) -> None:
        """Begin to write. A store that is away is tried again until it is there; nobody waits for it."""
        if self._thread is None:
            self._closing = self.is_noted = False
            self._wake.clear()
            # Not before: a process may be forked from the one that made this.
            self._name = f"{socket.gethostname()[:100]}:{os.getpid()}:{secrets.token_hex(2)}"
            self._thread = Thread(target=self._run, name="x402-mpp-events", daemon=True)
            self._thread.start()

    @property
    def waiting(self) -> int:
        """Events that wait to be written."""
        return len(self._queue)

    @property
    def health_seconds(self) -> float:
        """How often this process is to `note` how its parts do; 0: never."""
        return self._settings.health_seconds

    def note(self, parts: Sequence[Part]) -> None:
        """Have it written how this process does, in place of what it said before. Nobody waits for it."""
        self._noted = Worker(self._name, self._clock(), self._settings.health_seconds, list(parts))

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until what was taken so far is written; false where it is not within `seconds`. Not on an event loop."""
        deadline = time.monotonic() + seconds
        while self._queue or self._dropped or self._noted is not None:
            if time.monotonic() > deadline:
                return False
            self._wake.set()
            time.sleep(0.005)
        return True

    def close(self, seconds: float = 5.0) -> None:
        """Write what waits, for at most `seconds`, and end."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._deadline = time.monotonic() + seconds
        self._closing = True
        self._wake.set()
        thread.join(seconds + 1)
        if left := len(self._queue) + sum(self._dropped.values()):
            self._log.error("analytics.lost", events=left)

    def _drop(self, at: float, events: int) -> None:
        bucket = bucket_of(at, self._settings.bucket_seconds)
        with self._lock:
            self._dropped[bucket] = self._dropped.get(bucket, 0) + events
            self.dropped += events

    def _run(self) -> None:
        while True:
            database = None
            try:
                database = open_database(self._settings.url, write=True)
                self._write_until_closed(Writer(database, self._settings.bucket_seconds, self._clock()))
                return
            except Exception as error:
                if not self.is_away:
                    self.is_away = True
                    # Our own errors name no password; others are told by their type only.
                    ours = isinstance(error, EventsUnavailable | RuntimeError)
                    self._log.warning(
                        "analytics.away", error_type=type(error).__name__, problem=str(error) if ours else None
                    )
            finally:
                if database is not None:
                    database.close()
            if self._closing:
                return
            self._wake.wait(RETRY_SECONDS)
            self._wake.clear()

    def _write_until_closed(self, writer: Writer) -> None:
        purge_at = time.monotonic() + 60
        while True:
            closing = self._closing
            while self._queue or self._dropped:
                self._write_some(writer)
                if self._closing and time.monotonic() > self._deadline:
                    return
            if self._noted is not None:
                writer.note(noted := self._noted)
                self.is_noted = True
                self._be_back(0)
                self._noted = None if self._noted is noted else self._noted
            if closing:
                if self.is_noted:
                    writer.forget(self._name)
                return
            if time.monotonic() >= purge_at:
                settings = self._settings
                more = writer.purge(now=self._clock(), event_days=settings.event_days, rollup_days=settings.rollup_days)
                purge_at = time.monotonic() + (1.0 if more else PURGE_SECONDS)
            self._wake.wait(self._settings.flush_seconds)
            # Who asks to close says so first: it is looked at next.
            self._wake.clear()

    def _write_some(self, writer: Writer) -> None:
        # They stay in the queue until they are written: only this thread takes them out.
        count = min(len(self._queue), LARGEST_BATCH)
        facts: list[Fact] = []
        marks: list[Mark] = []
        unreadable: dict[int, int] = {}
        for number in range(count):
            at, event, fields = self._queue[number]
            try:
                kept = self._reducer.reduce(at, event, fields)
            except (ValueError, TypeError, ArithmeticError):
                bucket = bucket_of(at, self._settings.bucket_seconds)
                unreadable[bucket] = unreadable.get(bucket, 0) + 1
                continue
            if isinstance(kept, Fact):
                facts.append(kept)
            elif kept is not None:
                marks.append(kept)
            if number % _YIELD_AFTER == 0:
                time.sleep(0)
        with self._lock:
            dropped, self._dropped = self._dropped, {}
        told = dict(dropped)
        for bucket, events in unreadable.items():
            told[bucket] = told.get(bucket, 0) + events
        try:
            writer.write(facts, marks, told)
        except EventsUnavailable:
            with self._lock:
                for bucket, events in dropped.items():
                    self._dropped[bucket] = self._dropped.get(bucket, 0) + events
            raise
        except Exception as error:
            # It would fail again, and nothing behind it would ever be written.
            self._log.error("analytics.unwritable", events=count, error_type=type(error).__name__)
            for _ in range(count):
                self._drop(self._queue.popleft()[0], 1)
            raise
        for _ in range(count):
            self._queue.popleft()
        self.recorded += count
        self._be_back(sum(told.values()))

    def _be_back(self, dropped: int) -> None:
        if self.is_away:
            self.is_away = False
            self._log.info("analytics.back", dropped=dropped)
