"""When money moves: after a handler that succeeded, or before it; and what everybody hears when something fails."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from bridge.payers import _receipt, read_402, sign
from bridge.settlers.base import BeforeBroadcast
from bridge.stores import MemoryStore
from bridge.testing import FakeSettler
from tests.bridge.harness import (
    KEY,
    MPP,
    PAYER,
    PROTOCOLS,
    RECEIPT_HEADER,
    V1,
    V2,
    House,
    envelope,
    receive_of,
    reply,
    resign,
    scope_of,
    visit_raising,
)
from tests.bridge.test_bad_input import USDC
from translators.errors import AlreadyUsed, OutcomeUnknown, PaymentError, SettlementFailed, Unavailable
from translators.lifecycle import State
from translators.payment import Offer, Payment, Protocol, Resource, Settlement
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

pytestmark = pytest.mark.anyio

both_policies = pytest.mark.parametrize("policy", ["on_success", "first"])
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


def raising(error: Exception) -> Callable[[Payment], None]:
    def fail(_: Payment) -> None:
        raise error

    return fail


# on_success


@every_protocol
@pytest.mark.parametrize("status", [200, 201, 204, 206, 301, 302, 304, 399])
async def test_success_is_charged(protocol: Protocol, status: int) -> None:
    """Under 400 the money moves before the first byte, with x402's receipt always and MPP's on a 2xx only."""
    house = House()
    house.messages = reply(status, b"" if status in (204, 304) else b"the report")
    answer = await house.pay(protocol)
    assert (answer.status_code, len(house.settler.settlements)) == (status, 1)
    assert (await house.record()).state is State.DELIVERED
    receipts = [name for name in RECEIPT_HEADER.values() if name in answer.headers]
    assert receipts == ([RECEIPT_HEADER[protocol]] if protocol is not MPP or status < 300 else [])
    assert answer.headers["cache-control"] == "private"


@every_protocol
@pytest.mark.parametrize("status", [400, 401, 402, 404, 418, 500, 503])
async def test_failing_handler_costs_nothing_and_keeps_its_own_answer(protocol: Protocol, status: int) -> None:
    """The answer goes out as the handler made it, the claim is given back, and the credential can be sent again."""
    house = House()
    house.messages = reply(status, b"no report", [(b"x-own", b"1"), (b"cache-control", b"public")])
    header = await house.credential(protocol)
    answer = await house.visit(headers=[header])
    assert (answer.status_code, answer.content) == (status, b"no report")
    assert answer.messages[0]["headers"] == [(b"x-own", b"1"), (b"cache-control", b"public")]
    assert (house.settler.settlements, (await house.record()).state) == ([], State.RELEASED)
    assert house.event("payment.rejected")["reason"] == "handler_failed"
    assert house.event("payment.rejected")["status"] == status
    house.messages = reply()
    assert (await house.visit(headers=[header])).status_code == 200
    assert len(house.settler.settlements) == 1


@every_protocol
async def test_crash_costs_nothing(protocol: Protocol) -> None:
    """What the application raises goes on to the server, and nobody is charged."""

    async def crash(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    house = House(handler=crash)
    answer, error = await visit_raising(house.app, headers=[await house.credential(protocol)])
    assert (answer, type(error)) == (None, ZeroDivisionError)
    assert (house.settler.settlements, (await house.record()).state) == ([], State.RELEASED)
    assert house.event("payment.rejected")["status"] == 500


@every_protocol
async def test_returning_without_an_answer_costs_nothing(protocol: Protocol) -> None:
    """An application that says nothing has not delivered."""

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        return

    house = House(handler=silent)
    header = await house.credential(protocol)
    await house.app(scope_of(headers=[header]), receive_of([]), None)
    assert (house.settler.settlements, (await house.record()).state) == ([], State.RELEASED)


@every_protocol
async def test_crash_in_the_middle_is_owed(protocol: Protocol) -> None:
    """The money moved, the answer broke off: the same credential gets it whole, and pays nothing more."""

    async def crash(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the re", "more_body": True})
        raise ZeroDivisionError

    house = House(handler=crash)
    header = await house.credential(protocol)
    answer, error = await visit_raising(house.app, headers=[header])
    assert answer is not None
    assert (answer.status_code, type(error)) == (200, ZeroDivisionError)
    assert (house.events[-1], house.event("payment.undelivered")["status"]) == ("payment.undelivered", 200)
    house.handler = None
    again = await house.visit(headers=[header])
    assert (again.status_code, again.content) == (200, b"the report")
    assert _receipt(again, protocol) == (RECEIPT_HEADER[protocol], house.settler.settlements[0].transaction)
    assert (len(house.settler.settlements), (await house.record()).state) == (1, State.DELIVERED)


@every_protocol
async def test_answer_that_does_not_end_is_owed(protocol: Protocol) -> None:
    """An application that returns before its last byte has not delivered either."""

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the re", "more_body": True})

    house = House(handler=half)
    header = await house.credential(protocol)
    await house.visit(headers=[header])
    assert ((await house.record()).state, house.events[-1]) == (State.SETTLED, "payment.undelivered")


@every_protocol
async def test_connection_lost_while_sending_is_owed(protocol: Protocol) -> None:
    """A server whose `send` fails has not delivered."""
    house = House()
    header = await house.credential(protocol)

    async def gone(_: Any) -> None:
        raise OSError("connection lost")

    with pytest.raises(OSError, match="lost"):
        await house.app(scope_of(headers=[header]), receive_of([]), gone)
    assert (await house.visit(headers=[header])).status_code == 200
    assert len(house.settler.settlements) == 1


# A settlement that fails at the first byte


@every_protocol
@both_policies
@pytest.mark.parametrize(
    ("error", "status", "problem", "state"),
    [
        (SettlementFailed("it reverted"), 402, "verification-failed", State.RELEASED),
        (AlreadyUsed("somebody was faster"), 402, "invalid-challenge", State.RELEASED),
        (Unavailable("no node answers"), 503, "payment-unavailable", State.RELEASED),
        (OutcomeUnknown("it may have moved"), 503, "payment-outcome-unknown", State.UNKNOWN),
        (RuntimeError("a defect"), 503, "payment-outcome-unknown", State.UNKNOWN),
    ],
)
async def test_failed_settlement(
    protocol: Protocol, policy: str, error: Exception, status: int, problem: str, state: State
) -> None:
    """The client hears it in its own words and gets none of the handler's bytes; only what is unknown stays claimed."""
    house = House(settle=policy)
    house.messages = reply(200, b"the report", [(b"x-own", b"secret of the handler")])
    house.settler.on_settle = raising(error)
    header = await house.credential(protocol)
    answer = await house.visit(headers=[header])
    assert (answer.status_code, answer.problem) == (status, problem)
    assert "the report" not in answer.text_of_everything
    assert "x-own" not in answer.headers
    assert house.runs == (0 if policy == "first" else 1)
    assert (await house.record()).state is state
    assert answer.headers["cache-control"] == "no-store"
    if status == 402:
        assert read_402(answer, MPP).challenge is not None
        assert_told_of_failure(answer, protocol)
    else:
        # No challenge: nobody should pay again for what may be paid already.
        for name in ("www-authenticate", "payment-required", "x-payment-required", *RECEIPT_HEADER.values()):
            assert name not in answer.headers
        assert "accepts" not in answer.json()
        assert int(answer.headers["retry-after"]) > 0

    # The same credential gets the same error, until the chain says something else; then it gets what it pays for.
    assert (await house.visit(headers=[header])).status_code == status
    house.settler.on_settle = None
    again = await house.visit(headers=[header])
    assert (again.status_code, len(house.settler.settlements)) == (200, 1)


