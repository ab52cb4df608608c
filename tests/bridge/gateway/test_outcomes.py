"""What becomes of a payment that was passed on: refused, failed, lost, served without a receipt, asked for again."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx
import msgspec
import pytest

from bridge.settlers.base import Fate, Found
from tests.bridge.gateway.lab import (
    MPP,
    PROTOCOLS,
    RECEIPT,
    V1,
    V2,
    Lab,
    Server,
    gateway_before,
    lab,
    mpp_challenges,
    running,
    serve_paid,
    transaction_of,
    until,
)
from translators.encoding import b64_encode
from translators.errors import Unavailable
from translators.payment import Protocol
from translators.wire import x402_v1, x402_v2

pytestmark = pytest.mark.anyio

OTHER = {MPP: 2, V1: 2, V2: 1}
"""For each client, the version of an upstream that it cannot pay by itself."""


def answering(status: int, headers: list[tuple[bytes, bytes]] | None = None, body: bytes = b"its own words") -> Any:
    """An upstream that answers a good payment so, and settles nothing."""

    async def answer(server: Server, scope: Any, receive: Any, send: Any) -> None:
        await server.reply(send, status, body, headers or [(b"x-own", b"yes")])

    return answer


def refusing(reason: str | None, *, receipt: bool, settles: bool = False) -> Any:
    """An upstream that answers 402 to a good payment; it may have settled it all the same."""

    async def refuse(server: Server, scope: Any, receive: Any, send: Any) -> None:
        assert server.authorization is not None
        if settles:
            server.settled[server.authorization.id] = server.authorization
        server.headers_402 = server.receipt(success=False, reason=reason) if receipt else []
        await server.ask(scope, send, reason)

    return refuse


async def silent(server: Server, scope: Any, receive: Any, send: Any) -> None:
    """Settles, and never answers."""
    server.receipt()
    await asyncio.sleep(60)


async def state_of(at: Lab) -> str:
    (row,) = at.rows()
    return str(row.state)


@pytest.mark.parametrize("client", PROTOCOLS)
async def test_a_refusal_gives_the_claim_back_and_asks_again(client: Protocol) -> None:
    """402 with the upstream's reason, a fresh challenge in all protocols, and no receipt of a success."""
    async with lab(Server([OTHER[client]], paid=refusing("insufficient_funds", receipt=True))) as at:
        answer = await at.pay(client)
        assert answer.status_code == 402
        assert answer.json()["error"] == "insufficient_funds"
        assert len(mpp_challenges(answer)) == 1
        assert x402_v1.decode_payment_required(answer.content).accepts
        assert x402_v2.decode_payment_required(answer.headers["payment-required"]).accepts
        assert await state_of(at) == "released"
        assert at.event("payment.rejected")["reason"] == "insufficient_funds"
        match client:
            case Protocol.X402_V1:
                assert not x402_v1.decode_settlement_response(answer.headers[RECEIPT[V1]]).success
            case Protocol.X402_V2:
                assert not x402_v2.decode_settlement_response(answer.headers[RECEIPT[V2]]).success
            case Protocol.MPP:
                assert RECEIPT[MPP] not in answer.headers


@pytest.mark.parametrize(
    ("reason", "receipt", "certain"),
    [
        ("insufficient_funds", True, True),
        ("invalid_exact_evm_payload_signature", True, True),
        ("unexpected_settle_error", True, False),
        ("settlement_timeout", True, False),
        ("invalid_transaction_state", True, False),
        ("invalid_exact_evm_nonce_already_used", True, False),
        (None, True, False),
        ("No matching payment requirements", False, True),
        ("invalid_exact_evm_payload_signature", False, True),
        ("Settlement failed: timed out", False, False),
        ("authorization_used", False, False),
    ],
)
async def test_a_402_is_a_refusal_only_where_nothing_can_have_moved(
    reason: str | None, receipt: bool, certain: bool
) -> None:
    """Servers say 402 when they lose sight of a settlement too: then no challenge comes, and the claim stays."""
    async with lab(Server([2], paid=refusing(reason, receipt=receipt))) as at:
        answer = await at.pay(MPP)
        assert (answer.status_code, await state_of(at)) == ((402, "released") if certain else (503, "unknown"))
        assert bool(answer.headers.get_list("www-authenticate")) == certain
        assert ("retry-after" in answer.headers) == (not certain)
        assert "payment-required" not in answer.headers or certain


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("status", [301, 404, 422])
async def test_what_settles_nothing_is_shown_and_costs_nothing(client: Protocol, status: int) -> None:
    """The upstream's own words, without a receipt; the same credential can be used again."""
    async with lab(Server([OTHER[client]], paid=answering(status))) as at:
        header, value = await at.credential(client)
        answer = await at.client.get("/report", headers={header: value})
        assert (answer.status_code, answer.text, answer.headers["x-own"]) == (status, "its own words", "yes")
        assert await state_of(at) == "released"
        at.server.on_paid = Server().on_paid
        assert (await at.client.get("/report", headers={header: value})).status_code == 200
        assert len(at.server.settled) == 1


