"""The event loop that a store was started in: its connections belong there, and calls from others are sent there."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from threading import get_ident
from typing import Any, TypeVar

__all__ = ["HomeLoop"]

T = TypeVar("T")

_forks = 0
"""How many forks lie between the first process and this one: asking the system who one is costs a call each time."""


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class HomeLoop:
    """The running event loop, and the only one in which this process may use what is opened with it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._forks = _forks

    @property
    def is_over(self) -> bool:
        """Whether what belongs to it is lost: it was closed, or it is the loop of the process that forked this one."""
        return self._loop.is_closed() or self.is_forked

    @property
    def is_forked(self) -> bool:
        """Whether this is a process that was forked from the one it ran in."""
        return _forks != self._forks

    def check_process(self) -> None:
        """Raise `RuntimeError` in a process that was forked from the one it ran in."""
        if _forks != self._forks:
            raise RuntimeError("the payment store was opened before this process was forked: fork first, then start")

    def running(self) -> asyncio.AbstractEventLoop:
        """The loop of whoever calls, which is this one nearly always: asked for by name, it costs two system calls."""
        if get_ident() == self._thread and self._loop.is_running():
            return self._loop
        return asyncio.get_running_loop()

    async def run(self, operation: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `operation`, awaited in this loop, whichever loop calls."""
        self.check_process()
        if self.running() is self._loop:
            return await operation()
        if self._loop.is_closed():
            raise RuntimeError("the event loop in which the payment store was started is closed: start it again")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(operation(), self._loop))