def assert_told_of_failure(answer: Any, protocol: Protocol) -> None:
    reason = answer.json()["error"]
    if protocol is V1:
        v1 = x402_v1.decode_settlement_response(answer.headers["x-payment-response"])
        assert (v1.success, v1.transaction, v1.error_reason, v1.network) == (False, "", reason, "base-sepolia")
    elif protocol is V2:
        v2 = x402_v2.decode_settlement_response(answer.headers["payment-response"])
        assert (v2.success, v2.transaction, v2.error_reason, v2.network) == (False, "", reason, "eip155:84532")
    else:
        assert "payment-receipt" not in answer.headers


@every_protocol
async def test_settler_that_fails_before_handing_over_moved_nothing(protocol: Protocol) -> None:
    """A defect before the transaction was announced is a failed settlement, not an unknown one."""

    class Broken(FakeSettler):
        async def settle(self, *_: Any) -> Settlement:
            raise RuntimeError("a defect")

    house = House(settler=Broken())
    answer = await house.pay(protocol)
    assert (answer.status_code, answer.problem) == (402, "verification-failed")
    assert (await house.record()).state is State.RELEASED


async def test_application_that_keeps_sending_after_a_refusal_is_stopped() -> None:
    """Its answer was replaced: whatever it sends raises, and what it raises then is not the server's business."""
    caught: list[Exception] = []

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        for message in (*reply(), *reply(200, b"once more")):
            try:
                await send(message)
            except OSError as error:
                caught.append(error)
        raise ZeroDivisionError

    house = House(handler=stubborn)
    house.settler.on_settle = raising(SettlementFailed("it reverted"))
    answer = await house.pay(V2)
    assert (answer.status_code, len(answer.messages), len(caught)) == (402, 2, 4)