@pytest.mark.parametrize("client", PROTOCOLS)
async def test_an_error_of_the_upstream_is_shown_and_leaves_the_outcome_open(client: Protocol) -> None:
    """A 500 may come before, in or after the settlement: the claim stays, and the same credential goes on again."""
    async with lab(Server([OTHER[client]], paid=answering(500))) as at:
        header, value = await at.credential(client)
        answer = await at.client.get("/report", headers={header: value})
        assert (answer.status_code, answer.text) == (500, "its own words")
        assert await state_of(at) == "unknown"
        at.server.on_paid = Server().on_paid
        assert (await at.client.get("/report", headers={header: value})).status_code == 200
        assert await state_of(at) == "delivered"


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("how", ["timeout", "reset", 502, 503, 504])
async def test_no_answer_is_an_unknown_outcome(client: Protocol, how: str | int) -> None:
    """503 with Retry-After and no challenge; the claim stays, and the same credential is passed on again."""

    scripts = {"timeout": silent, "reset": _breaking}
    script = scripts[how] if isinstance(how, str) else answering(how)
    async with lab(Server([OTHER[client]], paid=script), timeout=0.5) as at:
        header, value = await at.credential(client)
        answer = await at.client.get("/report", headers={header: value})
        assert answer.status_code == 503
        assert answer.json()["type"].endswith("payment-outcome-unknown")
        assert int(answer.headers["retry-after"]) > 0
        assert not {"www-authenticate", "payment-required", "x-payment-required"} & set(answer.headers)
        assert await state_of(at) == "unknown"
        assert "payment.unknown" in at.events
        at.server.settled.clear()
        at.server.on_paid = Server().on_paid
        again = await at.client.get("/report", headers={header: value})
        assert again.status_code == 200
        assert len(at.server.settled) == 1


async def _breaking(server: Server, scope: Any, receive: Any, send: Any) -> None:
    """Breaks the connection off before it says anything."""
    server.receipt()
    send.__self__.transport.abort()


async def test_nothing_is_lost_where_the_upstream_is_not_there() -> None:
    """Nothing was sent: 503, the claim is given back, and the same credential pays once it is there again."""
    server = Server([2])
    async with AsyncExitStack() as while_up:
        url = server.url = await while_up.enter_async_context(running(server))
        async with gateway_before({"/": url}, server) as at:
            header, value = await at.credential(MPP)
            await while_up.aclose()
            answer = await at.client.get("/report", headers={header: value})
            assert answer.status_code == 503
            assert await state_of(at) == "released"
            async with running(server, port=httpx.URL(url).port or 0):
                assert (await at.client.get("/report", headers={header: value})).status_code == 200


@pytest.mark.parametrize("client", PROTOCOLS)
async def test_a_success_without_a_receipt_is_delivered_without_one(client: Protocol) -> None:
    """No receipt is made up, the payment is used, and the events say that nobody confirmed it."""
    async with lab(Server([OTHER[client]], paid=answering(200))) as at:
        answer = await at.pay(client)
        assert (answer.status_code, answer.text) == (200, "its own words")
        assert not set(RECEIPT.values()) & set(answer.headers)
        assert at.event("payment.settled")["unconfirmed"] is True
        assert await state_of(at) == "delivered"


