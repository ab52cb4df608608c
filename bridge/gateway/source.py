"""What an answer is read from, whoever brought it."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol as TypingProtocol

from bridge.gateway.errors import Unanswered

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

    @property
    def trailers(self) -> Sequence[tuple[bytes, bytes]]:
        """What came behind the body, as it came; complete when the body is."""
        ...

    @property
    def problem(self) -> Unanswered | None:
        """Why no more of it comes than is here already, where that is so."""
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