async def test_head_gets_no_body_of_a_refusal_at_the_first_byte() -> None:
    """A HEAD whose settlement fails is answered without a body."""
    house = House()
    house.settler.on_settle = raising(SettlementFailed("it reverted"))
    header = await house.credential(V2)
    answer = await house.visit("HEAD", headers=[header])
    assert (answer.status_code, answer.content) == (402, b"")


# Streams


@every_protocol
@both_policies
async def test_stream_is_settled_before_its_first_byte_and_not_held_back(protocol: Protocol, policy: str) -> None:
    """The first event is delivered before the last is produced, and nothing before the settlement."""
    log: list[str] = []

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for n in range(3):
            log.append(f"made {n}, settled {len(house.settler.settlements)}")
            await send({"type": "http.response.body", "body": b"%d" % n, "more_body": n < 2})

    house = House(handler=stream, settle=policy)
    header = await house.credential(protocol)

    async def send(message: Any) -> None:
        log.append(message["type"].rpartition(".")[2] + message.get("body", b"").decode())

    await house.app(scope_of(headers=[header]), receive_of([]), send)
    assert log == ["start", *(w for n in range(3) for w in (f"made {n}, settled 1", f"body{n}"))]
    assert house.events[-2:] == ["payment.settled", "payment.delivered"]


async def test_settlement_is_over_before_any_byte_leaves() -> None:
    """However long the chain takes, nothing has left by then."""

    class Slow(FakeSettler):
        async def settle(self, *args: Any) -> Settlement:
            await asyncio.sleep(0.05)
            assert sent == []
            return await super().settle(*args)

    house = House(settler=Slow())
    header = await house.credential(MPP)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        assert len(house.settler.settlements) == 1
        sent.append(message)

    await house.app(scope_of(headers=[header]), receive_of([]), send)
    assert len(sent) == 2


async def test_other_messages_of_an_answer() -> None:
    """A file sent by path ends an answer; what we do not know is handed on."""

    async def file(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.push", "path": "/x", "headers": []})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": "/x"})

    house = House(handler=file)
    await house.pay(V1)
    assert (await house.record()).state is State.DELIVERED


# first


@every_protocol
async def test_first_settles_before_the_handler(protocol: Protocol) -> None:
    """The handler runs on settled money."""
    settled: list[int] = []

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        settled.append(len(house.settler.settlements))
        for message in reply():
            await send(message)

    house = House(handler=handler, settle="first")
    answer = await house.pay(protocol)
    assert (answer.status_code, settled) == (200, [1])
    assert house.events[-3:] == ["payment.verified", "payment.settled", "payment.delivered"]


