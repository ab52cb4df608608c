"""A paid application that a client talks to over httpx, and servers that answer by a script."""

import json
from collections.abc import Callable
from typing import Any

import httpx

from bridge.client import Ledger, PaymentAuth, Policy, Wallet
from bridge.client.signers import KeySigner
from bridge.payers import account
from bridge.pricing import AnyPrice, Paid
from tests.bridge.harness import House
from translators.payment import Protocol

PAYER = account("payer")
PRICE = 10_000
URL = "http://localhost/report"


class CountingSigner(KeySigner):
    """Knows every nonce that it has signed."""

    def __init__(self) -> None:
        super().__init__(PAYER.private_key)
        self.nonces: list[str] = []

    def sign(self, authorization: Any, asset: Any) -> bytes:
        self.nonces.append(authorization.nonce)
        return super().sign(authorization, asset)


def wallet(*, now: Callable[[], float] | None = None, ledger: Ledger | None = None, **rules: Any) -> Wallet:
    """A wallet that pays anything up to a dollar, and keeps count."""
    extra = {name: rules.pop(name) for name in ("patience", "approve", "rpc_url", "max_body_bytes") if name in rules}
    told: list[Any] = []
    made = Wallet(
        CountingSigner(),
        Policy(**({"max_amount": "1"} | rules)),
        ledger=ledger or Ledger(),
        on_progress=told.append,
        **extra,
    )
    if now is not None:
        made.clock = now
    made.told = told  # type: ignore[attr-defined]
    return made


def nonces(of: Wallet) -> list[str]:
    """What a `wallet` has signed."""
    assert isinstance(of.signer, CountingSigner)
    return of.signer.nonces


class Script(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A server that answers by a function of the request; what it was sent is in `requests`."""

    def __init__(self, answer: Callable[[httpx.Request, int], httpx.Response]) -> None:
        self._answer = answer
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answer(request, len(self.requests))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)

    @property
    def credentials(self) -> list[str]:
        """The credentials that came, in order."""
        return [value for request in self.requests if (value := credential_of(request)) is not None]


def credential_of(request: httpx.Request) -> str | None:
    names = ("x-payment", "payment-signature", "payment-authorization", "authorization")
    return next((request.headers[name] for name in names if name in request.headers), None)


async def a_402(routes: dict[str, AnyPrice | Paid] | None = None, **settings: Any) -> httpx.Response:
    """What a server of ours asks."""
    answer = await House(routes, **settings).visit()
    return httpx.Response(402, headers=answer.headers.multi_items(), content=answer.content)


def without(response: httpx.Response, *protocols: Protocol) -> httpx.Response:
    """A 402 that does not offer these."""
    names = {Protocol.MPP: "www-authenticate", Protocol.X402_V2: "payment-required"}
    dropped = {names[p] for p in protocols if p in names}
    if Protocol.X402_V1 in protocols:
        dropped.add("x-payment-required")
    kept = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in dropped]
    body = response.content
    if Protocol.X402_V1 in protocols:
        body = json.dumps({"type": "about:blank", "title": "Payment Required", "status": 402}).encode()
        kept = [(name, value) for name, value in kept if name.lower() != "content-length"]
    return httpx.Response(response.status_code, headers=kept, content=body)


def client(transport: Any, of: Wallet, **options: Any) -> httpx.Client:
    return httpx.Client(transport=transport, auth=PaymentAuth(of), **options)


def aclient(transport: Any, of: Wallet, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport, auth=PaymentAuth(of), **options)
