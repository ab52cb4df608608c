"""A chain's node, spoken to in JSON-RPC: a web3 provider, `AsyncWeb3(Node(url))` works.

web3's own HTTP provider would send `eth_sendRawTransaction` up to five times without saying so, opens a connection for
each call, and logs the node's URL, which for hosted nodes holds the key. Here a request is sent once, connections are
kept, nothing is logged, and a failure says whether the request can have reached the node.

Imports web3, which takes a second: import this module late.
"""

from typing import Any, Final, cast

import aiohttp

from bridge.settlers.ethereum import AsyncJSONBaseProvider, RPCEndpoint, RPCResponse
from bridge.settlers.node_errors import NodeError, NodeUnreachable

__all__ = ["Node"]

_NOT_PROCESSED: Final = frozenset({401, 403, 404, 405, 413, 415, 429})
"""Statuses by which whatever stands before a node refuses a request without passing it on."""

_MAX_ANSWER: Final = 8 * 1024 * 1024
"""The longest answer that is read, in bytes: a contract that is asked something decides how long its answer is."""

_CONNECT_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 15.0  # shorter than any server's own, so that a connection is seldom closed under a request


class Node(AsyncJSONBaseProvider):
    """One node at `url`; a request takes at most `timeout_seconds`."""

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        super().__init__()
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=min(_CONNECT_SECONDS, timeout_seconds / 2))
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        """Leave the URL out: its path or query may be a key."""
        return "Node()"

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """One request and its answer, an error object included. Raises `NodeUnreachable`."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(keepalive_timeout=_IDLE_SECONDS), trust_env=True
            )
        body = self.encode_rpc_request(method, params)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as answer:
                status, content = answer.status, await _read(answer.content)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            # The exceptions' own texts name the URL.
            raise NodeUnreachable(type(error).__name__, maybe_sent=False) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NodeUnreachable(type(error).__name__, maybe_sent=True) from None
        if content is None:
            raise NodeUnreachable("an answer without end", maybe_sent=True)
        try:
            response: Any = self.decode_rpc_response(content)
        except (ValueError, RecursionError):
            response = None
        # Some nodes send a refusal of their own with a status of 400 or 500, and it is as good as with 200.
        if not isinstance(response, dict) or not ("result" in response or "error" in response):
            raise NodeUnreachable(f"status {status}", maybe_sent=status not in _NOT_PROCESSED)
        return cast(RPCResponse, response)

    async def ask(self, method: str, *params: Any) -> Any:
        """The result of one call. Raises `NodeError` or `NodeUnreachable`."""
        response: Any = await self.make_request(RPCEndpoint(method), list(params))
        error = response.get("error")
        if error is None:
            return response.get("result")
        if not isinstance(error, dict):
            raise NodeError(0, str(error))
        code, message = error.get("code"), error.get("message")
        raise NodeError(code if isinstance(code, int) else 0, str(message), error.get("data"))

    async def disconnect(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _read(stream: aiohttp.StreamReader) -> bytes | None:
    """The whole answer; None where it is too long."""
    content = bytearray()
    async for chunk in stream.iter_any():
        content += chunk
        if len(content) > _MAX_ANSWER:
            return None
    return bytes(content)
