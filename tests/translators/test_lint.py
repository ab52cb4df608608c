"""The rules: each says who asks for it and what to do, and none of them breaks on anything that a server can send."""

import copy
import json
import random
from typing import Any

import pytest

from tests.translators.foreign_samples import ENTRIES
from translators.encoding import b64_encode, b64url_encode
from translators.lint.known import is_internal, is_loopback
from translators.lint.probe import Exchange, PaidExchange, Probe, TokenFacts
from translators.lint.rule import Kind, Severity
from translators.lint.table import RULES, lint
from translators.payment import Protocol

NOW = 1_900_000_000.0
TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
PAY_TO = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"


def entry(**more: Any) -> dict[str, Any]:
    common = {"scheme": "exact", "asset": TOKEN, "payTo": PAY_TO, "maxTimeoutSeconds": 60}
    return {**common, "extra": {"name": "USDC", "version": "2"}, **more}


def parts(resource: str) -> dict[str, Any]:
    """The JSON of a 402, piece by piece."""
    v1 = entry(network="base-sepolia", maxAmountRequired="10000", resource=resource, description="")
    v2 = entry(network="eip155:84532", amount="10000")
    offer = {"intent": "charge", "method": "evm", "amount": "10000", "currency": TOKEN}
    operation = {"x-payment-info": {"offers": [offer]}, "responses": {"402": {}}}
    bazaar = {"info": {"input": {"type": "http", "method": "GET"}}, "schema": {}}
    return {
        "body": {"type": "about:blank", "title": "", "status": 402, "x402Version": 1, "error": "", "accepts": [v1]},
        "v2": {"x402Version": 2, "resource": {"url": resource}, "accepts": [v2], "extensions": {"bazaar": bazaar}},
        "request": {
            "amount": "10000",
            "currency": TOKEN,
            "recipient": PAY_TO,
            "methodDetails": {"chainId": 84532, "credentialTypes": ["authorization"], "decimals": 6},
        },
        "opaque": {"n": "1"},
        "openapi": {
            "openapi": "3.1.0",
            "info": {"title": "", "version": ""},
            "x-service-info": {"categories": [], "docs": {"homepage": "https://a.b"}},
            "paths": {"/{name}": {"get": operation, "post": operation}},
        },
        "receipt": {"success": True, "transaction": "0x" + "ab" * 32, "network": "eip155:84532", "payer": PAY_TO},
    }


def probe(said: dict[str, Any], url: str = "https://api.example.com/report") -> Probe:
    """A probe with everything in it."""
    request = b64url_encode(json.dumps(said["request"], separators=(",", ":"), sort_keys=True).encode())
    opaque = b64url_encode(json.dumps(said["opaque"]).encode())
    challenge = (
        f'Payment id="{"a" * 43}", realm="r", method="evm", intent="charge", request="{request}", opaque="{opaque}"'
    )
    headers = (
        ("WWW-Authenticate", challenge + ', expires="2030-03-17T17:50:00Z", digest="sha-256=:AAAA:"'),
        ("PAYMENT-REQUIRED", b64_encode(json.dumps(said["v2"]).encode())),
        ("X-PAYMENT-REQUIRED", b64_encode(json.dumps(said["body"]).encode())),
        ("Content-Type", "application/problem+json"),
        ("Cache-Control", "no-store"),
        ("Access-Control-Allow-Origin", "*"),
    )
    answer = Exchange("GET", url, 402, headers, json.dumps(said["body"]).encode())
    receipt = b64_encode(json.dumps(said["receipt"]).encode())
    paid = Exchange("GET", url, 200, (("Payment-Receipt", receipt), ("PAYMENT-RESPONSE", receipt)))
    document = Exchange("GET", url, 200, (("Content-Type", "application/json"),), json.dumps(said["openapi"]).encode())
    return Probe(
        url,
        "GET",
        NOW,
        answer,
        b"body",
        again=answer,
        preflight=answer,
        head=answer,
        openapi=document,
        tokens=(TokenFacts(84532, TOKEN.lower(), True, "USDC", "2", 6, b"\0" * 32, True),),
        paid=tuple(PaidExchange(protocol, 10_000, 84532, PAY_TO, paid, paid, 1, 2, False) for protocol in Protocol),
        expected=tuple(Protocol),
    )


def test_every_rule_is_whole() -> None:
    """A name of its own, a clause and a remedy; an error that only we ask for says what it rests on."""
    assert len({rule.id for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.severity in Severity
        assert rule.kind in Kind
        assert len(rule.title) < 70
        assert rule.clause
        assert rule.remedy
        assert rule.kind is Kind.ADVICE or any(
            text in rule.clause for text in ("RFC", "draft", "x402", "EIP", "scheme")
        )


VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**400, 1.5, "", "x" * 500, [], {}, [[]], [{}], {"a": {}}, ["permit2"], "\ud800", "0x"),
    *("eip155:", "eip155:x", "http://[", "//", "base", "\x00", "1" * 400),
)


