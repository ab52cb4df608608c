"""Levers at a gateway: the old door is closed in front of a server that nobody touches, and opened again."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner

from bridge.cli import main
from bridge.config import ConfigError
from bridge.gateway.app import Gateway
from bridge.gateway.config import GatewayConfig
from bridge.payers import Asked, account, credential, read_402, sign
from bridge.testing import FixedClock
from tests.bridge.gateway.lab import (
    KEY,
    MPP,
    PAYER,
    PROTOCOLS,
    RECEIPT,
    V1,
    V2,
    Lab,
    Server,
    gateway_before,
    lab,
    mpp_challenges,
    serve_paid,
    until,
)
from tests.bridge.gateway.test_translation import PERMIT2
from tests.bridge.harness import envelope, resign, token_json, with_token
from tests.layers import ROOT
from translators.encoding import b64_encode
from translators.levers import canary_point
from translators.payment import Protocol
from translators.wire import mpp as mpp_wire

pytestmark = pytest.mark.anyio

PAGE = "https://api.example.com/moving"
HEAD = f'migration = "{PAGE}"\n[levers."*"]\n'
HEADER = {V1: "x-payment-required", V2: "payment-required", MPP: "www-authenticate"}
NOTICE = ("deprecation", "sunset", "link")


class Levered(Lab):
    """A lab whose gateway has its levers in a file. Nobody looks at it but the test."""

    path: Path
    clock: FixedClock

    async def say(self, text: str) -> None:
        """The owner writes the file, and the gateway looks at it."""
        self.path.write_text(text)
        await self.look()

    async def look(self) -> None:
        """The gateway looks at the file."""
        assert self.gateway.gate.board is not None
        await self.gateway.gate.board.refresh()

    async def later(self, asked: Asked, **headers: str) -> httpx.Response:
        """Pay what was asked, signed now."""
        name, value = credential(asked, PAYER, self.clock())
        return await self.client.get("/report", headers={**headers, name: value})

    async def pay(self, protocol: Protocol, path: str = "/report", method: str = "GET", **more: Any) -> httpx.Response:
        """Pay as it should be done, by the test's clock."""
        name, value = credential(await self.ask(protocol, path, method, **more), PAYER, self.clock())
        headers = {**more.pop("headers", {}), name: value}
        return await self.client.request(method, path, headers=headers, **more)

    @property
    def paid(self) -> list[str]:
        """The credentials that the upstream has seen."""
        credentials = ("x-payment", "payment-signature", "authorization")
        return [value for seen in self.server.seen for name in credentials if (value := seen.header(name))]


Start = Callable[..., Any]


@pytest.fixture
def levered(tmp_path: Path) -> Start:
    """`levered(text, server, **settings)`: a gateway with these levers."""

    @asynccontextmanager
    async def start(text: str = "", server: Server | None = None, **settings: Any) -> AsyncIterator[Levered]:
        path = tmp_path / "levers.toml"
        path.write_text(text)
        clock = FixedClock(time.time())
        server = server or Server()
        server.clock = clock
        settings = {"levers": str(path), "levers_seconds": 3600.0, "clock": clock} | settings
        async with lab(server, **settings) as at:
            at.__class__ = Levered
            at.path, at.clock = path, clock  # type: ignore[attr-defined]
            yield at  # type: ignore[misc]

    return start


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """The protocol whose lever is moved."""
    return request.param


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    """Of x402, that the upstream speaks."""
    return request.param


def offered(answer: httpx.Response) -> set[Protocol]:
    """The protocols that a 402 can be paid in."""
    assert answer.status_code == 402
    found = {protocol for protocol, header in HEADER.items() if header in answer.headers}
    assert (V1 in found) == bool(answer.json().get("accepts"))
    return found


