"""What a request leaves behind: nothing that refers to itself, for only the garbage collector would free that."""

import asyncio
import gc
from itertools import islice
from typing import Any

import pytest

from bridge.asgi import PaymentMiddleware
from bridge.config import PaymentConfig
from tests.benchmarks.inprocess import SECRET, asked_of, build, call, payments
from tests.bridge.harness import RECIPIENT, reply
from translators.payment import Protocol

REQUESTS = 20


async def _app(scope: Any, receive: Any, send: Any) -> None:
    for message in reply():
        await send(message)


def _asgi(settle: str) -> tuple[Any, Any]:
    config = PaymentConfig(
        recipient=RECIPIENT,
        network="base-sepolia",
        settler="null",
        store="memory",
        event_store=None,
        secret_keys=[SECRET],
        settle=settle,
        public_url="http://127.0.0.1:8000",
    )
    app = PaymentMiddleware(_app, config=config, routes={"GET /report": "0.01"})
    return app, app.gate


def _litestar(settle: str) -> tuple[Any, Any]:
    app, plugin = build(settle=settle)
    return app, plugin.gate


async def _left_behind(built: tuple[Any, Any], protocol: Protocol, is_paid: bool) -> int:
    app, gate = built
    await gate.start([])
    try:
        signed = list(islice(payments(asked_of(await call(app), protocol)), REQUESTS + 5))
        requests = signed if is_paid else [()] * len(signed)
        for headers in requests[:5]:
            await call(app, headers)
        gc.collect()
        gc.disable()
        try:
            for headers in requests[5:]:
                status, _, _ = await call(app, headers)
                assert status == (200 if is_paid else 402)
            return gc.collect()
        finally:
            gc.enable()
    finally:
        await gate.close()


@pytest.mark.parametrize("make", [_asgi, _litestar])
@pytest.mark.parametrize("settle", ["on_success", "first"])
@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_paid_request_leaves_no_circle_behind(make: Any, settle: str, protocol: Protocol) -> None:
    """Else whole requests wait for the collector, which then takes a third of the server's time."""
    assert asyncio.run(_left_behind(make(settle), protocol, True)) < REQUESTS


@pytest.mark.parametrize("make", [_asgi, _litestar])
def test_an_unpaid_request_leaves_no_circle_behind(make: Any) -> None:
    """Anybody can ask, as often as he likes."""
    assert asyncio.run(_left_behind(make("on_success"), Protocol.MPP, False)) < REQUESTS


@pytest.mark.anyio
async def test_payments_in_memory_are_nothing_to_the_collector() -> None:
    """They lie there for a day: were there lists among them, each full collection would stop a server to look."""
    app, gate = _asgi("on_success")
    await gate.start([])
    try:
        signed = list(islice(payments(asked_of(await call(app), Protocol.X402_V2)), REQUESTS + 5))
        for headers in signed[:5]:
            await call(app, headers)
        gc.collect()
        before = len(gc.get_objects())
        for headers in signed[5:]:
            await call(app, headers)
        gc.collect()
        assert len(gc.get_objects()) - before < REQUESTS
    finally:
        await gate.close()