async def test_a_failed_answer_to_a_settled_payment_says_that_it_was_settled() -> None:
    """An x402 client hears of it in its receipt, MPP's has none for an error; the same credential may ask again."""

    async def settle_and_fail(server: Server, scope: Any, receive: Any, send: Any) -> None:
        await server.reply(send, 500, b"broken", server.receipt())

    for client in PROTOCOLS:
        async with lab(Server([OTHER[client]], paid=settle_and_fail)) as at:
            answer = await at.pay(client)
            assert (answer.status_code, answer.text) == (500, "broken")
            assert (RECEIPT[client] in answer.headers) == (client is not MPP)
            assert await state_of(at) == "settled"
            assert at.event("payment.undelivered")["status"] == 500


async def test_a_paid_answer_is_given_again_to_the_same_request() -> None:
    """Without asking the upstream again, and to nobody else."""
    async with lab(Server([2])) as at:
        header, value = await at.credential(MPP)
        first = await at.client.get("/report", headers={header: value})
        asked = len(at.server.seen)
        again = await at.client.get("/report", headers={header: value})
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["payment-receipt"] == first.headers["payment-receipt"]
        assert len(at.server.seen) == asked
        other = await at.client.get("/report?day=2", headers={header: value})
        assert other.status_code == 402
        assert len(at.server.settled) == 1


