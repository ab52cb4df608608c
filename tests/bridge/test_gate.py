"""A good payment's way, in each protocol, and what the journal and the log say of it."""

import pytest

from bridge.events import EVENTS
from bridge.payers import _receipt, sign
from bridge.stores import MemoryStore
from bridge.testing import FakeSettler
from tests.bridge.harness import (
    MPP,
    PAYER,
    PROTOCOLS,
    RECEIPT_HEADER,
    RECIPIENT,
    V1,
    V2,
    House,
    envelope,
    receive_of,
    reply,
    scope_of,
)
from translators.lifecycle import State
from translators.payment import Protocol

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_good_payment_is_settled_and_delivered_once(protocol: Protocol) -> None:
    """One verification, one settlement, one delivery, the receipt in the client's own header and nobody else's."""
    house = House()
    answer = await house.pay(protocol)
    assert (answer.status_code, answer.content, house.runs) == (200, b"the report", 1)
    (settlement,) = house.settler.settlements
    assert _receipt(answer, protocol) == (RECEIPT_HEADER[protocol], settlement.transaction)
    assert [name for name in RECEIPT_HEADER.values() if name in answer.headers] == [RECEIPT_HEADER[protocol]]
    assert answer.headers["cache-control"] == "private"
    assert (settlement.payer, settlement.recipient, settlement.amount) == (PAYER.address, RECIPIENT, 10_000)
    assert (await house.record()).state is State.DELIVERED
    assert house.events == ["payment.challenged", "payment.verified", "payment.settled", "payment.delivered"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_events_of_one_payment_share_a_correlation_id_and_say_who_used_what(protocol: Protocol) -> None:
    """Every event names protocol, route, payer, amount, asset, network, user agent and a duration."""
    house = House()
    header = await house.credential(protocol)
    await house.visit(headers=[header, ("User-Agent", "curl/8")])
    told = [fields for event, fields in house.told if event != "payment.challenged"]
    assert len({fields["correlation_id"] for fields in told}) == 1
    for fields in told:
        assert (fields["protocol"], fields["route"], fields["payer"]) == (protocol, "GET /report", PAYER.address)
        assert (fields["amount"], fields["network"], fields["user_agent"]) == ("10000", "eip155:84532", "curl/8")
        assert fields["asset"].startswith("0x")
        assert fields["duration_ms"] >= 0
    assert house.event("payment.settled")["transaction"] == house.settler.settlements[0].transaction
    if protocol is MPP:
        assert house.event("payment.challenged")["correlation_id"] == told[0]["correlation_id"]


async def test_every_event_is_in_the_list() -> None:
    """What is emitted is documented, and named like the rest."""
    house = House(settle="first")
    header = await house.credential(V1)
    house.messages = []
    await house.app(scope_of(headers=[header]), receive_of([]), _ignore)
    house.messages = reply()
    await house.visit(headers=[header])
    await house.visit(headers=[header])
    await house.visit(headers=[("X-PAYMENT", "!")])
    assert set(house.events) <= set(EVENTS)
    assert {"payment.undelivered", "payment.delivered", "payment.replayed", "payment.rejected"} <= set(house.events)


async def _ignore(_: object) -> None:
    pass


async def test_gate_that_cannot_start_leaves_nothing_open() -> None:
    """A store that was opened is closed again when the settler refuses."""
    closed: list[bool] = []

    class Store(MemoryStore):
        async def close(self) -> None:
            closed.append(True)

    class Settler(FakeSettler):
        async def start(self, _: object) -> None:
            raise ValueError("another chain")

    house = House(store=Store(), settler=Settler())
    with pytest.raises(ValueError, match="another chain"):
        await house.visit()
    assert closed == [True]


async def test_challenge_event_says_what_was_offered() -> None:
    """An unpaid request names no protocol of its own, unless it asks in MPP's words."""
    house = House()
    await house.visit()
    assert house.event("payment.challenged")["offered"] == ["mpp", "x402-v1", "x402-v2"]
    assert "protocol" not in house.event("payment.challenged")
    other = House()
    await other.visit(headers=[("Accept-Payment", "evm/charge")])
    assert other.event("payment.challenged")["protocol"] == "mpp"


async def test_v1_and_v2_headers_of_one_payment_are_one_client_hedging() -> None:
    """v2 is read, answered in v2, and settled once."""
    house = House()
    asked = await house.ask(V2)
    payment = sign(asked, PAYER, house.clock())
    answer = await house.visit(headers=[envelope(payment, asked), envelope(payment, asked, V1)])
    assert (answer.status_code, len(house.settler.settlements)) == (200, 1)
    assert "PAYMENT-RESPONSE" in answer.headers
    assert "X-PAYMENT-RESPONSE" not in answer.headers
    assert house.event("payment.settled")["protocol"] == "x402-v2"


@pytest.mark.parametrize("first", PROTOCOLS)
@pytest.mark.parametrize("second", PROTOCOLS)
async def test_one_signature_fits_every_envelope_and_pays_once(first: Protocol, second: Protocol) -> None:
    """One authorization in any two envelopes, one after the other, is one payment and one run of the handler.

    The same envelope again gets the same answer.
    """
    house = House()
    asked = {protocol: await house.ask(protocol) for protocol in PROTOCOLS}
    payment = sign(asked[MPP], PAYER, house.clock())
    paid = await house.visit(headers=[envelope(payment, asked[MPP] if first is MPP else asked[V2], first)])
    again = await house.visit(headers=[envelope(payment, asked[MPP] if second is MPP else asked[V2], second)])
    if first is second:
        assert (paid.status_code, again.status_code) == (200, 200)
        assert (again.content, again.headers) == (paid.content, paid.headers)
    else:
        assert (paid.status_code, again.status_code) == (200, 402)
        assert again.problem == "invalid-challenge"
    assert (house.runs, len(house.settler.settlements)) == (1, 1)
