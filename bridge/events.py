"""What happens to payments, said once: to structlog, and to whoever else listens.

Names and fields are an interface: dashboards and reports are built on them (`docs/events.md`). An event names payer,
amount, transaction and reason; it never holds a credential, a signature or a key.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import structlog

__all__ = ["EVENTS", "Events", "Sink", "payment_digest"]

EVENTS: dict[str, str] = {
    "payment.challenged": "a 402 asked for payment; `offered` lists the protocols it offered",
    "payment.verified": "a payment passed every check and was claimed",
    "payment.settled": "the money moved, in `transaction`",
    "payment.delivered": "the last byte of the paid answer was handed to the server",
    "payment.rejected": "a payment was refused, for `reason`; nothing was charged",
    "payment.replayed": "the answer of a paid request was sent again to the same request",
    "payment.reconciled": "a payment whose request died or gave up was looked into: `outcome`",
    "payment.passed": "a gateway passed on an x402 payment that it cannot judge; its upstream answered with `status`",
    "payment.unserved": "a payment was settled, and the server behind a gateway refuses to serve it",
    "payment.undelivered": "a settled payment's answer failed with `status`, or broke off; the same credential gets it",
    "payment.unknown": "a settlement's outcome is not known; the claim stays",
    "lever.changed": "a protocol got to another stage on a route: `before`, `after`, `at`",
    "shadow.compared": "MPP would have taken or refused a payment as x402 did",
    "shadow.disagreed": "MPP would not have: `where` they part, and the `problem`",
}
"""Every event, and what it says."""

_WARNED = frozenset(("payment.unknown", "payment.undelivered", "payment.unserved", "shadow.disagreed"))

Sink = Callable[[str, dict[str, Any]], None]
"""Called with an event's name and fields, on the event loop: it must return at once. What it raises goes no further."""


def payment_digest(payment_id: str) -> str:
    """What events call a payment by: the same in every protocol and request, and no bearer of anything."""
    return hashlib.sha256(f"payment {payment_id}".encode()).hexdigest()[:32]


class Events:
    """Sends events to structlog's logger `x402_mpp` and to `sinks`."""

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self._log = structlog.get_logger("x402_mpp")
        self._sinks = tuple(sinks)

    def hears(self, event: str) -> bool:
        """Whether anybody listens to it: a log below its level costs a request nothing."""
        if self._sinks:
            return True
        log = self._log.bind()
        # Loggers of another make than structlog's filtering ones cannot say, and may take any name for an event's.
        if not hasattr(type(log), "is_enabled_for"):
            return True
        return bool(log.is_enabled_for(logging.WARNING if event in _WARNED else logging.INFO))

    def emit(self, event: str, **fields: Any) -> None:
        """Say that `event` happened. Fields that are None are left out."""
        self.tell(event, fields)

    def tell(self, event: str, fields: dict[str, Any]) -> None:
        """As `emit`, for whoever has the fields in a dict: it is not copied from hand to hand."""
        if None in fields.values():
            fields = {name: value for name, value in fields.items() if value is not None}
        log = self._log.warning if event in _WARNED else self._log.info
        log(event, **fields)
        for sink in self._sinks:
            try:
                sink(event, dict(fields))
            except Exception as error:
                # A listener's defect is no reason to lose an answer that was paid for.
                self._log.error("events.sink_failed", told=event, error_type=type(error).__name__)