async def test_every_stage_forwards_and_back(levered: Start, protocol: Protocol, version: int) -> None:
    """Offered or not, paid or refused, in each protocol, before a server of each version; then all is as before."""
    others = set(PROTOCOLS) - {protocol}
    steps = ["on", "preferred", "deprecated", "off", "refused", "off", "deprecated", "preferred", "on"]
    async with levered("", Server([version])) as at:
        was = "on"
        for stage in steps:
            before = await at.ask(protocol) if was not in ("off", "refused") else None
            await at.say(f'{HEAD}{protocol.value} = "{stage}"\n')
            asked = await at.client.get("/report")
            if stage in ("off", "refused"):
                assert offered(asked) == others
            else:
                assert offered(asked) == {protocol, *others}
                answer = await at.pay(protocol)
                assert (answer.status_code, answer.text) == (200, "the report: ")
                assert RECEIPT[protocol] in answer.headers
                told = [True, False, True] if stage == "deprecated" else [False] * 3
                assert [name in answer.headers for name in NOTICE] == told
            for other in others:
                answer = await at.pay(other)
                assert answer.status_code == 200
                assert not any(name in answer.headers for name in NOTICE)
            if before is not None:
                # Whoever was asked before the change is still taken.
                assert (await at.later(before)).status_code == 200
            was = stage
            at.clock.advance(400)
        changes = [fields for event, fields in at.told if event == "lever.changed"]
        assert [change["after"] for change in changes] == steps[1:]
        assert {(change["route"], change["protocol"]) for change in changes} == {("*", protocol.value)}
        # Whatever the door that a client came through, the upstream was paid in its own words.
        assert {fields["upstream_protocol"] for event, fields in at.told if event == "payment.delivered"} == {
            f"x402-v{version}"
        }


async def test_preferred_comes_first(levered: Start, protocol: Protocol, version: int) -> None:
    """Its header before those of the others, and its name in the body."""
    async with levered(f'{HEAD}{protocol.value} = "preferred"', Server([version])) as at:
        answer = await at.client.get("/report")
        order = [name.decode().lower() for name, _ in answer.headers.raw]
        places = sorted((order.index(header), protocol) for protocol, header in HEADER.items())
        assert places[0][1] is protocol
        assert answer.json()["preferred"] == protocol.value


async def test_nothing_is_said_where_no_lever_was_moved(levered: Start, version: int) -> None:
    """The 402 is that of a gateway without levers, to the byte, but for what is new each time."""
    server = Server([version])
    added: dict[str, Any] = {"protocols": ("x402-v1", "x402-v2")}
    async with (
        levered("# nothing yet\n", server, **added) as at,
        gateway_before({"/": server.url}, server, **added) as no,
    ):
        one, two = [await lab.client.get("/report", headers={"host": "localhost"}) for lab in (no, at)]
        assert (one.content, one.headers.raw) == (two.content, two.headers.raw)


# Refused


@pytest.mark.parametrize("stage", ["refused", "off"])
async def test_a_refused_client_is_told_what_to_use(
    levered: Start, protocol: Protocol, version: int, stage: str
) -> None:
    """A problem as in process, in its own words. Nothing is claimed, and no payment has reached the upstream."""
    rest = [p for p in (MPP, V2, V1) if p is not protocol]
    async with levered("", Server([version])) as at:
        asked = await at.ask(protocol)
        await at.say(f'{HEAD}{protocol.value} = "{stage}"')
        at.clock.advance(301)
        answer = await at.later(asked)
        body = answer.json()
        assert answer.status_code == (400 if protocol is MPP else 402)
        assert body["type"] == "https://paymentauth.org/problems/method-unsupported"
        assert (body["stage"], body["use"], body["migration"]) == (stage, [p.value for p in rest], PAGE)
        assert (body["error"], protocol.value in body["detail"]) == ("protocol_refused", True)
        assert (answer.headers.get("link") == f'<{PAGE}>; rel="deprecation"') == (stage == "refused")
        assert ("deprecation" in answer.headers) == (stage == "refused")
        if protocol is V1:
            # Its clients read the body only, and find that nothing can be paid in v1.
            assert (body["x402Version"], body["accepts"]) == (1, [])
        elif protocol is V2:
            assert offered(answer) == set(rest)
        assert (at.paid, at.rows(), at.server.settled) == ([], [], {})
        rejected = at.event("payment.rejected")
        assert (rejected["reason"], rejected["protocol"], rejected["status"]) == (
            "protocol_refused",
            protocol.value,
            answer.status_code,
        )
        assert rejected["stage"] == "verify"


async def test_what_is_off_is_not_spoken_of(levered: Start, version: int) -> None:
    """A client that is refused finds it in the body; of what was never there it hears nothing."""
    async with levered(f'{HEAD}x402-v1 = "off"\nmpp = "refused"', Server([version])) as at:
        body = (await at.client.get("/report")).json()
        assert (body["refused"], body["migration"]) == (["mpp"], PAGE)
        assert not {"x402Version", "accepts"} & body.keys()
        await at.say(f'{HEAD}x402-v1 = "refused"')
        body = (await at.client.get("/report")).json()
        assert (body["refused"], body["x402Version"], body["accepts"]) == (["x402-v1"], 1, [])


