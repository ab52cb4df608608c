"""Prometheus metrics of payments: a sink that counts events, and the page that a scraper reads.

Names and labels are an interface: dashboards and alerts are built on them (`docs/metrics.md`). A label holds a
protocol, a route as it was declared, an outcome or a reason, never a payer, an address or a transaction: every value is
a series of its own.
"""

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any
from typing import Protocol as TypingProtocol

from bridge.responses import Response

__all__ = ["METRICS", "Metrics", "MetricsMissing"]

METRICS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "x402_mpp_payments_total": (
        "counter",
        ("protocol", "route", "outcome"),
        "what happened to payments: `outcome` is the event's name without `payment.`",
    ),
    "x402_mpp_rejections_total": (
        "counter",
        ("protocol", "route", "reason"),
        "payments that were refused, by the reason that the event says; nothing was charged",
    ),
    "x402_mpp_reconciliations_total": (
        "counter",
        ("protocol", "route", "outcome"),
        "payments whose request died or gave up and that were looked into, by what came out",
    ),
    "x402_mpp_verification_seconds": (
        "histogram",
        ("protocol", "route"),
        "from the request's arrival until its payment was verified and claimed",
    ),
    "x402_mpp_settlement_seconds": (
        "histogram",
        ("protocol", "route"),
        "how long the settler took for a payment that it settled",
    ),
    "x402_mpp_request_seconds": (
        "histogram",
        ("protocol", "route"),
        "from the request's arrival until the last byte of its paid answer",
    ),
    "x402_mpp_requests_in_flight": ("gauge", (), "requests for priced routes that are being answered now"),
    "x402_mpp_ready": ("gauge", ("part",), "1 where the part (`store`, `settler`) could take a payment now, else 0"),
    "x402_mpp_events_dropped": ("gauge", (), "events that were not kept because their recorder was overloaded"),
    "x402_mpp_build_info": ("gauge", ("version",), "always 1: which version this is"),
}
"""Every metric: its type, its labels, and what it says."""

MAX_ROUTES = 500
MAX_REASONS = 64
LONGEST = 200
"""Characters of a label's value. Before a gateway anybody can send any path, as long as a header may be."""
OTHER = "other"
"""Stands for every further value of a label that has had as many as it may."""

_REASON = re.compile(r"[a-z0-9_.-]{1,64}")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""A local check takes a millisecond or two, a settlement on a chain seconds."""


class MetricsMissing(ImportError):
    """Metrics were asked for, and their library is not installed."""


class Watched(TypingProtocol):
    """What a scrape looks at besides the events: a gate."""

    in_flight: int

    async def ready(self) -> dict[str, str]:
        """What keeps a payment from being taken now, by part."""
        ...


class _Values:
    """The values that a label has had; there are at most `limit`, and then everything new is `other`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def bounded(self, value: str) -> str:
        value = value[:LONGEST]
        if value in self._seen:
            return value
        if len(self._seen) >= self._limit:
            return OTHER
        self._seen.add(value)
        return value


