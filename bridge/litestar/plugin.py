"""Where the bridge meets Litestar: prices are read off the handlers, and the middleware goes right in front of each.

A price is a keyword of the handler, which Litestar keeps in `opt`; a Controller's or Router's `opt` is inherited, and
`price=None` frees a route again. The middleware is the handler's innermost, so that authentication answers its 401
before a 402 is asked for; guards run before anything is charged.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from click import Group, UsageError
from litestar import Litestar, Request, asgi
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler
from litestar.middleware import DefineMiddleware
from litestar.plugins import CLIPlugin, InitPlugin, ReceiveRoutePlugin
from litestar.routes import ASGIRoute, BaseRoute, HTTPRoute, WebSocketRoute
from litestar.types import ASGIApp, Receive, Scope, Send

from bridge.analytics import Events, open_events
from bridge.analytics.commands import report_group
from bridge.asgi import GateMiddleware, accept_of, payment_of, send_response, settlement_of
from bridge.config import PaymentConfig
from bridge.discovery import Discovery, priced
from bridge.gate import Gate
from bridge.health import live, ready
from bridge.levers.commands import levers_group
from bridge.levers.sources import LeverSource
from bridge.litestar.dashboard import DashboardConfig, dashboard_handler
from bridge.litestar.openapi import describe_handler, serve_document
from bridge.payments import open_store, payments_group, told_to
from bridge.pricing import Paid
from bridge.request import PaidRequest
from bridge.routes import PaidRoute, SettlePolicy
from bridge.settlers.base import Settler
from translators.levers import Levers
from translators.payment import Payment, Settlement

__all__ = ["PaymentPlugin"]

_PRICE = "price"
_OPTIONS = ("settle", "recipient", "network", "asset", "protocols", "mime_type", "levers", "bazaar")
"""What a handler may say beside its price; each as in `bridge.pricing.Paid`."""
_SCHEMA_MODULES = ("litestar.openapi", "litestar._openapi")


class PaymentPlugin(InitPlugin, ReceiveRoutePlugin, CLIPlugin):
    """Charges for the handlers that carry a `price`.

    A handler may ask for `payment: Payment`, which is verified, and for `settlement: Settlement`, which exists only
    once the money has moved: a route whose handler asks for it settles first, unless it says otherwise, which is an
    error. Raises `ImproperlyConfiguredException`, with the handler's name, where a price could not be charged.

    The OpenAPI document says what each handler costs. With a `discovery`, it says what the service is too, and is
    served where registries look for it. With a `dashboard`, whom that lets in sees what the event store answers.
    """

    def __init__(
        self, config: PaymentConfig, discovery: Discovery | None = None, dashboard: DashboardConfig | None = None
    ) -> None:
        self.config = config
        self.discovery = discovery
        self.dashboard = dashboard
        self.gate: Gate = config.build()
        self._routes: dict[tuple[int, str, str | None], PaidRoute] = {}
        """By handler, method and path; by None where a request does not say its path."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Open the gate with the application, and offer `payment` and `settlement` to its handlers."""
        app_config.lifespan.append(self._lifespan)
        if self.config.health_path is not None:
            # Litestar's own handlers, so that its middleware sees them; a price that is inherited is not theirs.
            paths = [f"{self.config.health_path}/{part}" for part in ("live", "ready")]
            app_config.route_handlers.append(asgi(paths, price=None, copy_scope=True)(self._health))
        if self.config.metrics_path is not None:
            app_config.route_handlers.append(asgi(self.config.metrics_path, price=None, copy_scope=True)(self._metrics))
        if self.dashboard is not None:
            app_config.route_handlers.append(dashboard_handler(self.dashboard, self.config, self.gate))
        if self.discovery is not None:
            serve_document(app_config, self.discovery)
        app_config.dependencies.setdefault("payment", Provide(_provide_payment, sync_to_thread=False))
        app_config.dependencies.setdefault("settlement", Provide(_provide_settlement, sync_to_thread=False))
        return app_config

    @asynccontextmanager
    async def _lifespan(self, _: Litestar) -> AsyncIterator[None]:
        self.config.warn()
        await self.gate.start(self.config.offers_to_check())
        try:
            yield
        finally:
            await self.gate.close()

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await ready(self.gate) if scope["path"].endswith("/ready") else live()
        await send_response(send, answer, scope["method"])  # type: ignore[arg-type, typeddict-item]

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.config.metrics is not None
        page = await self.config.metrics.page(self.gate, accept_of(scope))  # type: ignore[arg-type]
        await send_response(send, page, scope["method"])  # type: ignore[arg-type, typeddict-item]

    def on_cli_init(self, cli: Group) -> None:
        """Add `litestar payments`, on this application's store, settler and events."""

        @asynccontextmanager
        async def settler() -> AsyncIterator[Settler]:
            await self.gate.settler.start(self.config.offers_to_check())
            try:
                yield self.gate.settler
            finally:
                await self.gate.settler.close()

        def levers() -> LeverSource:
            if self.gate.board is None or self.gate.board.source is None:
                raise UsageError("PaymentConfig.levers names no file and no database that could be changed")
            return self.gate.board.source

        def check(changed: Levers) -> None:
            if self.gate.board is not None:
                self.gate.board.check(changed)

        payments = payments_group(lambda: open_store(self.gate.store), settler, lambda: told_to(self.config.recorder))
        payments.add_command(
            levers_group(levers, check, lambda: {route.name: route.levers for route in self.config.routes})
        )

        def events(_: str | None) -> Events:
            if self.config.recorder is None:
                raise ValueError("this application keeps no events: event_store is None")
            return open_events(self.config.recorder.url)

        payments.add_command(report_group(events, self.config.clock, choose=False))
        cli.add_command(payments)

    def receive_route(self, route: BaseRoute) -> None:
        """Price the handlers of a route as it is registered."""
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                # A preflight is never charged; Litestar's automatic OPTIONS handler inherits a Controller's opt.
                methods = sorted(handler.http_methods - {"OPTIONS"})
                if methods and _is_priced(handler):
                    self._charge(route, handler, methods)
        elif isinstance(route, ASGIRoute):
            if _is_priced(route.route_handler):
                self._charge(route, route.route_handler, ["*"])
        elif isinstance(route, WebSocketRoute) and _is_priced(route.route_handler):
            raise ImproperlyConfiguredException(f"{route.route_handler}: a WebSocket cannot carry a price")

    def _charge(self, route: BaseRoute, handler: BaseRouteHandler, methods: Sequence[str]) -> None:
        for method in methods:
            name = route.path_format if method == "*" else f"{method} {route.path_format}"
            if (id(handler), method, route.path_format) in self._routes:
                # Litestar registers a path's handlers again when another one joins them.
                continue
            try:
                paid_route = self.config.route(name, _paid(handler), _as_litestar_request)
            except (TypeError, ValueError) as error:
                raise ImproperlyConfiguredException(f"{handler}: {error}") from None
            self._routes[(id(handler), method, route.path_format)] = paid_route
            self._routes.setdefault((id(handler), method, None), paid_route)
            if isinstance(handler, HTTPRouteHandler):
                describe_handler(handler, priced(paid_route))
        # One handler may stand on several paths; it is wrapped once.
        own = list(handler.middleware or ())
        if not any(isinstance(layer, DefineMiddleware) and layer.middleware == self._wrap for layer in own):
            handler.middleware = [*own, DefineMiddleware(self._wrap)]

    def _wrap(self, app: ASGIApp) -> ASGIApp:
        gated = GateMiddleware(app, gate=self.gate, find_route=self._find, public_url=self.config.public_url)  # type: ignore[arg-type]

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            handler = scope["route_handler"]
            if scope["type"] == ScopeType.HTTP and handler.resolve_guards():
                # Litestar runs guards behind all middleware: without this, who may not enter would be charged.
                request = PaidRequest(scope, receive, self.config.public_url)  # type: ignore[arg-type]
                await handler.authorize_connection(_as_litestar_request(request))
                receive = request.receive  # type: ignore[assignment]
            await gated(scope, receive, send)  # type: ignore[arg-type]

        return guarded

    def _find(self, scope: Any) -> PaidRoute | None:
        handler, path = id(scope["route_handler"]), scope.get("path_template")
        for method in (scope["method"], "*"):
            for place in (path, None):
                if (route := self._routes.get((handler, method, place))) is not None:
                    return route
        return None


def _is_priced(handler: BaseRouteHandler) -> bool:
    """Whether a handler has a price, its own or inherited; Litestar's schema and its pages are free all the same."""
    return handler.opt.get(_PRICE) is not None and not handler.fn.__module__.startswith(_SCHEMA_MODULES)


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
