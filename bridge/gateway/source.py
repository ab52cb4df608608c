"""What an answer is read from, whoever brought it."""

from collections.abc import AsyncIterator, Iterable
from typing import Protocol as TypingProtocol

__all__ = ["Source"]


class Source(TypingProtocol):
    """An answer of which the start has come."""

    @property
    def status(self) -> int:
        """The status."""
        ...

    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """The headers as they came."""
        ...

    def whole(self) -> bytes | None:
        """All of the body, where it is here already; it is given once. None: `parts` gives it."""
        ...

    def parts(self) -> AsyncIterator[bytes]:
        """The body as it comes; raises `Unanswered` where it breaks off."""
        ...

    async def close(self) -> None:
        """Let the connection go, whatever is still to come."""
        ...