class Metrics:
    """Counts the events of one application in a registry of its own.

    `multiprocess` says that several processes write into `PROMETHEUS_MULTIPROC_DIR` and any of them answers for all.
    `recorders` may have an attribute `dropped`, which is summed up. Raises `MetricsMissing` without prometheus-client.
    """

    def __init__(self, *, multiprocess: bool = False, recorders: Iterable[Any] = ()) -> None:
        try:
            import prometheus_client
            from prometheus_client import Counter, Histogram
            from prometheus_client.openmetrics import exposition as openmetrics
        except ModuleNotFoundError:
            raise MetricsMissing('metrics need prometheus-client: pip install "x402-mpp-bridge[metrics]"') from None
        self._client, self._openmetrics = prometheus_client, openmetrics
        self._multiprocess = multiprocess
        self._recorders = tuple(recorders)
        self._registry = prometheus_client.CollectorRegistry()
        self._routes, self._reasons = _Values(MAX_ROUTES), _Values(MAX_REASONS)

        def counter(name: str) -> Any:
            _, labels, says = METRICS[name]
            return Counter(name, says, labels, registry=self._registry)

        def histogram(name: str) -> Any:
            _, labels, says = METRICS[name]
            return Histogram(name, says, labels, registry=self._registry, buckets=_SECONDS)

        self._payments = counter("x402_mpp_payments_total")
        self._rejections = counter("x402_mpp_rejections_total")
        self._reconciliations = counter("x402_mpp_reconciliations_total")
        self._verification = histogram("x402_mpp_verification_seconds")
        self._settlement = histogram("x402_mpp_settlement_seconds")
        self._request = histogram("x402_mpp_request_seconds")

    def sink(self, event: str, fields: dict[str, Any]) -> None:
        """Count one event; a `Sink` of `bridge.events.Events`."""
        domain, _, outcome = event.partition(".")
        if domain != "payment":
            return
        protocol = str(fields.get("protocol") or "unknown")
        route = self._routes.bounded(str(fields.get("route") or "unknown"))
        if outcome == "reconciled":
            self._reconciliations.labels(protocol, route, str(fields.get("outcome"))).inc()
            return
        self._payments.labels(protocol, route, outcome).inc()
        match outcome:
            case "rejected":
                self._rejections.labels(protocol, route, self._reason(fields)).inc()
            case "verified":
                _observe(self._verification, protocol, route, fields.get("verify_ms", fields.get("duration_ms")))
            case "settled":
                _observe(self._settlement, protocol, route, fields.get("settle_ms"))
            case "delivered":
                _observe(self._request, protocol, route, fields.get("duration_ms"))

    def _reason(self, fields: dict[str, Any]) -> str:
        # A facilitator's own word may stand here, and it may be anything.
        reason = str(fields.get("reason") or "unknown")
        return self._reasons.bounded(reason) if _REASON.fullmatch(reason) else OTHER

    async def page(self, watched: Watched, accept: str) -> Response:
        """What a scraper reads; in OpenMetrics where `accept` asks for it, else in Prometheus' own text."""
        missing = await watched.ready()
        registry = self._moment(watched, missing)
        said: Any = self._openmetrics if "application/openmetrics-text" in accept else self._client
        body: bytes = said.generate_latest(_Both(registry, self._events()))
        headers = [
            (b"content-type", said.CONTENT_TYPE_LATEST.encode()),
            (b"cache-control", b"no-store"),
            (b"content-length", str(len(body)).encode()),
        ]
        return Response(200, headers, body)

    def _events(self) -> Any:
        if not self._multiprocess:
            return self._registry
        from prometheus_client import multiprocess

        registry = self._client.CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry

    def _moment(self, watched: Watched, missing: dict[str, str]) -> Any:
        """What is so now, and only in this process."""
        found: list[tuple[str, tuple[str, ...], float]] = [
            ("x402_mpp_requests_in_flight", (), watched.in_flight),
            *(("x402_mpp_ready", (part,), 0 if part in missing else 1) for part in ("store", "settler")),
            ("x402_mpp_events_dropped", (), sum(getattr(recorder, "dropped", 0) for recorder in self._recorders)),
            ("x402_mpp_build_info", (version("x402-mpp-bridge"),), 1),
        ]
        return _Moment(found)


def _observe(histogram: Any, protocol: str, route: str, milliseconds: Any) -> None:
    if isinstance(milliseconds, int | float):
        histogram.labels(protocol, route).observe(milliseconds / 1000)


class _Moment:
    """Values that are read when they are asked for, as prometheus-client wants to collect them."""

    def __init__(self, found: list[tuple[str, tuple[str, ...], float]]) -> None:
        self._found = found

    def collect(self) -> Iterable[Any]:
        from prometheus_client.core import GaugeMetricFamily

        families: dict[str, Any] = {}
        for name, labels, value in self._found:
            _, names, says = METRICS[name]
            family = families.setdefault(name, GaugeMetricFamily(name, says, labels=names))
            family.add_metric(labels, value)
        return families.values()


class _Both:
    """Two collections as one registry."""

    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def collect(self) -> Iterable[Any]:
        for part in self._parts:
            yield from part.collect()
