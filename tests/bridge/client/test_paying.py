"""What a client pays, in which protocol, and what it tells of it; over the whole of httpx, against our own gate."""

import base64
import json
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from bridge.client import BodyTooLong, NothingPayable, OutcomeState, outcome_of
from tests.bridge.client.shop import PAYER, PRICE, URL, Script, a_402, aclient, client, nonces, wallet, without
from tests.bridge.harness import MPP, PROTOCOLS, V1, V2, House
from translators.payment import Protocol

pytestmark = pytest.mark.anyio


def transport(house: House) -> httpx.ASGITransport:
    return httpx.ASGITransport(house.app)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_pays_in_each_protocol_and_tells_what_was_paid(protocol: Protocol) -> None:
    """The price once, the answer whole, and the receipt's own transaction."""
    house = House()
    purse = wallet(now=house.clock, protocols=[protocol])
    async with aclient(transport(house), purse) as shopper:
        answer = await shopper.get(URL)
    outcome = outcome_of(answer)
    (settled,) = house.settler.settlements
    assert outcome is not None
    assert (answer.status_code, answer.text, house.runs) == (200, "the report", 1)
    assert (outcome.state, outcome.delivered, outcome.protocol) == (OutcomeState.PAID, True, protocol)
    assert (outcome.amount, outcome.payer, outcome.transaction) == (PRICE, PAYER.address, settled.transaction)
    assert outcome.payment_id == settled.payment_id
    assert outcome.problem is None
    assert len(nonces(purse)) == 1


@pytest.mark.parametrize("order", [(MPP, V2, V1), (V1, MPP), (V2, V1, MPP)])
async def test_the_wallet_says_what_it_likes_best(order: tuple[Protocol, ...]) -> None:
    """Of a 402 that offers everything, the first of its protocols is taken."""
    house = House()
    async with aclient(transport(house), wallet(now=house.clock, protocols=order)) as shopper:
        assert outcome_of(await shopper.get(URL)).protocol is order[0]  # type: ignore[union-attr]


@pytest.mark.parametrize("offered", [[V1], [V2], [MPP]])
async def test_pays_whatever_is_offered(offered: list[Protocol]) -> None:
    """v1-only, v2-only and MPP-only servers are all paid by the same wallet."""
    house = House(protocols=offered)
    async with aclient(transport(house), wallet(now=house.clock)) as shopper:
        answer = await shopper.get(URL)
    assert outcome_of(answer).protocol is offered[0]  # type: ignore[union-attr]


def test_a_synchronous_client_pays_as_well() -> None:
    """The same flow, without a loop."""
    import anyio

    asked = anyio.run(a_402)
    server = Script(lambda request, n: asked if n == 1 else httpx.Response(200, text="the report"))
    purse = wallet(now=lambda: 1_900_000_000.0)
    with client(server, purse) as shopper:
        answer = shopper.get(URL)
    assert answer.text == "the report"
    outcome = outcome_of(answer)
    assert outcome is not None
    assert (outcome.state, outcome.problem) == (OutcomeState.PAID, "the server gave no receipt")
    assert len(nonces(purse)) == 1


async def test_what_is_free_is_left_alone() -> None:
    """No signature, no outcome, one request."""
    server = Script(lambda request, n: httpx.Response(200, text="free"))
    purse = wallet()
    async with aclient(server, purse) as shopper:
        answer = await shopper.get(URL)
    assert (answer.text, outcome_of(answer), nonces(purse), len(server.requests)) == ("free", None, [], 1)


async def test_a_402_in_nobodys_protocol_is_the_callers() -> None:
    """Some servers used 402 before any of the protocols."""
    server = Script(lambda request, n: httpx.Response(402, json={"message": "subscribe"}))
    async with aclient(server, wallet()) as shopper:
        assert (await shopper.get(URL)).status_code == 402


async def test_what_cannot_be_paid_is_told_with_its_reason() -> None:
    """An MPP method that is not evm, an x402 scheme that is not exact."""
    required = {"x402Version": 2, "accepts": [{"scheme": "upto", "network": "eip155:1"}]}
    challenge = 'Payment id="a", realm="r", method="tempo", intent="charge", request="e30"'
    headers = {"www-authenticate": challenge, "payment-required": base64.b64encode(json.dumps(required).encode())}
    server = Script(lambda request, n: httpx.Response(402, headers=headers))  # type: ignore[arg-type]
    async with aclient(server, wallet()) as shopper:
        with pytest.raises(NothingPayable) as said:
            await shopper.get(URL)
    assert "tempo/charge is not an evm charge" in str(said.value)
    assert "x402-v2:" in str(said.value)


async def test_challenges_are_read_folded_and_among_others() -> None:
    """A proxy has made one line of two challenges and a Basic one, and a bad line stands beside them."""
    house = House({"GET /report": ["0.02", "0.01"]})
    answer = await house.visit()
    lines = answer.headers.get_list("www-authenticate")
    folded = 'Basic realm="x", ' + ", ".join(lines)
    kept = [("www-authenticate", 'Payment id="'), ("www-authenticate", folded)]
    server = Script(lambda request, n: httpx.Response(402, headers=kept) if n == 1 else httpx.Response(200))
    purse = wallet(now=house.clock, max_amount="0.015")
    async with aclient(server, purse) as shopper:
        outcome = outcome_of(await shopper.get(URL))
    assert outcome is not None
    assert outcome.amount == 10_000


