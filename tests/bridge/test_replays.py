"""The same paid request again: its answer again for whoever paid, and for nobody else."""

import asyncio
from typing import Any

import pytest

from bridge.payers import sign
from bridge.stores import ClaimLost
from bridge.testing import FakeSettler
from tests.bridge.harness import MPP, PAYER, PROTOCOLS, STRANGER, V1, V2, House, envelope, reply
from translators.errors import OutcomeUnknown
from translators.lifecycle import State
from translators.payment import Protocol
from translators.wire import x402_v2

pytestmark = pytest.mark.anyio

AGENT = ("User-Agent", "agent/1.0")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_answer_is_sent_again(protocol: Protocol) -> None:
    """Status, headers with the receipt and body are the first answer's; nothing is run, verified or settled again."""
    house = House()
    house.messages = reply(203, b"\x00\xffreport", [(b"X-Own", b"1"), (b"Set-Cookie", b"visit=1")])
    credential = await house.credential(protocol)
    first = await house.visit(headers=[credential])
    again = await house.visit(headers=[credential])
    assert (again.status_code, again.content) == (203, b"\x00\xffreport")
    kept = [header for header in first.headers.multi_items() if header[0] != "set-cookie"]
    assert again.headers.multi_items() == kept
    assert (house.runs, len(house.settler.settlements)) == (1, 1)
    assert house.events.count("payment.delivered") == 1
    assert house.event("payment.replayed")["protocol"] == protocol.value


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_application_may_write_into_its_scope(protocol: Protocol) -> None:
    """The request is known by what came, not by what the application made of it before its answer was kept."""

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        scope["client"] = ("198.51.100.7", 1)
        scope["query_string"] = b"rewritten=1"
        for message in reply():
            await send(message)

    house = House(handler=handler)
    credential = await house.credential(protocol)
    first = await house.visit(headers=[credential])
    again = await house.visit(headers=[credential])
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert len(house.settler.settlements) == 1
    assert "payment.replayed" in house.events


@pytest.mark.parametrize("protocol", [V1, V2])
@pytest.mark.parametrize(
    "other",
    [
        {"headers": [("User-Agent", "thief/1.0")]},
        {"client": ("192.0.2.1", 4242)},
    ],
)
async def test_an_x402_answer_is_for_the_client_that_paid(protocol: Protocol, other: dict[str, Any]) -> None:
    """A settled x402 credential can be read off the chain: with it alone, somebody else gets a 402."""
    house = House()
    credential = await house.credential(protocol)
    assert (await house.visit(headers=[credential, AGENT])).status_code == 200
    headers = [credential, *other.get("headers", [AGENT])]
    where = {"client": other["client"]} if "client" in other else {}
    stolen = await house.visit(headers=headers, **where)
    assert (stolen.status_code, stolen.problem) == (402, "invalid-challenge")
    assert house.runs == 1


async def test_an_mpp_answer_is_for_whoever_knows_the_challenge() -> None:
    """The challenge never leaves client and server, so the client may come back from anywhere."""
    house = House()
    credential = await house.credential(MPP)
    await house.visit(headers=[credential, AGENT])
    again = await house.visit(headers=[credential], client=("192.0.2.1", 1))
    assert (again.status_code, again.text) == (200, "the report")


@pytest.mark.parametrize(
    "another",
    [
        {"query_string": b"page=2"},
        {"method": "POST", "body": b'{"q":2}', "headers": [("Content-Type", "application/json")]},
    ],
)
@pytest.mark.parametrize("protocol", [V1, V2])
async def test_another_request_gets_no_kept_answer(protocol: Protocol, another: dict[str, Any]) -> None:
    """Method, URL with its query, and body are the request's: with another one, the payment is a used one."""
    house = House({"/report": "0.01"})
    credential = await house.credential(protocol)
    await house.visit(headers=[credential])
    headers = [credential, *another.pop("headers", [])]
    refused = await house.visit(another.pop("method", "GET"), headers=headers, **another)
    assert (refused.status_code, refused.problem) == (402, "invalid-challenge")
    assert (house.runs, len(house.settler.settlements)) == (1, 1)


@pytest.mark.parametrize(
    ("settings", "wait"),
    [
        ({"replay_seconds": 60.0}, 60.0),
        ({"replay_bytes": 0}, 0.0),
        ({"replay_bytes": 200}, 0.0),
    ],
)
async def test_what_is_not_kept_any_more_is_used(settings: dict[str, Any], wait: float) -> None:
    """After its time, and where it was too long or nothing is kept, the payment is refused as used."""
    house = House(**settings)
    house.messages = reply(200, b"x" * 300)
    credential = await house.credential(MPP)
    await house.visit(headers=[credential])
    house.clock.advance(wait)
    again = await house.visit(headers=[credential])
    assert (again.status_code, again.problem) == (402, "invalid-challenge")
    assert house.runs == 1


