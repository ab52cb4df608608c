"""Route tables as owners have them, of each source, and what their servers list for them."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

PAY_TO = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
OTHER = "0x1111111111111111111111111111111111111111"
USDC_SEPOLIA = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
USDC_BASE = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"


@dataclass
class PaymentOption:
    """Python's SDK has one of this shape."""

    scheme: str
    pay_to: Any
    price: Any
    network: str
    max_timeout_seconds: int | None = None
    extra: dict[str, Any] | None = None


@dataclass
class RouteConfig:
    """And one of this."""

    accepts: Any
    resource: str | None = None
    description: str | None = None
    mime_type: str | None = None
    tags: list[str] | None = None
    unpaid_response_body: Any = None
    extensions: dict[str, Any] | None = None
    hook_timeout_seconds: float | None = None
    service_name: str | None = None
    icon_url: str | None = field(default=None)


def entry(amount: str, asset: str = USDC_SEPOLIA, network: str = "eip155:84532", **more: Any) -> dict[str, Any]:
    """An entry of `accepts`, with what Base Sepolia's USDC has unless something else is said."""
    said = {
        "scheme": "exact",
        "network": network,
        "amount": amount,
        "asset": asset,
        "payTo": PAY_TO,
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USDC", "version": "2"},
    }
    return said | more


def option(price: Any, network: str = "eip155:84532", **more: Any) -> PaymentOption:
    return PaymentOption("exact", PAY_TO, price, network, **more)


USD_COIN = {"name": "USD Coin", "version": "2"}
OWN = "0x00000000000000000000000000000000000000A1"
PERMIT2 = {"name": "USDC", "version": "2", "assetTransferMethod": "permit2"}
MEGA = "0xFAfDdbb3FC7688494971a79cc65DCa3EF82079E7"

V2_ROUTES: list[tuple[Any, list[dict[str, Any]]]] = [
    # Money in every form that the SDK reads.
    (RouteConfig(option("$0.01")), [entry("10000")]),
    (RouteConfig([option("0.01")]), [entry("10000")]),
    (RouteConfig([option(0.01)]), [entry("10000")]),
    (RouteConfig([option(1e-05)]), [entry("10")]),
    (RouteConfig([option(2)]), [entry("2000000")]),
    (RouteConfig([option("1.50 USD")]), [entry("1500000")]),
    (RouteConfig([option("$ 3 USDC")]), [entry("3000000")]),
    # Finer than the token: cut off.
    (RouteConfig([option("$0.0100009")]), [entry("10000")]),
    # Several networks and tokens, some of which are nobody's default here.
    (
        RouteConfig([option("$0.10", "eip155:8453"), option("$0.10"), option("0.25", "eip155:42161")]),
        [
            entry("100000", USDC_BASE, "eip155:8453", extra=USD_COIN),
            entry("100000"),
            entry("250000", "0xaf88d065e77c8cc2239327c5EDb3A432268e5831", "eip155:42161", extra=USD_COIN),
        ],
    ),
    (
        RouteConfig(option("1 USDT", "eip155:42220")),
        [
            entry(
                "1000000",
                "0x48065fbBE25f71C9282ddf5e1cD6D6A887483D5e",
                "eip155:42220",
                extra={"name": "Tether USD", "version": "1"},
            )
        ],
    ),
    # Amounts with their asset, as an object of the SDK and as a mapping.
    (RouteConfig(option(SimpleNamespace(amount="1500", asset=USDC_SEPOLIA, extra=None))), [entry("1500")]),
    (
        RouteConfig(option({"amount": "7", "asset": OWN, "extra": {"name": "Own", "version": "1"}})),
        [entry("7", OWN, extra={"name": "Own", "version": "1"})],
    ),
    # Terms of its own.
    (RouteConfig(option("$1", max_timeout_seconds=60)), [entry("1000000", maxTimeoutSeconds=60)]),
    (
        RouteConfig([PaymentOption("exact", OTHER, "$1", "eip155:84532"), option("$2")]),
        [entry("1000000", payTo=OTHER), entry("2000000")],
    ),
    # What x402 v2 alone can carry.
    (RouteConfig(option("$1", extra={"assetTransferMethod": "permit2"})), [entry("1000000", extra=PERMIT2)]),
    (
        RouteConfig(option("$1", "eip155:4326")),
        [
            entry(
                "1000000000000000000",
                MEGA,
                "eip155:4326",
                extra={"name": "MegaUSD", "version": "1", "assetTransferMethod": "permit2"},
            )
        ],
    ),
    # Plain mappings, by the names of either language.
    (
        {"accepts": [{"scheme": "exact", "payTo": PAY_TO, "price": "$0.01", "network": "eip155:84532"}]},
        [entry("10000")],
    ),
    (
        {
            "accepts": {
                "scheme": "exact",
                "pay_to": PAY_TO,
                "price": "$0.01",
                "network": "eip155:84532",
                "max_timeout_seconds": 90,
            }
        },
        [entry("10000", maxTimeoutSeconds=90)],
    ),
    (
        {
            "accepts": [
                {
                    "scheme": "exact",
                    "payTo": PAY_TO,
                    "network": "eip155:84532",
                    "maxTimeoutSeconds": 120,
                    "price": {"amount": "9", "asset": USDC_SEPOLIA},
                }
            ]
        },
        [entry("9", maxTimeoutSeconds=120)],
    ),
]
"""A route of the second generation, and what its server lists."""

