"""Nobody loses money by a gateway's levers: who was asked, who has paid, and who could pay in no other way."""

import json
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx
import msgspec
import pytest

from bridge.config import ConfigError
from bridge.gateway.app import Gateway
from bridge.gateway.config import GatewayConfig
from bridge.payers import Asked, account, credential, read_402, sign
from tests.bridge.gateway.lab import (
    MPP,
    PAYER,
    PROTOCOLS,
    V1,
    V2,
    Server,
    gateway_before,
    mpp_challenges,
    serve_paid,
)
from tests.bridge.gateway.levered import HEAD, Start, offered
from tests.bridge.gateway.test_translation import PERMIT2
from tests.bridge.harness import envelope, token_json, with_token
from translators.encoding import b64_encode
from translators.payment import Protocol
from translators.wire import mpp as mpp_wire

pytestmark = pytest.mark.anyio


async def test_an_x402_payment_has_as_long_as_the_upstream_gave_it(levered: Start, version: int) -> None:
    """Of either version, and whatever the client says of it."""
    for protocol in (V1, V2):
        server = Server([version])
        async with levered("", server) as at:
            asked = await at.ask(protocol)
            await at.say(f'{HEAD}{protocol.value} = "off"')
            for seconds, status in ((299, 200), (2, 402)):
                at.clock.advance(seconds)
                name, value = credential(asked, PAYER, at.clock())
                if protocol is V2 and status == 402:
                    content = token_json((name, value))
                    content["accepted"]["maxTimeoutSeconds"] = 10**9
                    _, value = with_token((name, value), content)
                assert (await at.client.get("/report", headers={name: value})).status_code == status


async def test_what_was_paid_is_answered_whatever_the_lever_says(
    levered: Start, protocol: Protocol, version: int
) -> None:
    """The kept answer, long after the protocol was refused; one that signs anew by its key; nobody else."""
    async with levered("", Server([version]), replay_seconds=10_000.0) as at:
        asked, unpaid = await at.ask(protocol), await at.ask(protocol)
        key = {"idempotency-key": "an order of mine"}
        name, value = credential(asked, PAYER, at.clock())
        assert (await at.client.get("/report", headers={name: value, **key})).status_code == 200
        await at.say(f'{HEAD}{protocol.value} = "refused"')
        at.clock.advance(400)
        again = await at.client.get("/report", headers={name: value, **key})
        assert (again.status_code, again.text) == (200, "the report: ")
        assert again.headers["deprecation"]
        if protocol is not MPP:
            # An MPP client has no challenge that it could sign anew.
            anew = await at.later(asked, **key)
            assert (anew.status_code, anew.text) == (200, "the report: ")
        refused = await at.later(unpaid)
        assert refused.json()["stage"] == "refused"
        assert len(at.server.settled) == 1


