"""Spans around verification, settlement and delivery: children of the server's, and nothing secret in them."""

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bridge import config as config_module
from bridge.tracing import NO_TRACING, SPANS, OpenTelemetry
from tests.bridge.harness import PROTOCOLS, RECEIPT_HEADER, V1, V2, House, reply, token_json
from translators.errors import SettlementFailed
from translators.payment import Protocol

pytestmark = pytest.mark.anyio


class Watched:
    """A house whose spans are kept, behind a server that opens a span of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        monkeypatch.setattr(config_module, "OpenTelemetry", lambda: OpenTelemetry(provider))
        self.server = provider.get_tracer("the server")
        self.house = House(tracing=True, **settings)

    async def visit(self, *args: Any, **kwargs: Any) -> Any:
        with self.server.start_as_current_span("GET /report", kind=trace.SpanKind.SERVER):
            return await self.house.visit(*args, **kwargs)

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("settle", ["on_success", "first"])
async def test_three_children_of_the_servers_span(
    protocol: Protocol, settle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, one after the other, with what they are about."""
    watched = Watched(monkeypatch, settle=settle)
    answer = await watched.visit(headers=[await watched.house.credential(protocol)])
    assert RECEIPT_HEADER[protocol].lower() in answer.headers
    spans = watched.spans()
    server = spans.pop("GET /report")
    assert list(spans) == list(SPANS)
    for span in spans.values():
        assert span.parent is not None
        assert server.context is not None
        assert span.parent.span_id == server.context.span_id
        assert span.attributes is not None
        assert span.attributes["x402_mpp.protocol"] == protocol.value
        assert (span.attributes["http.route"], span.attributes["http.request.method"]) == ("/report", "GET")
        assert span.status.is_unset
        assert server.start_time <= span.start_time <= span.end_time <= server.end_time  # type: ignore[operator]
    told = watched.house.event("payment.settled")
    assert spans["payment.verify"].attributes["x402_mpp.payer"] == told["payer"]  # type: ignore[index]
    assert spans["payment.settle"].attributes["x402_mpp.transaction"] == told["transaction"]  # type: ignore[index]
    assert spans["payment.deliver"].attributes["http.response.status_code"] == 200  # type: ignore[index]
    assert spans["payment.settle"].end_time <= spans["payment.deliver"].start_time  # type: ignore[operator]


async def test_what_failed_says_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal's reason, a failed settlement's, and an answer that failed after the money moved."""
    watched = Watched(monkeypatch, settle="first")
    await watched.visit(headers=[("PAYMENT-SIGNATURE", "bm9uc2Vuc2U=")])
    assert watched.spans()["payment.verify"].attributes["error.type"] == watched.house.told[-1][1]["reason"]  # type: ignore[index]

    def refuse(_: Any) -> None:
        raise SettlementFailed("not this time", reason="insufficient_funds")

    watched.house.settler.on_settle = refuse
    await watched.visit(headers=[await watched.house.credential(V1)])
    spans = watched.spans()
    assert spans["payment.settle"].attributes["error.type"] == "insufficient_funds"  # type: ignore[index]
    assert spans["payment.settle"].status.status_code is trace.StatusCode.ERROR
    assert "payment.deliver" not in spans

    watched.house.settler.on_settle = None
    watched.house.messages = reply(500)
    watched.house.clock.advance(1)
    await watched.visit(headers=[await watched.house.credential(V2)])
    deliver = watched.spans()["payment.deliver"]
    assert (
        dict(deliver.attributes or {}).items()
        >= {
            "error.type": "undelivered",
            "http.response.status_code": 500,
        }.items()
    )


async def test_no_credential_in_a_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the header nor the signature in it, in any span of a payment or of a refusal."""
    watched = Watched(monkeypatch)
    for protocol in PROTOCOLS:
        credential = await watched.house.credential(protocol)
        signature = token_json(credential)["payload"]["signature"]
        await watched.visit(headers=[credential])
        await watched.visit("GET", "/report", [(credential[0], credential[1][:-9] + "AAAAAAAAA")])
        said = "".join(span.to_json() for span in watched.exporter.get_finished_spans())
        assert signature[2:40] not in said
        assert credential[1][-60:] not in said


async def test_off_by_default() -> None:
    """Nothing is imported or opened; the same object serves every request."""
    house = House()
    await house.pay(V2)
    assert house.app.gate.desk.tracing is NO_TRACING
    assert NO_TRACING.request("GET /report", "GET") is NO_TRACING
