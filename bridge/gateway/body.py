"""A request's body on its way to an upstream, part by part and none of it kept."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from bridge.gateway.errors import ClientGone, TooLarge

__all__ = ["Body"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Body:
    """The body that `receive` gives, at most `limit` bytes of it. It is read once."""

    def __init__(self, receive: Receive, limit: int | None = None) -> None:
        self._receive = receive
        self._limit = limit
        self.problem: ClientGone | TooLarge | None = None
        """Why it broke off: whoever sends it on may only hear that it did."""
        self.is_read = False
        """Whether all of it has been taken: from then on `receive` says when the client leaves."""
        self.taken_at = 0.0
        """When a part was last handed over, by the event loop's clock; 0 while one is waited for from the client."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The parts as they come. Raises `ClientGone` or `TooLarge`."""
        clock = asyncio.get_running_loop().time
        size = 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                self.problem = ClientGone()
                raise self.problem
            if part := message.get("body", b""):
                size += len(part)
                if self._limit is not None and size > self._limit:
                    self.problem = TooLarge()
                    raise self.problem
                self.taken_at = clock()
                yield part
                self.taken_at = 0.0
            if not message.get("more_body", False):
                self.is_read = True
                return
