"""The event loop that a store was started in: its connections belong there, and calls from others are sent there."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["HomeLoop"]

T = TypeVar("T")


class HomeLoop:
    """The running event loop, and the only one in which this process may use what is opened with it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()

    @property
    def is_over(self) -> bool:
        """Whether what belongs to it is lost: it was closed, or it is the loop of the process that forked this one."""
        return self._loop.is_closed() or os.getpid() != self._process

    async def run(self, operation: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `operation`, awaited in this loop, whichever loop calls."""
        if os.getpid() != self._process:
            raise RuntimeError("the payment store was opened before this process was forked: fork first, then start")
        if asyncio.get_running_loop() is self._loop:
            return await operation()
        if self._loop.is_closed():
            raise RuntimeError("the event loop in which the payment store was started is closed: start it again")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(operation(), self._loop))
