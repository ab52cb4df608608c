"""A gateway's own event store: its report equals what was paid through it."""

from contextlib import suppress
from pathlib import Path

import pytest

from bridge.analytics import EventsUnavailable, Worker, open_events
from bridge.config import ConfigError
from bridge.gateway.config import GatewayConfig
from tests.bridge.gateway.lab import PROTOCOLS, Server, lab, until

pytestmark = pytest.mark.anyio


async def test_a_report_of_a_gateway(tmp_path: Path) -> None:
    """A payment of each protocol through the gateway, each delivered and counted once."""
    path = f"{tmp_path}/events.sqlite3"
    async with lab(Server([2]), events=path) as at:
        for protocol in PROTOCOLS:
            assert (await at.pay(protocol)).status_code == 200
    with open_events(path) as events:
        found = events.report(since=0, until=4e9)
    for protocol in PROTOCOLS:
        own = found.protocols[protocol.value]
        assert (own.attempted, own.delivered, own.failed, own.settled, own.payers) == (1, 1, 0, 1, 1)
    assert len(found.total.revenue) == 1


def noted(path: str) -> list[Worker]:
    with suppress(EventsUnavailable), open_events(path) as events:
        return events.workers()
    return []


async def test_how_a_gateway_does(tmp_path: Path) -> None:
    """It notes how its store does, and says nothing of a settler: the upstream has that."""
    path = f"{tmp_path}/events.sqlite3"
    async with lab(Server([2]), events=path):
        await until(lambda: noted(path) != [])
        (worker,) = noted(path)
        assert {part.name: part.state for part in worker.parts} == {"store": "ok", "recorder": "ok"}
    assert noted(path) == []


def test_settings() -> None:
    """`none` keeps none, and what cannot work is said."""
    upstreams = {"/": "http://127.0.0.1:1"}
    assert GatewayConfig(upstreams=upstreams, events="none").event_store() is None
    with pytest.raises(ConfigError, match="events"):
        GatewayConfig(upstreams=upstreams, events="redis://127.0.0.1")