@every_protocol
@pytest.mark.parametrize("status", [400, 404, 500])
async def test_failing_handler_under_first_is_charged_says_so_and_is_still_owed(
    protocol: Protocol, status: int
) -> None:
    """x402's receipt is on the error, MPP's is not; the same credential runs the handler again without a second
    settlement, and after a delivery no more."""
    house = House(settle="first")
    house.messages = reply(status, b"no report")
    header = await house.credential(protocol)
    answer = await house.visit(headers=[header])
    assert (answer.status_code, answer.content) == (status, b"no report")
    if protocol is MPP:
        assert "payment-receipt" not in answer.headers
    else:
        assert _receipt(answer, protocol)[1] == house.settler.settlements[0].transaction
        assert answer.headers["cache-control"] == "private"
    undelivered = house.event("payment.undelivered")
    assert (undelivered["status"], undelivered["transaction"]) == (status, house.settler.settlements[0].transaction)

    house.messages = reply()
    again = await house.visit(headers=[header])
    assert (again.status_code, again.content, len(house.settler.settlements)) == (200, b"the report", 1)
    assert _receipt(again, protocol) == (RECEIPT_HEADER[protocol], house.settler.settlements[0].transaction)
    once_more = await house.visit(headers=[header])
    assert (once_more.content, house.runs, len(house.settler.settlements)) == (b"the report", 2, 1)
    assert house.events[-1] == "payment.replayed"


