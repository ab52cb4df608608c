"""The 402: one answer that a client of any of the three generations can pay."""

from typing import Any

import jsonschema
import msgspec
import pytest

from bridge.payers import credential, read_402, sign
from bridge.pricing import Paid
from tests.bridge.harness import (
    MPP,
    PAYER,
    PROTOCOLS,
    V1,
    V2,
    Answer,
    House,
    answer_of,
    envelope,
    receive_of,
    scope_of,
    token_json,
)
from translators.asks import read_asks
from translators.binding import body_digest, parse_time
from translators.errors import AlreadyUsed, SettlementFailed
from translators.payment import Payment, Protocol
from translators.payment_identifier import ADVERTISED
from translators.price import Price
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

pytestmark = pytest.mark.anyio

ADDRESS = {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}
V1_BODY = {
    "type": "object",
    "required": ["x402Version", "accepts"],
    "properties": {
        "x402Version": {"const": 1},
        "error": {"type": "string"},
        "accepts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": [
                    *("scheme", "network", "maxAmountRequired", "asset", "payTo"),
                    *("resource", "description", "maxTimeoutSeconds"),
                ],
                "properties": {
                    "scheme": {"const": "exact"},
                    "network": {"type": "string", "pattern": "^[a-z][a-z-]*$"},
                    "maxAmountRequired": {"type": "string", "pattern": "^[1-9][0-9]*$"},
                    "asset": ADDRESS,
                    "payTo": ADDRESS,
                    "resource": {"type": "string", "format": "uri"},
                    "description": {"type": "string"},
                    "mimeType": {"type": "string"},
                    "outputSchema": {"type": ["object", "null"]},
                    "maxTimeoutSeconds": {"type": "integer", "minimum": 1},
                    "extra": {
                        "type": ["object", "null"],
                        "required": ["name", "version"],
                        "properties": {"name": {"type": "string"}, "version": {"type": "string"}},
                    },
                },
            },
        },
    },
}
"""x402-specification-v1, section 5.1 (PaymentRequirementsResponse), as a JSON schema."""

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"const": 402},
        "detail": {"type": "string"},
    },
}
"""RFC 9457, section 3.1; a problem of ours has all of these."""


def challenges_of(answer: Answer) -> list[mpp_wire.Challenge]:
    return mpp_wire.decode_challenges(answer.headers.get_list("www-authenticate"))


def block_of(answer: Answer) -> int:
    """The bytes of the header block as HTTP/1.1 sends it."""
    status_line = len("HTTP/1.1 402 Payment Required\r\n")
    return status_line + sum(len(name) + len(value) + 4 for name, value in answer.messages[0]["headers"]) + 2


@pytest.mark.parametrize(
    "paid",
    [
        Paid("0.01"),
        Paid("0.01", description="The weather in your town, hour by hour, for a week", mime_type="application/json"),
    ],
)
async def test_header_block_stays_under_4_kib(paid: Paid) -> None:
    """A one-offer 402 fits where servers and proxies stop reading, refused ones included."""
    house = House({"GET /weather/{town}": paid}, public_url="https://api.weather.example.com")
    assert block_of(await house.visit(path="/weather/rothenburg-ob-der-tauber")) < 4096

    def fail(_: Payment) -> None:
        raise SettlementFailed("it reverted")

    house.settler.on_settle = fail
    for protocol in PROTOCOLS:
        answer = await house.pay(protocol, "/weather/rothenburg-ob-der-tauber")
        assert (answer.status_code, block_of(answer) < 4096) == (402, True)


async def test_body_is_a_problem_and_a_v1_challenge() -> None:
    """One JSON body is both, unpaid and refused."""
    house = House({"GET /report": Paid("0.01", description="a report", mime_type="text/plain")})
    for headers in ([], [("X-PAYMENT", "e30")], [("Authorization", "Payment !")]):
        answer = await house.visit(headers=headers)
        body = answer.json()
        jsonschema.validate(body, V1_BODY, format_checker=jsonschema.FormatChecker())
        if answer.status_code == 402:
            jsonschema.validate(body, PROBLEM, format_checker=jsonschema.FormatChecker())
            assert answer.headers["content-type"] == "application/problem+json"
            assert body["type"].startswith("https://paymentauth.org/problems/")
        assert int(dict(answer.messages[0]["headers"])[b"content-length"]) == len(answer.content)