async def test_the_upstreams_own_words_go_with_its_version(levered: Start) -> None:
    """Nothing of its challenge is left, in header or body, and what else it says stays."""
    async with levered(f'{HEAD}x402-v1 = "off"', Server([1])) as at:
        answer = await at.client.get("/report")
        assert (answer.json()["x-top"], "accepts" in answer.text, answer.headers["x-upstream"]) == (
            "kept",
            False,
            "kept",
        )
    server = Server([2])
    server.body_402 = ("application/json", b'{"x402Version":2,"accepts":[{"a":1}],"resource":{},"more":1}')
    async with levered(f'{HEAD}x402-v2 = "off"\nx402-v1 = "off"', server) as at:
        body = (await at.client.get("/report")).json()
        assert (body["more"], "accepts" in body, "resource" in body) == (1, False, False)
    # Compressed in a way that nobody here reads: a program finds ours in its place, a person's page stays.
    for kind, stays in (("application/json", False), ("text/html", True)):
        server.body_402 = (kind, b"\x0b\x02\x80compressed\x03")
        server.headers_402 = [(b"content-encoding", b"br")]
        async with levered(f'{HEAD}x402-v2 = "off"', server) as at, at.client.stream("GET", "/report") as answer:
            content = b"".join([part async for part in answer.aiter_raw()])
            assert (content == server.body_402[1]) == stays
            assert ("content-encoding" in answer.headers) == stays
            assert "payment-required" not in answer.headers


async def test_a_bad_credential_in_a_refused_protocol_is_refused_for_that(
    levered: Start, protocol: Protocol, version: int
) -> None:
    """What else is wrong with it is of no use to somebody who has to change his client."""
    async with levered(f'{HEAD}{protocol.value} = "refused"', Server([version])) as at:
        name = {V1: "X-PAYMENT", V2: "PAYMENT-SIGNATURE", MPP: "Authorization"}[protocol]
        answer = await at.client.get("/report", headers={name: "Payment e30" if protocol is MPP else "e30="})
        assert answer.json()["stage"] == "refused"
        assert at.paid == []
        assert at.event("payment.rejected")["reason"] == "protocol_refused"


async def test_a_brownout_says_when_it_is_over(levered: Start, version: int) -> None:
    """At the announced time, with `Retry-After`; before and after it the protocol is deprecated."""
    native = V1 if version == 1 else V2
    clock = time.time()
    times = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock + hours * 3600)) for hours in (1, 2)]
    lever = f'{{ stage = "deprecated", brownouts = [{{ from = {times[0]}, until = {times[1]} }}] }}'
    async with levered(f"{HEAD}{native.value} = {lever}", Server([version])) as at:
        asked = await at.ask(native)
        for seconds, status in ((0, 200), (5400, 402), (3600, 200)):
            at.clock.advance(seconds)
            answer = await at.later(asked)
            assert answer.status_code == status
            assert answer.headers["deprecation"]
            assert ("retry-after" in answer.headers) == (status == 402)
            assert 1795 <= int(answer.headers.get("retry-after", 1800)) <= 1801
        assert len(at.server.settled) == 2


# Nobody loses money by a lever


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
    runs = []

    async def breaks_off(server: Server, scope: Any, receive: Any, send: Any) -> None:
        runs.append(1)
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
        at.clock.advance(200)
        at.clock.advance(101)
        at.server.clock = time.time
        answer = await at.client.get("/report", headers={name: value})
        assert (answer.status_code, answer.text) == (200, "the report: ")
        assert answer.headers["deprecation"]


async def test_gateways_need_not_see_a_change_at_once(levered: Start, version: int) -> None:
    """Whoever one gateway has offered a protocol to can pay in it on another, which has not looked yet."""
    server = Server([version])
    header = {"host": "localhost"}
    for protocol in PROTOCOLS:
        async with levered(f'{HEAD}{protocol.value} = "off"', server) as at:
            settings = {"levers": str(at.path), "levers_seconds": 3600.0, "store": at.store, "clock": at.clock}
            async with gateway_before({"/": server.url}, server, **settings) as other:
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
    async with levered("", server) as at:
        settings = {"levers": str(at.path), "levers_seconds": 3600.0, "store": at.store, "clock": at.clock}
        async with gateway_before({"/": server.url}, server, **settings) as other:
            other.__class__ = Levered
            gateways: list[Any] = [at, other]
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


