"""What a gateway says of a request that no gate says of it."""

from collections.abc import Collection
from time import perf_counter
from typing import Any

from bridge.admitted import Admitted
from bridge.attempt import correlation_id_of
from bridge.events import Events
from bridge.gateway.exchange import Exchange
from bridge.gateway.headers import Headers
from bridge.randomness import fresh_id
from bridge.request import PaidRequest
from translators.errors import PaymentError
from translators.payment import Protocol
from translators.upstream import Demand

__all__ = ["Told"]

_OFFERED = (
    (Protocol.MPP, b"www-authenticate"),
    (Protocol.X402_V1, b"x-payment-required"),
    (Protocol.X402_V2, b"payment-required"),
)


class Told:
    """The events of one request for `route`, besides those of its gate."""

    def __init__(self, events: Events, request: PaidRequest, route: str) -> None:
        self._events = events
        self._request = request
        self._route = route
        self._started = perf_counter()

    def _common(self) -> dict[str, Any]:
        return {
            "route": self._route,
            "user_agent": self._request.user_agent,
            "duration_ms": round((perf_counter() - self._started) * 1000, 3),
        }

    def challenged(
        self,
        demand: Demand,
        headers: Headers,
        correlation_id: str,
        upstream_protocol: Protocol,
        hidden: Collection[Protocol] = (),
    ) -> None:
        """A completed 402 with these headers goes out, in which the `hidden` protocols are not offered."""
        names = {name.lower() for name, _ in headers}
        first = demand.terms[0].offer if demand.terms else None
        self._events.emit(
            "payment.challenged",
            **self._common(),
            correlation_id=correlation_id,
            protocol=Protocol.MPP.value if self._request.header(b"accept-payment") is not None else None,
            offered=[protocol.value for protocol, header in _OFFERED if header in names and protocol not in hidden],
            amount=str(first.amount) if first else None,
            asset=first.asset.address if first else None,
            network=first.network if first else None,
            upstream_protocol=upstream_protocol.value,
        )

    def refused(self, error: PaymentError, protocol: Protocol, status: int, stage: str) -> None:
        """A credential was refused that could not be read, or that nobody here can judge; `stage` as the gate's."""
        self._events.emit(
            "payment.rejected",
            **self._common(),
            correlation_id=fresh_id(),
            protocol=protocol.value,
            reason=error.reason,
            problem=error.slug,
            status=status,
            stage=stage,
        )

    def passed(self, protocol: Protocol, status: int) -> None:
        """A payment went on that nobody here can judge."""
        self._events.emit(
            "payment.passed",
            **self._common(),
            correlation_id=fresh_id(),
            protocol=protocol.value,
            upstream_protocol=protocol.value,
            status=status,
        )

    def unserved(self, exchange: Exchange, admitted: Admitted) -> None:
        """A payment was settled, and its answer is refused."""
        payment = admitted.payment
        exchange.emit(
            "payment.unserved",
            **self._common(),
            correlation_id=correlation_id_of(payment),
            protocol=payment.protocol.value,
            payer=payment.authorization.payer,
            amount=str(payment.authorization.value),
            asset=payment.asset,
            network=payment.network,
            transaction=admitted.settlement.transaction if admitted.settlement is not None else None,
        )
