"""The doubles that users get: a clock, a settler, and payers of each protocol over httpx."""

import io
import json

import httpx
import pytest
import structlog

from bridge.asgi import PaymentMiddleware
from bridge.config import PaymentConfig
from bridge.logs import configure_logs
from bridge.testing import FakeSettler, FixedClock, account, ask, credential, pay, read_402
from tests.bridge.harness import PROTOCOLS, RECIPIENT, House
from translators.errors import MalformedError
from translators.payment import Protocol

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_payers_pay_by_the_real_clock(protocol: Protocol) -> None:
    """`ask` and `pay` are all that a test of somebody's own route needs."""

    async def app(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"the report"})  # type: ignore[operator]

    settler = FakeSettler()
    config = PaymentConfig(
        RECIPIENT, settler, network="base-sepolia", store="memory:", secret_keys=["k" * 32], event_store=None
    )
    transport = httpx.ASGITransport(PaymentMiddleware(app, config=config, routes={"GET /report": "0.01"}))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        asked = await ask(client, "/report", protocol)
        paid = await pay(client, "/report", asked, account("somebody"))
    assert (paid.status, paid.body) == (200, "the report")
    assert paid.transaction == settler.settlements[0].transaction


async def test_accounts_are_made_from_words_and_hide_their_key() -> None:
    """The same words are the same account; its repr shows the address only."""
    assert account("ada") == account("ada") != account("bob")
    assert account("ada").private_key[2:] not in repr(account("ada"))


async def test_reading_what_was_not_asked_raises_our_error() -> None:
    """An answer without a challenge of that protocol says so."""
    answer = await House({"GET /report": "0.01"}).visit(path="/free")
    with pytest.raises((MalformedError, KeyError, IndexError)):
        read_402(answer, Protocol.X402_V2)


async def test_clock_moves_only_when_told() -> None:
    """Time stands still otherwise, and a credential can be made for any moment."""
    clock = FixedClock(1000.0)
    clock.advance(5)
    assert (clock(), clock()) == (1005.0, 1005.0)
    house = House()
    asked = await house.ask(Protocol.X402_V1)
    header = credential(asked, account("somebody"), house.clock())
    assert (await house.visit(headers=[header])).status_code == 200


def test_logs_are_json_for_machines_and_readable_for_people() -> None:
    """JSON lines where nobody is looking, on one line each, with a time and a level."""
    before = structlog.get_config()
    try:
        machine, person = io.StringIO(), io.StringIO()
        configure_logs(stream=machine)
        structlog.get_logger("x402_mpp").info("payment.settled", payer="0xabc")
        configure_logs(json=False, stream=person)
        structlog.get_logger("x402_mpp").info("payment.settled", payer="0xabc")
    finally:
        structlog.configure(**before)
    said = json.loads(machine.getvalue())
    assert (said["event"], said["payer"], said["level"]) == ("payment.settled", "0xabc", "info")
    assert said["timestamp"].endswith("Z")
    assert "payment.settled" in person.getvalue()
    assert not person.getvalue().startswith("{")