async def test_a_gateway_that_has_not_seen_a_routes_402_asks_for_it(levered: Start, version: int) -> None:
    """Before it refuses anything there: how long a payment has, and whether anything else could be paid."""
    native = V1 if version == 1 else V2
    header = {"host": "localhost"}
    server = Server([version])
    async with levered(f'{HEAD}{native.value} = "on"', server) as at:
        asked = await at.ask(native, headers=header)
        settings = {"levers": str(at.path), "levers_seconds": 3600.0, "clock": at.clock}
        async with gateway_before({"/": server.url}, server, **settings) as other:
            await other.client.get("/other")
            await at.say(f'{HEAD}{native.value} = "refused"')
            assert other.gateway.gate.board is not None
            await other.gateway.gate.board.refresh()
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


# By route and client


async def test_the_closest_rule_counts(levered: Start) -> None:
    """By method and path as they were sent; what it does not say, the rule for every route says."""
    text = f"""{HEAD}x402-v1 = "off"
[levers."/shop/*"]
mpp = "off"
[levers."GET /shop/{{id}}"]
x402-v2 = "off"
mpp = "preferred"
[levers."/shop/1/more"]
x402-v1 = "on"
"""
    wanted = {
        ("GET", "/report"): {V2, MPP},
        ("GET", "/shop"): {V2},
        ("GET", "/shop/a/b"): {V2},
        ("POST", "/shop/a"): {V2},
        ("GET", "/shop/a"): {MPP},
        ("GET", "/shop//a/"): {MPP},
        ("GET", "/shop/%61"): {MPP},
        ("GET", "/shop/1/more"): {V1, V2, MPP},
        ("GET", "/shops"): {V2, MPP},
    }
    async with levered(text) as at:
        for (method, path), protocols in wanted.items():
            assert offered(await at.client.request(method, path)) == protocols, path
        assert "payment-required" not in (await at.client.head("/shop/a")).headers
        await at.say(f'{HEAD}x402-v1 = "off"\n[levers."/shop/*"]\nx402-v1 = "on"')
        changed = [(f["route"], f["protocol"], f["after"]) for event, f in at.told if event == "lever.changed"]
        assert ("/shop/*", "x402-v1", "on") in changed


async def test_the_example_of_the_docs(levered: Start) -> None:
    """It makes sense, and does what it says."""
    page = (ROOT / "docs" / "gateway.md").read_text("utf-8")
    (text,) = re.findall(r'```text\n(migration = .*?\[levers\."/shop/\*"\].*?)```', page, re.DOTALL)
    async with levered(text) as at:
        assert offered(await at.client.get("/weather")) == {V1, V2, MPP}
        assert offered(await at.client.get("/report/1")) == {V2, MPP}
        assert (await at.client.get("/shop/1")).json()["preferred"] == "mpp"
        assert (await at.pay(V1, "/weather")).headers["link"] == f'<{PAGE}>; rel="deprecation"'


async def test_a_half_is_switched_off_for_certain_clients(levered: Start) -> None:
    """The upstream's own as well; and what they pay in is taken all the same."""
    text = '[[clients]]\nproduct = "only-v1"\nwithout = ["x402-v2"]\n'
    async with levered(text, Server([2])) as at:
        assert offered(await at.client.get("/report")) == {V1, V2, MPP}
        mine = {"user-agent": "only-v1/1.0"}
        assert offered(await at.client.get("/report", headers=mine)) == {V1, MPP}
        name, value = await at.credential(V2)
        assert (await at.client.get("/report", headers={**mine, name: value})).status_code == 200


async def test_a_canary_by_header(levered: Start, protocol: Protocol) -> None:
    """Whoever sends it is offered the protocol and taken; whoever does not is neither."""
    async with levered(f'{HEAD}{protocol.value} = {{ stage = "canary", header = "X-Try" }}') as at:
        assert protocol not in offered(await at.client.get("/report"))
        mine = {"x-try": "1"}
        name, value = credential(await at.ask(protocol, headers=mine), PAYER, at.clock())
        answer = await at.client.get("/report", headers={name: value})
        if protocol is MPP:
            assert answer.status_code == 200  # nobody has a challenge who was not offered one
        else:
            assert answer.json()["stage"] == "canary"
            assert (await at.client.get("/report", headers={**mine, name: value})).status_code == 200


