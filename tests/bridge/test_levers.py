"""Levers at the gate: what each client gets at each stage, and how a lever is moved while the server runs."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bridge.config import ConfigError, PaymentConfig
from bridge.payers import account, read_402, sign
from bridge.pricing import Paid
from bridge.stores import MemoryStore
from bridge.testing import FakeSettler, FixedClock
from tests.bridge.harness import (
    MPP,
    PAYER,
    PROTOCOLS,
    RECEIPT_HEADER,
    RECIPIENT,
    V1,
    V2,
    Answer,
    Headers,
    House,
    envelope,
    resign,
)
from translators.errors import VerificationFailed
from translators.levers_toml import parse_document
from translators.lifecycle import State
from translators.payment import Protocol
from translators.price import PriceError

pytestmark = pytest.mark.anyio

PAGE = "https://api.example.com/moving"
HEAD = f'migration = "{PAGE}"\n[levers."*"]\n'
HEADER = {V1: "x-payment-required", V2: "payment-required", MPP: "www-authenticate"}
NOTICE = ("deprecation", "sunset", "link")


class Levered(House):
    """A house whose levers stand in a file."""

    def __init__(self, path: Path, text: str = "", **settings: Any) -> None:
        self.path = path / "levers.toml"
        self.path.write_text(text)
        # Nobody looks but the test, unless it says otherwise.
        super().__init__(levers=str(self.path), **{"levers_seconds": 3600.0, **settings})

    async def start(self) -> "Levered":
        await self.app._start()
        return self

    async def say(self, text: str) -> None:
        """The owner writes the file, and the server looks at it."""
        self.path.write_text(text)
        await self.look()

    async def look(self) -> None:
        assert self.app.gate.board is not None
        await self.app.gate.board.refresh()

    def changes(self) -> list[dict[str, Any]]:
        return [fields for event, fields in self.told if event == "lever.changed"]


def offered(answer: Answer) -> set[Protocol]:
    """The protocols that a 402 can be paid in."""
    assert answer.status_code == 402
    found = {protocol for protocol, header in HEADER.items() if header in answer.headers}
    assert (V1 in found) == bool(answer.json().get("accepts"))
    return found


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    return request.param


async def test_every_stage_forwards_and_back(protocol: Protocol, tmp_path: Path) -> None:
    """Offered or not, paid or refused, in each protocol; and then everything is as before."""
    house = await Levered(tmp_path).start()
    others = set(PROTOCOLS) - {protocol}
    steps = ["on", "preferred", "deprecated", "off", "refused", "off", "deprecated", "preferred", "on"]
    was = "on"
    for stage in steps:
        before = await house.credential(protocol) if was not in ("off", "refused") else None
        await house.say(f'{HEAD}{protocol.value} = "{stage}"\n')
        asked = await house.visit()
        if stage in ("off", "refused"):
            assert offered(asked) == others
        else:
            assert offered(asked) == {protocol, *others}
            answer = await house.pay(protocol)
            assert answer.status_code == 200
            assert RECEIPT_HEADER[protocol] in answer.headers
            assert [name in answer.headers for name in NOTICE] == (
                [True, False, True] if stage == "deprecated" else [False] * 3
            )
        if before is not None:
            # Whoever was asked before the change is still taken.
            assert (await house.visit(headers=[before])).status_code == 200
        was = stage
        house.clock.advance(400)
    assert [change["after"] for change in house.changes()] == steps[1:]
    assert {change["protocol"] for change in house.changes()} == {protocol.value}
    assert [change["before"] for change in house.changes()] == steps[:-1]


async def test_preferred_comes_first(protocol: Protocol, tmp_path: Path) -> None:
    """Its header before those of the others, and its name in the body."""
    house = await Levered(tmp_path, f'{HEAD}{protocol.value} = "preferred"').start()
    answer = await house.visit()
    order = [name.decode() for name, _ in answer.messages[0]["headers"] if name.decode() in HEADER.values()]
    assert order[0] == HEADER[protocol]
    assert len(order) == 3
    assert answer.json()["preferred"] == protocol.value


async def test_nothing_is_said_where_no_lever_was_moved(tmp_path: Path) -> None:
    """The answers are those of a server that has no levers, byte for byte."""
    plain, levered = House(), await Levered(tmp_path, "# nothing yet\n").start()
    one, two = await plain.visit(), await levered.visit()
    assert one.content == two.content
    assert list(one.headers) == list(two.headers)


# Refused


REFUSED = {V1: (402, "unsupported"), V2: (402, "unsupported"), MPP: (400, "unsupported")}


async def late(house: Levered, protocol: Protocol, text: str, **headers: str) -> Answer:
    """What a client gets that pays long after the lever was moved, as if nobody had told it."""
    asked = await house.ask(protocol)
    await house.say(text)
    house.clock.advance(301)
    credential = envelope(sign(asked, PAYER, house.clock()), asked)
    return await house.visit(headers=[credential, *headers.items()])


async def test_a_refused_client_is_told_what_to_use(protocol: Protocol, tmp_path: Path) -> None:
    """A problem in its own words: what instead, and where to read about it. Nothing is claimed or charged."""
    house = await Levered(tmp_path).start()
    rest = [p for p in (MPP, V2, V1) if p is not protocol]
    answer = await late(house, protocol, f'{HEAD}{protocol.value} = "refused"')
    body = answer.json()
    assert (answer.status_code, answer.problem) == (400 if protocol is MPP else 402, "method-unsupported")
    assert (body["stage"], body["use"], body["migration"]) == ("refused", [p.value for p in rest], PAGE)
    assert (body["error"], protocol.value in body["detail"]) == ("protocol_refused", True)
    assert answer.headers["link"] == f'<{PAGE}>; rel="deprecation"'
    assert answer.headers["deprecation"].startswith("@19")
    if protocol is V1:
        # Its clients read the body only, and find that nothing can be paid in v1.
        assert (body["x402Version"], body["accepts"]) == (1, [])
    if protocol is not MPP:
        assert offered(answer) == set(rest) if protocol is not V1 else set(rest) <= {V2, MPP}
    assert house.settler.settlements == []
    assert house.settler.verified == []
    assert house.store._rows == {}  # type: ignore[attr-defined]
    rejected = house.event("payment.rejected")
    assert (rejected["reason"], rejected["protocol"]) == ("protocol_refused", protocol.value)


async def test_what_is_off_is_not_spoken_of(tmp_path: Path) -> None:
    """A client that was never served in a protocol hears nothing of it; one that is refused finds it in the body."""
    house = await Levered(tmp_path, f'{HEAD}x402-v1 = "off"\nmpp = "refused"').start()
    body = (await house.visit()).json()
    assert (body["refused"], body["migration"]) == (["mpp"], PAGE)
    assert "x402Version" not in body
    await house.say(f'{HEAD}x402-v1 = "refused"')
    body = (await house.visit()).json()
    assert (body["refused"], body["x402Version"], body["accepts"]) == (["x402-v1"], 1, [])


async def test_a_bad_credential_in_a_refused_protocol_is_refused_for_that(protocol: Protocol, tmp_path: Path) -> None:
    """What else is wrong with it is of no use to somebody who has to change his client."""
    house = await Levered(tmp_path, f'{HEAD}{protocol.value} = "refused"').start()
    name = {V1: "X-PAYMENT", V2: "PAYMENT-SIGNATURE", MPP: "Authorization"}[protocol]
    answer = await house.visit(headers=[(name, "Payment e30" if protocol is MPP else "e30=")])
    assert (answer.problem, answer.json()["stage"]) == ("method-unsupported", "refused")


# Nobody loses money by a lever


async def test_a_challenge_from_before_the_change_is_honoured(tmp_path: Path) -> None:
    """For as long as it lives, and not a second longer."""
    house = await Levered(tmp_path).start()
    in_time, too_late = await house.credential(MPP), await house.credential(MPP)
    await house.say(f'{HEAD}mpp = "off"')
    house.clock.advance(290)
    assert (await house.visit(headers=[in_time])).status_code == 200
    house.clock.advance(20)
    answer = await house.visit(headers=[too_late])
    assert (answer.status_code, answer.json()["stage"]) == (400, "off")


async def test_servers_need_not_see_a_change_at_once(protocol: Protocol, tmp_path: Path) -> None:
    """Whoever one server has offered a protocol to can pay in it on another, which has not looked yet."""
    text = f'{HEAD}{protocol.value} = "off"'
    one, other = await Levered(tmp_path, text).start(), await Levered(tmp_path, text).start()
    await one.say("")
    credential = await one.credential(protocol)
    assert protocol not in offered(await other.visit())
    assert (await other.visit(headers=[credential])).status_code == 200
    # And the other way round.
    credential = await other.credential(protocol)
    await one.say(text)
    for server in (one, other):
        answer = await server.visit(headers=[await other.credential(protocol) if server is other else credential])
        assert answer.status_code == 200


@pytest.mark.parametrize("protocol", [V1, V2])
async def test_an_x402_payment_has_as_long_as_its_402_gave_it(protocol: Protocol, tmp_path: Path) -> None:
    """`maxTimeoutSeconds` after the change: it does not say which 402 it answers."""
    house = await Levered(tmp_path, max_timeout_seconds=60).start()
    asked = await house.ask(protocol)
    await house.say(f'{HEAD}{protocol.value} = "off"')
    for seconds, status in ((59, 200), (2, 402)):
        house.clock.advance(seconds)
        credential = envelope(sign(asked, PAYER, house.clock()), asked)
        assert (await house.visit(headers=[credential])).status_code == status


async def test_long_refused_stays_refused_over_a_restart(tmp_path: Path) -> None:
    """A server that starts with a shut protocol owes its clients no grace."""
    house = await Levered(tmp_path).start()
    asked = await house.ask(V2)
    again = await Levered(tmp_path, f'{HEAD}x402-v2 = "refused"').start()
    answer = await again.visit(headers=[envelope(sign(asked, PAYER, again.clock()), asked)])
    assert answer.json()["stage"] == "refused"


async def test_what_was_paid_is_answered_whatever_the_lever_says(protocol: Protocol, tmp_path: Path) -> None:
    """A settled payment whose answer broke off is delivered, long after its protocol was refused; and then replayed."""
    runs = []

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        runs.append(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if len(runs) == 1:
            raise OSError("gone")
        await send({"type": "http.response.body", "body": b"the report"})

    house = await Levered(tmp_path, handler=handler).start()
    credential = await house.credential(protocol)
    with pytest.raises(OSError, match="gone"):
        await house.visit(headers=[credential])
    assert (await house.record()).state is State.SETTLED
    await house.say(f'{HEAD}{protocol.value} = "refused"')
    house.clock.advance(400)
    for _ in range(2):
        answer = await house.visit(headers=[credential])
        assert (answer.status_code, answer.text) == (200, "the report")
        assert answer.headers["deprecation"]
    assert (len(runs), len(house.settler.settlements)) == (2, 1)


async def test_an_idempotency_key_finds_what_was_paid(tmp_path: Path) -> None:
    """A client that lost its credential signs anew, and is not refused the answer that it has paid for."""
    house = await Levered(tmp_path, replay_seconds=10_000.0).start()
    key = ("Idempotency-Key", "an order of mine")
    assert (await house.visit(headers=[await house.credential(V1), key])).status_code == 200
    asked = await house.ask(V1)
    await house.say(f'{HEAD}x402-v1 = "refused"')
    house.clock.advance(400)
    anew = [envelope(sign(asked, PAYER, house.clock()), asked) for _ in range(2)]
    answer = await house.visit(headers=[anew[0], key])
    assert (answer.status_code, answer.text) == (200, "the report")
    refused = await house.visit(headers=[anew[1], ("Idempotency-Key", "another")])
    assert refused.json()["stage"] == "refused"
    # And asking about a key does not take it from anybody.
    assert (await house.visit(headers=[await house.credential(V2), ("Idempotency-Key", "another")])).status_code == 200
    assert len(house.settler.settlements) == 2


STAGES = (
    '"on"',
    '"off"',
    '"refused"',
    '"preferred"',
    '"deprecated"',
    '{ stage = "canary", share = "50%" }',
    '{ stage = "canary", header = "X-Try" }',
    '{ stage = "canary", share = "50%", by = "X-Customer" }',
    '{ stage = "canary", share = "50%", by = "payer" }',
)


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_was_offered_a_protocol_can_pay_in_it(seed: int, tmp_path: Path) -> None:
    """Whatever the owner does, on whichever of two servers the client asks and pays, wherever it pays from."""
    random = Random(seed)
    clock = FixedClock()
    settings: dict[str, Any] = {"clock": clock, "store": MemoryStore(), "settler": FakeSettler()}
    servers = [await Levered(tmp_path, **settings).start() for _ in range(2)]
    for server in servers:
        server.path = servers[0].path
    waiting: list[tuple[Any, Headers, float]] = []
    paid = 0
    for _ in range(400):
        match random.randrange(8):
            case 0:
                shut = random.choice(PROTOCOLS)
                servers[0].path.write_text(f"{HEAD}{shut.value} = {random.choice(STAGES)}\n")
            case 1 | 2:
                await random.choice(servers).look()
            case 3:
                # Nobody looks later than this in earnest.
                for server in servers:
                    await server.look()
                clock.advance(random.randrange(60))
            case 4 | 5:
                who: Headers = random.choice([[], [("X-Try", "1")], [("X-Customer", str(random.randrange(9)))]])
                address = f"192.0.2.{random.randrange(9)}"
                answer = await random.choice(servers).visit(headers=who, client=(address, 1))
                found = sorted(offered(answer))
                waiting.append((read_402(answer, random.choice(found)), who, clock()))
            case _ if waiting:
                asked, who, since = waiting.pop(random.randrange(len(waiting)))
                if clock() - since > 230:
                    continue  # this 402 said 300 seconds, and a server may have been asked that had not looked
                address = f"198.51.100.{random.randrange(9)}"
                credential = envelope(sign(asked, account(str(paid)), clock()), asked)
                answer = await random.choice(servers).visit(headers=[credential, *who], client=(address, 2))
                assert answer.status_code == 200, answer.text
                paid += 1
    assert paid > 30


# Deprecated, and brownouts

PLAN = """
[levers."*".x402-v1]
on_until = 2030-04-01
refused_from = 2030-06-01
brownouts = [{ from = 2030-05-01T10:00:00Z, until = 2030-05-01T11:00:00Z }]
"""


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


async def test_a_plan_is_executed_by_the_clock(tmp_path: Path) -> None:
    """On, deprecated, a brownout and its end, refused: without a restart, each told as an event with its own time."""
    clock = FixedClock(at("2030-03-20"))
    house = await Levered(tmp_path, f'migration = "{PAGE}"\n{PLAN}', clock=clock).start()
    steps = [
        ("2030-03-31T23:59:59", 200, None),
        ("2030-04-01T00:00:00", 200, "deprecated"),
        ("2030-05-01T10:30:00", 402, "brownout"),
        ("2030-05-01T11:00:00", 200, "deprecated"),
        ("2030-06-02T00:00:00", 402, "refused"),
    ]
    asked = await house.ask(V1)
    for moment, status, stage in steps:
        clock.now = at(moment)
        answer = await house.visit(headers=[envelope(sign(asked, PAYER, clock()), asked)])
        assert answer.status_code == status, moment
        assert (V1 in offered(await house.visit())) == (status == 200)
        if stage is not None:
            assert answer.headers["deprecation"] == f"@{int(at('2030-04-01')):d}"
            assert answer.headers["sunset"] == "Sat, 01 Jun 2030 00:00:00 GMT"
            assert answer.headers["link"] == f'<{PAGE}>; rel="deprecation sunset"'
        if stage == "brownout":
            assert answer.headers["retry-after"] == "1800"
            assert answer.json()["stage"] == "brownout"
        await house.look()
    assert [(change["after"], change["at"], change["source"]) for change in house.changes()] == [
        ("deprecated", at("2030-04-01"), "plan"),
        ("brownout", at("2030-05-01T10:00:00"), "plan"),
        ("deprecated", at("2030-05-01T11:00:00"), "plan"),
        ("refused", at("2030-06-01"), "plan"),
    ]


async def test_every_answer_in_a_deprecated_protocol_says_so(protocol: Protocol, tmp_path: Path) -> None:
    """Paid, failed in the handler, refused, 503, replayed: and never to somebody who pays in another protocol."""
    house = await Levered(tmp_path, f'{HEAD}{protocol.value} = {{ stage = "deprecated", sunset = 2031-01-01 }}').start()

    async def said(answer: Answer, expected: bool = True) -> None:
        assert [name in answer.headers for name in NOTICE] == [expected] * 3
        if expected:
            exposed = answer.headers.get_list("access-control-expose-headers", split_commas=True)
            assert {"Deprecation", "Sunset", "Link"} <= set(exposed)

    credential = await house.credential(protocol)
    for _ in range(2):
        await said(await house.visit(headers=[credential]))
    house.messages = [
        {"type": "http.response.start", "status": 500, "headers": []},
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]
    await said(await house.pay(protocol))
    name = {V1: "X-PAYMENT", V2: "PAYMENT-SIGNATURE", MPP: "Authorization"}[protocol]
    await said(await house.visit(headers=[(name, "Payment !" if protocol is MPP else "!")]))
    other = next(p for p in PROTOCOLS if p is not protocol)
    await said(await house.pay(other), expected=False)
    # Nobody knows which of three protocols an unpaid client speaks.
    await said(await house.visit(), expected=False)


async def test_an_answer_that_is_sent_again_says_what_holds_now(tmp_path: Path) -> None:
    """Kept before the deprecation, or in it, and asked for again after."""
    house = await Levered(tmp_path).start()
    credential = await house.credential(V2)
    assert "deprecation" not in (await house.visit(headers=[credential])).headers
    await house.say(f'{HEAD}x402-v2 = "deprecated"')
    assert (await house.visit(headers=[credential])).headers.get_list("deprecation") == [f"@{int(house.clock())}"]
    later = await house.credential(V2)
    assert "deprecation" in (await house.visit(headers=[later])).headers
    await house.say("")
    assert "deprecation" not in (await house.visit(headers=[later])).headers


async def test_an_unpaid_answer_in_one_protocol_is_told_as_well(tmp_path: Path) -> None:
    """Where the route is paid in that protocol alone."""
    routes = {"GET /report": Paid("0.01", protocols=[V2])}
    house = await Levered(tmp_path, f'{HEAD}x402-v2 = "deprecated"', routes=routes).start()
    assert "deprecation" in (await house.visit()).headers


# Canaries and clients


async def test_a_canary_by_address_is_offered_to_its_share_and_taken_from_all(tmp_path: Path) -> None:
    """Whoever was offered a protocol can pay in it, also from another address."""
    house = await Levered(tmp_path, f'{HEAD}mpp = {{ stage = "canary", share = "30%" }}').start()
    credentials = []
    for number in range(100):
        answer = await house.visit(client=(f"192.0.2.{number}", 1))
        if MPP in offered(answer):
            credentials.append(read_402(answer, MPP))
    assert 15 < len(credentials) < 50
    again = [MPP in offered(await house.visit(client=(f"192.0.2.{number}", 2))) for number in range(100)]
    assert again.count(True) == len(credentials)
    for asked in credentials[:3]:
        for address in ("198.51.100.1", "203.0.113.9"):
            credential = envelope(sign(asked, PAYER, house.clock()), asked)
            answer = await house.visit(headers=[credential], client=(address, 3))
            assert answer.status_code in (200, 402 if address.startswith("203") else 200)
    assert len(house.settler.settlements) == 3


async def test_a_canary_by_header_takes_nobody_else(protocol: Protocol, tmp_path: Path) -> None:
    """The client says it when it asks and when it pays; who does not say it is refused."""
    house = await Levered(tmp_path).start()
    asked = await house.ask(protocol)
    await house.say(f'{HEAD}{protocol.value} = {{ stage = "canary", header = "X-Try" }}')
    house.clock.advance(301)
    assert protocol not in offered(await house.visit())
    answer = await house.visit(headers=[envelope(sign(asked, PAYER, house.clock()), asked)])
    assert answer.json()["stage"] == "canary"
    mine = [("X-Try", "yes")]
    asked = read_402(await house.visit(headers=mine), protocol)
    assert (await house.visit(headers=[envelope(sign(asked, PAYER, house.clock()), asked), *mine])).status_code == 200


async def test_a_half_is_switched_off_for_certain_clients(tmp_path: Path) -> None:
    """As some clients need it; whatever they pay in is taken."""
    text = """