async def test_an_expired_challenge_is_asked_for_again() -> None:
    """A cache's 402 is not paid; the next one is."""
    house = House(protocols=[MPP])
    old, new = await house.visit(), None
    house.clock.advance(400)
    new = await house.visit()
    answers = {1: old, 2: new}
    server = Script(lambda request, n: _copy(answers[n]) if n < 3 else httpx.Response(200))
    async with aclient(server, wallet(now=house.clock)) as shopper:
        assert (await shopper.get(URL)).status_code == 200
    assert (len(server.requests), len(server.credentials)) == (3, 1)


def _copy(answer: httpx.Response) -> httpx.Response:
    return httpx.Response(answer.status_code, headers=answer.headers.multi_items(), content=answer.content)


async def test_bodies_are_sent_again_whole() -> None:
    """Bytes, and a stream, which is kept; a challenge that is bound to the body is answered for it."""
    house = House({"POST /report": "0.01"}, protocols=[MPP])
    bodies: list[bytes] = []

    async def echo(scope: object, receive, send) -> None:  # type: ignore[no-untyped-def]
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    house.handler = echo

    async def parts() -> AsyncIterator[bytes]:
        yield b'{"a":'
        yield b"1}"

    json_type = {"content-type": "application/json"}
    async with aclient(transport(house), wallet(now=house.clock)) as shopper:
        assert (await shopper.post(URL, json={"a": 2})).text == '{"a":2}'
        assert (await shopper.post(URL, content=parts(), headers=json_type)).text == '{"a":1}'
    assert len(house.settler.settlements) == 2


def test_a_stream_that_is_too_long_to_keep_is_refused_before_it_is_sent() -> None:
    """Nothing reaches the server, and the message says what to do."""
    server = Script(lambda request, n: httpx.Response(200))

    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    with client(server, wallet(max_body_bytes=1000)) as shopper:
        with pytest.raises(BodyTooLong, match="give the body as bytes"):
            shopper.post(URL, content=parts())
        with pytest.raises(BodyTooLong):
            shopper.post(URL, content=parts(), headers={"content-length": "10000"})
        assert server.requests == []
        assert shopper.post(URL, content=b"x" * 5000).status_code == 200


async def test_a_paid_answer_streams() -> None:
    """Only a 402 is read by the client itself."""
    house = House()
    async with (
        aclient(transport(house), wallet(now=house.clock)) as shopper,
        shopper.stream("GET", URL) as answer,
    ):
        assert not answer.is_stream_consumed
        assert [part async for part in answer.aiter_bytes()] == [b"the report"]


async def test_unsafe_methods_carry_one_idempotency_key() -> None:
    """The same on the way without and with payment; the caller's own is kept; GET carries none."""
    asked = await a_402({"/report": "0.01"})
    server = Script(lambda request, n: _copy(asked) if n % 2 else httpx.Response(200))
    purse = wallet(now=lambda: 1_900_000_000.0, protocols=[V2])
    async with aclient(server, purse) as shopper:
        await shopper.post(URL)
        await shopper.post(URL, headers={"idempotency-key": "mine-is-sixteen-long"})
        await shopper.get(URL)
    keys = [request.headers.get("idempotency-key") for request in server.requests]
    assert keys[0] == keys[1] != keys[2] == keys[3] == "mine-is-sixteen-long"
    assert keys[4:] == [None, None]


async def test_a_server_that_listens_for_an_identifier_gets_it() -> None:
    """x402's payment-identifier: the echo, and the client's id in it."""
    asked = await a_402(payment_identifier=True)
    server = Script(lambda request, n: _copy(asked) if n == 1 else httpx.Response(200))
    async with aclient(server, wallet(now=lambda: 1_900_000_000.0, protocols=[V2])) as shopper:
        await shopper.get(URL)
    payload = json.loads(base64.b64decode(server.credentials[0]))
    assert len(payload["extensions"]["payment-identifier"]["info"]["id"]) >= 16


async def test_a_callers_own_authorization_is_not_overwritten() -> None:
    """MPP's credential belongs in the same header: the payment goes in another protocol, or nowhere."""
    asked = await a_402()
    only_mpp = without(asked, V1, V2)
    answers = iter([_copy(asked), httpx.Response(200), only_mpp])
    server = Script(lambda request, n: next(answers))
    async with aclient(server, wallet(now=lambda: 1_900_000_000.0)) as shopper:
        answer = await shopper.get(URL, headers={"authorization": "Bearer abc"})
        assert outcome_of(answer).protocol is V2  # type: ignore[union-attr]
        assert server.requests[1].headers["authorization"] == "Bearer abc"
        with pytest.raises(Exception, match="Authorization of its own"):
            await shopper.get(URL, headers={"authorization": "Bearer abc"})


async def test_another_credential_header_is_used_where_the_challenge_names_it() -> None:
    """`Payment-Authorization`, beside the caller's own `Authorization`."""
    house = House(protocols=[MPP], credential_header="Payment-Authorization")
    async with aclient(transport(house), wallet(now=house.clock)) as shopper:
        answer = await shopper.get(URL, headers={"authorization": "Bearer abc"})
    assert answer.status_code == 200


async def test_a_caller_who_pays_himself_is_left_alone() -> None:
    """A request with a credential goes out as it is, and its 402 comes back as it is."""
    asked = await a_402()
    server = Script(lambda request, n: _copy(asked))
    purse = wallet()
    async with aclient(server, purse) as shopper:
        for name, value in (("X-PAYMENT", "x"), ("authorization", "Payment abc")):
            assert (await shopper.get(URL, headers={name: value})).status_code == 402
    assert (len(server.requests), nonces(purse)) == (2, [])
