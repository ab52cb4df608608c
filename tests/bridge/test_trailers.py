"""Trailers: which go on, and what a paid answer that has some does with them."""

from typing import Any

import pytest

from bridge.stores.base import StoredResponse
from bridge.trailers import (
    MAX_BYTES,
    MAX_FIELDS,
    REQUEST,
    RESPONSE,
    Collected,
    announcement,
    passable,
    request_trailers,
    takes_trailers,
)
from tests.bridge.harness import MPP, PROTOCOLS, House, Message, scope_of, visit_raising
from translators.payment import Protocol

OFFERED = {"extensions": {RESPONSE: {}}}

PASSES = [
    *(b"X-Checksum", b"grpc-status", b"Grpc-Message", b"Server-Timing", b"ETag", b"Digest", b"Content-Digest"),
    *(b"repr-digest", b"signature", b"link", b"authentication-info", b"x-pay", b"expires-in"),
]
STOPS = [
    # how a message is framed, and what is for one hop
    *(b"Content-Length", b"transfer-encoding", b"Trailer", b"TE", b"Connection", b"keep-alive", b"Upgrade"),
    # where it goes
    *(b"Host", b"max-forwards", b"Forwarded", b"x-forwarded-for", b"X-Real-IP", b"via"),
    # who sends it
    *(b"Authorization", b"www-authenticate", b"proxy-authorization", b"cookie", b"set-cookie"),
    # how it is processed
    *(b"Cache-Control", b"expect", b"range", b"If-Match", b"accept-encoding", b"idempotency-key"),
    *(b"content-type", b"Content-Encoding", b"content-range", b"content-disposition"),
    # what is to be made of the answer
    *(b"Age", b"date", b"expires", b"location", b"retry-after", b"vary", b"Access-Control-Allow-Origin"),
    # a payment, and all about it
    *(b"X-Payment", b"PAYMENT-SIGNATURE", b"payment-required", b"Payment-Response", b"X-PAYMENT-RESPONSE"),
    *(b"payment-receipt", b"Payment-Authorization", b"x-payment-required", b"Accept-Payment"),
    # no name at all
    *(b"", b"x y", b"x:y", b"x\r\ny", b":path", b"caf\xe9"),
]


@pytest.mark.parametrize("name", PASSES)
def test_what_is_about_the_body_passes(name: bytes) -> None:
    """Byte for byte, however often it comes."""
    fields = [(name, b"1"), (name, b"caf\xe9\t2")]
    assert passable(fields) == fields
    assert announcement([(b"Trailer", name)]) == [(b"trailer", name)]


@pytest.mark.parametrize("name", STOPS)
def test_what_would_lead_its_reader_stops(name: bytes) -> None:
    """RFC 9110, section 6.5.1; it is not announced either."""
    assert passable([(b"x-a", b"1"), (name, b"2")]) == [(b"x-a", b"1")]
    assert announcement([(b"trailer", name)]) == []


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b", b"\x7f"])
def test_a_trailer_is_one_line(value: bytes) -> None:
    """Nothing becomes a field of its own."""
    assert passable([(b"x-a", value)]) == []


def test_what_connection_names_is_for_the_next_hop() -> None:
    """RFC 9110, section 7.6.1: a trailer like a header."""
    assert passable([(b"X-Hop", b"1"), (b"x-b", b"2")], {b"x-hop"}) == [(b"x-b", b"2")]


def test_an_announcement_keeps_what_comes() -> None:
    """Of several lines as well; there is none where nothing of it goes on."""
    told = [(b"Trailer", b"X-A, Content-Length,, x-b"), (b"x", b"1"), (b"trailer", b"grpc-status , X-PAYMENT")]
    assert announcement(told) == [(b"trailer", b"X-A, x-b, grpc-status")]
    assert announcement([(b"x", b"1")]) == []


def test_trailers_are_bounded() -> None:
    """In number, and in size."""
    collected = Collected()
    for number in range(MAX_FIELDS):
        collected.add(b"x", b"%d" % number)
    with pytest.raises(ValueError, match="trailers"):
        collected.add(b"x", b"1")
    collected = Collected()
    collected.add(b"x", b"y" * (MAX_BYTES - 5))
    with pytest.raises(ValueError, match="trailers"):
        collected.add(b"", b"")