[[clients]]
product = "agentcash"
without = ["mpp"]
[[clients]]
header = "X-Client"
value = "only-v1"
without = ["x402-v2"]
"""
    house = await Levered(tmp_path, text).start()
    assert offered(await house.visit()) == set(PROTOCOLS)
    assert offered(await house.visit(headers=[("User-Agent", "agentcash/0.14.4")])) == {V1, V2}
    assert offered(await house.visit(headers=[("X-Client", "only-v1")])) == {V1, MPP}
    credential = await house.credential(MPP)
    assert (await house.visit(headers=[credential, ("User-Agent", "agentcash/0.14.4")])).status_code == 200


# Where levers are said


async def test_the_route_the_application_and_the_default(tmp_path: Path) -> None:
    """The file's own lever of a route, then what stands beside the price, then the file's default."""
    routes = {
        "GET /a": Paid("0.01", levers={"mpp": "off", "x402-v1": {"stage": "canary", "header": "X-Old"}}),
        "GET /b": "0.01",
    }
    house = await Levered(tmp_path, f'{HEAD}x402-v2 = "preferred"\nx402-v1 = "off"\n', routes=routes).start()
    assert offered(await house.visit("GET", "/a", [("X-Old", "1")])) == {V1, V2}
    assert offered(await house.visit("GET", "/b")) == {MPP, V2}
    await house.say('[levers."GET /a"]\nmpp = "on"\n')
    assert offered(await house.visit("GET", "/a")) == {MPP, V2}
    assert offered(await house.visit("GET", "/b")) == set(PROTOCOLS)


async def test_another_route_s_change_gives_nobody_time(tmp_path: Path) -> None:
    """A route that has long refused a protocol refuses on when the default is moved; and back on it, gives time."""
    routes = {"GET /a": "0.01", "GET /b": "0.01"}
    own = '[levers."GET /a"]\nx402-v2 = "off"\n'
    house = await Levered(tmp_path, "", routes=routes).start()
    asked = {path: await house.ask(V2, "GET", path) for path in ("/a", "/b")}
    again = await Levered(tmp_path, own, routes=routes).start()

    async def pays(path: str) -> bool:
        credential = envelope(sign(asked[path], PAYER, again.clock()), asked[path])
        return (await again.visit("GET", path, [credential])).status_code == 200

    assert (await pays("/a"), await pays("/b")) == (False, True)
    await again.say(f'[levers."*"]\nx402-v2 = "off"\n{own}')
    assert (await pays("/a"), await pays("/b")) == (False, True)
    again.clock.advance(301)
    assert (await pays("/a"), await pays("/b")) == (False, False)
    await again.say(f'[levers."*"]\nx402-v2 = "off"\n{own.replace("off", "on")}')
    assert await pays("/a")
    await again.say('[levers."*"]\nx402-v2 = "off"\n')
    assert (await pays("/a"), await pays("/b")) == (True, False)


async def test_levers_may_be_an_object() -> None:
    """Which stays as it is."""
    house = House(levers=parse_document('[levers."*"]\nmpp = "off"').levers)
    assert offered(await house.visit()) == {V1, V2}
    board = house.app.gate.board
    assert board is not None
    await board.refresh()
    assert offered(await house.visit()) == {V1, V2}


def test_the_environment_may_name_the_file() -> None:
    """As it names the store."""
    config = PaymentConfig.from_env({"X402_MPP_RECIPIENT": RECIPIENT, "X402_MPP_LEVERS": "a.toml"}, settler="null")
    assert config.levers == "a.toml"


async def test_levers_beside_a_price_need_no_file() -> None:
    """And stay as they are."""
    house = House({"GET /report": Paid("0.01", levers={"mpp": "off"})})
    assert offered(await house.visit()) == {V1, V2}


def test_a_bad_lever_beside_a_price_stops_the_program() -> None:
    """With the route's name."""
    with pytest.raises(PriceError, match="GET /report: levers, mpp: 'onn' is no stage"):
        House({"GET /report": Paid("0.01", levers={"mpp": "onn"})})


