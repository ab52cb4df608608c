"""The gateway inside a Litestar application: under a path, beside handlers of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, asgi
from litestar.config.app import AppConfig
from litestar.plugins import InitPlugin

from bridge.gateway.app import Gateway

__all__ = ["GatewayPlugin"]


class GatewayPlugin(InitPlugin):
    """Mounts `gateway` under `path`; the rest of a request's path is what its upstreams are found by.

    It opens and closes with the application. The application's own middleware sees the requests, and its body limits
    and exception handlers do not.
    """

    def __init__(self, gateway: Gateway, path: str = "/") -> None:
        self.gateway = gateway
        self.path = "/" + path.strip("/")

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the mount, which is never charged by a `PaymentPlugin` beside it, and the lifespan."""
        app_config.lifespan.append(self._lifespan)
        mount = asgi(self.path, is_mount=True, copy_scope=True, price=None)(self._serve)
        app_config.route_handlers.append(mount)
        return app_config

    @asynccontextmanager
    async def _lifespan(self, _: Litestar) -> AsyncIterator[None]:
        await self.gateway.start()
        try:
            yield
        finally:
            await self.gateway.close()

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        # Litestar takes the mount's path off `path`, and says nowhere that it did.
        root = scope.get("root_path", "").rstrip("/") + self.path.rstrip("/")
        await self.gateway({**scope, "root_path": root}, receive, send)