def test_no_rule_breaks_on_what_a_server_can_send() -> None:
    """Any member of any message replaced by anything."""
    chance = random.Random(11)
    for _ in range(600):
        said = parts("https://api.example.com/report")
        for _ in range(chance.randrange(1, 4)):
            at: Any = said[chance.choice(list(said))]
            while True:
                keys = list(at) if isinstance(at, dict) else list(range(len(at))) if isinstance(at, list) else []
                if not keys:
                    break
                key = chance.choice(keys)
                if not isinstance(at[key], dict | list) or chance.random() < 0.3:
                    at[key] = copy.deepcopy(chance.choice(VALUES))
                    break
                at = at[key]
        for finding in lint(probe(said)):
            assert finding.detail


def test_what_only_v2_can_say_is_no_fault() -> None:
    """Permit2, ERC-7710, `upto`, Solana and Sui beside an EIP-3009 offer: other ways to pay, by other forms."""
    plain = parts("https://api.example.com/report")
    more = copy.deepcopy(plain)
    more["v2"]["accepts"] += ENTRIES.values()
    found = [{(f.rule.id, f.detail) for f in lint(probe(said))} for said in (plain, more)]
    added = {one for one in found[1] - found[0] if not one[0].startswith("headers-")}
    assert added == set()


@pytest.mark.parametrize("body", [b"", b"[" * 100_000, b"\xff\xfe", b"null", b'"402"', b"[]"])
def test_no_rule_breaks_on_a_body_that_is_none(body: bytes) -> None:
    """Nor on headers that are none."""
    for value in ("", "=", "Payment", "Payment ,", 'Payment id="\ud800"', "\x00", "=" * 70_000):
        headers = tuple((name, value) for name in ("WWW-Authenticate", "PAYMENT-REQUIRED", "X-PAYMENT-REQUIRED"))
        answer = Exchange("GET", "https://a.b/", 402, headers, body)
        lint(Probe("https://a.b/", "GET", NOW, answer, openapi=Exchange("GET", "https://a.b/", 200, headers, body)))


def rules_found(resource: str, url: str) -> set[str]:
    return {finding.rule.id for finding in lint(probe(parts(resource), url)) if finding.rule.id.startswith("resource-")}


@pytest.mark.parametrize(
    ("resource", "url", "found"),
    [
        ("https://api.example.com/report", "https://api.example.com/report", set()),
        ("https://api.example.com:443/report", "https://API.example.com/report?city=Oslo", set()),
        # Behind a proxy that ends TLS and does not say so.
        ("http://api.example.com/report", "https://api.example.com/report", {"resource-scheme"}),
        ("http://api.example.com:8000/report", "https://api.example.com/report", {"resource-scheme"}),
        ("http://localhost:8000/report", "https://api.example.com/report", {"resource-internal"}),
        ("http://10.0.0.7/report", "https://api.example.com/report", {"resource-internal"}),
        ("http://[fd00::1]/report", "https://api.example.com/report", {"resource-internal"}),
        ("http://web/report", "https://api.example.com/report", {"resource-internal"}),
        ("http://web.shop.svc.cluster.local/report", "https://api.example.com/report", {"resource-internal"}),
        ("https://api.example.org/report", "https://api.example.com/report", {"resource-host"}),
        ("https://api.example.com:8443/report", "https://api.example.com/report", {"resource-host"}),
        ("https://api.example.com/v1/report", "https://api.example.com/report", {"resource-path"}),
        ("https://api.example.com/caf%C3%A9", "https://api.example.com/café", set()),
        ("/report", "https://api.example.com/report", {"resource-invalid"}),
        ("http://127.0.0.1:8000/report", "http://localhost:8000/report", set()),
    ],
)
def test_a_resource_is_held_against_what_was_asked(resource: str, url: str, found: set[str]) -> None:
    """Scheme, host, port and path; what names the same thing in another way is no finding."""
    assert rules_found(resource, url) == found


def test_hosts_are_told_apart() -> None:
    """This machine, the machines behind a door, and everybody's."""
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1", "shop.localhost")))
    assert not any(map(is_loopback, ("127.0.0.1.example.com", "10.0.0.1", "example.com")))
    assert all(map(is_internal, ("10.0.0.1", "192.168.1.1", "169.254.169.254", "web", "a.internal", "fd00::1")))
    assert not any(map(is_internal, ("example.com", "8.8.8.8", "internal.example.com")))
