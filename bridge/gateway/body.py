"""A request's body on its way to an upstream, part by part and none of it kept, and the trailers behind it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from bridge.gateway.errors import ClientGone, TooLarge
from bridge.gateway.headers import Headers

__all__ = ["Body"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Body:
    """The body that `receive` gives, at most `limit` bytes of it. It is read once.

    `trailers` is a list that is complete when the body is (see `bridge.trailers.request_trailers`); those named in
    `hop_by_hop` are not for the next hop.
    """

    def __init__(
        self,
        receive: Receive,
        limit: int | None = None,
        trailers: Headers | None = None,
        hop_by_hop: Iterable[bytes] = (),
    ) -> None:
        self._receive = receive
        self._limit = limit
        self.trailers: Headers = [] if trailers is None else trailers
        self.hop_by_hop = hop_by_hop
        self.is_over = False
        """Whether nobody takes more of it: from then on `receive` says when the client leaves."""

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        """The parts as they come. Raises `ClientGone` or `TooLarge`."""
        size = 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGone
            if part := message.get("body", b""):
                size += len(part)
                if self._limit is not None and size > self._limit:
                    raise TooLarge
                yield part
            if not message.get("more_body", False):
                self.is_over = True
                return
