"""Requests to a facilitator: authenticated, bounded in size and time, and known to have been sent or not."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import httpx

from translators.errors import Unavailable

__all__ = ["Answer", "FacilitatorHttp", "Headers", "NoAnswer", "check_rate"]

Headers = Callable[[str, str], Mapping[str, str] | Awaitable[Mapping[str, str]]]
"""Makes the headers that authenticate a request, from its method and URL: some facilitators want both signed."""

_MAX_BODY: Final = 256 * 1024
"""The longest answer that is read, in bytes."""

_CONNECT_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 3.0
"""Node's servers close a connection after five idle seconds. A request that meets the closing may have been read, and
its payment's outcome would be unknown."""

_RETRY_AFTER: Final = 5
_MAX_RETRY_AFTER: Final = 300


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    retry_after: str | None


class NoAnswer(Exception):
    """No whole answer came; `maybe_sent` says whether the request can have reached the facilitator."""

    def __init__(self, *, maybe_sent: bool) -> None:
        super().__init__()
        self.maybe_sent = maybe_sent


class FacilitatorHttp:
    """The endpoints below `url`; the longest that one answer may take, all of it, is `timeout_seconds`.

    Raises `ValueError` for a URL that is not https, except http on loopback or to a name without a dot.
    """

    def __init__(self, url: str, headers: Headers | None, timeout_seconds: float) -> None:
        _check_url(url)
        self._url = url.rstrip("/")
        self.host = urlsplit(url).hostname
        self._headers = headers
        self._timeout_seconds = timeout_seconds
        self._client: httpx.AsyncClient | None = None

    def open(self) -> None:
        """Make ready to connect."""
        connect = min(_CONNECT_SECONDS, self._timeout_seconds / 2)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(self._timeout_seconds, connect=connect, pool=connect),
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=_IDLE_SECONDS),
            # No compression: the bound on an answer is one on what it unpacks to as well.
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """One authenticated request and its answer. Raises `NoAnswer` and what `authentication` raises."""
        return await self.send(method, path, body, await self.authentication(method, path))

    async def authentication(self, method: str, path: str) -> Mapping[str, str]:
        """The headers for one request; `Unavailable` when they cannot be made, for nothing was sent then."""
        if self._headers is None:
            return {}
        try:
            made = self._headers(method, self._url + path)
            return await made if inspect.isawaitable(made) else made
        except Exception:  # the application's own code: its message may hold what it failed to sign with
            raise Unavailable("the request to the facilitator could not be authenticated") from None

    async def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """One request and its whole answer, of bounded size and within the time-out; raises `NoAnswer`."""
        if self._client is None:
            raise RuntimeError("the settler was not started")
        typed = {"Content-Type": "application/json", **headers} if body is not None else dict(headers)
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._client.stream(method, self._url + path, content=body, headers=typed) as response,
            ):
                content = bytearray()
                async for chunk in response.aiter_raw():
                    content += chunk
                    if len(content) > _MAX_BODY:
                        raise NoAnswer(maybe_sent=True)
                return Answer(response.status_code, bytes(content), response.headers.get("Retry-After"))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol):
            raise NoAnswer(maybe_sent=False) from None
        except (httpx.HTTPError, TimeoutError):
            raise NoAnswer(maybe_sent=True) from None


def check_rate(answer: Answer, clock: Callable[[], float] = time.time) -> None:
    """Raise `Unavailable` for a rate limit, with the facilitator's own waiting time, within reason."""
    if answer.status == 429:
        seconds = _seconds(answer.retry_after or "", clock())
        raise Unavailable("the facilitator is asked too often", retry_after=max(1, min(seconds, _MAX_RETRY_AFTER)))


def _seconds(header: str, now: float) -> int:
    """`Retry-After` as seconds from `now`: a number, or an HTTP date (RFC 9110, section 10.2.3)."""
    if header.isascii() and header.isdecimal() and len(header) < 10:
        return int(header)
    try:
        when = parsedate_to_datetime(header)
        return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now + 1)
    except (ValueError, TypeError, OverflowError):
        return _RETRY_AFTER


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    near = host == "::1" or host.startswith("127.") or "." not in host
    if not host or parts.query or parts.fragment or parts.scheme not in ("https", "http"):
        raise ValueError("a facilitator is given by its URL, such as https://x402.org/facilitator")
    if parts.scheme == "http" and not near:
        # Its word is taken for money: whoever can forge it is served for nothing.
        raise ValueError("a facilitator beyond this host's neighbours is asked by https only")