V1_CALLS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"price": "$0.001", "network": "base-sepolia"}, entry("1000", maxTimeoutSeconds=60)),
    ({"price": "0.001"}, entry("1000", maxTimeoutSeconds=60)),
    ({"price": 1}, entry("1000000", maxTimeoutSeconds=60)),
    (
        {"price": "$0.10", "network": "base", "max_deadline_seconds": 120},
        entry("100000", USDC_BASE, "eip155:8453", extra=USD_COIN, maxTimeoutSeconds=120),
    ),
    (
        {
            "price": SimpleNamespace(
                amount="10000",
                asset=SimpleNamespace(address=OWN, decimals=18, eip712=SimpleNamespace(name="Own Dollar", version="3")),
            )
        },
        entry("10000", OWN, extra={"name": "Own Dollar", "version": "3"}, maxTimeoutSeconds=60),
    ),
    (
        {"price": "1", "network": "avalanche"},
        entry(
            "1000000",
            "0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E",
            "eip155:43114",
            extra=USD_COIN,
            maxTimeoutSeconds=60,
        ),
    ),
]
"""`require_payment`'s arguments beside recipient and path, and what its server lists (as v2 would say it)."""

TS_V1_ROUTES: list[tuple[Any, dict[str, Any]]] = [
    ("$0.01", entry("10000", maxTimeoutSeconds=60)),
    (0.001, entry("1000", maxTimeoutSeconds=60)),
    ({"price": "$0.01", "network": "base-sepolia"}, entry("10000", maxTimeoutSeconds=60)),
    (
        {"price": "$0.01", "network": "base", "config": {"description": "d", "maxTimeoutSeconds": 30}},
        entry("10000", USDC_BASE, "eip155:8453", extra=USD_COIN, maxTimeoutSeconds=30),
    ),
    (
        {
            "price": {
                "amount": "5",
                "asset": {"address": OWN, "decimals": 18, "eip712": {"name": "Own", "version": "1"}},
            },
            "network": "base-sepolia",
        },
        entry("5", OWN, extra={"name": "Own", "version": "1"}, maxTimeoutSeconds=60),
    ),
    (
        {"price": "$1", "network": "iotex"},
        entry(
            "1000000",
            "0xcdf79194c6c285077a58da47641d4dbe51f63542",
            "eip155:4689",
            extra={"name": "Bridged USDC", "version": "2"},
            maxTimeoutSeconds=60,
        ),
    ),
]
"""A route of `x402-express`, and what its server lists."""


def lowered(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries with their addresses in lower case: the SDKs and we write them in different ones."""
    return [said | {name: str(said[name]).lower() for name in ("asset", "payTo")} for said in entries]
