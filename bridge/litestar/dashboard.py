"""The dashboard in a Litestar application: behind its guards, free of charge, and on the plugin's own gate."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from litestar import asgi
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import ASGIRouteHandler
from litestar.types import Guard

from bridge.config import PaymentConfig
from bridge.dashboard import Dashboard, GateHealth, find_levers
from bridge.gate import Gate

__all__ = ["DashboardConfig", "dashboard_handler"]


@dataclass
class DashboardConfig:
    """Where the dashboard is, and who may see it: `PaymentPlugin(config, dashboard=DashboardConfig(guards=[...]))`.

    Give `guards` or a `token`; what it shows is the owner's business.
    """

    path: str = "/payments"
    """Where it stands."""

    guards: Sequence[Guard] = ()
    """Litestar's: each raises for a visitor who may not see it."""

    token: str | None = field(default=None, repr=False)
    """What a visitor gives as the password, at least 16 characters; None: the guards decide."""


def dashboard_handler(settings: DashboardConfig, config: PaymentConfig, gate: Gate) -> ASGIRouteHandler:
    """The handler at all its paths; raises `ImproperlyConfiguredException` for one that everybody could see."""
    if not settings.guards and settings.token is None:
        raise ImproperlyConfiguredException("dashboard: give guards, or a token; else everybody would see it")
    if config.recorder is None:
        raise ImproperlyConfiguredException("dashboard: there is nothing to show, as event_store is None")
    if settings.path[:1] != "/" or settings.path[-1:] == "/":
        raise ImproperlyConfiguredException("dashboard: begin its path with a slash, and do not end it with one")
    board = gate.board
    levers = None
    if board is not None:
        levers = find_levers(
            board.source,
            config.clock,
            count=lambda: board.levers,
            routes=lambda: {route.name: route.levers for route in config.routes},
        )
    try:
        app = Dashboard(
            config.recorder.url,
            token=settings.token,
            health=GateHealth(gate),
            levers=levers,
            assets=lambda: dict.fromkeys(offer.asset for offer in config.offers_to_check()),
            clock=config.clock,
            path=settings.path,
        )
    except ValueError as error:
        raise ImproperlyConfiguredException(f"dashboard: {error}") from None
    # Every path by itself: below a mount, Litestar does not say whether a slash was at the end.
    return asgi(app.paths, guards=list(settings.guards), price=None, copy_scope=True)(app)