@every_protocol
async def test_crash_under_first_is_answered_with_the_receipt(protocol: Protocol) -> None:
    """Whoever would answer for the crash further out knows nothing of the money: so the 500 is ours."""

    async def crash(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    house = House(handler=crash, settle="first")
    answer, error = await visit_raising(house.app, headers=[await house.credential(protocol)])
    assert isinstance(error, ZeroDivisionError)
    assert answer is not None
    assert answer.status_code == 500
    assert (RECEIPT_HEADER[protocol] in answer.headers) is (protocol is not MPP)
    assert house.events.count("payment.undelivered") == 1


# What is owed, and what is not


async def failed_first(protocol: Protocol, **settings: Any) -> tuple[House, tuple[str, str]]:
    """A house where a payment was settled and its handler failed."""
    house = House({"GET /report": "0.01", "GET /other": "0.01"}, settle="first", **settings)
    house.messages = reply(500, b"no report")
    header = await house.credential(protocol)
    assert (await house.visit(headers=[header])).status_code == 500
    house.messages = reply()
    return house, header


@every_protocol
@pytest.mark.parametrize("error", [Unavailable("no node answers"), AlreadyUsed("used")])
async def test_what_is_owed_does_not_depend_on_the_chain(protocol: Protocol, error: PaymentError) -> None:
    """The journal knows that the money moved: the chain need not say so, nor be there."""
    house, header = await failed_first(protocol)
    house.settler.on_verify = raising(error)
    assert (await house.visit(headers=[header])).status_code == 200
    assert len(house.settler.settlements) == 1


@every_protocol
async def test_what_is_owed_outlives_the_authorization(protocol: Protocol) -> None:
    """An authorization, or a challenge, that has expired meanwhile was good when it was settled."""
    house, header = await failed_first(protocol)
    house.clock.advance(86_400)
    assert (await house.visit(headers=[header])).status_code == 200
    assert (len(house.settler.settlements), house.runs) == (1, 2)


@every_protocol
async def test_expired_is_expired_for_everything_else(protocol: Protocol) -> None:
    """A new and a released payment get nothing after their time, and a delivered one is used."""
    fresh = House()
    header = await fresh.credential(protocol)
    fresh.clock.advance(86_400)
    assert (await fresh.visit(headers=[header])).problem == "payment-expired"

    delivered = House()
    header = await delivered.credential(protocol)
    await delivered.visit(headers=[header])
    delivered.clock.advance(86_400)
    assert (await delivered.visit(headers=[header])).problem == "invalid-challenge"

    released = House()
    released.messages = reply(500)
    header = await released.credential(protocol)
    await released.visit(headers=[header])
    released.clock.advance(86_400)
    assert (await released.visit(headers=[header])).problem == "payment-expired"
    assert (fresh.runs, delivered.runs, released.runs) == (0, 1, 1)


@every_protocol
async def test_what_is_owed_is_owed_to_a_proven_signature_only(protocol: Protocol) -> None:
    """The same authorization under another signature, or with other terms, gets nothing."""
    house = House(settle="first")
    house.messages = reply(500)
    asked = await house.ask(protocol)
    payment = sign(asked, PAYER, house.clock())
    await house.visit(headers=[envelope(payment, asked)])
    house.messages = reply()

    def with_signature(signature: bytes) -> tuple[str, str]:
        changed = msgspec.structs.replace(payment.authorization, signature=signature)
        return envelope(msgspec.structs.replace(payment, authorization=changed), asked)

    good = payment.authorization.signature
    house.settler.on_verify = raising(AlreadyUsed("used"))
    # A contract wallet's signature, which only the chain can judge, and the chain says no.
    for signature in (bytes(65), good[:32] + bytes(32) + good[64:], good + bytes(32), bytes(2)):
        assert (await house.visit(headers=[with_signature(signature)])).status_code == 402
    dearer = resign(payment, USDC, value=10_001)
    assert (await house.visit(headers=[envelope(dearer, asked)])).status_code == 402
    assert house.runs == 1


async def test_settled_mpp_payment_is_not_handed_to_an_x402_envelope() -> None:
    """A settled authorization can be read off the chain by anybody, signature and all; the challenge's id cannot."""
    house, header = await failed_first(MPP)
    asked = await house.ask(V2)
    challenge = mpp_wire.decode_credential(header[1].removeprefix("Payment ")).challenge
    payload = mpp_wire.decode_payload(mpp_wire.decode_credential(header[1].removeprefix("Payment ")).payload)
    mpp_asked = read_402(await house.visit(), MPP)
    payment = sign(msgspec.structs.replace(mpp_asked, challenge=challenge), PAYER, house.clock())
    assert payment.authorization.nonce == payload.nonce
    for protocol in (V1, V2):
        stolen = await house.visit(headers=[envelope(payment, asked, protocol)])
        assert (stolen.status_code, stolen.problem) == (402, "invalid-challenge")
    assert (await house.visit(headers=[header])).status_code == 200
    assert house.runs == 2


async def test_owed_mpp_payment_stays_with_its_route() -> None:
    """The challenge says what was paid for."""
    house, header = await failed_first(MPP)
    assert (await house.visit(path="/other", headers=[header])).problem == "invalid-challenge"


@every_protocol
async def test_payment_on_its_way_is_never_called_used(protocol: Protocol) -> None:
    """Its nonce may be used because of us: the client is told to come again, not to pay again."""
    house = House()
    house.settler.on_settle = raising(OutcomeUnknown("it may have moved"))
    header = await house.credential(protocol)
    await house.visit(headers=[header])
    house.settler.on_verify = raising(AlreadyUsed("used on the chain"))
    answer = await house.visit(headers=[header])
    assert (answer.status_code, answer.problem) == (503, "payment-outcome-unknown")


async def test_row_that_ends_between_the_look_and_the_claim_opens_nothing() -> None:
    """A payment that was let past the chain for a row which is gone by then is refused, and leaves no claim."""

    class Forgetful(MemoryStore):
        async def get(self, payment_id: str) -> Any:
            row = await super().get(payment_id)
            del self._rows[payment_id]
            return row

    house, header = await failed_first(V1, store=Forgetful())
    answer = await house.visit(headers=[header])
    assert (answer.status_code, answer.problem, house.runs) == (402, "invalid-challenge", 1)
    assert (await house.record()).state is State.RELEASED


# The journal fails


class FlakyStore(MemoryStore):
    """A store that is away at some moves."""

    def __init__(self, *away: State, error: Exception | None = None) -> None:
        super().__init__()
        self.away = set(away)
        self.error = error or Unavailable("the store is away")

    async def advance(self, payment_id: str, to: State, **more: Any) -> Any:
        if to in self.away:
            raise self.error
        return await super().advance(payment_id, to, **more)


@every_protocol
async def test_nothing_is_sent_off_that_the_journal_does_not_know(protocol: Protocol) -> None:
    """A store that is away before the broadcast keeps the money where it is."""
    house = House(store=FlakyStore(State.SETTLING))
    answer = await house.pay(protocol)
    assert (answer.status_code, house.settler.settlements) == (503, [])
    assert "retry-after" in answer.headers


@every_protocol
@pytest.mark.parametrize("error", [Unavailable("away"), RuntimeError("disk full")])
async def test_answer_that_was_paid_for_does_not_wait_for_the_journal(protocol: Protocol, error: Exception) -> None:
    """A store that is away once the money moved costs nobody the answer, and hears of it later where it can."""
    store = FlakyStore(State.SETTLED, error=error)
    house = House(store=store)

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        for message in reply():
            await send(message)
            store.away.clear()

    house.handler = handler
    answer = await house.pay(protocol)
    assert (answer.status_code, answer.content) == (200, b"the report")
    assert (await house.record()).state is State.DELIVERED


async def test_store_that_cannot_claim() -> None:
    """Without a claim nothing runs and nothing is charged."""

    class Away(MemoryStore):
        async def claim(self, *_: Any, **__: Any) -> Any:
            raise Unavailable("the store is away")

    house = House(store=Away())
    answer = await house.pay(MPP)
    assert (answer.status_code, house.runs, house.settler.settlements) == (503, 0, [])


async def test_settler_that_does_not_announce_is_recorded_all_the_same() -> None:
    """A settler of somebody else's that forgets `before_broadcast` leaves no row that could be claimed again."""

    class Quiet(FakeSettler):
        async def settle(
            self, payment: Payment, offer: Offer, resource: Resource, before_broadcast: BeforeBroadcast
        ) -> Settlement:
            async def unsaid(_: str) -> None:
                pass

            return await super().settle(payment, offer, resource, unsaid)

    house = House(settler=Quiet())
    assert (await house.pay(V1)).status_code == 200
    assert (await house.record()).state is State.DELIVERED


async def test_listener_that_raises_costs_nobody_anything(logged: list[Any]) -> None:
    """A sink is called for every event, and what it raises is logged."""

    def broken(event: str, fields: dict[str, Any]) -> None:
        fields.clear()
        raise ZeroDivisionError

    told: list[dict[str, Any]] = []
    house = House(sinks=[broken, lambda _, fields: told.append(fields)])
    assert (await house.pay(V2)).status_code == 200
    assert len(told) == 4
    assert all(fields["route"] == "GET /report" for fields in told)
    assert [entry["error_type"] for entry in logged if entry["event"] == "events.sink_failed"] == [
        "ZeroDivisionError"
    ] * 4


# Long answers


@every_protocol
async def test_claim_is_renewed_while_an_answer_is_on_its_way(protocol: Protocol) -> None:
    """A stream longer than the lease cannot be had a second time with the same credential while it runs."""
    go_on = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"2"})

    house = House(handler=stream, lease_seconds=1)
    header = await house.credential(protocol)
    task = asyncio.create_task(house.visit(headers=[header]))
    for _ in range(4):
        # Each step is less than the lease, all of them are more.
        await asyncio.sleep(0.4)
        house.clock.advance(0.6)
        assert (await house.visit(headers=[header])).status_code == 503
    go_on.set()
    assert (await task).content == b"12"
    assert (await house.visit(headers=[header])).content == b"12"
    assert (house.runs, len(house.settler.settlements)) == (1, 1)