@pytest.mark.parametrize("levers", ["levers.json", "mysql://u:secret@h/db", "sqlite::memory:", "https://x/levers.toml"])
def test_where_levers_cannot_be_is_said(levers: str) -> None:
    """At start-up, and without a password."""
    with pytest.raises(ConfigError, match="holds no levers") as raised:
        PaymentConfig(RECIPIENT, "null", store="memory", levers=levers).build()
    assert "secret" not in str(raised.value)


async def test_a_file_that_is_not_there_stops_the_program(tmp_path: Path) -> None:
    """Its name is told; nothing is served by guesswork."""
    house = House(levers=str(tmp_path / "levers.toml"))
    with pytest.raises(Exception, match="No such file"):
        await house.app._start()


async def test_levers_that_make_no_sense_stop_the_program(tmp_path: Path) -> None:
    """When they are there at the start."""
    house = Levered(tmp_path, '[levers."GET /reprot"]\nmpp = "off"')
    with pytest.raises(ValueError, match=r"levers\.toml: GET /reprot: no such route is priced; there are GET /report"):
        await house.app._start()


@pytest.mark.parametrize("text", ["[levers", '[levers."GET /x"]\nmpp = "off"', '[levers."*"]\nmpp = "onn"'])
async def test_a_bad_new_file_keeps_the_old_levers(text: str, tmp_path: Path, logged: list[Any]) -> None:
    """And says once what is wrong; a good one counts again."""
    house = await Levered(tmp_path, f'{HEAD}mpp = "off"').start()
    await house.say(text)
    await house.look()
    assert offered(await house.visit()) == {V1, V2}
    assert [line["log_level"] for line in logged if line["event"] == "levers.invalid"] == ["error"]
    house.path.unlink()
    for _ in range(2):
        await house.look()
    assert offered(await house.visit()) == {V1, V2}
    assert [line["log_level"] for line in logged if line["event"] == "levers.unreadable"] == ["error"]
    await house.say("")
    assert offered(await house.visit()) == set(PROTOCOLS)
    assert [change["source"] for change in house.changes()] == ["edit"]


