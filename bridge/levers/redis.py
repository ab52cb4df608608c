"""Levers in a list of a Redis or Valkey server, for all machines that use it."""

from bridge.stores.store_url import split_store_url
from translators.errors import Unavailable

try:
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    from bridge.stores.redis_server import readable_url
except ImportError as error:
    raise ImportError('levers in redis: need redis-py: pip install "x402-mpp-bridge[redis]"') from error

__all__ = ["RedisLevers"]

_APPEND = """
if table.concat(redis.call('LRANGE', KEYS[1], 0, -1)) ~= ARGV[2] then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[1])
return 1
"""


class RedisLevers:
    """The list `PREFIX:lever_changes`, which never expires."""

    def __init__(self, url: str) -> None:
        split = split_store_url(url, setting="prefix", default="x402-mpp", pattern="[A-Za-z0-9_.:-]{1,64}")
        self._url, self._timeout = readable_url(split.driver_url), split.timeout
        self._key = f"{split.name}:lever_changes"
        self.name = f"the list {self._key}"

    async def read(self) -> str:
        """See `LeverSource.read`."""
        try:
            async with self._connect() as server:
                rows: list[bytes] = await server.lrange(self._key, 0, -1)  # type: ignore[assignment]
                return b"".join(rows).decode()
        except RedisError as error:
            raise Unavailable(f"{self.name}: {type(error).__name__}") from None

    async def append(self, text: str, *, after: str) -> bool:
        """See `LeverSource.append`."""
        try:
            async with self._connect() as server:
                return bool(await server.eval(_APPEND, 1, self._key, text, after))
        except RedisError as error:
            raise Unavailable(f"{self.name}: {type(error).__name__}") from None

    def _connect(self) -> Redis:
        return Redis.from_url(self._url, socket_timeout=self._timeout, socket_connect_timeout=self._timeout)