async def test_one_idempotency_key_is_charged_once() -> None:
    """Two payments of one client for one request: the second is not passed on."""
    async with lab(Server([2])) as at:
        key = {"idempotency-key": "one"}
        answers = [await at.pay(MPP, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert len(at.server.settled) == 1


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("other", [True, False])
async def test_a_key_whose_payment_was_not_served_does_not_pay_again(client: Protocol, other: bool) -> None:
    """The first payment was settled and its answer failed; its client signs anew under the same key."""
    fails = True

    async def settle(server: Server, scope: Any, receive: Any, send: Any) -> None:
        await server.reply(send, 500 if fails else 200, b"the report", server.receipt())

    version = (OTHER if other else {MPP: 1, V1: 1, V2: 2})[client]
    async with lab(Server([version], paid=settle)) as at:
        key = {"idempotency-key": "one"}
        first = await at.pay(client, headers=key)
        fails = False
        again = await at.pay(client, headers=key)
        assert (first.status_code, len(at.server.settled)) == (500, 1), again.status_code
        assert again.status_code in (409, 502)


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("other", [True, False])
async def test_a_key_whose_answer_is_not_kept_does_not_pay_again(client: Protocol, other: bool) -> None:
    """Served and paid, too long to be kept: a second payment under the same key is refused."""
    version = (OTHER if other else {MPP: 1, V1: 1, V2: 2})[client]
    async with lab(Server([version]), replay_bytes=0) as at:
        key = {"idempotency-key": "one"}
        first = await at.pay(client, headers=key)
        again = await at.pay(client, headers=key)
        assert first.status_code == 200
        assert len(at.server.settled) == 1, again.status_code
        assert again.status_code == 409


@pytest.mark.parametrize(("client", "other"), [(MPP, V2), (V2, MPP)])
async def test_one_authorization_is_one_payment_in_every_envelope(client: Protocol, other: Protocol) -> None:
    """What was paid in one protocol is refused in another: here by the upstream, there by us."""
    from bridge.payers import sign
    from tests.bridge.gateway.lab import PAYER
    from tests.bridge.harness import envelope

    async with lab(Server([2])) as at:
        import time

        asked = await at.ask(MPP)
        payment = sign(asked, PAYER, time.time())
        required = (await at.ask(V2)).required
        both = msgspec.structs.replace(asked, required=required)
        first = await at.client.get("/report", headers=[envelope(payment, both, client)])
        second = await at.client.get("/report", headers=[envelope(payment, both, other)])
        assert (first.status_code, second.status_code) == (200, 402)
        assert len(at.server.settled) == 1


class SeenOnChain:
    """A node that knows what the upstream settled."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def install(self, at: Lab) -> None:
        chain = at.gateway._parts.chain

        async def find_payment(payment: Any) -> Found:
            return self._found(payment.id)

        async def find(record: Any) -> Found:
            return self._found(record.id)

        async def prove(payment: Any, unknown: Exception) -> str:
            found = self._found(payment.id)
            if found.transaction is None:
                raise unknown
            return found.transaction

        chain.find_payment = find_payment  # type: ignore[method-assign]
        chain.find = find  # type: ignore[method-assign]
        chain.prove = prove  # type: ignore[method-assign]

    def _found(self, payment_id: str) -> Found:
        paid = self._server.settled.get(payment_id)
        return Found(Fate.PAID, 1, 0, transaction_of(paid)) if paid else Found(Fate.UNUSED, 1, 0)


@pytest.mark.parametrize("client", PROTOCOLS)
async def test_a_chain_that_was_away_for_a_moment_costs_that_moment(client: Protocol) -> None:
    """An upstream broke off; the node does not answer when the payer comes back, and answers the next time.

    Then the payment is passed on, not when a lease of a minute is over that nobody holds any more.
    """
    is_away = breaks_off = True

    async def serve(server: Server, scope: Any, receive: Any, send: Any) -> None:
        if breaks_off:
            send.__self__.transport.abort()
        else:
            await serve_paid(server, scope, receive, send)

    server = Server([OTHER[client]], paid=serve)
    async with lab(server) as at:
        SeenOnChain(server).install(at)
        chain = at.gateway._parts.chain
        answers = chain.find

        async def find(record: Any) -> Any:
            if is_away:
                raise Unavailable("the chain's node does not answer")
            return await answers(record)

        chain.find = find  # type: ignore[method-assign]
        header, value = await at.credential(client)
        for _ in range(3):
            answer = await at.client.get("/report", headers={header: value})
            assert answer.status_code == 503
            breaks_off = False
            assert (len(server.settled), await state_of(at)) == (0, "unknown")
        is_away = False
        answer = await at.client.get("/report", headers={header: value})
        assert (answer.status_code, len(server.settled)) == (200, 1)


@pytest.mark.parametrize("client", PROTOCOLS)
async def test_paid_and_refused_is_never_a_new_challenge(client: Protocol) -> None:
    """The chain says paid, the upstream says 402: a 502 that says so, and the payment stays to be delivered."""
    server = Server([OTHER[client]], paid=refusing("unexpected_settle_error", receipt=True, settles=True))
    async with lab(server) as at:
        SeenOnChain(server).install(at)
        header, value = await at.credential(client)
        for _ in range(2):
            answer = await at.client.get("/report", headers={header: value})
            assert answer.status_code == 502
            assert answer.json()["type"] == "urn:x402-mpp-bridge:problem:paid-not-served"
            assert not {"www-authenticate", "payment-required", "x-payment-required"} & set(answer.headers)
            assert await state_of(at) == "settled"
        unserved = at.event("payment.unserved")
        assert unserved["transaction"] == transaction_of(*server.settled.values())
        assert (unserved["protocol"], unserved["amount"]) == (client.value, "10000")


async def test_the_chain_gives_the_receipt_that_an_upstream_does_not() -> None:
    """A success without a receipt, and a transaction that the chain knows: that is no invention."""

    async def settle_silently(server: Server, scope: Any, receive: Any, send: Any) -> None:
        server.receipt()
        await server.reply(send, 200, b"served")

    server = Server([2], paid=settle_silently)
    async with lab(server) as at:
        SeenOnChain(server).install(at)
        answer = await at.pay(MPP)
        assert answer.status_code == 200
        assert RECEIPT[MPP] in answer.headers
        assert "unconfirmed" not in at.event("payment.settled")


async def test_an_undecided_receipt_in_a_success_is_not_a_settlement() -> None:
    """`success: false` beside a 200: served for nothing, and the claim goes back."""

    async def serve_free(server: Server, scope: Any, receive: Any, send: Any) -> None:
        receipt = b64_encode(b'{"success":false,"transaction":"","network":"eip155:84532","errorReason":"no"}')
        await server.reply(send, 200, b"served", [(b"payment-response", receipt.encode())])

    async with lab(Server([2], paid=serve_free)) as at:
        answer = await at.pay(MPP)
        assert (answer.status_code, answer.text) == (200, "served")
        assert RECEIPT[MPP] not in answer.headers
        assert await state_of(at) == "released"


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("other", [True, False])
async def test_a_payment_is_sent_once_whatever_breaks(client: Protocol, other: bool) -> None:
    """A kept connection that breaks has no request with a payment sent again; one without may be."""
    version = OTHER[client] if other else {MPP: 2, V1: 1, V2: 2}[client]
    async with lab(Server([version])) as at:
        header, value = await at.credential(client)
        at.server.on_paid = _breaking
        before = len(at.server.seen)
        answer = await at.client.get("/report", headers={header: value})
        assert answer.status_code == 503
        assert sum(seen.paid for seen in at.server.seen[before:]) == 1


async def test_what_pays_nothing_is_sent_again_where_a_kept_connection_broke() -> None:
    """A GET that meets a connection which the upstream is closing."""
    times = 0

    async def once(server: Server, scope: Any, receive: Any, send: Any) -> None:
        nonlocal times
        times += 1
        if times == 2:
            send.__self__.transport.abort()
        else:
            await server.reply(send, 200, b"ok")

    async with lab() as at:
        at.server.free["/free"] = once
        assert [(await at.client.get("/free")).status_code for _ in range(2)] == [200, 200]
        assert times == 3


@pytest.mark.parametrize("length", [[(b"content-length", b"10")], []])
async def test_a_short_answer_is_read_to_its_end_although_its_client_has_left(
    length: list[tuple[bytes, bytes]],
) -> None:
    """It was paid for, and the upstream sells it once: whoever comes back with the same credential gets it."""
    go_on, begun = asyncio.Event(), asyncio.Event()

    async def slowly(server: Server, scope: Any, receive: Any, send: Any) -> None:
        headers = [*server.receipt(), *length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"the r", "more_body": True})
        begun.set()
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"eport"})

    for protocol in (MPP, V2):
        go_on.clear()
        begun.clear()
        async with lab(Server([2], paid=slowly)) as at:
            header, value = await at.credential(protocol)
            host, port = at.url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            agent = at.client.headers["user-agent"]
            head = f"GET /report HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: {agent}\r\n{header}: {value}\r\n\r\n"
            writer.write(head.encode())
            await begun.wait()
            assert (await reader.read(65536)).startswith(b"HTTP/1.1 200")
            writer.transport.abort()
            await asyncio.sleep(0.05)
            go_on.set()
            await until(lambda at=at: at.rows()[0].state in ("delivered", "settled"))
            again = await at.client.get("/report", headers={header: value})
            assert (again.status_code, again.content) == (200, b"the report")
            assert len(at.server.settled) == 1


async def test_a_long_answer_is_not_read_for_a_client_that_has_left() -> None:
    """It could not be kept: the connection to the upstream is let go."""
    let_go = asyncio.Event()

    async def endless(server: Server, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": server.receipt()})
        watched = asyncio.ensure_future(receive())
        while not watched.done():
            await send({"type": "http.response.body", "body": b"x" * 4096, "more_body": True})
            await asyncio.wait({watched}, timeout=0.01)
        let_go.set()

    async with lab(Server([2], paid=endless), timeout=60.0) as at:
        header, value = await at.credential(MPP)
        host, port = at.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /report HTTP/1.1\r\nHost: {host}:{port}\r\n{header}: {value}\r\n\r\n".encode())
        await until(lambda: bool(at.rows()) and at.rows()[0].state == "settled")
        writer.transport.abort()
        await asyncio.wait_for(let_go.wait(), 10)
        await until(lambda: "payment.undelivered" in at.events)


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("other", [True, False])
async def test_a_body_that_is_announced_too_long_costs_no_payment(client: Protocol, other: bool) -> None:
    """Nothing is passed on, so nothing is in doubt, and the same credential is good for a shorter one."""
    version = (OTHER if other else {MPP: 1, V1: 1, V2: 2})[client]
    async with lab(Server([version]), max_body=10, bind_body_bytes=0) as at:
        header, value = await at.credential(client, method="POST")
        answer = await at.client.post("/report", headers={header: value}, content=b"x" * 11)
        assert answer.status_code == 413
        assert not at.rows()
        assert not any(seen.paid for seen in at.server.seen)
        answer = await at.client.post("/report", headers={header: value}, content=b"x" * 10)
        assert answer.status_code == 200
