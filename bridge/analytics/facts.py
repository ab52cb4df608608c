"""What is kept of an event: no more than the questions need, and of a person no more than the owner wants."""

import hashlib
import hmac
from typing import Any

import msgspec

from bridge.analytics.user_agents import Client, client_of

__all__ = ["DELIVERED", "EARNED", "KINDS", "PROTOCOLS", "Dimensions", "Fact", "Mark", "Reducer"]

PROTOCOLS = ("x402-v1", "x402-v2", "mpp")
"""The wire protocols, from the oldest to the newest. Stored as bits by their place: append only."""

KINDS = (
    "payment.challenged",
    "payment.verified",
    "payment.settled",
    "payment.delivered",
    "payment.rejected",
    "payment.replayed",
    "payment.reconciled",
    "payment.undelivered",
    "payment.unknown",
    "payment.passed",
    "shadow.compared",
    "shadow.disagreed",
)
"""The events that are facts about payments. Stored by their place: append only."""

EARNED = 1
"""A fact that a payment's money is counted by; each payment has one at most."""
DELIVERED = 2
"""A fact that a payment's delivery is counted by; each payment has one at most."""

_LONGEST = 200


class Dimensions(msgspec.Struct, frozen=True, cache_hash=True):
    """What figures are broken down by. Where it is not known, it is empty."""

    route: str = ""
    protocol: str = ""
    """As the client said it; empty where it never did."""
    network: str = ""
    asset: str = ""
    product: str = ""
    version: str = ""
    x402_only: bool = False

    @property
    def client(self) -> str:
        """Product and version in one."""
        return f"{self.product}/{self.version}" if self.version else self.product


class Fact(msgspec.Struct, frozen=True):
    """One event about a payment or a challenge."""

    at: float
    """Unix seconds, by the clock of the process that recorded it."""
    kind: str
    dimensions: Dimensions
    payment: bytes = b""
    """The same for every event of one payment, in whatever protocol and request; empty for challenges."""
    payer: str = ""
    """The address in lower case, or its keyed hash; empty where it is not known."""
    amount: int = 0
    """Atomic units."""
    reason: str = ""
    stage: str = ""
    """Where a refused request got to: `read`, `verify`, `claim`, `settle` or `handler`."""
    outcome: str = ""
    status: int = 0
    milliseconds: float | None = None
    """Of verification, settlement or the whole, as the kind of the fact has it."""
    offered: tuple[str, ...] = ()
    correlation_id: str = ""
    transaction: str = ""
    counts: int = 0
    """`EARNED`, `DELIVERED`, both or neither: see `bridge.analytics.rollup.count_once`."""


class Mark(msgspec.Struct, frozen=True):
    """Any other event: what charts show as a mark, such as a lever that was moved."""

    at: float
    event: str
    route: str = ""
    protocol: str = ""
    stage: str = ""
    by: str = ""
    detail: dict[str, Any] = {}
    """Its other fields."""


class Reducer:
    """Turns events into facts and marks.

    With a `payer_key`, payers are kept as keyed hashes (HMAC-SHA-256), and so is everything that leads to them on a
    public chain: payments, correlation ids, and transactions not at all.
    """

    def __init__(self, payer_key: bytes | None = None) -> None:
        self._key = payer_key

    def reduce(self, at: float, event: str, fields: dict[str, Any]) -> Fact | Mark | None:
        """What is kept of an event; None of one about payments that is not known here.

        Never its user agent in full; an event has no IP address to begin with.
        """
        if event not in KINDS:
            # What comes with every payment is no mark on a chart.
            return None if event.startswith(("payment.", "shadow.")) else _mark(at, event, fields)
        dimensions = Dimensions(
            route=_text(fields, "route"),
            protocol=_text(fields, "protocol"),
            network=_text(fields, "network"),
            asset=_text(fields, "asset"),
            **_client(event, fields)._asdict(),
            x402_only=bool(fields.get("x402_only")),
        )
        correlation_id = _text(fields, "correlation_id")
        # Whoever emits events without it has said at least which of them belong together.
        payment = "" if event == "payment.challenged" else (_text(fields, "payment") or correlation_id)
        payer, transaction = _text(fields, "payer"), _text(fields, "transaction")
        if self._key is not None:
            payer = self._hashed("payer", payer)
            correlation_id = self._hashed("correlation", correlation_id)
            payment = self._hashed("payment", payment)
            transaction = ""
        return Fact(
            at=at,
            kind=event,
            dimensions=dimensions,
            payment=hashlib.blake2b(payment.encode(), digest_size=16).digest() if payment else b"",
            payer=payer,
            amount=int(fields.get("amount", 0)),
            reason=_text(fields, "reason") or _text(fields, "where"),
            stage=_text(fields, "stage"),
            outcome=_text(fields, "outcome"),
            status=int(fields.get("status") or 0),
            milliseconds=_milliseconds(event, fields),
            offered=tuple(p for p in PROTOCOLS if p in fields.get("offered", ())),
            correlation_id=correlation_id,
            transaction=transaction,
        )

    def _hashed(self, what: str, text: str) -> str:
        if not text or self._key is None:
            return ""
        digest = hmac.new(self._key, f"{what} {text}".encode(), hashlib.sha256).hexdigest()
        return f"hmac:{digest[:32]}"


def _client(event: str, fields: dict[str, Any]) -> Client:
    # No request came with a reconciliation: whose payment it was is known from the payment's first event.
    return Client("") if event == "payment.reconciled" else client_of(fields.get("user_agent"))


def _milliseconds(event: str, fields: dict[str, Any]) -> float | None:
    match event:
        case "payment.verified" | "payment.delivered":
            value = fields.get("duration_ms")
        case "payment.settled":
            value = fields.get("settle_ms")
        case _:
            return None
    return None if value is None else float(value)


def _mark(at: float, event: str, fields: dict[str, Any]) -> Mark:
    known = ("route", "protocol", "by")
    # What a client said of itself is no part of a mark.
    detail = {k: v for k, v in fields.items() if k not in (*known, "user_agent", "payer", "at", "duration_ms")}
    told = fields.get("at")
    return Mark(
        at=float(told) if isinstance(told, int | float) else at,
        event=event,
        detail=detail,
        # A lever says where it got to as `after`.
        stage=_text(fields, "stage") or _text(fields, "after"),
        **{name: _text(fields, name) for name in known},
    )


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    text = str(value)[:_LONGEST]
    # A facilitator may call a transaction what it likes, and no database takes a NUL or half a surrogate pair.
    return text if text.isascii() and "\0" not in text else text.encode("utf-8", "replace").decode().replace("\0", "")
