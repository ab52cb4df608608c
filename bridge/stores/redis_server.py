"""The Redis server: how its URL is read, how it is connected to, and what it must be like."""

from typing import Any

import structlog
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from bridge.stores.redis_pipe import LANES, RedisPipe
from translators.errors import Unavailable

__all__ = ["SCHEMA_VERSION", "check_server", "open_pool", "readable_url"]

SCHEMA_VERSION = 1
"""Which keys and fields there are. A release that changes them raises it, and knows how to read the older ones."""

_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}
"""Valkey speaks Redis' protocol, and redis-py knows only Redis' names for it."""


async def check_server(pipe: RedisPipe, version_key: str) -> bool:
    """Raise `RuntimeError` where the server must not be used; answers whether what has an end is safe from eviction."""
    await pipe.call("SET", version_key, SCHEMA_VERSION, "NX")
    version = int(await pipe.call("GET", version_key))
    if version > SCHEMA_VERSION:
        raise RuntimeError(
            f"the payment store has schema version {version}, and this release knows up to {SCHEMA_VERSION}: "
            "it was written by a later release"
        )
    memory, persistence = await _info(pipe, "memory"), await _info(pipe, "persistence")
    policy = memory.get("maxmemory_policy", "")
    if policy.startswith("allkeys"):
        raise RuntimeError(
            f"the payment store's server may evict any key (maxmemory-policy {policy}) and would forget claims: "
            "set maxmemory-policy noeviction"
        )
    log = structlog.get_logger("x402_mpp")
    if not policy:
        log.warning("store.unchecked", detail="the server does not say whether it may evict keys")
    if not persistence.get("aof_enabled"):
        log.warning(
            "store.not_durable",
            detail="appendonly is off: a crash of the server loses claims made since its last snapshot",
        )
    return bool(policy == "noeviction")


async def _info(pipe: RedisPipe, section: str) -> dict[str, Any]:
    """What the server says about itself; nothing where this user may not ask."""
    try:
        info: dict[str, Any] = await pipe.call("INFO", section)
    except Unavailable as error:
        if isinstance(error.__cause__, ResponseError):
            return {}
        raise
    return info


def readable_url(url: str) -> str:
    """`url` as redis-py reads it; raises `ValueError`, which repeats nothing of it."""
    scheme, _, rest = url.partition("://")
    url = f"{_SCHEMES.get(scheme, scheme)}://{rest}"
    try:
        ConnectionPool.from_url(url)
    except Exception:  # its text may repeat a part of the password
        raise ValueError(f"this {scheme}: URL cannot be read; percent-encode what is special in its password") from None
    return url


def open_pool(url: str, timeout: float) -> ConnectionPool:
    """Connections to the server at `url`, made when they are needed."""
    pool = ConnectionPool.from_url(url, max_connections=LANES + 1)
    # Ours, whatever the URL says. Without retries: whoever asked for a claim that may have been taken asks again.
    pool.connection_kwargs |= {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "decode_responses": False,
        "protocol": 2,
    }
    return pool
