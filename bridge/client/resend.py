"""Requests over connections that break: the same request again, which the wallet answers with the same credential."""

import asyncio
import time
from typing import Any

import httpx

__all__ = ["asend", "send"]

_FIRST_PAUSE = 0.5


def send(client: httpx.Client, request: httpx.Request, *, attempts: int = 3, **options: Any) -> httpx.Response:
    """`client.send(request, **options)`, again where the connection broke, at most `attempts` times in all.

    Safe with a `PaymentAuth`: what was signed is sent again, and the `Idempotency-Key` is the same. Raises the last
    `httpx.TransportError`.
    """
    pause = _FIRST_PAUSE
    for _ in range(attempts - 1):
        try:
            return client.send(request, **options)
        except httpx.TransportError:
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
        except httpx.TransportError:
            await asyncio.sleep(pause)
            pause *= 2
    return await client.send(request, **options)