async def test_a_running_server_looks_by_itself(tmp_path: Path) -> None:
    """Within the seconds that are set."""
    house = Levered(tmp_path, levers_seconds=0.02)
    await house.app._start()
    try:
        house.path.write_text(f'{HEAD}mpp = "off"')
        async with asyncio.timeout(10):
            while not house.changes():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert offered(await house.visit()) == {V1, V2}
    finally:
        await house.app._stop()


# The shadow

SHADOW = 'shadow = true\n[levers."*"]\nmpp = "off"\n'


async def test_the_shadow_compares_and_charges_nothing(tmp_path: Path) -> None:
    """Each x402 payment, once, beside its own way; MPP is not offered."""
    house = await Levered(tmp_path, SHADOW).start()
    for protocol in (V1, V2):
        assert (await house.pay(protocol)).status_code == 200
    await asyncio.sleep(0)
    compared = [fields for event, fields in house.told if event.startswith("shadow.")]
    assert [(fields["protocol"], fields["route"]) for fields in compared] == [
        ("x402-v1", "GET /report"),
        ("x402-v2", "GET /report"),
    ]
    assert "shadow.disagreed" not in house.events
    assert len(house.settler.settlements) == 2
    assert MPP not in offered(await house.visit())


async def test_the_shadow_says_where_mpp_would_not_go_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A description that breaks the challenge, say: told, and the payer notices nothing."""

    def broken(*_: Any) -> list[bytes]:
        return [b"Basic realm=x"]

    house = await Levered(tmp_path, SHADOW).start()
    monkeypatch.setattr(house.app.gate._means.shadow, "_challenges", broken)
    assert (await house.pay(V2)).status_code == 200
    await asyncio.sleep(0)
    assert house.event("shadow.disagreed")["where"] == "challenge"


async def test_the_shadow_of_what_x402_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both refuse it: nothing to tell but that. Where MPP would have taken it, that is said."""
    house = await Levered(tmp_path, SHADOW).start()
    asked = await house.ask(V2)
    payment = resign(sign(asked, PAYER, house.clock()), asked.offer.asset, value=1)
    answer = await house.visit(headers=[envelope(payment, asked)])
    assert answer.problem == "payment-insufficient"
    await house.visit(headers=[("PAYMENT-SIGNATURE", "nothing that can be read")])
    await asyncio.sleep(0)
    shadows = [(event, fields["protocol"]) for event, fields in house.told if event.startswith("shadow.")]
    assert shadows == [("shadow.compared", "x402-v2")]
    good = envelope(sign(asked, PAYER, house.clock()), asked)

    async def refuse(*_: Any) -> None:
        raise VerificationFailed("no")

    monkeypatch.setattr(house.app.gate._means.verifier, "check", refuse)
    assert (await house.visit(headers=[good])).status_code == 402
    await asyncio.sleep(0)
    disagreed = house.event("shadow.disagreed")
    assert (disagreed["where"], disagreed["protocol"]) == ("verdict", "x402-v2")
    assert "verification-failed" in disagreed["problem"]


async def test_a_defect_of_the_shadow_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    """Logged by its place, without its message."""
    secret = "0x" + "51" * 65

    def defect(*_: Any) -> list[bytes]:
        raise RuntimeError(secret)

    house = await Levered(tmp_path, SHADOW).start()
    monkeypatch.setattr(house.app.gate._means.shadow, "_challenges", defect)
    assert (await house.pay(V2)).status_code == 200
    await asyncio.sleep(0)
    (line,) = [line for line in logged if line["event"] == "shadow.failed"]
    assert secret not in str(line)


@pytest.mark.parametrize(
    "text", ['shadow = true\n[levers."*"]\nmpp = "on"\n', 'shadow = false\n[levers."*"]\nmpp = "off"']
)
async def test_no_shadow_where_mpp_is_there_or_nobody_asked(text: str, tmp_path: Path) -> None:
    """It costs nothing then."""
    house = await Levered(tmp_path, text).start()
    assert (await house.pay(V2)).status_code == 200
    await asyncio.sleep(0)
    assert not [event for event in house.events if event.startswith("shadow.")]
