"""One operation on PostgreSQL: what it may do, until when it must have its answer, and what its failures are called."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import psycopg

from translators.errors import Unavailable

__all__ = ["Connection", "Cursor", "Job", "Operation", "Shortcut", "unavailable"]

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Cursor = psycopg.AsyncCursor[tuple[Any, ...]]
Operation = Callable[[Connection, bool], Awaitable[T]]
"""Called with a connection in autocommit, and with whether it is called again because the first answer was lost.

So an operation must come to the same end when an earlier call of it was carried out.
"""


_DETAILS = {
    "57014": "The payment store is too slow.",
    "25006": "The payment store cannot be written to.",
    "53100": "The payment store has no room left.",
    "53200": "The payment store has no room left.",
    "53300": "The payment store has no connection left.",
}
"""What to say of some SQLSTATEs (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""


@dataclass(frozen=True, slots=True)
class Shortcut(Generic[T]):
    """A statement that mostly is all of an operation, and that can share a transaction with others."""

    payment_id: str
    """Whose row it locks."""
    query: str
    parameters: Sequence[Any] | Mapping[str, Any]
    conclude: Callable[[Cursor], Awaitable[T | None]]
    """The operation's result, or None if the statement changed nothing and the operation itself must look closer."""


class Job:
    """An operation, its deadline, and where its answer goes."""

    __slots__ = ("again", "connection", "ended", "future", "operation", "shortcut", "since", "timer")

    def __init__(self, operation: Operation[Any], shortcut: Shortcut[Any] | None, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self.operation = operation
        self.shortcut = shortcut
        self.future: asyncio.Future[Any] = loop.create_future()
        self.since = loop.time()
        self.timer = loop.call_later(timeout, self._expire)
        self.again = False
        """It may have been carried out before."""
        self.ended = False
        """It has its answer, or is past its deadline. Unlike `future.done()`, false when the caller went away."""
        self.connection: Connection | None = None
        """The connection that it is being carried out on."""

    def _expire(self) -> None:
        if self.connection is not None:
            _hang_up(self.connection)
        self.fail(Unavailable("The payment store does not answer."))

    def succeed(self, result: object) -> None:
        """Answer with `result`."""
        if self._end():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Answer with `error`."""
        if self._end():
            self.future.set_exception(error)

    def _end(self) -> bool:
        self.ended = True
        self.timer.cancel()
        return not self.future.done()


def unavailable(error: BaseException) -> Unavailable:
    """What a caller is told about `error`: a sentence that names no server, with the error itself as its cause."""
    sqlstate = getattr(error, "sqlstate", None) or ""
    answer = Unavailable(_DETAILS.get(sqlstate, "The payment store does not answer."))
    answer.__cause__ = error
    return answer


def _hang_up(connection: Connection) -> None:
    # Cancelling would ask the server, which is silent. libpq reads the end of its socket instead, and gives up. The
    # descriptor itself stays libpq's: closed here, its number could be another connection's by the time it is used.
    with (
        suppress(OSError, psycopg.Error),
        socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as duplicate,
    ):
        duplicate.shutdown(socket.SHUT_RDWR)