async def test_a_stream_is_kept_while_it_flows() -> None:
    """A streamed answer that fits is kept whole."""
    house = House()
    house.messages = [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]},
        *({"type": "http.response.body", "body": b"data: %d\n\n" % n, "more_body": n < 4} for n in range(5)),
    ]
    credential = await house.credential(V2)
    first = await house.visit(headers=[credential])
    again = await house.visit(headers=[credential])
    assert again.content == first.content == b"".join(b"data: %d\n\n" % n for n in range(5))


async def test_a_request_in_flight_is_waited_for() -> None:
    """The same credential at the same time waits, and gets the same answer."""
    go_on = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        for message in reply():
            await send(message)

    house = House(handler=slow, wait_seconds=5.0)
    credential = await house.credential(V1)
    visits = [asyncio.create_task(house.visit(headers=[credential])) for _ in range(5)]
    await asyncio.sleep(0.1)
    assert not any(visit.done() for visit in visits)
    go_on.set()
    answers = await asyncio.gather(*visits)
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, "the report")}
    assert (house.runs, len(house.settler.settlements)) == (1, 1)


async def test_waiting_has_an_end() -> None:
    """When the other request takes too long, the client is told to come again, and not to pay."""
    never = asyncio.Event()

    async def stuck(scope: Any, receive: Any, send: Any) -> None:
        await never.wait()

    house = House(handler=stuck, wait_seconds=0.1)
    credential = await house.credential(MPP)
    first = asyncio.create_task(house.visit(headers=[credential]))
    await asyncio.sleep(0.02)
    answer = await house.visit(headers=[credential])
    assert (answer.status_code, answer.problem) == (503, "payment-unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "www-authenticate" not in answer.headers
    first.cancel()


class ForgetfulSettler(FakeSettler):
    """A facilitator whose first answer is lost after the money moved."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def settle(self, *args: Any) -> Any:
        self.calls += 1
        settlement = await super().settle(*args)
        if self.calls == 1:
            raise OutcomeUnknown("the facilitator's answer did not come")
        return settlement


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("policy", ["on_success", "first"])
async def test_an_unknown_outcome_is_found_out_by_asking_again(protocol: Protocol, policy: str) -> None:
    """The first request gets 503 and no challenge; the same credential then gets what was paid for, paid once."""
    house = House(settler=ForgetfulSettler(), settle=policy)
    credential = await house.credential(protocol)
    lost = await house.visit(headers=[credential])
    assert (lost.status_code, lost.problem) == (503, "payment-outcome-unknown")
    assert not {"www-authenticate", "payment-required", "x-payment-required"} & set(lost.headers)
    assert (await house.record()).state is State.UNKNOWN
    asked = await house.visit(headers=[credential])
    if asked.status_code == 503:
        # Found settled and put right; the row is there for whoever asks next.
        asked = await house.visit(headers=[credential])
    assert (asked.status_code, asked.text) == (200, "the report")
    assert len(house.settler.settlements) == 1
    assert (await house.record()).state is State.DELIVERED


async def test_what_nobody_can_tell_stays_unknown() -> None:
    """With a facilitator alone and the nonce used, nobody knows who used it: 503 again, and never a new challenge."""
    house = House(settler=ForgetfulSettler())
    house.settler.can_tell = False
    credential = await house.credential(V2)
    await house.visit(headers=[credential])
    for _ in range(3):
        answer = await house.visit(headers=[credential])
        assert (answer.status_code, answer.problem) == (503, "payment-outcome-unknown")
        assert "payment-required" not in answer.headers
    assert (await house.record()).state is State.UNKNOWN


KEY = ("Idempotency-Key", "order-4711")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_key_answers_a_second_payment_with_the_first_answer(protocol: Protocol) -> None:
    """A client that signed anew for the same request, with the same key, is answered and not charged again."""
    house = House()
    first = await house.visit(headers=[await house.credential(protocol), KEY])
    again = await house.visit(headers=[await house.credential(protocol), KEY])
    assert (again.status_code, again.text) == (200, first.text)
    assert (house.runs, len(house.settler.settlements)) == (1, 1)


async def test_a_key_is_its_payers() -> None:
    """Another payer with the same key has a key of his own."""
    house = House()
    await house.visit(headers=[await house.credential(V2), KEY])
    asked = await house.ask(V2)
    other = envelope(sign(asked, STRANGER, house.clock()), asked)
    assert (await house.visit(headers=[other, KEY])).status_code == 200
    assert (house.runs, len(house.settler.settlements)) == (2, 2)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_key_with_another_request_is_a_conflict(protocol: Protocol) -> None:
    """409, nothing charged, and nothing of the first answer told."""
    house = House()
    await house.visit(headers=[await house.credential(protocol), KEY])
    answer = await house.visit(headers=[await house.credential(protocol), KEY], query_string=b"page=2")
    assert (answer.status_code, answer.problem) == (409, "idempotency-conflict")
    assert (house.runs, len(house.settler.settlements)) == (1, 1)


async def test_a_key_is_free_again_when_nothing_was_paid() -> None:
    """After a handler that failed, the key takes the next payment."""
    house = House()
    house.messages = reply(500, b"no")
    assert (await house.visit(headers=[await house.credential(MPP), KEY])).status_code == 500
    house.messages = reply()
    assert (await house.visit(headers=[await house.credential(MPP), KEY])).status_code == 200
    assert len(house.settler.settlements) == 1


async def test_a_key_delivers_what_an_earlier_payment_paid() -> None:
    """Paid first, failed, and signed anew with the same key: the earlier is delivered, the new one untouched."""
    house = House(settle="first")
    house.messages = reply(500, b"no")
    assert (await house.visit(headers=[await house.credential(V1), KEY])).status_code == 500
    house.messages = reply()
    answer = await house.visit(headers=[await house.credential(V1), KEY])
    assert (answer.status_code, answer.text) == (200, "the report")
    assert len(house.settler.settlements) == 1
    assert (await house.record()).state is State.DELIVERED


async def test_a_payment_identifier_is_an_idempotency_key() -> None:
    """x402's extension is the same mechanism: the same id answers a second payload with the first answer."""
    house = House()

    async def paid(identifier: object) -> Any:
        asked = await house.ask(V2)
        header, value = envelope(sign(asked, PAYER, house.clock()), asked)
        payload = x402_v2.decode_payment_payload(value)
        payload.extensions = {"payment-identifier": {"info": {"required": False, "id": identifier}, "schema": {}}}
        return await house.visit(headers=[(header, x402_v2.encode_payment_payload(payload))])

    assert [(await paid("pay_7d5d747be160e280")).status_code for _ in range(2)] == [200, 200]
    assert len(house.settler.settlements) == 1
    for bad in ("short", "x" * 129, "with space in the id", 7):
        refused = await paid(bad)
        assert (refused.status_code, refused.problem) == (400, "malformed-credential")
    assert len(house.settler.settlements) == 1


async def test_a_key_has_a_length() -> None:
    """An empty or endless key is refused before anything is claimed."""
    house = House()
    for key in ("", "k" * 256):
        answer = await house.visit(headers=[await house.credential(MPP), ("Idempotency-Key", key)])
        assert (answer.status_code, answer.problem) == (402, "malformed-credential")
    assert house.runs == 0


async def test_a_key_outlives_a_request_that_died() -> None:
    """A claim whose process died before it paid anything does not hold the key, and cannot go on afterwards."""
    never = asyncio.Event()

    async def stuck(scope: Any, receive: Any, send: Any) -> None:
        await never.wait()

    house = House(handler=stuck)
    died = asyncio.create_task(house.visit(headers=[await house.credential(V2), KEY]))
    await asyncio.sleep(0.05)
    first = await house.record()
    assert first.state is State.CLAIMED
    early = await house.visit(headers=[await house.credential(V2), KEY])
    assert (early.status_code, early.problem) == (503, "payment-unavailable")
    house.clock.advance(house.config.lease_seconds)
    house.handler = None
    assert (await house.visit(headers=[await house.credential(V2), KEY])).status_code == 200
    assert (await house.store.get(first.id)).state is State.RELEASED  # type: ignore[union-attr]
    with pytest.raises(ClaimLost):
        await house.store.advance(first.id, State.SETTLING, owner=first.owner, now=house.clock())
    assert len(house.settler.settlements) == 1
    died.cancel()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_answer_outlives_its_authorization(protocol: Protocol) -> None:
    """Rows are forgotten a while after their authorization ended, so neither answer nor key is lost before its time."""
    house = House(replay_seconds=600.0)
    credential = await house.credential(protocol)
    await house.visit(headers=[credential, KEY])
    house.clock.advance(400)
    await house.store.purge(now=house.clock() - house.app.gate.replay_seconds)
    assert (await house.visit(headers=[credential, KEY])).text == "the report"
    signed_anew = await house.visit(headers=[await house.credential(protocol), KEY])
    assert (signed_anew.status_code, signed_anew.text) == (200, "the report")
    assert (house.runs, len(house.settler.settlements)) == (1, 1)
