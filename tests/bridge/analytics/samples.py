"""Events of payments as the gate tells them, for tests that need no gate."""

from typing import Any

Event = tuple[float, str, dict[str, Any]]

TOKEN = "0x036cbd53842c5426634e7929541ec2318f3dcf7e"
HOUR = 3600.0
DAY = 86400.0
START = 1_789_948_800.0
"""A midnight, in UTC."""

ALL = ["mpp", "x402-v1", "x402-v2"]


def base(route: str = "GET /report", agent: str | None = "curl/8.1", **more: Any) -> dict[str, Any]:
    """What every event says."""
    fields = {"route": route, "user_agent": agent, "network": "eip155:84532", "asset": TOKEN, "amount": "10000"}
    return {name: value for name, value in (fields | more).items() if value is not None}


def challenged(at: float, **more: Any) -> Event:
    """A 402, which offers all protocols."""
    return at, "payment.challenged", base(**({"offered": ALL, "correlation_id": f"c{at}"} | more))


def paid(at: float, payment: str, payer: str, protocol: str, **more: Any) -> list[Event]:
    """A payment that goes well: verified, settled after 0.1 s, delivered."""
    own = base(payment=payment, payer=payer, protocol=protocol, correlation_id=payment, **more)
    return [
        (at, "payment.verified", own | {"duration_ms": 5.0}),
        (at + 0.1, "payment.settled", own | {"duration_ms": 105.0, "settle_ms": 100.0, "transaction": "0xab"}),
        (at + 0.11, "payment.delivered", own | {"duration_ms": 110.0, "status": 200}),
    ]


def rejected(at: float, protocol: str, reason: str, stage: str, **more: Any) -> Event:
    """A payment that was refused."""
    own = base(protocol=protocol, reason=reason, stage=stage, correlation_id=f"r{at}", status=402, **more)
    return at, "payment.rejected", own


def told(at: float, event: str, payment: str, protocol: str, **more: Any) -> Event:
    """Any other event of a payment."""
    return at, event, base(**({"payment": payment, "protocol": protocol, "correlation_id": payment} | more))
