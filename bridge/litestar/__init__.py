"""The bridge as a Litestar plugin.

`Litestar(..., plugins=[PaymentPlugin(PaymentConfig(...))])`, and on a handler its price:
`@get("/report", price="0.01")`.
"""

from bridge.config import ConfigError, PaymentConfig
from bridge.discovery import Discovery
from bridge.litestar.dashboard import DashboardConfig
from bridge.litestar.plugin import PaymentPlugin
from bridge.pricing import Paid
from bridge.routes import SettlePolicy
from translators.bazaar import Bazaar
from translators.discovery import ServiceInfo
from translators.foreign import X402Only
from translators.payment import Asset, Payment, Protocol, Settlement
from translators.price import Price, PriceError

__all__ = [
    "Asset",
    "Bazaar",
    "ConfigError",
    "DashboardConfig",
    "Discovery",
    "Paid",
    "Payment",
    "PaymentConfig",
    "PaymentPlugin",
    "Price",
    "PriceError",
    "Protocol",
    "ServiceInfo",
    "SettlePolicy",
    "Settlement",
    "X402Only",
]
