"""What the docs say of a running route, held against a running route: fields of events, and sizes of headers."""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from litestar import Litestar, get
from litestar.exceptions import HTTPException

from bridge.events import EVENTS
from bridge.litestar import PaymentConfig, PaymentPlugin, Price
from bridge.testing import FakeSettler, account, ask, credential, pay
from tests.bridge.gateway.lab import lab, settle_and_refuse
from tests.layers import ROOT
from translators.errors import OutcomeUnknown
from translators.levers_toml import write_change
from translators.payment import Payment, Protocol
from translators.shadow import Disagreement

PAYER = account("payer")
NETWORKS = ("base", "polygon", "avalanche", "eip155:42220")
DESCRIPTION = "Today's report, for a cent"


@get("/report", price="0.01", description=DESCRIPTION)
async def report() -> str:
    return "all is well"


@get("/two", price=["0.01", Price("0.01", network="base")], description=DESCRIPTION)
async def two() -> str:
    return "all is well"


@get("/five", price=["0.01", *(Price("0.01", network=n) for n in NETWORKS)], description=DESCRIPTION)
async def five() -> str:
    return "all is well"


@get("/fails", price="0.01")
async def fails() -> None:
    raise HTTPException(status_code=500)


@get("/fails-paid", price="0.01", settle="first")
async def fails_paid() -> None:
    raise HTTPException(status_code=500)


@asynccontextmanager
async def client(
    settler: FakeSettler, events: list[tuple[str, dict[str, Any]]], **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    config = PaymentConfig(
        "0x" + "11" * 20,
        settler,
        network="base-sepolia",
        store="memory",
        event_store=None,
        public_url="https://api.example.com",
        secret_keys=["k" * 32],
        sinks=[lambda name, fields: events.append((name, fields))],
        **settings,
    )
    handlers: list[Any] = [report, two, five, fails, fails_paid]
    app = Litestar(handlers, plugins=[PaymentPlugin(config)], logging_config=None)
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="https://api.example.com") as opened:
        yield opened


async def move_levers(events: list[tuple[str, dict[str, Any]]], folder: Path) -> None:
    """A payment in the shadow of MPP, another that MPP would not have had, and a lever that somebody moved."""
    file = folder / "levers.toml"
    shadow = 'shadow = true\n[levers."*"]\nmpp = "off"\n'
    file.write_text(shadow)
    async with client(FakeSettler(), events, levers=str(file), levers_seconds=0.02) as http:
        await pay(http, "/report", await ask(http, "/report", Protocol.X402_V2), PAYER)
        with patch("bridge.levers.shadow.compare", side_effect=Disagreement("terms", "another amount")):
            await pay(http, "/report", await ask(http, "/report", Protocol.X402_V2), PAYER)
        said = {"levers": {"*": {"mpp": {"stage": "canary", "share": "10%"}}}}
        file.write_text(shadow + write_change(1.8e9, "olga", said))
        async with asyncio.timeout(20):
            while not any(name == "lever.changed" for name, _ in events):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def test_every_field_of_every_event_is_described(tmp_path: Path) -> None:
    """Each field that is ever seen is in the event's own section, or among those of every event."""
    events: list[tuple[str, dict[str, Any]]] = []
    settler = FakeSettler()

    def unknown(_: Payment) -> None:
        raise OutcomeUnknown("nobody can say")

    async def visit() -> None:
        async with client(settler, events) as http:
            for protocol in Protocol:
                for path in ("/report", "/fails", "/fails-paid"):
                    await pay(http, path, await ask(http, path, protocol), PAYER)
            await http.get("/report", headers={"Accept-Payment": "evm/charge", "User-Agent": "a browser"})
            await http.get("/report", headers={"X-PAYMENT": "nothing"})
            again = credential(await ask(http, "/report", Protocol.MPP), PAYER)
            for _ in range(2):
                await http.get("/report", headers=[again])
            settler.on_settle = unknown
            lost = credential(await ask(http, "/report", Protocol.MPP), PAYER)
            for _ in range(2):
                await http.get("/report", headers=[lost])

    async def visit_gateway() -> None:
        async with lab() as gateway:
            await gateway.pay(Protocol.MPP)
            await gateway.client.get("/report", headers={"PAYMENT-SIGNATURE": "nothing"})
            gateway.server.on_paid = settle_and_refuse
            await gateway.pay(Protocol.MPP)
            events.extend(gateway.told)

    asyncio.run(visit())
    asyncio.run(visit_gateway())
    asyncio.run(move_levers(events, tmp_path))
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for name, fields in events:
        seen[name] |= fields.keys()
    page = (ROOT / "docs/events.md").read_text("utf-8")
    general, *sections = re.split(r"^### ", page.partition("## Fields of every event")[2], flags=re.MULTILINE)
    described = {section.partition("\n")[0]: section for section in sections}
    for name in seen:
        undescribed = seen[name] - set(re.findall(r"`(\w+)`", general + described[name]))
        # One section may lean on another, by name.
        leaning = re.findall(r"as in `(payment\.\w+)`", described[name])
        undescribed -= {word for other in leaning for word in re.findall(r"`(\w+)`", described[other])}
        assert not undescribed, f"{name}: {undescribed}"
    assert set(seen) >= set(EVENTS)


def test_the_sizes_of_headers_are_measured() -> None:
    """The figures in docs/deploying.md."""
    page = (ROOT / "docs/deploying.md").read_text("utf-8")

    async def measure() -> None:
        async with client(FakeSettler(), []) as http:
            sizes = {}
            for path in ("/report", "/two", "/five"):
                answer = await http.get(path)
                sizes[path] = sum(len(name) + len(value) + len(": \r\n") for name, value in answer.headers.raw)
            assert f"{sizes['/report']:,} bytes" in page
            assert f"of two offers on two networks {sizes['/two'] / 1000:.1f} KB" in page
            assert f"of five {sizes['/five'] / 1000:.1f} KB" in page
            lengths = []
            for protocol in Protocol:
                _, value = credential(await ask(http, "/report", protocol), PAYER)
                lengths.append(f"{len(value):,}")
            v1, v2, mpp = lengths
            assert f"{v1} bytes in x402 v1, {v2} in v2 and {mpp} in MPP" in page

    asyncio.run(measure())
