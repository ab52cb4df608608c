"""Where the bridge meets Litestar: prices are read off the handlers, and the middleware goes right in front of each.

A price is a keyword of the handler, which Litestar keeps in `opt`; a Controller's or Router's `opt` is inherited, and
`price=None` frees a route again. The middleware is the handler's innermost, so that authentication answers its 401
before a 402 is asked for; guards run before anything is charged.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from litestar import Litestar, Request
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers.base import BaseRouteHandler
from litestar.middleware import DefineMiddleware
from litestar.plugins import InitPlugin, ReceiveRoutePlugin
from litestar.routes import ASGIRoute, BaseRoute, HTTPRoute, WebSocketRoute
from litestar.types import ASGIApp, Receive, Scope, Send

from bridge.asgi import GateMiddleware, payment_of, settlement_of
from bridge.config import PaymentConfig
from bridge.gate import Gate
from bridge.pricing import Paid
from bridge.request import PaidRequest
from bridge.routes import PaidRoute, SettlePolicy
from translators.payment import Payment, Settlement
from translators.price import PriceError

__all__ = ["PaymentPlugin"]

_PRICE = "price"
_OPTIONS = ("settle", "recipient", "network", "asset", "protocols")
"""What a handler may say beside its price; each as in `bridge.pricing.Paid`."""


class PaymentPlugin(InitPlugin, ReceiveRoutePlugin):
    """Charges for the handlers that carry a `price`.

    A handler may ask for `payment: Payment`, which is verified, and for `settlement: Settlement`, which exists only
    once the money has moved: a route whose handler asks for it settles first, unless it says otherwise, which is an
    error. Raises `ImproperlyConfiguredException`, with the handler's name, where a price could not be charged.
    """

    def __init__(self, config: PaymentConfig) -> None:
        self.config = config
        self.gate: Gate = config.build()
        self._routes: dict[tuple[int, str], PaidRoute] = {}

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Open the gate with the application, and offer `payment` and `settlement` to its handlers."""
        app_config.lifespan.append(self._lifespan)
        app_config.dependencies.setdefault("payment", Provide(_provide_payment, sync_to_thread=False))
        app_config.dependencies.setdefault("settlement", Provide(_provide_settlement, sync_to_thread=False))
        return app_config

    @asynccontextmanager
    async def _lifespan(self, _: Litestar) -> AsyncIterator[None]:
        await self.gate.start(self.config.offers_to_check())
        try:
            yield
        finally:
            await self.gate.close()

    def receive_route(self, route: BaseRoute) -> None:
        """Price the handlers of a route as it is registered."""
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                # Litestar's automatic OPTIONS handler inherits a Controller's opt; a preflight is never charged.
                if handler.opt.get(_PRICE) is not None and set(handler.http_methods) != {"OPTIONS"}:
                    self._charge(route, handler, sorted(handler.http_methods))
        elif isinstance(route, ASGIRoute):
            if route.route_handler.opt.get(_PRICE) is not None:
                self._charge(route, route.route_handler, ["*"])
        elif isinstance(route, WebSocketRoute) and route.route_handler.opt.get(_PRICE) is not None:
            raise ImproperlyConfiguredException(f"{route.route_handler}: a WebSocket cannot carry a price")

    def _charge(self, route: BaseRoute, handler: BaseRouteHandler, methods: list[str]) -> None:
        paid = _paid(handler)
        for method in methods:
            name = route.path_format if method == "*" else f"{method} {route.path_format}"
            try:
                self._routes[(id(handler), method)] = self.config.route(name, paid, _as_litestar_request)
            except (PriceError, TypeError) as error:
                raise ImproperlyConfiguredException(f"{handler}: {error}") from None
        # One handler may stand on several paths; it is wrapped once.
        own = list(handler.middleware or ())
        if not any(isinstance(layer, DefineMiddleware) and layer.middleware is self._wrap for layer in own):
            handler.middleware = [*own, DefineMiddleware(self._wrap)]

    def _wrap(self, app: ASGIApp) -> ASGIApp:
        gated = GateMiddleware(app, gate=self.gate, find_route=self._find, public_url=self.config.public_url)  # type: ignore[arg-type]

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            handler = scope["route_handler"]
            if scope["type"] == ScopeType.HTTP and handler.resolve_guards():
                # Litestar runs guards behind all middleware: without this, who may not enter would be charged.
                await handler.authorize_connection(Request(scope))
            await gated(scope, receive, send)  # type: ignore[arg-type]

        return guarded

    def _find(self, scope: Any) -> PaidRoute | None:
        handler = id(scope["route_handler"])
        return self._routes.get((handler, scope["method"])) or self._routes.get((handler, "*"))


def _paid(handler: BaseRouteHandler) -> Paid:
    opt = handler.opt
    price = opt[_PRICE]
    said = {name: opt[name] for name in _OPTIONS if name in opt}
    paid = price if isinstance(price, Paid) else Paid(price, **said, description=_description(handler))
    if "settlement" in handler.parsed_fn_signature.parameters:
        if paid.settle is not None and SettlePolicy(paid.settle) is not SettlePolicy.FIRST:
            raise ImproperlyConfiguredException(
                f'{handler}: a handler that takes `settlement` runs after it; say settle="first", or take `payment`'
            )
        paid = replace(paid, settle=SettlePolicy.FIRST)
    return paid


def _description(handler: BaseRouteHandler) -> str:
    """What the client reads about the route: its OpenAPI description or summary."""
    return getattr(handler, "description", None) or getattr(handler, "summary", None) or ""


def _as_litestar_request(request: PaidRequest) -> Request[Any, Any, Any]:
    return Request(request.scope, receive=request.peek)  # type: ignore[arg-type]


def _provide_payment(scope: Scope) -> Payment | None:
    return payment_of(scope)  # type: ignore[arg-type]


def _provide_settlement(scope: Scope) -> Settlement | None:
    return settlement_of(scope)  # type: ignore[arg-type]
