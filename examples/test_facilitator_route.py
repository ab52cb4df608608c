"""The facilitator example, against a small facilitator that says what a test tells it to."""

import asyncio
from typing import Any

import facilitator_route
import httpx
import pytest
from litestar import Litestar, Request, get, post
from litestar.exceptions import NotAuthorizedException

from bridge.demo.serve import serve_here
from bridge.serving import listen
from bridge.settlers.base import SettlerConfigError
from bridge.testing import account, ask, pay
from translators.payment import Protocol

PAYER, SELLER = account("payer"), account("seller")
TRANSACTION = "0x" + "ab" * 32


class Facilitator:
    """What it was asked, and on which network it settles."""

    def __init__(self, network: str = "eip155:84532") -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.network = network

    def app(self) -> Litestar:
        """Its three endpoints, behind a token."""

        def known(request: Request[Any, Any, Any]) -> None:
            if request.headers.get("Authorization") != "Bearer secret":
                raise NotAuthorizedException

        @get("/supported", before_request=known)
        async def supported() -> dict[str, Any]:
            return {"kinds": [{"x402Version": 2, "scheme": "exact", "network": self.network}]}

        @post("/verify", status_code=200, before_request=known)
        async def verify(request: Request[Any, Any, Any]) -> dict[str, Any]:
            self.asked.append(("verify", await request.json()))
            return {"isValid": True, "payer": PAYER.address}

        @post("/settle", status_code=200, before_request=known)
        async def settle(request: Request[Any, Any, Any]) -> dict[str, Any]:
            self.asked.append(("settle", await request.json()))
            return {"success": True, "transaction": TRANSACTION, "network": self.network, "payer": PAYER.address}

        return Litestar([supported, verify, settle], logging_config=None)


@pytest.mark.parametrize("protocol", list(Protocol))
def test_the_facilitator_settles_each_protocol(protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown an x402 v2 payment whatever the client speaks, first to verify, then to settle."""
    facilitator = Facilitator()

    async def visit() -> None:
        paid = await _visit(facilitator, protocol, monkeypatch)
        assert (paid.status, paid.transaction) == (200, TRANSACTION)

    asyncio.run(visit())
    assert [name for name, _ in facilitator.asked] == ["verify", "settle"]
    for _, question in facilitator.asked:
        assert question["paymentPayload"]["payload"]["authorization"]["value"] == "10000"
        assert question["paymentRequirements"]["network"] == "eip155:84532"


def test_the_application_does_not_start_where_nothing_could_be_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A facilitator on another network stops the program, so that no priced route is served for free."""
    with pytest.raises(ExceptionGroup) as stopped:
        asyncio.run(_visit(Facilitator("eip155:8453"), Protocol.MPP, monkeypatch))
    assert stopped.group_contains(SettlerConfigError, match="does not settle exact on eip155:84532")


async def _visit(facilitator: Facilitator, protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> Any:
    sock = listen("127.0.0.1", 0)
    monkeypatch.setenv("FACILITATOR_URL", f"http://127.0.0.1:{sock.getsockname()[1]}")
    monkeypatch.setenv("FACILITATOR_TOKEN", "secret")
    monkeypatch.setenv("X402_MPP_RECIPIENT", SELLER.address)
    monkeypatch.setenv("X402_MPP_NETWORK", "base-sepolia")
    monkeypatch.setenv("X402_MPP_STORE", "memory")
    monkeypatch.setenv("X402_MPP_EVENTS", "none")
    async with serve_here(facilitator.app(), sock):
        app = facilitator_route.create_app()
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await pay(client, "/report", await ask(client, "/report", protocol), PAYER)