def test_what_a_server_offers() -> None:
    """As ASGI has its extensions; a server that has none has nothing to show either."""
    fields = [(b"x-a", b"1")]
    assert takes_trailers(scope_of(**OFFERED))
    assert not takes_trailers(scope_of(extensions=None))
    assert not takes_trailers(scope_of())
    assert not takes_trailers(scope_of() | OFFERED | {"type": "websocket"})
    assert request_trailers(scope_of(extensions={REQUEST: {"headers": fields}})) is fields
    assert request_trailers(scope_of()) == []


# A paid answer


def trailing(*, ends: bool = True) -> list[Message]:
    """An answer with trailers, in two messages."""
    messages: list[Message] = [
        {"type": "http.response.start", "status": 200, "headers": [(b"trailer", b"x-a")], "trailers": True},
        {"type": "http.response.body", "body": b"the report", "more_body": False},
        {"type": "http.response.trailers", "headers": [(b"x-a", b"1")], "more_trailers": True},
    ]
    if ends:
        messages.append({"type": "http.response.trailers", "headers": [(b"x-b", b"2")], "more_trailers": False})
    return messages


@pytest.mark.anyio
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_paid_answer_ends_with_its_trailers(protocol: Protocol) -> None:
    """They go out as the application made them, and only then is it delivered."""
    house = House()
    delivered: list[bool] = []

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        for message in trailing():
            await send(message)
            delivered.append("payment.delivered" in house.events)

    house.handler = handler
    answer = await house.visit(headers=[await house.credential(protocol)], **OFFERED)
    assert [message["type"].rpartition(".")[2] for message in answer.messages] == [
        *("start", "body", "trailers", "trailers")
    ]
    assert answer.messages[0]["trailers"]
    assert answer.messages[2:] == trailing()[2:]
    assert delivered == [False, False, False, True]


@pytest.mark.anyio
async def test_an_answer_that_ends_before_its_trailers_is_not_delivered() -> None:
    """The server breaks it off, and the same credential may ask again."""
    house = House()
    house.messages = trailing(ends=False)
    await house.visit(headers=[await house.credential(MPP)], **OFFERED)
    assert house.events[-1] == "payment.undelivered"


@pytest.mark.anyio
async def test_trailers_that_the_server_does_not_take_change_nothing() -> None:
    """An application that sends them all the same is told so by its server; its answer was delivered before."""
    house = House()

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        for message in trailing()[:2]:
            await send(message)
        raise RuntimeError("no trailers here")

    house.handler = handler
    _, error = await visit_raising(house.app, headers=[await house.credential(MPP)])
    assert str(error) == "no trailers here"
    assert house.events[-1] == "payment.delivered"


@pytest.mark.anyio
async def test_a_kept_answer_has_its_trailers_again() -> None:
    """In chunks, as it had them; without them for whoever comes through a server that has none, and to HEAD."""
    house = House()
    house.messages = trailing()
    house.messages[0]["headers"] = [(b"trailer", b"x-a"), (b"content-type", b"text/plain")]
    credential = await house.credential(MPP)
    await house.visit(headers=[credential], **OFFERED)
    again = await house.visit(headers=[credential], **OFFERED)
    start, body, trailers = again.messages
    assert (start["trailers"], body["body"], body["more_body"]) == (True, b"the report", False)
    assert (b"trailer", b"x-a, x-b") in start["headers"]
    assert trailers["headers"] == [(b"x-a", b"1"), (b"x-b", b"2")]
    assert not trailers["more_trailers"]
    plain = await house.visit(headers=[credential])
    assert [message["type"] for message in plain.messages] == ["http.response.start", "http.response.body"]
    assert "trailer" not in plain.headers
    assert (house.runs, plain.text) == (1, "the report")


@pytest.mark.anyio
async def test_trailers_count_for_what_is_kept() -> None:
    """An answer is as long as all of it."""
    house = House(replay_bytes=1000)
    house.messages = trailing()
    house.messages[2]["headers"] = [(b"x-a", b"a" * 1000)]
    credential = await house.credential(MPP)
    assert (await house.visit(headers=[credential], **OFFERED)).status_code == 200
    assert (await house.visit(headers=[credential], **OFFERED)).status_code == 402


def test_an_answer_that_was_kept_before_there_were_trailers_is_read() -> None:
    """A store outlives its servers."""
    assert StoredResponse(200, [], b"", "f", "p", 1.0).trailers == []
