"""The paid server that the fleet visits: five routes behind the real middleware, and a chain that has accidents."""

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import httpx

from bridge.analytics import EventStore
from bridge.asgi import PaymentMiddleware
from bridge.config import PaymentConfig
from bridge.pricing import Paid, Price
from bridge.settlers.base import BeforeBroadcast, Found
from bridge.stores import MemoryStore
from bridge.stores.base import Record
from bridge.testing import FakeSettler, FixedClock, account
from translators.errors import InsufficientFunds, OutcomeUnknown, SettlementFailed
from translators.payment import Offer, Payment, Resource, Settlement

ROUTES: dict[str, Paid] = {
    "GET /weather": Paid("0.001"),
    "GET /report/{id}": Paid("0.05"),
    "GET /feed": Paid("0.01"),
    "POST /render": Paid("0.25", settle="first"),
    "GET /archive": Paid(Price("1.00", network="base")),
}


class Chain:
    """Money in memory. One settlement in a hundred fails, and of two in a hundred nobody hears what came of it.

    Of these two, one has moved the money. `balances` are those of payers who may run out of money.
    """

    def __init__(self, clock: Callable[[], float], rng: Random) -> None:
        self._fake = FakeSettler()
        self._fake.on_verify = self._check_balance
        self._clock, self._rng = clock, rng
        self.balances: dict[str, int] = {}
        self.moved: dict[str, Settlement] = {}
        self.start, self.close, self.ping = self._fake.start, self._fake.close, self._fake.ping
        self.verify, self.check_signature = self._fake.verify, self._fake.check_signature

    def has(self, payment_id: str) -> bool:
        """Whether it has moved the money of a payment."""
        return payment_id in self.moved

    def _check_balance(self, payment: Payment) -> None:
        signed = payment.authorization
        if self.balances.get(signed.payer, signed.value) < signed.value:
            raise InsufficientFunds("the payer does not hold the amount")

    async def settle(
        self, payment: Payment, offer: Offer, resource: Resource, before_broadcast: BeforeBroadcast
    ) -> Settlement:
        """Move the money, as a rule."""
        luck = self._rng.random()
        if luck < 0.01:
            raise SettlementFailed("the token refused the settlement")
        self._fake.on_settle = _lose if luck < 0.02 else None
        settlement = await self._fake.settle(payment, offer, resource, before_broadcast)
        assert payment.id not in self.moved, "a payment that was taken twice"
        self.moved[payment.id] = settlement
        payer = payment.authorization.payer
        if payer in self.balances:
            self.balances[payer] -= settlement.amount
        if luck < 0.03:
            _lose(payment)
        return settlement

    async def find(self, record: Record) -> Found | None:
        """What the chain knows of a payment."""
        self._fake.chain_time = int(self._clock())
        return await self._fake.find(record)


def _lose(_: Payment) -> None:
    raise OutcomeUnknown("the settlement's outcome is not known; send the same credential again")


class Shop:
    """The application and its gate, with the clock that all of it goes by."""

    def __init__(self, clock: FixedClock, rng: Random, *, events: str, levers: str) -> None:
        self.chain = Chain(clock, rng)
        self._rng = rng
        self.app = PaymentMiddleware(
            self._answer,
            config=PaymentConfig(
                recipient=account("the shop of the fleet").address,
                settler=self.chain,
                network="base-sepolia",
                store=MemoryStore(),
                secret_keys=["a key of the fleet that guards nothing: 32 bytes"],
                levers=levers,
                clock=clock,
                event_store=EventStore(url=events, queue_events=1_000_000),
                # The fleet's clock is not the wall's: it says itself when levers and payments are looked at.
                levers_seconds=100_000,
                reconcile_seconds=100_000,
            ),
            routes=ROUTES,
        )

    def flush(self) -> None:
        """Wait until every event so far is in the store."""
        recorder = self.app.config.recorder
        assert recorder is not None
        assert recorder.flush(60), "the event store did not keep up"

    async def look(self) -> None:
        """Look at the levers, as the server does every second."""
        assert self.app.gate.board is not None
        await self.app.gate.board.refresh()

    async def reconcile(self) -> None:
        """Ask the chain about payments that nobody works on, as the server does every quarter of a minute."""
        await self.app.gate.reconciler.once()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/feed":
            await self._stream(send)
            return
        # What is rendered is hard to render.
        fails = self._rng.random() < (0.04 if scope["path"] == "/render" else 0.015)
        body = b'{"error":"try again"}' if fails else b'{"answer":"worth it"}'
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 500 if fails else 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"first half, ", "more_body": True})
        if self._rng.random() < 0.02:
            raise ConnectionError("the feed broke off")
        await send({"type": "http.response.body", "body": b"second half"})


class Answer(httpx.Response):
    """What came back; `is_whole` unless it broke off."""

    is_whole = True

    @property
    def said(self) -> dict[str, Any]:
        """Its JSON, where it is an object."""
        try:
            found = json.loads(self.content)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


async def send(app: Any, method: str, path: str, headers: Mapping[str, str], address: str) -> Answer:
    """One request from `address`, straight over ASGI."""
    body = b'{"scene":"a teapot"}' if method == "POST" else b""
    own = dict(headers)
    if body:
        own |= {"content-type": "application/json", "content-length": str(len(body))}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")] + [(k.lower().encode(), v.encode("latin-1")) for k, v in own.items()],
        "client": (address, 4242),
        "server": ("127.0.0.1", 8000),
    }
    messages: list[dict[str, Any]] = []
    unread = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return unread.pop() if unread else {"type": "http.disconnect"}

    async def take(message: dict[str, Any]) -> None:
        messages.append(message)

    is_whole = True
    try:
        await app(scope, receive, take)
    except ConnectionError:
        is_whole = False
    start, *bodies = messages
    content = b"".join(message.get("body", b"") for message in bodies)
    answer = Answer(start["status"], headers=list(start["headers"]), content=content)
    answer.is_whole = is_whole
    return answer
