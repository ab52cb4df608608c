"""Levers at a gateway: the old door is closed in front of a server that nobody touches, and opened again."""

import time
from typing import Any

import pytest

from tests.bridge.gateway.lab import (
    MPP,
    PROTOCOLS,
    RECEIPT,
    V1,
    V2,
    Server,
    gateway_before,
)
from tests.bridge.gateway.levered import HEAD, HEADER, NOTICE, PAGE, Start, offered
from translators.payment import Protocol

pytestmark = pytest.mark.anyio


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
