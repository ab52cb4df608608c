"""A right server of all three protocols, and the faults that can be planted in it, one at a time."""

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from translators.binding import body_digest, challenge_id, format_time
from translators.encoding import b64_encode, b64url_encode, jcs_encode
from translators.wire.mpp import Challenge

from .raw_server import RawAnswer, RawRequest

TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
PAY_TO = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
OTHER = "0x857b06519E91e3A54538791bDbb0E22373e36b66"
EXPOSED = "WWW-Authenticate, Payment-Receipt, PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-REQUIRED"
KEY = b"a key of thirty-two bytes or more, for tests"

Header = tuple[str, str]


def v1_entry(url: str) -> dict[str, Any]:
    return {
        "scheme": "exact",
        "network": "base-sepolia",
        "maxAmountRequired": "10000",
        "asset": TOKEN,
        "payTo": PAY_TO,
        "resource": url,
        "description": "The weather",
        "mimeType": "application/json",
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USDC", "version": "2"},
    }


def v2_entry() -> dict[str, Any]:
    return {
        "scheme": "exact",
        "network": "eip155:84532",
        "amount": "10000",
        "asset": TOKEN,
        "payTo": PAY_TO,
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USDC", "version": "2"},
    }


def charge() -> dict[str, Any]:
    details = {"chainId": 84532, "credentialTypes": ["authorization"], "decimals": 6}
    return {"amount": "10000", "currency": TOKEN, "recipient": PAY_TO, "methodDetails": details}


def document() -> dict[str, Any]:
    offer = {"intent": "charge", "method": "evm", "amount": "10000", "currency": TOKEN}
    operation = {"x-payment-info": {"offers": [offer]}, "responses": {"402": {"description": "Payment Required"}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Weather", "version": "1"},
        "x-service-info": {"categories": ["data"], "docs": {"homepage": "https://example.com/docs"}},
        "paths": {"/weather": {"get": operation, "post": {**operation, "requestBody": {"content": {}}}}},
    }


@dataclass
class Shop:
    """What one answer is made of; a fault changes some of it before it is written."""

    request: RawRequest
    url: str
    realm: str
    v1: dict[str, Any] = field(default_factory=dict)
    v2: dict[str, Any] = field(default_factory=dict)
    charges: list[dict[str, Any]] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    """Parameters of each challenge, over the usual ones."""
    without: set[str] = field(default_factory=set)
    """Parameters that are left out of each challenge."""
    problem: dict[str, Any] = field(default_factory=dict)
    openapi: dict[str, Any] | None = None
    openapi_headers: list[Header] = field(default_factory=list)
    status: int = 402
    late: list[Callable[[list[Header]], list[Header]]] = field(default_factory=list)
    """What is done to the headers last."""
    body: bytes | None = None
    preflight: RawAnswer | None = None
    head: RawAnswer | None = None
    encode_v2: Callable[[bytes], str] = b64_encode
    encode_request: Callable[[dict[str, Any]], str] = lambda value: b64url_encode(jcs_encode(value))
    v1_header: dict[str, Any] | None = None

    def challenges(self) -> list[str]:
        lines = []
        for number, request in enumerate(self.charges):
            known: dict[str, Any] = {
                "realm": self.realm,
                "method": "evm",
                "intent": "charge",
                "request": self.encode_request(request),
                "expires": format_time(time.time() + 300),
                "opaque": b64url_encode(jcs_encode({"n": f"{secrets.token_hex(8)}.{number}"})),
            }
            if self.request.body:
                known["digest"] = body_digest(self.request.body)
            known.update(self.params)
            known = {name: value for name, value in known.items() if name not in self.without}
            if "id" not in self.without:
                blank = dict.fromkeys(("id", "realm", "method", "intent", "request"), "")
                known = {"id": challenge_id(KEY, Challenge(**{**blank, **known})), **known}
            lines.append("Payment " + ", ".join(f'{name}="{value}"' for name, value in known.items()))
        return lines

    def answer(self) -> RawAnswer:
        if self.request.path == "/openapi.json":
            if self.openapi is None:
                return RawAnswer(404)
            return RawAnswer(200, self.openapi_headers, self.body or json.dumps(self.openapi).encode())
        if self.request.method == "OPTIONS" and self.preflight is not None:
            return self.preflight
        if self.request.method == "HEAD" and self.head is not None:
            return self.head
        headers = [("WWW-Authenticate", line) for line in self.challenges()]
        if self.v2:
            headers.append(("PAYMENT-REQUIRED", self.encode_v2(json.dumps(self.v2).encode())))
        if self.v1:
            told = self.v1 if self.v1_header is None else self.v1_header
            headers.append(("X-PAYMENT-REQUIRED", b64_encode(json.dumps(told).encode())))
        headers += [("Content-Type", "application/problem+json"), ("Cache-Control", "no-store")]
        headers += [("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", EXPOSED)]
        for change in self.late:
            headers = change(headers)
        body = json.dumps({**self.problem, **self.v1}).encode() if self.body is None else self.body
        return RawAnswer(self.status, headers, body)


def right(request: RawRequest, *, origin: str | None = None) -> Shop:
    """A shop without a fault, that answers under its own address or under another origin."""
    origin = origin or f"http://{request.headers['host']}"
    url = origin + request.path
    permitted = "authorization, payment-signature, x-payment, content-type"
    return Shop(
        request,
        url,
        origin.partition("://")[2],
        v1={"x402Version": 1, "error": "X-PAYMENT header is required", "accepts": [v1_entry(url)]},
        v2={"x402Version": 2, "error": "payment", "resource": {"url": url}, "accepts": [v2_entry()]},
        charges=[charge()],
        problem={
            "type": "https://paymentauth.org/problems/payment-required",
            "title": "Payment Required",
            "status": 402,
            "detail": "This costs a cent.",
        },
        openapi=document(),
        openapi_headers=[("Content-Type", "application/json"), ("Cache-Control", "max-age=300")],
        preflight=RawAnswer(204, [("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Headers", permitted)]),
    )


# Changes of headers


def put(name: str, value: str) -> Callable[[list[Header]], list[Header]]:
    """Replace a header, at its place, or add it."""

    def change(headers: list[Header]) -> list[Header]:
        if not any(key.lower() == name.lower() for key, _ in headers):
            return [*headers, (name, value)]
        return [(key, value if key.lower() == name.lower() else old) for key, old in headers]

    return change


def drop(name: str) -> Callable[[list[Header]], list[Header]]:
    return lambda headers: [(key, value) for key, value in headers if key.lower() != name.lower()]


def twice(name: str) -> Callable[[list[Header]], list[Header]]:
    return lambda headers: headers + [pair for pair in headers if pair[0].lower() == name.lower()]


def fill(size: int) -> Callable[[list[Header]], list[Header]]:
    """Make the block of headers about so long."""

    def change(headers: list[Header]) -> list[Header]:
        used = sum(len(name) + len(value) + 4 for name, value in headers)
        return [*headers, ("X-Debug", "x" * max(size - used, 0))]

    return change


def fold(headers: list[Header]) -> list[Header]:
    """What an intermediary does that joins lines."""
    lines = [value for name, value in headers if name == "WWW-Authenticate"]
    return [("WWW-Authenticate", ", ".join(lines)), *drop("WWW-Authenticate")(headers)]


def digest_without_colons(body: bytes) -> str:
    return "sha-256=" + b64_encode(hashlib.sha256(body).digest())
