"""OpenTelemetry spans around the steps of a payment: `payment.verify`, `payment.settle`, `payment.deliver`.

All three are children of the span that is current when the request arrives, the server's own. An attribute names
protocol, route, network, asset, amount, payer, transaction or reason; never a credential, a signature or a key.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any
from typing import Protocol as TypingProtocol

from translators.errors import PaymentError

__all__ = ["NO_TRACE", "NO_TRACING", "SPANS", "OpenTelemetry", "Step", "Trace", "Tracing", "TracingMissing", "step"]

SPANS: dict[str, str] = {
    "payment.verify": "the credential is checked, by us and on the chain or by the facilitator",
    "payment.settle": "the settler moves the money",
    "payment.deliver": "from the money's move until the last byte of the answer",
}
"""Every span, and what it covers."""


class TracingMissing(ImportError):
    """Tracing was asked for, and its library is not installed."""


class Step(TypingProtocol):
    """One span that is open."""

    def note(self, **attributes: str | int | None) -> None:
        """Say more about it; two underscores in a name stand for a dot, and what is None is left out."""
        ...

    def end(self, problem: str | None = None) -> None:
        """It is over; `problem` is the reason where it failed."""
        ...


class Trace(TypingProtocol):
    """The spans of one request."""

    def begin(self, name: str) -> Step:
        """Open a span, to be ended by its `end`."""
        ...


class Tracing(TypingProtocol):
    """Makes the trace of a request."""

    def request(self, route: str, method: str) -> Trace:
        """The trace of the request that is being served in the current context."""
        ...


class _Nothing:
    """Tracing that is switched off: one object for all, which does nothing."""

    def request(self, route: str, method: str) -> "_Nothing":
        return self

    def begin(self, name: str) -> "_Nothing":
        return self

    def note(self, **attributes: str | int | None) -> None:
        return None

    def end(self, problem: str | None = None) -> None:
        return None


_NOTHING = _Nothing()
NO_TRACING: Tracing = _NOTHING
NO_TRACE: Trace = _NOTHING
"""Its trace: whoever holds this one need not even gather what there would be to note."""


@contextmanager
def step(trace: Trace, name: str) -> Iterator[Step]:
    """A span around a block; what is raised ends it with its reason, and goes on."""
    opened = trace.begin(name)
    try:
        yield opened
    except BaseException as error:
        # The message is the client's, and a defect's may quote what it was about to send: only the reason is told.
        opened.end(error.reason if isinstance(error, PaymentError) else type(error).__name__)
        raise
    opened.end()


class OpenTelemetry:
    """Spans by opentelemetry-api, for whatever SDK the application has set up; raises `TracingMissing` without it."""

    def __init__(self, provider: Any = None) -> None:
        try:
            from opentelemetry import context, trace
        except ModuleNotFoundError:
            raise TracingMissing('tracing needs opentelemetry-api: pip install "x402-mpp-bridge[otel]"') from None
        self._context = context
        self._trace = trace
        self._tracer = trace.get_tracer("x402_mpp", version("x402-mpp-bridge"), tracer_provider=provider)

    def request(self, route: str, method: str) -> Trace:
        """The spans of a request: children of what is current now, whichever task opens them."""
        attributes = {"http.route": route.rpartition(" ")[2], "http.request.method": method}
        return _Request(self._trace, self._tracer, self._context.get_current(), attributes)


class _Request:
    def __init__(self, api: Any, tracer: Any, parent: Any, attributes: dict[str, str]) -> None:
        self._api = api
        self._tracer = tracer
        self._parent = parent
        self._attributes = attributes

    def begin(self, name: str) -> Step:
        return _Span(self._api, self._tracer.start_span(name, context=self._parent, attributes=self._attributes))


class _Span:
    def __init__(self, api: Any, span: Any) -> None:
        self._api = api
        self._span = span

    def note(self, **attributes: str | int | None) -> None:
        for name, value in attributes.items():
            if value is not None and value != "":
                self._span.set_attribute(name.replace("__", "."), value)

    def end(self, problem: str | None = None) -> None:
        if problem is not None:
            self._span.set_attribute("error.type", problem)
            self._span.set_status(self._api.Status(self._api.StatusCode.ERROR, problem))
        self._span.end()
