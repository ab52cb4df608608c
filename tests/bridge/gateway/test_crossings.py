"""All six crossings: clients of three protocols, before servers of two versions of x402."""

from typing import Any

import pytest

from tests.bridge.gateway.lab import MPP, PROTOCOLS, RECEIPT, V1, V2, Server, lab, transaction_of
from translators.payment import Protocol
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

pytestmark = pytest.mark.anyio


def receipt_of(response: Any, protocol: Protocol) -> str:
    value = response.headers[RECEIPT[protocol]]
    match protocol:
        case Protocol.X402_V1:
            return x402_v1.decode_settlement_response(value).transaction
        case Protocol.X402_V2:
            return x402_v2.decode_settlement_response(value).transaction
        case Protocol.MPP:
            return mpp_wire.decode_receipt(value).reference


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_every_client_pays_every_upstream(client: Protocol, version: int, method: str) -> None:
    """One settlement, the receipt in the client's own words alone, and the journal says delivered."""
    more: dict[str, Any] = {"json": {"question": 1}} if method == "POST" else {}
    async with lab(Server([version])) as at:
        response = await at.pay(client, "/report?day=1", method, **more)
        assert response.status_code == 200
        assert response.text == "the report: " + ('{"question":1}' if method == "POST" else "")
        (payment,) = at.server.settled.values()
        assert receipt_of(response, client) == transaction_of(payment)
        assert [name for name in RECEIPT.values() if name in response.headers] == [RECEIPT[client]]
        assert at.events[-3:] == ["payment.verified", "payment.settled", "payment.delivered"]
        delivered = at.event("payment.delivered")
        assert (delivered["protocol"], delivered["upstream_protocol"]) == (client.value, f"x402-v{version}")
        assert [row.state for row in at.rows()] == ["delivered"]
        assert at.server.last.target == "/report?day=1"


@pytest.mark.parametrize("version", [1, 2])
async def test_a_payment_in_the_upstreams_version_is_not_touched(version: int) -> None:
    """Byte for byte, under the header that it came in."""
    protocol = V1 if version == 1 else V2
    async with lab(Server([version])) as at:
        header, value = await at.credential(protocol)
        await at.client.get("/report", headers={header: value})
        assert at.server.last.header(header.lower()) == value


async def test_the_upstream_gets_exactly_what_it_asked() -> None:
    """Its own entry with members that nobody knows, its resource, and the extensions that it announced."""
    server = Server([2])
    server.extensions = {"bazaar": {"info": {"input": {"type": "http"}}, "schema": {}}}
    async with lab(server) as at:
        assert (await at.pay(MPP)).status_code == 200
        payload = x402_v2.decode_payment_payload(at.server.last.header("payment-signature") or "")
        assert payload.accepted == server.entry_v2()
        assert payload.extensions == server.extensions
        assert (payload.resource or {})["x-more"] is True
        assert at.server.last.header("authorization") is None