async def test_dead_process_holds_a_claim_for_a_lease_only() -> None:
    """What a process claimed and did not live to settle can be claimed again."""
    house = House(lease_seconds=60)
    header = await house.credential(MPP)
    reached = asyncio.Event()

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    house.handler = hang
    task = asyncio.create_task(house.visit(headers=[header]))
    await reached.wait()
    house.handler = None
    assert (await house.visit(headers=[header])).status_code == 503
    house.clock.advance(61)
    assert (await house.visit(headers=[header])).status_code == 200
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await house.record()).state is State.DELIVERED


async def test_slower_of_two_requests_settles_nothing() -> None:
    """A request whose claim was taken over meanwhile cannot settle, and its client is told to come again."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        reached.set()
        await go_on.wait()
        for message in reply():
            await send(message)

    house = House(handler=slow, lease_seconds=60)
    header = await house.credential(V2)
    task = asyncio.create_task(house.visit(headers=[header]))
    await reached.wait()
    house.handler = None
    house.clock.advance(61)
    assert (await house.visit(headers=[header])).status_code == 200
    go_on.set()
    late = await task
    assert (late.status_code, len(house.settler.settlements)) == (503, 1)
    assert (await house.record()).state is State.DELIVERED


# Headers of a paid answer


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([], "private"),
        ([b"public, max-age=60"], "private, max-age=60"),
        ([b"max-age=60", b"s-maxage=600"], "private, max-age=60"),
        ([b"no-store"], "no-store"),
        ([b"private"], "private"),
        ([b"Private, Public, No-Cache"], "private, No-Cache"),
    ],
)
async def test_receipt_is_kept_from_shared_caches(given: list[bytes], sent: str) -> None:
    """`Cache-Control` gains `private` and loses what invites a shared cache; the rest is the application's."""
    house = House()
    house.messages = reply(200, b"", [(b"Cache-Control", value) for value in given])
    assert (await house.pay(MPP)).headers.get_list("cache-control") == [sent]