async def test_first_header_is_the_challenge_and_its_scheme_is_spelt_payment() -> None:
    """Some parsers look no further than the first line, and compare its scheme byte by byte."""
    answer = await House().visit()
    name, value = answer.messages[0]["headers"][0]
    assert (name, value[:8]) == (b"www-authenticate", b"Payment ")


async def test_x_payment_required_is_the_v1_body_in_base64() -> None:
    """Wallets that read the header find what the body says."""
    house = House()
    answer = await house.visit()
    in_header = token_json(("X", answer.headers["x-payment-required"]))
    assert in_header == {name: answer.json()[name] for name in ("x402Version", "error", "accepts")}


async def test_the_three_challenges_ask_the_same() -> None:
    """Whoever reads whichever, the terms are equal."""
    answer = await House({"GET /report": Paid("0.01", description="a report")}).visit()
    offers = [read_402(answer, protocol).offer for protocol in PROTOCOLS]
    terms = {(o.amount, o.recipient, o.asset.address, o.asset.chain_id, o.asset.name, o.asset.version) for o in offers}
    assert len(terms) == 1
    (challenge,) = challenges_of(answer)
    assert (challenge.method, challenge.intent, challenge.description) == ("evm", "charge", "a report")


async def test_several_offers_are_several_lines() -> None:
    """One `WWW-Authenticate` line an offer, each with an id of its own; each can be paid, and pays once."""
    house = House({"GET /report": ["0.01", Price("0.02", network="base"), Price("0.03", network="eip155:42220")]})
    answer = await house.visit()
    challenges = challenges_of(answer)
    assert len(answer.headers.get_list("www-authenticate")) == len({c.id for c in challenges}) == 3
    requests = [mpp_wire.decode_charge_request(c.request) for c in challenges]
    assert [(r.amount, r.method_details.chain_id) for r in requests] == [
        ("10000", 84532),
        ("20000", 8453),
        ("30000", 42220),
    ]
    assert len(x402_v2.decode_payment_required(answer.headers["payment-required"]).accepts) == 3
    # v1 has no name for Celo: that offer is not in its list, which one unknown name would spoil.
    assert [entry["network"] for entry in answer.json()["accepts"]] == ["base-sepolia", "base"]


async def test_offer_that_v1_cannot_name_is_payable_in_the_others() -> None:
    """A network without a v1 name leaves `accepts` empty, and the body valid."""
    house = House({"GET /report": "0.01"}, network="eip155:42220")
    answer = await house.visit()
    jsonschema.validate(answer.json(), V1_BODY)
    assert answer.json()["accepts"] == []
    for protocol in (V2, MPP):
        assert (await house.pay(protocol)).status_code == 200


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_second_offer_can_be_paid_in_every_protocol(order: tuple[int, int]) -> None:
    """v1 names no token and no entry: the terms tell which offer was meant."""
    prices = ["0.01", Price("0.02", network="base")]
    house = House({"GET /report": [prices[i] for i in order]})
    for protocol in PROTOCOLS:
        answer = await house.visit()
        asks = read_asks(answer.headers.multi_items(), answer.content).asks
        second = [asked for asked in asks if asked.protocol is protocol][1]
        paid = await house.visit(headers=[credential(second, PAYER, house.clock())])
        assert paid.status_code == 200, protocol
        assert house.settler.settlements[-1].chain_id == (8453 if order == (0, 1) else 84532)


@pytest.mark.parametrize(
    ("wish", "lines"),
    [
        ("evm/charge", 2),
        ("evm/*;q=0.1", 2),
        ("*/*", 2),
        # Nothing would be left, or the header cannot be read: then it is as if it was not there.
        ("tempo/charge, stripe/*;q=0.5", 2),
        ("evm/charge;q=0", 2),
        ("!!", 2),
        ("", 2),
        ("x" * 9000, 2),
    ],
)
async def test_accept_payment(wish: str, lines: int) -> None:
    """`Accept-Payment` filters and orders; a client that rules everything out is asked all the same."""
    house = House({"GET /report": ["0.01", "0.02"]})
    answer = await house.visit(headers=[("Accept-Payment", wish)])
    assert (answer.status_code, len(challenges_of(answer))) == (402, lines)


HALVES = {
    V1: ("x-payment-required",),
    V2: ("payment-required",),
    MPP: ("www-authenticate",),
}


