"""All input and output of `check`: HTTP requests with bounds, and calls of a chain's node.

Redirects are followed only when asked for, never from https to http, and what the user sends along (`--header`, a
credential) never goes to another origin. An answer is read as far as its limit and no further.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urljoin

import httpx
import msgspec

from translators.lint.known import origin_of, split_url
from translators.lint.probe import Exchange

__all__ = ["BODY_BYTES", "CheckError", "Network", "NodeRefused", "Request"]

BODY_BYTES: Final = 256 * 1024
"""The longest body of an answer that is read, in bytes."""

_REDIRECTS: Final = 5
_HARMLESS: Final = ("accept", "content-type")
_RPC_BYTES: Final = 1024 * 1024
_AGENT: Final = "x402-mpp-check"


class CheckError(Exception):
    """What keeps a check from being made; its message is for a person."""


class NodeRefused(Exception):
    """The node answered with an error, as it does for a call that reverts."""


class Network:
    """A client for one check. `connect_to` is `host:port` to connect to instead of what URLs name."""

    def __init__(self, *, timeout_seconds: float, follow: bool = False, connect_to: str | None = None) -> None:
        self._seconds = timeout_seconds
        self._follow = follow
        self._connect_to = _address(connect_to) if connect_to else None
        self._client = httpx.AsyncClient(timeout=timeout_seconds, follow_redirects=False)

    async def __aenter__(self) -> "Network":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.aclose()

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        limit: int = BODY_BYTES,
        seconds: float = 0.0,
    ) -> Exchange:
        """One request and its answer, redirects followed if so configured. Raises `CheckError`.

        `seconds` is how long this answer may take, where that is more than the configured time.
        """
        patience = max(seconds, self._seconds)
        for _ in range(_REDIRECTS + 1):
            answer = await self._once(method, url, headers, body, limit, patience)
            location = answer.value("Location")
            if not self._follow or not 300 <= answer.status < 400 or location is None:
                return answer
            url, headers = _next(url, location, headers)
            # A 303, and by custom a 301 or 302, is asked for with GET (RFC 9110, 15.4).
            if answer.status == 303 or (answer.status in (301, 302) and method == "POST"):
                method, body = "GET", b""
        raise CheckError(f"more than {_REDIRECTS} redirects, the last to {url}")

    async def _once(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes, limit: int, seconds: float
    ) -> Exchange:
        named = {name.lower() for name, _ in headers}
        sent = [("User-Agent", _AGENT), ("Accept", "application/json, */*;q=0.5")]
        sent = [(name, value) for name, value in sent if name.lower() not in named] + list(headers)
        try:
            request = self._client.build_request(method, url, headers=sent, content=body or None, timeout=seconds)
            self._redirected(request)
            async with asyncio.timeout(seconds):
                response = await self._client.send(request, stream=True)
                try:
                    content = await _read(response, limit)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise CheckError(f"{method} {url}: no answer in {seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise CheckError(f"{method} {url}: {str(error) or type(error).__name__}") from None
        pairs = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw)
        return Exchange(method, url, response.status_code, pairs, content)

    def _redirected(self, request: httpx.Request) -> None:
        """Another machine under the same name: `Host` and the certificate's name stay those of the URL."""
        if self._connect_to is None:
            return
        host, port = self._connect_to
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host=host, port=port)

    async def rpc(self, node: str, method: str, *params: Any) -> Any:
        """The result of one JSON-RPC call. Raises `NodeRefused` for an error of the node's, `CheckError`.

        The node's URL may hold a key: no message has it.
        """
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            async with asyncio.timeout(self._seconds), self._client.stream("POST", node, json=call) as response:
                answer = json.loads(await _read(response, _RPC_BYTES))
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as error:
            raise CheckError(f"the chain's node does not answer {method} ({type(error).__name__})") from None
        if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
            raise CheckError(f"the chain's node answers {method} with something else than JSON-RPC")
        if answer.get("error") is not None:
            raise NodeRefused(method)
        return answer["result"]


async def _read(response: httpx.Response, limit: int) -> bytes:
    """As much of a body as `limit` allows; a stream that never ends is left there."""
    content = bytearray()
    if limit:
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) >= limit:
                break
    return bytes(content[:limit])


def _next(url: str, location: str, headers: Sequence[tuple[str, str]]) -> tuple[str, Sequence[tuple[str, str]]]:
    target = urljoin(url, location)
    before, after = split_url(url), split_url(target)
    if before is None or after is None:
        raise CheckError(f"{url} redirects to {location[:200]!r}, which is no http URL")
    if before.scheme == "https" and after.scheme == "http":
        raise CheckError(f"{url} redirects to {target}, from https to http")
    return target, _for_origin(headers, url, target)


def _for_origin(headers: Sequence[tuple[str, str]], given: str, url: str) -> Sequence[tuple[str, str]]:
    """What goes along to `url` of headers that were given for another: all to the same origin, else no secrets."""
    ours, theirs = split_url(given), split_url(url)
    if ours is not None and theirs is not None and origin_of(ours) == origin_of(theirs):
        return headers
    return tuple(pair for pair in headers if pair[0].lower() in _HARMLESS)


def _address(text: str) -> tuple[str, int | None]:
    parts = split_url(f"http://{text}")
    if parts is None or parts.path or parts.username is not None:
        raise CheckError(f"--connect-to {text}: write host:port")
    return parts.hostname or "", parts.port


class Request(msgspec.Struct, frozen=True):
    """What to ask: as the route's clients ask, apart from the payment."""

    url: str
    method: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def headers_for(self, url: str) -> tuple[tuple[str, str], ...]:
        """The headers for where a redirect led: not the user's own, where that is another origin."""
        return tuple(_for_origin(self.headers, self.url, url))