async def test_a_canary_by_payer(levered: Start, version: int) -> None:
    """Who has paid, in the server's version or another, is drawn by his address from then on."""
    key = KEY.encode()
    payer = next(one for one in map(account, "abcdefgh") if canary_point(key, MPP, f"payer {one.address}") < 30)
    agents = [f"bot/{number}" for number in range(40)]
    outside = [agent for agent in agents if canary_point(key, MPP, f"client {agent} 127.0.0.1") >= 30]
    async with levered(f'{HEAD}mpp = {{ stage = "canary", share = "30%", by = "payer" }}', Server([version])) as at:
        for protocol, agent in zip((V1, V2), outside, strict=False):
            mine = {"user-agent": agent}
            assert MPP not in offered(await at.client.get("/report", headers=mine))
            name, value = credential(await at.ask(protocol, headers=mine), payer, at.clock())
            assert (await at.client.get("/report", headers={**mine, name: value})).status_code == 200
            assert MPP in offered(await at.client.get("/report", headers=mine))


async def test_the_protocol_of_a_payment_that_failed_is_offered_again(levered: Start, version: int) -> None:
    """Though its client is not in the canary: it was offered it, from wherever that was."""
    text = f'{HEAD}x402-v1 = {{ stage = "canary", share = "0.000001%" }}'
    async with levered("", Server([version])) as at:
        asked = await at.ask(V1)
        await at.say(text)
        assert V1 not in offered(await at.client.get("/report"))
        little = resign(sign(asked, PAYER, at.clock()), asked.offer.asset, value=1)
        assert V1 in offered(await at.client.get("/report", headers=[envelope(little, asked)]))
        at.server.price += 1
        assert V1 in offered(await at.later(asked))


# Every answer says that its protocol ends


async def unread(at: Levered) -> None:
    """Nothing is wrong at the upstream."""


async def no_upstream(at: Levered) -> None:
    """The upstream is away."""
    at.gateway._parts.upstreams.all[0].origin = "http://127.0.0.1:9"


async def fails(at: Levered) -> None:
    """The upstream answers 500."""
    at.server.on_paid = lambda server, scope, receive, send: server.reply(send, 500, b"broken")


async def asks_again(at: Levered) -> None:
    """The upstream has become dearer."""
    at.server.price += 1


@pytest.mark.parametrize("happens", [unread, no_upstream, fails, asks_again])
async def test_every_answer_in_a_deprecated_protocol_says_so(
    levered: Start, protocol: Protocol, happens: Callable[[Levered], Awaitable[None]]
) -> None:
    """Paid or not, from the upstream or in its place; and no answer in another does."""
    lever = '{ stage = "deprecated", sunset = 2040-01-01 }'
    async with levered(f"{HEAD}{protocol.value} = {lever}") as at:
        headers = {p: credential(await at.ask(p), PAYER, at.clock()) for p in PROTOCOLS}
        bad = [(name, "Payment x" if p is MPP else "%%%") for p, (name, _) in headers.items() if p is protocol]
        wallet = envelope(
            resign(sign(asked := await at.ask(V2), PAYER, at.clock()), asked.offer.asset, signer=PAYER, value=3), asked
        )
        await happens(at)
        for p, header in headers.items():
            answer = await at.client.get("/report", headers=[header])
            assert [name in answer.headers for name in NOTICE] == [p is protocol] * 3, (p, answer)
        for header in [*bad, *([wallet] if protocol is V2 else [])]:
            answer = await at.client.get("/report", headers=[header])
            assert [name in answer.headers for name in NOTICE] == [True] * 3, (header, answer)


async def test_an_unpaid_request_hears_of_the_end_of_the_only_way_to_pay(levered: Start) -> None:
    """Where the 402 offers one protocol and no other, that is its client's."""
    async with levered(f'{HEAD}x402-v2 = "deprecated"', protocols=()) as at:
        assert (await at.client.get("/report")).headers["deprecation"]
        assert "deprecation" not in (await at.client.get("/free")).headers


# The shadow

SHADOW = 'shadow = true\n[levers."*"]\nmpp = "off"\n'