@pytest.mark.parametrize("spoken", [{V1}, {V2}, {MPP}, {V1, V2}, {V2, MPP}, {V1, MPP}])
async def test_protocols_can_be_switched_off_by_route(spoken: set[Protocol]) -> None:
    """What is off is neither offered nor taken; what is on works as ever."""
    paid = Paid("0.01", protocols=[protocol.value for protocol in spoken])
    house = House({"GET /report": paid, "GET /all": "0.01"})
    answer = await house.visit()
    for protocol, names in HALVES.items():
        assert all((name in answer.headers) is (protocol in spoken) for name in names)
    assert ("accepts" in answer.json()) is (V1 in spoken)
    for protocol in PROTOCOLS:
        asked = await house.ask(protocol, path="/all")
        given = await house.visit(headers=[envelope(sign(asked, PAYER, house.clock()), asked)])
        if protocol in spoken and protocol is V1:
            # v1 binds nothing to a route.
            assert given.status_code == 200
        elif protocol not in spoken:
            assert (given.problem, given.status_code) == ("method-unsupported", 400 if protocol is MPP else 402)
    assert house.runs == (1 if V1 in spoken else 0)


DESCRIPTIONS = [
    'the "quoted" weather',
    'back\\slash and, comma; realm="x"',
    "the weather ☀️ in 東京",
    "Überblick für Köln \u2013 naïve",
    "two\r\nlines\tand a NUL\x00",
    "☀️☀️☀️",
    " ",
    'Payment id="forged"',
    "x" * 300,
]


@pytest.mark.parametrize("description", DESCRIPTIONS)
async def test_any_description_can_be_paid(description: str) -> None:
    """The challenge's header stays one readable line in ASCII, and x402 has the description as it was written."""
    house = House({"GET /report": Paid("0.01", description=description)})
    answer = await house.visit()
    assert answer.status_code == 402
    (line,) = answer.headers.get_list("www-authenticate")
    assert line.isascii()
    assert line.isprintable()
    (challenge,) = challenges_of(answer)
    if description.isascii() and description.isprintable() and description.strip():
        assert challenge.description == description
    assert answer.json()["accepts"][0]["description"] == description
    for protocol in PROTOCOLS:
        assert (await house.pay(protocol)).status_code == 200


async def test_every_challenge_is_unique() -> None:
    """Two in one second differ, so that one payer's two payments do; and live as long as they say."""
    house = House(challenge_seconds=120)
    challenges = [challenges_of(await house.visit())[0] for _ in range(50)]
    assert len({c.id for c in challenges}) == 50
    assert len({c.opaque for c in challenges}) == 50
    assert {parse_time(c.expires or "") for c in challenges} == {int(house.clock()) + 120}


async def test_402_is_never_stored_and_scripts_may_read_it() -> None:
    """`no-store`, and every header of the three generations exposed to scripts of other origins."""
    house = House()
    for answer in (await house.visit(), await house.visit(headers=[("X-PAYMENT", "!")])):
        assert answer.headers.get_list("cache-control") == ["no-store"]
        exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert exposed >= {
            *("www-authenticate", "payment-receipt", "payment-required", "payment-response"),
            *("x-payment-required", "x-payment-response", "retry-after"),
        }


