"""A gateway's levers by route and client, and everything that is said of them."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import main
from bridge.payers import account, credential, sign
from tests.bridge.gateway.lab import (
    KEY,
    MPP,
    PAYER,
    PROTOCOLS,
    V1,
    V2,
    Server,
    until,
)
from tests.bridge.gateway.levered import HEAD, NOTICE, PAGE, Levered, Start, offered
from tests.bridge.harness import envelope, resign
from tests.layers import ROOT
from translators.levers import canary_point
from translators.payment import Protocol

pytestmark = pytest.mark.anyio


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
