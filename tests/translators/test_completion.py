"""What levers leave of an upstream's 402, in headers and body, and what the whole of it can be paid in."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest

from tests.translators.test_upstream import PLACE, V1_ENTRY, V2_ENTRY, v1_body, v2_header
from translators.completion import complete, payable
from translators.levers import Doors
from translators.payment import Protocol
from translators.upstream import Demand, longest_timeout, read_demand
from translators.wire import x402_v2

V1, V2, MPP = Protocol.X402_V1, Protocol.X402_V2, Protocol.MPP
ALL = frozenset(Protocol)
PERMIT2 = V2_ENTRY | {"extra": V2_ENTRY["extra"] | {"assetTransferMethod": "permit2"}}
CELO = V2_ENTRY | {"network": "eip155:42220"}
LONG = V2_ENTRY | {"extra": V2_ENTRY["extra"] | {"more": [format(n * 7919 % 1000003, "x") for n in range(900)]}}
OWN = b'Payment id="x", realm="shop", method="tempo", intent="charge", request="e30"'

Headers = list[tuple[bytes, bytes]]


def read(headers: Iterable[tuple[bytes, bytes]], body: bytes | None) -> Demand:
    demand = read_demand(headers, body)
    assert demand is not None
    return demand


@pytest.mark.parametrize(
    ("headers", "body", "adds", "protocols"),
    [
        ([v2_header()], b"{}", ALL, ALL),
        ([], v1_body(), ALL, ALL),
        ([v2_header()], b"{}", {MPP}, {V2, MPP}),
        ([], v1_body(), {V2}, {V1, V2}),
        ([v2_header()], v1_body(), set(), {V1, V2}),
        ([v2_header(PERMIT2)], b"{}", ALL, {V2}),
        ([v2_header(PERMIT2), (b"www-authenticate", OWN)], b"{}", set(), {V2, MPP}),
        ([v2_header(CELO)], b"{}", ALL, {V2, MPP}),
        ([v2_header(LONG)], b"{}", ALL, {V1, V2}),
        ([v2_header(accepts=[])], b"{}", ALL, set()),
        ([], v1_body(V1_ENTRY | {"scheme": "upto"}), ALL, {V1}),
    ],
)
def test_what_a_402_can_be_paid_in(
    headers: Headers, body: bytes, adds: set[Protocol], protocols: set[Protocol]
) -> None:
    """Its own versions, and what fits the protocols that may be added."""
    assert payable(read(headers, body), adds) == protocols


def whole(headers: Headers, body: bytes | None, doors: Doors, **problem: Any) -> tuple[Headers, bytes | None]:
    return complete(
        [(b"content-type", b"application/json"), *headers],
        body,
        read(headers, body),
        PLACE,
        adds=ALL,
        challenges=[b"Payment ours"],
        problem={"type": "about:blank", "error": "payment_required", **problem},
        refused=None,
        exposed=b"X",
        doors=doors,
    )


NAMES = {MPP: b"www-authenticate", V2: b"payment-required", V1: b"x-payment-required"}
SETS = [set(found) for size in (1, 2, 3) for found in itertools.combinations(Protocol, size)]


@pytest.mark.parametrize("offered", SETS, ids=lambda found: "+".join(sorted(found)))
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([v2_header()], b"{}"),
        ([], v1_body(more=1)),
        ([v2_header()], v1_body(more=1)),
        ([], json.dumps({"x402Version": 2, "resource": {"url": "/"}, "accepts": [V2_ENTRY], "more": 1}).encode()),
        ([v2_header(), (b"www-authenticate", OWN)], json.dumps({"x402Version": 2, "accepts": [V2_ENTRY]}).encode()),
    ],
)
def test_only_what_is_offered_is_in_it(headers: Headers, body: bytes, offered: set[Protocol]) -> None:
    """Whoever said it, in the headers and in the body; what else the upstream says stays."""
    out, content = whole(headers, body, Doors(tuple(offered)))
    assert {protocol for protocol, name in NAMES.items() if name in {n.lower() for n, _ in out}} == offered
    said = json.loads(content or b"")
    version = said.get("x402Version")
    assert (version == 1) == (V1 in offered)
    assert version is None or {1: V1, 2: V2}[version] in offered
    assert bool(said.get("accepts")) == (version is not None)
    assert (b'"more"' in body) == ("more" in said)
    assert "resource" not in said or version == 2 or V2 in offered
    for name, value in out:
        if name.lower() == b"payment-required":
            assert x402_v2.decode_payment_required(value).accepts


def test_v1_clients_read_that_nothing_can_be_paid() -> None:
    """What the problem says in v1's words wins over what the upstream said."""
    told = {"x402Version": 1, "accepts": ()}
    for body in (v1_body(), json.dumps({"x402Version": 2, "accepts": [V2_ENTRY]}).encode()):
        _, content = whole([v2_header()], body, Doors((V2, MPP)), **told)
        said = json.loads(content or b"")
        assert (said["x402Version"], said["accepts"]) == (1, [])


@pytest.mark.parametrize("preferred", Protocol)
def test_the_preferred_comes_first(preferred: Protocol) -> None:
    """Before everything else, and nothing else is moved."""
    headers = [(b"x-first", b"1"), v2_header()]
    plain, _ = whole(headers, b"{}", Doors((MPP, V2, V1)))
    out, _ = whole(headers, b"{}", Doors((MPP, V2, V1), preferred=preferred))
    assert out[0][0].lower() == NAMES[preferred]
    rest = [item for item in plain if item[0].lower() != NAMES[preferred]]
    assert out[-len(rest) :] == rest


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (OWN, []),
        (b'Basic realm="a"', [b'Basic realm="a"']),
        (OWN + b', Basic realm="a, \\"b"', [b'Basic realm="a, \\"b"']),
        (b"Negotiate dG9r, " + OWN, [b"Negotiate dG9r"]),
        (b"payment broken, =", []),
        (b'Basic "', [b'Basic "']),
    ],
)
def test_what_else_stands_in_a_line_stays(line: bytes, left: list[bytes]) -> None:
    """An upstream's own MPP challenge goes, and no other scheme's."""
    out, _ = whole([v2_header(), (b"WWW-Authenticate", line)], b"{}", Doors((V2, V1)))
    assert [value for name, value in out if name.lower() == b"www-authenticate"] == left


def test_how_long_a_payment_may_take() -> None:
    """The longest that any entry says; what is no number says nothing."""
    body = v1_body(V1_ENTRY | {"maxTimeoutSeconds": 60})
    assert longest_timeout(read([v2_header(V2_ENTRY | {"maxTimeoutSeconds": 90})], body)) == 90
    assert longest_timeout(read([], body)) == 60
    assert longest_timeout(read([v2_header(V2_ENTRY | {"maxTimeoutSeconds": "x"})], b"{}")) == 0