async def test_credential_header() -> None:
    """Where the application uses `Authorization` itself the challenge names the other header, which is then read."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["headers"])[b"authorization"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    house = House(handler=app, credential_header="Payment-Authorization")
    own = ("Authorization", "Bearer of.the.application")
    answer = await house.visit(headers=[own])
    (challenge,) = challenges_of(answer)
    assert challenge.header == "Payment-Authorization"
    asked = read_402(answer, MPP)
    _, value = envelope(sign(asked, PAYER, house.clock()), asked)
    assert (await house.visit(headers=[own, ("Payment-Authorization", value)])).status_code == 200
    assert seen == [b"Bearer of.the.application"]


async def test_payment_authorization_without_the_scheme() -> None:
    """The header names the scheme already; with it or without it is the same."""
    house = House(credential_header="Payment-Authorization")
    _, value = await house.credential(MPP)
    bare = value.removeprefix("Payment ")
    assert (await house.visit(headers=[("payment-authorization", bare)])).status_code == 200


@pytest.mark.parametrize("scheme", ["payment", "PAYMENT", "Payment  "])
async def test_scheme_is_case_insensitive(scheme: str) -> None:
    """RFC 9110, section 11.1."""
    house = House()
    _, value = await house.credential(MPP)
    header = ("Authorization", f"{scheme} {value.removeprefix('Payment ')}")
    assert (await house.visit(headers=[header])).status_code == 200


async def test_other_schemes_are_the_applications_affair() -> None:
    """A bearer token is no payment, nor a bad one, and may stand beside an x402 payment."""
    house = House()
    bearer = ("Authorization", "Bearer abc")
    assert (await house.visit(headers=[bearer])).problem == "payment-required"
    assert (await house.visit(headers=[bearer, await house.credential(V2)])).status_code == 200


# The body


JSON = ("Content-Type", "application/json")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers the body that it receives, however it comes."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("body", [b'{"a": 1}', [b'{"a"', b": ", b"1}"], b"x" * 200_000, b""])
async def test_body_reaches_the_handler_whole(protocol: Protocol, body: bytes | list[bytes]) -> None:
    """Read for the digest or not, in one piece or in several, too long for it or empty."""
    house = House({"POST /echo": "0.02"}, handler=echo)
    answer = await house.visit("POST", "/echo", [JSON], body)
    asked = read_402(answer, protocol)
    headers = [JSON, envelope(sign(asked, PAYER, house.clock()), asked)]
    paid = await house.visit("POST", "/echo", headers, body)
    assert (paid.status_code, paid.content) == (200, body if isinstance(body, bytes) else b"".join(body))


@pytest.mark.parametrize(
    ("method", "content_type", "bound"),
    [
        ("POST", "application/json", True),
        ("PUT", "application/json; charset=utf-8", True),
        ("PATCH", "Application/JSON", True),
        ("POST", "application/x-www-form-urlencoded", True),
        ("POST", "text/plain", True),
        ("POST", "multipart/form-data; boundary=x", False),
        ("POST", "application/octet-stream", False),
        ("POST", None, False),
        ("DELETE", "application/json", False),
        ("GET", "application/json", False),
    ],
)
async def test_challenge_is_bound_to_a_body_that_comes_again(
    method: str, content_type: str | None, bound: bool
) -> None:
    """JSON, forms and text; a multipart body has another boundary each time, and would never fit."""
    house = House({"/echo": "0.02"}, handler=echo)
    headers = [("Content-Type", content_type)] if content_type else []
    (challenge,) = challenges_of(await house.visit(method, "/echo", headers, b'{"a": 1}'))
    assert challenge.digest == (body_digest(b'{"a": 1}') if bound else None)


async def test_another_body_is_refused() -> None:
    """What was asked for one body does not pay for another, nor for none; the right one still can be paid."""
    house = House({"POST /echo": "0.02"}, handler=echo)
    answer = await house.visit("POST", "/echo", [JSON], b'{"a": 1}')
    asked = read_402(answer, MPP)
    header = envelope(sign(asked, PAYER, house.clock()), asked)
    for other in (b'{"a": 2}', b"", b"x" * 200_000):
        refused = await house.visit("POST", "/echo", [JSON, header], other)
        assert (refused.status_code, refused.problem) == (402, "verification-failed"), other
        assert house.runs == 0
    assert (await house.visit("POST", "/echo", [JSON, header], b'{"a": 1}')).content == b'{"a": 1}'


async def test_digest_cannot_be_dropped_from_the_echo() -> None:
    """The digest is a slot of the challenge's id."""
    house = House({"POST /echo": "0.02"}, handler=echo)
    asked = read_402(await house.visit("POST", "/echo", [JSON], b'{"a": 1}'), MPP)
    assert asked.challenge is not None
    bare = msgspec.structs.replace(asked, challenge=msgspec.structs.replace(asked.challenge, digest=None))
    header = envelope(sign(bare, PAYER, house.clock()), bare)
    assert (await house.visit("POST", "/echo", [JSON, header], b'{"a": 2}')).problem == "invalid-challenge"


async def test_body_is_bound_up_to_a_length() -> None:
    """A longer one is left to flow, and `bind_body_bytes=0` binds none."""
    for limit, bound in ((8, True), (7, False), (0, False)):
        house = House({"POST /echo": "0.02"}, handler=echo, bind_body_bytes=limit)
        (challenge,) = challenges_of(await house.visit("POST", "/echo", [JSON], b'{"a": 1}'))
        assert (challenge.digest is not None) is bound


