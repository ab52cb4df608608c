"""Requests over connections that break: the same request again, which the wallet answers with the same credential."""

import asyncio
import time
from typing import Any, Final

import httpx

from bridge.client.flow import PRESENTED

__all__ = ["asend", "send"]

_FIRST_PAUSE = 0.5
_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110, section 9.2.2: what a client may repeat by itself."""


def send(client: httpx.Client, request: httpx.Request, *, attempts: int = 3, **options: Any) -> httpx.Response:
    """`client.send(request, **options)`, again where the connection broke, at most `attempts` times in all.

    With a `PaymentAuth`: what was signed is sent again, and the `Idempotency-Key` is the same. A POST that was not paid
    for, and may have reached the server, is not repeated. Raises the last `httpx.TransportError`.
    """
    pause = _FIRST_PAUSE
    for _ in range(attempts - 1):
        try:
            return client.send(request, **options)
        except httpx.TransportError as error:
            if not _may_repeat(request, error):
                raise
            time.sleep(pause)
            pause *= 2
    return client.send(request, **options)


async def asend(
    client: httpx.AsyncClient, request: httpx.Request, *, attempts: int = 3, **options: Any
) -> httpx.Response:
    """`send`, for an `AsyncClient`."""
    pause = _FIRST_PAUSE
    for _ in range(attempts - 1):
        try:
            return await client.send(request, **options)
        except httpx.TransportError as error:
            if not _may_repeat(request, error):
                raise
            await asyncio.sleep(pause)
            pause *= 2
    return await client.send(request, **options)


def _may_repeat(request: httpx.Request, error: httpx.TransportError) -> bool:
    """Whether the request never left, does the same when it comes twice, or is known to the server by its payment."""
    never_left = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return never_left or request.method in _REPEATABLE or PRESENTED in request.extensions
