"""The dashboard: what the event store answers, in a browser. It reads, and changes nothing.

`Dashboard` is an ASGI application. `bridge.litestar.DashboardConfig` mounts it, and `x402-mpp dashboard`
serves it on an event file. `docs/dashboard.md` says what each part shows.
"""

from bridge.analytics import Part
from bridge.dashboard.app import Dashboard
from bridge.dashboard.health import GateHealth, Health, StoreHealth
from bridge.dashboard.levers import LeverView, find_levers

__all__ = ["Dashboard", "GateHealth", "Health", "LeverView", "Part", "StoreHealth", "find_levers"]