@pytest.mark.parametrize("length", ["x", "-1", "1_0", "9" * 5000, "٣"])
async def test_odd_content_length(length: str) -> None:
    """A length that is none binds nothing, and breaks nothing."""
    house = House({"POST /echo": "0.02"})
    answer = await house.visit("POST", "/echo", [JSON, ("Content-Length", length.encode().decode("latin-1"))])
    assert answer.status_code == 402


async def test_chunked_body_is_not_held_up() -> None:
    """A body of unknown length is the handler's: nothing is read before it."""
    house = House({"POST /echo": "0.02"}, handler=echo)
    chunked = ("Transfer-Encoding", "chunked")
    asked = await house.ask(MPP, "POST", "/echo", [JSON, chunked])
    header = envelope(sign(asked, PAYER, house.clock()), asked)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = scope_of("POST", "/echo", [JSON, chunked, header])
    await house.app(scope, receive_of([b"one ", b"two"]), send)
    assert sent[1]["body"] == b"one two"


async def test_client_that_leaves_while_sending_its_body() -> None:
    """Half a body is no body: a payment bound to the whole is refused, and nothing hangs."""
    house = House({"POST /echo": "0.02"}, handler=echo)
    asked = read_402(await house.visit("POST", "/echo", [JSON], b'{"a": 1}'), MPP)
    header = envelope(sign(asked, PAYER, house.clock()), asked)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    inbox = [{"type": "http.request", "body": b'{"a"', "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return inbox.pop(0) if inbox else {"type": "http.disconnect"}

    await house.app(scope_of("POST", "/echo", [JSON, header, ("Content-Length", "8")]), receive, send)
    assert (answer_of(sent).status_code, house.runs) == (402, 0)


async def test_refusal_repeats_the_terms_with_its_reason() -> None:
    """The fresh challenge says what was wrong, in each generation's own field."""
    house = House()

    def used(_: Payment) -> None:
        raise AlreadyUsed("used")

    house.settler.on_verify = used
    answer = await house.pay(V2)
    reason = "invalid_exact_evm_nonce_already_used"
    assert answer.json()["error"] == reason
    assert x402_v2.decode_payment_required(answer.headers["payment-required"]).error == reason
    assert x402_v1.decode_payment_required(answer.content).error == reason


async def test_v2_clients_learn_that_they_may_name_their_request() -> None:
    """The extension is in the challenge unless it is switched off, our own payer echoes it, and the 402 stays small."""
    house = House(payment_identifier=True)
    answer = await house.visit()
    required = x402_v2.decode_payment_required(answer.headers["payment-required"])
    assert required.extensions == ADVERTISED
    assert sum(len(name) + len(value) + 4 for name, value in answer.headers.raw) < 4096
    asked = await house.ask(V2)
    _, value = credential(asked, PAYER, house.clock())
    assert x402_v2.decode_payment_payload(value).extensions == ADVERTISED
    assert (await house.visit(headers=[("PAYMENT-SIGNATURE", value)])).status_code == 200
    silent = await House().visit()
    assert x402_v2.decode_payment_required(silent.headers["payment-required"]).extensions is None


async def test_long_paths_are_not_remembered() -> None:
    """Anybody can ask for thousands of them below a `*`, and each 402 is several times as long as its path."""
    from bridge.responses import _mpp_template, _x402_part

    house = House({"/*": "0.01"})
    await house.visit("GET", "/short")
    before = [made.cache_info().currsize for made in (_x402_part, _mpp_template)]
    answers = [await house.visit("GET", f"/{number}" + "a" * 5_000) for number in range(3)]
    assert [made.cache_info().currsize for made in (_x402_part, _mpp_template)] == before
    assert all(answer.status_code == 402 for answer in answers)
    assert (await house.pay(MPP, "/" + "b" * 2_000)).status_code == 200


async def test_a_user_agent_is_cut_where_it_is_no_name_any_more() -> None:
    """Thousands of events may wait in memory to be written."""
    house = House()
    await house.visit("GET", "/report", [("User-Agent", "a" * 60_000)])
    assert len(house.event("payment.challenged")["user_agent"]) == 256
