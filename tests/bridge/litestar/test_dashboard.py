"""The dashboard in a Litestar application: behind guards, never priced, and on the gate's own settler and store."""

from pathlib import Path
from typing import Any

import pytest
from litestar import Controller, Litestar, get
from litestar.connection import ASGIConnection
from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.handlers.base import BaseRouteHandler
from litestar.testing import AsyncTestClient

from bridge.litestar import DashboardConfig, PaymentConfig, PaymentPlugin
from bridge.stores import MemoryStore
from bridge.testing import FakeSettler
from tests.bridge.harness import RECIPIENT

pytestmark = pytest.mark.anyio


def owner_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    if connection.headers.get("x-owner") != "yes":
        raise NotAuthorizedException


class Priced(Controller):
    path = "/"
    opt = {"price": "0.01"}  # noqa: RUF012

    @get("/report")
    async def report(self) -> str:
        return "the report"


def shop(tmp_path: Path, dashboard: DashboardConfig | None, **settings: Any) -> Litestar:
    known: dict[str, Any] = {
        "recipient": RECIPIENT,
        "settler": FakeSettler(),
        "network": "base-sepolia",
        "store": MemoryStore(),
        "event_store": f"sqlite:{tmp_path}/events.sqlite3",
    }
    config = PaymentConfig(**(known | settings))
    return Litestar([Priced], plugins=[PaymentPlugin(config, dashboard=dashboard)], opt={"price": "1.00"})


async def test_behind_its_guards_and_free(tmp_path: Path) -> None:
    """Whom the guards let in sees everything for nothing, whatever the application's price; others see nothing."""
    async with AsyncTestClient(shop(tmp_path, DashboardConfig(guards=[owner_only]))) as client:
        assert (await client.get("/report")).status_code == 402
        for path in ("/payments", "/payments/", "/payments/main.js", "/payments/api/about", "/payments/api/health"):
            assert (await client.get(path)).status_code == 401, path
            assert (await client.get(path, headers={"x-owner": "yes"})).status_code == 200, path
        page = await client.get("/payments", headers={"x-owner": "yes"})
        assert 'src="payments/main.js"' in page.text
        assert 'src="main.js"' in (await client.get("/payments/", headers={"x-owner": "yes"})).text
        assert (await client.post("/payments/api/levers", headers={"x-owner": "yes"})).status_code == 405


async def test_behind_a_token(tmp_path: Path) -> None:
    """Where the application has no guards of its own; a path of one's own."""
    dashboard = DashboardConfig(path="/admin/money", token="a token that is long enough")
    async with AsyncTestClient(shop(tmp_path, dashboard)) as client:
        assert (await client.get("/admin/money")).status_code == 401
        sent = {"authorization": "Bearer a token that is long enough"}
        assert (await client.get("/admin/money/api/levers", headers=sent)).status_code == 200


async def test_off_by_default(tmp_path: Path) -> None:
    """Without the setting there is nothing."""
    async with AsyncTestClient(shop(tmp_path, None)) as client:
        assert (await client.get("/payments")).status_code == 404


@pytest.mark.parametrize(
    ("dashboard", "settings", "said"),
    [
        (DashboardConfig(), {}, "guards, or a token"),
        (DashboardConfig(token="short"), {}, "at least 16"),
        (DashboardConfig(guards=[owner_only]), {"event_store": None}, "nothing to show"),
        (DashboardConfig(guards=[owner_only], path="money"), {}, "slash"),
        (DashboardConfig(guards=[owner_only], path="/"), {}, "slash"),
    ],
)
def test_what_cannot_be(dashboard: DashboardConfig, settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    """A dashboard that everybody could see, or that would show nothing, stops the program."""
    with pytest.raises(ImproperlyConfiguredException, match=said):
        shop(tmp_path, dashboard, **settings)


async def test_health_and_levers_are_the_gates(tmp_path: Path) -> None:
    """The settler and the store that this process uses, its recorder, and the stages that count in it."""
    levers = tmp_path / "levers.toml"
    levers.write_text('[levers."*"]\nx402-v1 = "off"\n')
    settler = FakeSettler()
    app = shop(tmp_path, DashboardConfig(guards=[owner_only]), settler=settler, levers=str(levers))
    async with AsyncTestClient(app) as client:
        client.headers["x-owner"] = "yes"
        parts = {part["name"]: part for part in (await client.get("/payments/api/health")).json()["parts"]}
        assert {name: parts[name]["state"] for name in ("settler", "store", "recorder")} == dict.fromkeys(
            ("settler", "store", "recorder"), "ok"
        )
        assert parts["recorder"]["figures"]["dropped"] == 0
        settler.problem = "the relayer has no gas"
        parts = {part["name"]: part for part in (await client.get("/payments/api/health")).json()["parts"]}
        assert (parts["settler"]["state"], parts["settler"]["detail"]) == ("away", "the relayer has no gas")
        told = (await client.get("/payments/api/levers")).json()
        stages = {(row["route"], row["protocol"]): row["stage"] for row in told["stages"]}
        assert (stages["*", "x402-v1"], stages["GET /report", "mpp"]) == ("off", "on")
        assert told["source"] == str(levers)
