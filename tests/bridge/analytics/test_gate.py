"""What the gate tells, recorded: the report of an application equals what happened in it."""

from pathlib import Path
from typing import Any

import pytest

from bridge.analytics import Report, open_events
from bridge.settlers.base import Fate, Found
from bridge.testing import FakeSettler
from tests.bridge.harness import MPP, PAYER, PROTOCOLS, V1, V2, House, envelope, reply
from tests.bridge.harness import sign as sign_payment
from translators.errors import OutcomeUnknown, SettlementFailed

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/events.sqlite3"


async def closed(house: House) -> Report:
    """The report of everything, once the gate is closed."""
    await house.app.gate.close()
    recorder = house.config.recorder
    assert recorder is not None
    with open_events(recorder.url) as events:
        return events.report(since=0, until=4e9)


async def test_each_protocol(path: str) -> None:
    """Two payments of each, the second of them asked for again: its kept answer is a replay."""
    house = House(event_store=path)
    for protocol in PROTOCOLS:
        for number in range(2):
            house.clock.now += 1
            credential = await house.credential(protocol)
            for _ in range(number + 1):
                assert (await house.visit(headers=[credential])).status_code == 200
    found = await closed(house)
    for protocol in PROTOCOLS:
        own = found.protocols[protocol.value]
        assert (own.attempted, own.delivered, own.replayed, own.failed, own.settled) == (3, 2, 1, 0, 2)
        assert list(own.revenue.values()) == ["20000"]
        assert own.challenged == 6
    assert found.total.payers == 1


@pytest.mark.parametrize("settle", ["on_success", "first"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_every_failure_is_one_attempt(protocol: Any, settle: str, path: str) -> None:
    """Unreadable, refused, a handler that fails, a settlement that fails: one attempt and one failure each."""
    house = House(event_store=path, settle=settle)
    name, value = await house.credential(protocol)
    scheme = "Payment " if protocol is MPP else ""
    await house.visit(headers=[(name, f"{scheme}AAAA")])

    def refuse(_: Any) -> None:
        raise SettlementFailed("no", reason="insufficient_funds")

    house.settler.on_settle = refuse
    house.clock.now += 1
    await house.pay(protocol)
    house.settler.on_settle = None
    house.messages = reply(500)
    house.clock.now += 1
    await house.pay(protocol)
    house.messages = reply()
    assert (await house.visit(headers=[(name, value)])).status_code == 200
    stages = [fields["stage"] for event, fields in house.told if event == "payment.rejected"]
    assert stages == (["verify", "settle", "handler"] if settle == "on_success" else ["verify", "settle"])
    own = (await closed(house)).protocols[protocol.value]
    # Settled first, a handler that fails has been paid for: the payment is owed its answer.
    settled = 1 if settle == "on_success" else 2
    assert (own.attempted, own.failed, own.delivered, own.settled) == (4, 3, 1, settled)
    assert sum(own.failures.values()) == 3


async def test_found_out_later(path: str) -> None:
    """An outcome that nobody knew is revenue when the reconciler finds it, and again when nobody asks twice."""
    house = House(event_store=path)

    def lost(_: Any) -> None:
        raise OutcomeUnknown("who knows")

    house.settler.on_settle = lost
    credential = await house.credential(V1)
    assert (await house.visit(headers=[credential])).status_code == 503
    house.settler.find = _paid  # type: ignore[method-assign]
    house.clock.now += 120
    for _ in range(3):
        await house.app.gate.reconciler.once()
    house.settler.on_settle = None
    assert (await house.visit(headers=[credential])).status_code == 200
    assert house.events.count("payment.reconciled") >= 1
    own = (await closed(house)).protocols["x402-v1"]
    assert (own.attempted, own.failed, own.delivered, own.settled) == (2, 1, 1, 1)
    assert list(own.revenue.values()) == ["10000"]


async def _paid(_: Any) -> Found:
    return Found(Fate.PAID, chain_time=1, block=1, transaction="0x" + "cd" * 32)


async def test_one_signature_in_two_envelopes(path: str) -> None:
    """The same authorization in another protocol is the same payment: its events have one name."""
    house = House(event_store=path)
    house.messages = reply(500)
    asked = await house.ask(V1)
    payment = sign_payment(asked, PAYER, house.clock())
    await house.visit(headers=[envelope(payment, asked)])
    house.messages = reply()
    second = await house.ask(V2)
    assert (await house.visit(headers=[envelope(payment, second, V2)])).status_code == 200
    assert len({fields["payment"] for _, fields in house.told if "payment" in fields}) == 1
    found = await closed(house)
    assert (found.total.attempted, found.total.settled, found.total.delivered) == (2, 1, 1)


async def test_an_idempotency_key_names_the_earlier_payment(path: str) -> None:
    """A client that signs anew with the same key gets the answer of its first payment: one delivery, one revenue."""
    house = House(event_store=path)
    key = ("Idempotency-Key", "order-1")
    first, second = await house.credential(V2), await house.credential(V2)
    assert (await house.visit(headers=[first, key])).status_code == 200
    assert (await house.visit(headers=[second, key])).status_code == 200
    payments = [fields["payment"] for event, fields in house.told if event in ("payment.delivered", "payment.replayed")]
    assert payments[0] == payments[1]
    own = (await closed(house)).protocols["x402-v2"]
    assert (own.attempted, own.delivered, own.replayed, own.settled) == (2, 1, 1, 1)


async def test_a_settler_that_is_never_asked_twice() -> None:
    """Without an event store the gate works as it did."""
    house = House(event_store=None, settler=FakeSettler())
    assert (await house.pay(MPP)).status_code == 200