async def test_the_shadow_compares_and_charges_nothing(levered: Start, version: int) -> None:
    """Each x402 payment is gone through once more as MPP would: in the upstream's version, and across."""
    async with levered(SHADOW, Server([version])) as at:
        for protocol in (V1, V2):
            assert (await at.pay(protocol)).status_code == 200
            compared = at.event("shadow.compared")
            assert (compared["protocol"], compared["upstream_protocol"]) == (protocol.value, f"x402-v{version}")
        assert "shadow.disagreed" not in at.events
        assert len(at.rows()) == len(at.server.settled) == 2
        await at.say('shadow = ["GET /other"]\n[levers."*"]\nmpp = "off"\n')
        assert (await at.pay(V2)).status_code == 200
        await at.say('shadow = true\n[levers."*"]\nmpp = "on"\n')
        assert (await at.pay(V2)).status_code == 200
        assert at.events.count("shadow.compared") == 2


async def test_the_shadow_says_where_mpp_would_not_go_along(levered: Start) -> None:
    """What is too long for a challenge; and nothing of a payment for what the upstream does not ask any more."""
    server = Server([2])
    server.entry_more = {
        "extra": {"name": "USDC", "version": "2", "more": [format(n * 7919 % 1000003, "x") for n in range(900)]}
    }
    async with levered(SHADOW, server) as at:
        assert (await at.pay(V2)).status_code == 200
        told = at.event("shadow.disagreed")
        assert (told["where"], "too long" in told["problem"]) == ("challenge", True)
        server.entry_more = {}
        asked = await at.ask(V2)
        server.price += 1
        await at.client.get("/report")
        assert (await at.later(asked)).status_code == 402
        assert len([event for event in at.events if event.startswith("shadow.")]) == 1


async def test_the_shadow_of_what_x402_refuses(levered: Start) -> None:
    """A payment in the other version that is refused here: MPP would have refused it as well."""
    async with levered(SHADOW) as at:
        asked = await at.ask(V1)
        little = resign(sign(asked, PAYER, at.clock()), asked.offer.asset, value=1)
        assert (await at.client.get("/report", headers=[envelope(little, asked)])).status_code == 402
        assert at.event("shadow.compared")["protocol"] == "x402-v1"


# By hand


@pytest.mark.parametrize("kind", ["file", "sqlite"])
async def test_the_commands_move_it_while_it_runs(levered: Start, tmp_path: Path, kind: str) -> None:
    """In a file or in a database, within the time that it is looked at; and `undo` takes it back."""
    at_ = f"{tmp_path}/levers.toml" if kind == "file" else f"sqlite:{tmp_path}/levers.sqlite3"

    async def x402_mpp(*arguments: str) -> None:
        result = await asyncio.to_thread(CliRunner().invoke, main, ["levers", "--at", at_, *arguments])
        assert result.exit_code == 0, result.output

    async with levered("", levers=at_, levers_seconds=0.02) as at:

        def counts(stage: str) -> bool:
            told = [fields for event, fields in at.told if event == "lever.changed"]
            return bool(told) and (told[-1]["after"], told[-1]["by"]) == (stage, "olga")

        await x402_mpp("set", "x402-v2", "refused", "--by", "olga", "--route", "/rep*", "--migration", PAGE)
        await until(lambda: counts("refused"))
        assert offered(await at.client.get("/report")) == {V1, MPP}
        assert offered(await at.client.get("/other")) == {V1, V2, MPP}
        await x402_mpp("undo", "--by", "olga")
        await until(lambda: counts("on"))
        assert (await at.pay(V2)).status_code == 200


# What is told


async def test_reports_know_of_it(levered: Start, tmp_path: Path) -> None:
    """Who was refused is counted by its protocol, and the levers that were moved are marks."""
    from bridge.analytics import open_events

    path = f"{tmp_path}/events.sqlite3"
    async with levered("", events=path) as at:
        asked = await at.ask(V1)
        assert (await at.pay(V1)).status_code == 200
        await at.say(f'{HEAD}x402-v1 = "refused"')
        at.clock.advance(301)
        assert (await at.later(asked)).status_code == 402
    with open_events(path) as events:
        ready = events.readiness(V1, since=0, until=4e9)
        assert (ready.payers, ready.refused, ready.stage) == (1, 1, "refused")
        assert [(m.event, m.protocol, m.stage) for m in events.marks(since=0, until=4e9)] == [
            ("lever.changed", "x402-v1", "refused")
        ]


async def test_no_lever_touches_what_is_free(levered: Start) -> None:
    """Whatever the stage, and whatever credential comes with it."""
    async with levered(f'{HEAD}x402-v1 = "refused"', Server([2])) as at:
        for headers in ({}, {"x-payment": json.dumps({})}):
            answer = await at.client.get("/free", headers=headers)
            assert (answer.status_code, answer.text) == (200, "free")
