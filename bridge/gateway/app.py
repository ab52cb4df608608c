"""The gateway as an ASGI application: a reverse proxy that completes an upstream's 402 and translates what pays it.

`bridge.gateway.visit` is what happens to one request.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any
from urllib.parse import quote

from bridge.asgi import accept_of, send_response
from bridge.clock import Clock, system_clock
from bridge.events import Sink
from bridge.gate import Gate
from bridge.gateway import problems
from bridge.gateway.config import GatewayConfig
from bridge.gateway.forward import ClientGone, TooLarge, Unanswered, Unreached
from bridge.gateway.parts import Parts
from bridge.gateway.visit import Visit
from bridge.gateway.websocket import decline
from bridge.health import live, ready
from bridge.stores.base import Store

__all__ = ["Gateway"]


class Gateway:
    """Stands in front of the upstreams of `config`.

    `store` is used in place of the configured one; `sinks` are called with every event; `clock` tells the time. Raises
    `ConfigError`.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        store: Store | None = None,
        sinks: Sequence[Sink] = (),
        clock: Clock = system_clock,
    ) -> None:
        self.config = config
        self._parts = Parts(config, store, sinks, clock)
        health = config.health_path
        self._health_paths = () if health is None else (f"{health}/live", f"{health}/ready")
        self._under_way = 0
        self._starting = asyncio.Lock()
        self._started = False

    @property
    def gate(self) -> Gate:
        """The gate that opens and closes with the gateway."""
        return self._parts.gate

    async def start(self) -> None:
        """Open the store and connect to the chain, once; raises where that cannot be."""
        async with self._starting:
            if not self._started:
                self._parts.warn()
                await self.gate.start([])
                self._started = True

    async def close(self) -> None:
        """Let what is settling finish, then close everything."""
        async with self._starting:
            if self._started:
                self._started = False
                await self.gate.close()
                await self._parts.forwarder.close()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One ASGI connection; the gateway opens and closes with the server's lifespan."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await self._websocket(scope, receive, send)
            case "lifespan":
                await self._lifespan(receive, send)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _websocket(self, scope: Any, receive: Any, send: Any) -> None:
        if not self._started:
            await self.start()
        path = _path(scope)
        upstream, limit = self._parts.upstreams.find(path), self.config.max_concurrency
        if upstream is None or (limit is not None and self._under_way >= limit):
            await receive()
            await decline(scope, send, problems.NOT_FOUND if upstream is None else problems.BUSY)
            return
        self._under_way += 1
        try:
            scheme = "https" if scope.get("scheme") == "wss" else "http"
            as_http = {**scope, "method": "GET", "scheme": scheme}
            await Visit(self._parts, upstream, path, as_http, receive, send).websocket()
        finally:
            self._under_way -= 1

    async def _http(self, scope: Any, receive: Any, send: Any) -> None:
        if not self._started:
            # A server or a test client that runs no lifespan.
            await self.start()
        path = _path(scope)
        if path in self._health_paths:
            await send_response(send, live() if path.endswith("/live") else await ready(self.gate), scope["method"])
            return
        metrics = self._parts.metrics
        if metrics is not None and path == self.config.metrics_path:
            self.gate.in_flight = self._under_way
            await send_response(send, await metrics.page(self.gate, accept_of(scope)), scope["method"])
            return
        upstream = self._parts.upstreams.find(path)
        limit = self.config.max_concurrency
        if upstream is None:
            await send_response(send, problems.NOT_FOUND, scope["method"])
            return
        if limit is not None and self._under_way >= limit:
            await send_response(send, problems.BUSY, scope["method"])
            return
        has_begun = False

        def noting(message: Any) -> Awaitable[None]:
            nonlocal has_begun
            has_begun = True
            sending: Awaitable[None] = send(message)
            return sending

        visit = Visit(self._parts, upstream, path, scope, receive, noting)
        self._under_way += 1
        try:
            await visit.run()
        except (Unreached, Unanswered, TooLarge) as error:
            # An answer that has begun cannot be taken back: left unfinished, the server breaks the connection off.
            if not has_begun:
                await send_response(send, problems.for_error(error, visit.notice), scope["method"])
        except ClientGone:
            pass
        finally:
            self._under_way -= 1


def _path(scope: Any) -> str:
    """The path as it was sent, without where the gateway is mounted."""
    raw: bytes | None = scope.get("raw_path")
    path = raw.decode("latin-1") if raw else quote(scope["path"], safe="/%:@!$&'()*+,;=~-._")
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path