async def test_a_settled_payment_whose_answer_broke_off_is_delivered(levered: Start, version: int) -> None:
    """The upstream is asked again with it, though its version is refused by now."""

    async def breaks_off(server: Server, scope: Any, receive: Any, send: Any) -> None:
        headers = [*server.receipt(), (b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        raise OSError("gone")

    native = V1 if version == 1 else V2
    async with levered("", Server([version], paid=breaks_off)) as at:
        name, value = credential(await at.ask(native), PAYER, at.clock())
        with pytest.raises(httpx.RemoteProtocolError):
            await at.client.get("/report", headers={name: value})
        assert [row.state for row in at.rows()] == ["settled"]
        at.server.on_paid = serve_paid
        at.server.settled.clear()
        await at.say(f'{HEAD}{native.value} = "refused"')
        at.clock.advance(301)
        # A server that knows its own paid requests asks for no second payment.
        at.server.clock = time.time
        answer = await at.client.get("/report", headers={name: value})
        assert (answer.status_code, answer.text) == (200, "the report: ")
        assert answer.headers["deprecation"]


async def test_gateways_need_not_see_a_change_at_once(levered: Start, version: int) -> None:
    """Whoever one gateway has offered a protocol to can pay in it on another, which has not looked yet."""
    server = Server([version])
    header = {"host": "localhost"}
    for protocol in PROTOCOLS:
        async with levered(f'{HEAD}{protocol.value} = "off"', server) as at, at.beside() as other:
            await at.say("")
            asked = await at.ask(protocol, headers=header)
            assert protocol not in offered(await other.client.get("/report", headers=header))
            name, value = credential(asked, PAYER, at.clock())
            answer = await other.client.get("/report", headers={name: value, **header})
            assert answer.status_code == 200


STAGES = (
    '"on"',
    '"off"',
    '"refused"',
    '"preferred"',
    '"deprecated"',
    '{ stage = "canary", share = "50%" }',
    '{ stage = "canary", share = "50%", by = "payer" }',
    '{ stage = "canary", header = "X-Try" }',
)


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_was_offered_a_protocol_can_pay_in_it(levered: Start, seed: int, version: int) -> None:
    """Whatever the owner does, on whichever of two gateways the client asks and pays, whatever it calls itself."""
    random = Random(seed)
    server = Server([version])
    waiting: list[tuple[Asked, dict[str, str], float]] = []
    paid = 0
    async with levered("", server) as at, at.beside() as other:
        gateways = [at, other]
        for _ in range(250):
            match random.randrange(8):
                case 0:
                    shut = random.choice(PROTOCOLS)
                    at.path.write_text(f"{HEAD}{shut.value} = {random.choice(STAGES)}\n")
                case 1 | 2:
                    await random.choice(gateways).look()
                case 3:
                    # Nobody looks later than this in earnest.
                    for gateway in gateways:
                        await gateway.look()
                    at.clock.advance(random.randrange(60))
                case 4 | 5:
                    who: dict[str, str] = random.choice([{}, {"x-try": "1"}])
                    headers = {"host": "localhost", "user-agent": f"bot/{random.randrange(9)}", **who}
                    answer = await random.choice(gateways).client.get("/report", headers=headers)
                    asked = read_402(answer, random.choice(sorted(offered(answer))))
                    waiting.append((asked, who, at.clock()))
                case _ if waiting:
                    asked, who, since = waiting.pop(random.randrange(len(waiting)))
                    if at.clock() - since > 230:
                        continue  # this 402 said 300 seconds, and a gateway may have been asked that had not looked
                    name, value = credential(asked, account(str(paid)), at.clock())
                    headers = {"host": "localhost", "user-agent": f"bot/{random.randrange(9)}", **who, name: value}
                    answer = await random.choice(gateways).client.get("/report", headers=headers)
                    assert answer.status_code == 200, (asked.protocol, answer.text, at.path.read_text())
                    paid += 1
    assert paid > 30
    assert len(server.settled) == paid


@pytest.mark.parametrize("comes", [False, True])
async def test_a_rule_that_comes_or_goes_is_a_change(levered: Start, protocol: Protocol, comes: bool) -> None:
    """Whoever was asked while a rule had his protocol open has his time, though what counts now was said long ago."""
    every = f'{HEAD}{protocol.value} = "refused"\n'
    rule = f'[levers."/repor*"]\n{protocol.value} = "on"\n'
    closer = f'[levers."GET /repor{{x}}"]\n{(V1 if protocol is MPP else MPP).value} = "on"\n'
    async with levered(every + rule) as at:
        asked = [await at.ask(protocol) for _ in range(2)]
        at.clock.advance(200)
        await at.say(every + rule + closer if comes else every)
        assert protocol not in offered(await at.client.get("/report"))
        for seconds, is_paid in ((50, True), (251, False)):
            at.clock.advance(seconds)
            answer = await at.later(asked.pop())
            assert (answer.status_code == 200) == is_paid
        assert answer.json()["stage"] == "refused"


async def test_a_gateway_that_has_not_seen_a_routes_402_asks_for_it(levered: Start, version: int) -> None:
    """Before it refuses anything there: how long a payment has, and whether anything else could be paid."""
    native = V1 if version == 1 else V2
    header = {"host": "localhost"}
    server = Server([version])
    async with levered(f'{HEAD}{native.value} = "on"', server) as at:
        asked = await at.ask(native, headers=header)
        async with at.beside() as other:
            await other.client.get("/other")
            await at.say(f'{HEAD}{native.value} = "refused"')
            await other.look()
            at.clock.advance(301)
            name, value = credential(asked, PAYER, at.clock())
            if native is V2:
                content = token_json((name, value))
                content["accepted"]["maxTimeoutSeconds"] = 10**9
                _, value = with_token((name, value), content)
            answer = await other.client.get("/report", headers={name: value, **header})
            assert (answer.json()["stage"], at.paid) == ("refused", [])
            # On a third route, of which neither has seen that it can be paid in this way only.
            server.entry_more = {"scheme": "upto"}
            await other.client.get("/third", headers={name: value, **header})
            assert at.paid == [value]


# What nobody here can claim


async def test_a_payment_that_cannot_be_claimed_is_refused_too(levered: Start) -> None:
    """A wallet's signature, Permit2: in time they go on as they came, with what there is to say; then not."""
    server = Server([2])
    server.more_accepts = [PERMIT2]
    async with levered(f'{HEAD}x402-v2 = "deprecated"', server) as at:
        asked = await at.ask(V2)
        payment = sign(asked, PAYER, at.clock())
        wallet = msgspec.structs.replace(
            payment, authorization=msgspec.structs.replace(payment.authorization, signature=b"\x01" * 200)
        )
        header = envelope(wallet, asked)
        permit2 = with_token(
            header, token_json(header) | {"accepted": PERMIT2, "payload": {"permit2Authorization": {}}}
        )
        for one in (header, permit2):
            answer = await at.client.get("/report", headers=[one])
            assert at.server.last.header("payment-signature") == one[1]
            assert answer.headers["deprecation"]
        await at.say(f'{HEAD}x402-v2 = "refused"')
        at.clock.advance(299)
        for one in (header, permit2):
            await at.client.get("/report", headers=[one])
            assert at.server.last.header("payment-signature") == one[1]
        at.clock.advance(2)
        seen = len(at.paid)
        for one in (header, permit2):
            answer = await at.client.get("/report", headers=[one])
            assert (answer.status_code, answer.json()["stage"]) == (402, "refused")
            assert offered(answer) == {V1, MPP}
            assert at.event("payment.rejected")["reason"] == "protocol_refused"
        assert len(at.paid) == seen


async def test_an_upstreams_own_mpp_is_shut_as_well(levered: Start) -> None:
    """Its challenges are taken out of the 402, whatever stands beside them, and its credentials do not reach it."""
    tempo = 'Payment id="x", realm="shop", method="tempo", intent="charge", request="e30"'
    server = Server([2])
    server.headers_402 = [
        (b"www-authenticate", tempo.encode()),
        (b"www-authenticate", f'Basic realm="a, b", {tempo}, L402 dG9rZW4='.encode()),
    ]
    async with levered("", server) as at:
        before = await at.client.get("/report")
        challenge = mpp_challenges(before)[1]
        own = mpp_wire.Credential(challenge=challenge, payload=msgspec.Raw(b'{"type":"hash"}'))
        header = {"authorization": "Payment " + mpp_wire.encode_credential(own)}
        await at.say(f'{HEAD}mpp = "refused"')
        answer = await at.client.get("/report")
        assert answer.headers.get_list("www-authenticate") == ['Basic realm="a, b"', "L402 dG9rZW4="]
        assert at.event("payment.challenged")["offered"] == ["x402-v1", "x402-v2"]
        for seconds, passes in ((299, True), (2, False)):
            at.clock.advance(seconds)
            answer = await at.client.get("/report", headers=header)
            assert (at.server.last.header("authorization") is not None) == passes
            assert answer.headers["deprecation"]
        assert (answer.status_code, answer.json()["use"]) == (400, ["x402-v2", "x402-v1"])


async def test_one_client_in_two_versions_pays_in_the_one_that_was_read(levered: Start) -> None:
    """A v1 header beside a v2 one is no way around v1's end; and as in process, v2 is what counts."""
    async with levered("", Server([1])) as at:
        asked = [await at.ask(protocol) for protocol in (V1, V2)]
        both = [credential(one, PAYER, at.clock()) for one in asked]
        await at.say(f'{HEAD}x402-v1 = "refused"')
        at.clock.advance(200)
        assert (await at.client.get("/report", headers=both)).status_code == 200
        assert at.event("payment.delivered")["protocol"] == "x402-v2"
        assert at.server.last.header("x-payment") != both[0][1]
        await at.say(f'{HEAD}x402-v2 = "refused"')
        at.clock.advance(301)
        both = [credential(one, PAYER, at.clock()) for one in asked]
        answer = await at.client.get("/report", headers=both)
        assert (answer.status_code, answer.json()["stage"]) == (402, "refused")


# A way to pay is left


async def test_a_challenge_that_nobody_could_pay_is_left_alone(levered: Start, logged: list[Any]) -> None:
    """What only x402 can carry stays there, though it is refused, and is taken; the log says so, once."""
    server = Server([2])
    async with levered(f'{HEAD}x402-v2 = "refused"', server) as at:
        assert offered(await at.client.get("/report")) == {V1, MPP}
        server.entry_more = PERMIT2
        for _ in range(2):
            answer = await at.client.get("/report")
            assert offered(answer) == {V2}
            assert not {"refused", "migration"} & answer.json().keys()
        header = with_token(("payment-signature", "e30="), {"x402Version": 2, "accepted": PERMIT2, "payload": {}})
        await at.client.get("/report", headers=[header])
        assert at.server.last.header("payment-signature") == header[1]
        (line,) = [line for line in logged if line["event"] == "levers.nothing_left"]
        assert (line["route"], line["protocols"]) == ("GET /report", ["x402-v2"])


async def test_a_402_that_asks_for_no_payment_is_left_alone(levered: Start, logged: list[Any]) -> None:
    """An upstream may want something else than money, such as a signature, and say so in x402's words."""

    async def asks(server: Server, scope: Any, receive: Any, send: Any) -> None:
        required = {"x402Version": 2, "accepts": [], "extensions": {"sign-in-with-x": {"info": {}}}}
        header = (b"payment-required", b64_encode(json.dumps(required).encode()).encode())
        await server.reply(send, 402, b"{}", [header])

    async with levered("") as at:
        at.server.free["/sign-in"] = asks
        before = await at.client.get("/sign-in")
        await at.say(f'{HEAD}x402-v1 = "refused"')
        after = await at.client.get("/sign-in")
        assert (before.content, before.headers.raw) == (after.content, after.headers.raw)
        assert not [line for line in logged if line["event"] == "levers.nothing_left"]


@pytest.mark.parametrize(
    ("text", "settings", "says"),
    [
        ('[levers."*"]\nx402-v1 = "off"\nx402-v2 = "off"\nmpp = "off"', {}, "nobody could be sure to pay"),
        ('[levers."*"]\nx402-v1 = "off"\nx402-v2 = "off"', {"protocols": ("x402-v1",)}, "nobody could be sure to pay"),
        ('[levers."GET report"]\nmpp = "off"', {}, "is not a route"),
        ('[levers."*"]\nx402-v1 = "deprecated"', {}, "migration"),
        ('[levers."*"]\nmpp = "onn"', {}, "no stage"),
    ],
)
async def test_what_makes_no_sense_stops_it_at_the_start_and_changes_nothing_later(
    levered: Start, logged: list[Any], text: str, settings: dict[str, Any], says: str
) -> None:
    """The same checks as in process."""
    async with levered("", **settings) as at:
        with pytest.raises(ValueError, match=says):
            async with gateway_before({"/": at.server.url}, at.server, **settings, levers=str(_file(at.path, text))):
                pass
        await at.say(text)
        (line,) = [line for line in logged if line["event"] == "levers.invalid"]
        assert says in line["problem"]
        assert V2 in offered(await at.client.get("/report"))


def _file(beside: Path, text: str) -> Path:
    path = beside.with_name("other.toml")
    path.write_text(text)
    return path


def test_a_place_that_holds_no_levers() -> None:
    """Said at the start, with the setting's name."""
    with pytest.raises(ConfigError, match="levers: "):
        Gateway(GatewayConfig(upstreams={"/": "http://127.0.0.1:1"}, store="memory", events=None, levers="levers.json"))