@pytest.mark.parametrize(
    ("given", "expected"), [([], None), ([b"X-Own"], "X-Own, "), ([b"*"], "*"), ([b"A", b"B"], "A, B, ")]
)
async def test_receipt_may_be_read_by_scripts(given: list[bytes], expected: str | None) -> None:
    """`Access-Control-Expose-Headers` is added to, in one line."""
    house = House()
    house.messages = reply(200, b"", [(b"access-control-expose-headers", value) for value in given])
    (exposed,) = (await house.pay(V2)).headers.get_list("access-control-expose-headers")
    assert exposed == "*" if expected == "*" else exposed.startswith(expected or "WWW-Authenticate")
    assert exposed == "*" or "PAYMENT-RESPONSE" in exposed


@every_protocol
async def test_both_receipts(protocol: Protocol) -> None:
    """A setting gives x402 payers MPP's receipt as well."""
    house = House(both_receipts=True)
    answer = await house.pay(protocol)
    receipt = mpp_wire.decode_receipt(answer.headers["payment-receipt"])
    assert (receipt.reference, receipt.chain_id) == (house.settler.settlements[0].transaction, 84532)
    assert (receipt.challenge_id is None) is (protocol is not MPP)
    assert RECEIPT_HEADER[protocol] in answer.headers


async def test_redirect_has_no_second_receipt_either() -> None:
    """`both_receipts` gives MPP's on a 2xx only."""
    house = House(both_receipts=True)
    house.messages = reply(302, b"")
    answer = await house.pay(V1)
    assert "payment-receipt" not in answer.headers
    assert "x-payment-response" in answer.headers


# Keys


async def test_old_key_is_still_accepted_and_a_dropped_one_is_not() -> None:
    """Secrets rotate: the first signs, all are accepted."""
    new = b"a newer secret of the tests, also long enough"
    old_house = House()
    header = await old_house.credential(MPP)
    assert (await House(secret_keys=[new, KEY]).visit(headers=[header])).status_code == 200
    assert (await House(secret_keys=[new]).visit(headers=[header])).problem == "invalid-challenge"
    rotated = await House(secret_keys=[new, KEY]).credential(MPP)
    assert (await House(secret_keys=[new]).visit(headers=[rotated])).status_code == 200
