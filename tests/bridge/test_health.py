"""Whoever restarts or routes around a process learns whether it lives, and whether it could take a payment now."""

import pytest
from litestar import Litestar, get
from litestar.testing import AsyncTestClient

from bridge.litestar import PaymentConfig, PaymentPlugin
from bridge.stores import MemoryStore, Record
from bridge.testing import FakeSettler
from tests.bridge.harness import RECIPIENT, House
from translators.errors import Unavailable

pytestmark = pytest.mark.anyio


class Away(MemoryStore):
    """A store that does not answer."""

    async def get(self, payment_id: str) -> Record | None:
        raise Unavailable("The payment store does not answer.")


async def test_ready_and_live() -> None:
    """Both are 200 when nothing is missing, free, and never cached."""
    house = House(health_path="/health")
    for path, status in (("/health/live", "live"), ("/health/ready", "ready")):
        answer = await house.visit("GET", path)
        assert (answer.status_code, answer.json()["status"]) == (200, status)
        assert answer.headers["cache-control"] == "no-store"
    assert house.runs == 0


async def test_not_ready() -> None:
    """Each part that is missing is named; the process still lives."""
    settler = FakeSettler()
    settler.problem = "the relayer has no gas"
    house = House(health_path="/health", settler=settler, store=Away())
    answer = await house.visit("GET", "/health/ready")
    assert answer.status_code == 503
    assert answer.json()["missing"] == {
        "store": "The payment store does not answer.",
        "settler": "the relayer has no gas",
    }
    assert answer.headers["retry-after"] == "5"
    assert (await house.visit("GET", "/health/live")).status_code == 200


async def test_without_a_path_it_is_the_applications() -> None:
    """Nothing is answered where nothing was asked for."""
    house = House()
    assert (await house.visit("GET", "/health/ready")).text == "the report"


async def test_in_litestar() -> None:
    """The plugin mounts the same two, without a price that an application inherits."""

    @get("/report", price="0.01")
    async def report() -> str:
        return "the report"

    settler = FakeSettler()
    config = PaymentConfig(
        recipient=RECIPIENT,
        settler=settler,
        network="base-sepolia",
        store="memory",
        health_path="/health",
        event_store=None,
    )
    app = Litestar([report], plugins=[PaymentPlugin(config)], opt={"price": "0.05"}, logging_config=None)
    async with AsyncTestClient(app) as client:
        assert (await client.get("/health/live")).json() == {"status": "live"}
        assert (await client.get("/health/ready")).json() == {"status": "ready", "missing": {}}
        settler.problem = "the relayer has no gas"
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["missing"]) == (503, {"settler": "the relayer has no gas"})
