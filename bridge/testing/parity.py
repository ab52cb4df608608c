"""One application, paid in every protocol: whoever pays, the same has to happen.

Nothing is a double but the chain and the store: the application, its gate and the wire of each protocol are the real
ones.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import Any

import httpx

from bridge.client.outcome import RECEIPT_HEADERS, read_receipt
from bridge.client.signers import KeySigner
from bridge.payers import Account, account
from bridge.stores.memory import MemoryStore
from bridge.testing.doubles import FakeSettler
from translators.asks import Asked, envelope, read_asks, to_payment, to_sign
from translators.errors import MalformedError
from translators.payment import Asset, Protocol

__all__ = ["Effects", "Fakes", "NotAlike", "Parity"]

ASGIApp = Callable[[Any, Any, Any], Any]

_PASSING = frozenset({"date", "content-length", "cache-control", "access-control-expose-headers", "set-cookie"})
"""Headers of an answer that are not compared: they tell of the moment, or of the payment."""


class NotAlike(AssertionError):
    """A protocol had another effect than the others, or one that none may have; the message shows all of them."""


class Fakes:
    """What your application is built on for one payer: a chain and a store in memory, and a record of what happened.

    `settings` go into its `PaymentConfig`: `PaymentConfig(recipient, network=..., **fakes.settings)`.
    """

    def __init__(self) -> None:
        self.settler = FakeSettler()
        self.store = MemoryStore()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.settings: dict[str, Any] = {
            "event_store": None,
            "settler": self.settler,
            "store": self.store,
            "secret_keys": [secrets.token_bytes(32)],
            "sinks": [lambda name, fields: self.events.append((name, fields))],
        }

    def count(self, event: str) -> int:
        """How often an event was emitted."""
        return sum(name == event for name, _ in self.events)


@dataclass(frozen=True)
class Effects:
    """What paying for one request in one protocol did. Every member is compared, across protocols."""

    unpaid: int
    """The status without a payment."""
    status: int
    headers: Mapping[str, str]
    """The answer's own: not those of the payment, of the moment, or that you leave out."""
    body: Any
    """The bytes, or what your `body` function makes of them."""
    charged: tuple[tuple[str, int, str, str], ...]
    """Network, amount in atomic units, token and recipient of each settlement."""
    runs: int
    """How often the handler was let run, for the payment and for the same credential once more."""
    receipt: str
    """`names the transaction`, `none`, or what is wrong with it."""
    again: str
    """What the same credential got when it came again: `the same answer`, or its status."""
    forged: str
    """What a credential that somebody else signed got: `refused`, or its status."""
    state: Any = None
    """What your `state` function said afterwards."""


_FORGER = KeySigner(account("somebody else than the payer").private_key)


@dataclass
class Parity:
    """The check. Each protocol pays an application of its own, from the same account."""

    payer: Account = field(default_factory=lambda: account("a payer who tries every protocol"))

    def check(self, make_app: Callable[[Fakes], ASGIApp], method: str, path: str, **options: Any) -> Effects:
        """`acheck`, for a test that is not asynchronous."""
        return asyncio.run(self.acheck(make_app, method, path, **options))

    async def acheck(
        self,
        make_app: Callable[[Fakes], ASGIApp],
        method: str,
        path: str,
        *,
        protocols: Iterable[Protocol | str] = tuple(Protocol),
        body: Callable[[bytes], Any] = bytes,
        state: Callable[[], Any] | None = None,
        ignore_headers: Sequence[str] = (),
        **request: Any,
    ) -> Effects:
        """Pay for a request in every protocol, and give what each did.

        `make_app` builds your application on the fakes. `body` makes of an answer what is compared, for answers that
        differ by nature (a time, an id); `state` tells what your handler did besides answering; other keywords are
        httpx's (`json`, `headers`, `params`). Raises `NotAlike`.
        """
        seen: dict[Protocol, Effects] = {}
        for protocol in map(Protocol, protocols):
            fakes = Fakes()
            async with _running(make_app(fakes)) as client:
                visit = _Visit(client, fakes, self.payer, protocol, method, path, request)
                made = await visit.effects(body, frozenset(name.lower() for name in ignore_headers))
            seen[protocol] = _with_state(made, state)
        _compare(f"{method} {path}", seen)
        return next(iter(seen.values()))


def _with_state(made: Effects, state: Callable[[], Any] | None) -> Effects:
    said = {one.name: getattr(made, one.name) for one in fields(Effects)}
    return Effects(**said | {"state": state() if state is not None else None})


@asynccontextmanager
async def _running(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, between its start and its end."""
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    await inbox.put({"type": "lifespan.startup"})
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    living = asyncio.ensure_future(app(scope, inbox.get, outbox.put))
    started = asyncio.ensure_future(outbox.get())
    await asyncio.wait({living, started}, return_when=asyncio.FIRST_COMPLETED)
    if not started.done():
        started.cancel()
        # It ended without a word: an application may have no lifespan, and then raises here.
        with suppress(Exception):
            await living
    elif started.result()["type"] == "lifespan.startup.failed":
        with suppress(Exception):
            await living
        raise RuntimeError(f"the application did not start: {started.result().get('message', '')}")
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client
    finally:
        await inbox.put({"type": "lifespan.shutdown"})
        with suppress(Exception):
            await living


class _Visit:
    """One payer of one protocol at one application."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        fakes: Fakes,
        payer: Account,
        protocol: Protocol,
        method: str,
        path: str,
        request: Mapping[str, Any],
    ) -> None:
        self._client, self._fakes, self._protocol = client, fakes, protocol
        self._signer = KeySigner(payer.private_key)
        self._method, self._path, self._request = method, path, dict(request)

    async def effects(self, read: Callable[[bytes], Any], ignored: frozenset[str]) -> Effects:
        settler = self._fakes.settler
        unpaid = await self._send(None)
        if unpaid.status_code != 402:
            raise NotAlike(f"{self._method} {self._path} answers {unpaid.status_code} without a payment, not 402")
        forged = await self._send(self._credential(self._asked(unpaid), broken=True))
        ran = self._fakes.count("payment.verified")
        credential = self._credential(self._asked(unpaid))
        paid = await self._send(credential)
        charged = [
            (f"eip155:{moved.chain_id}", moved.amount, moved.asset, moved.recipient) for moved in settler.settlements
        ]
        receipt = self._receipt(paid)
        again = await self._send(credential)
        repeated = (again.status_code, again.content) == (paid.status_code, paid.content)
        if len(settler.settlements) != len(charged):
            charged += [("charged again", 0, "", "")]
        return Effects(
            unpaid=unpaid.status_code,
            status=paid.status_code,
            headers=_own_headers(paid, ignored),
            body=read(paid.content),
            charged=tuple(charged),
            runs=self._fakes.count("payment.verified"),
            receipt=receipt,
            again="the same answer" if repeated else f"status {again.status_code}",
            forged="refused" if forged.status_code == 402 and ran == 0 else f"status {forged.status_code}",
        )

    async def _send(self, credential: tuple[str, str] | None) -> httpx.Response:
        options = dict(self._request)
        if credential is not None:
            options["headers"] = {**dict(options.get("headers") or {}), credential[0]: credential[1]}
        return await self._client.request(self._method, self._path, **options)

    def _asked(self, answer: httpx.Response) -> Asked:
        """What an answer asks in this protocol. An MPP token's domain is that of the application's offers."""
        tokens: list[Asset] = [offer.asset for offer in self._fakes.settler.offers]
        reading = read_asks(answer.headers.multi_items(), answer.content, tokens)
        for asked in reading.asks:
            if asked.protocol is self._protocol and asked.offer.asset.name:
                return asked
        passed = [one.reason for one in reading.passed if one.protocol is self._protocol]
        why = f": {passed[0]}" if passed else "; leave it out of `protocols` if that is meant"
        raise NotAlike(f"{self._method} {self._path} cannot be paid in {self._protocol.value}{why}")

    def _credential(self, asked: Asked, *, broken: bool = False) -> tuple[str, str]:
        unsigned = to_sign(asked, self._signer.address, now=time.time(), nonce=secrets.token_bytes(32))
        # Another's signature and not a damaged one: half of those nobody can have made, and any server refuses them.
        signer = _FORGER if broken else self._signer
        signature = signer.sign(unsigned, asked.offer.asset)
        return envelope(asked, to_payment(asked, unsigned, signature))

    def _receipt(self, paid: httpx.Response) -> str:
        others = [h for p, h in RECEIPT_HEADERS.items() if p is not self._protocol and h in paid.headers]
        try:
            receipt = read_receipt(paid, self._protocol)
        except MalformedError as error:
            return f"cannot be read: {error.detail}"
        if receipt is None:
            return f"none, but {others[0]}" if others else "none"
        moved = [one.transaction for one in self._fakes.settler.settlements]
        return "names the transaction" if receipt.transaction in moved else "names no transaction of this payment"


def _own_headers(answer: httpx.Response, ignored: frozenset[str]) -> dict[str, str]:
    receipts = {name.lower() for name in RECEIPT_HEADERS.values()}
    challenges = {"www-authenticate", "payment-required", "x-payment-required"}
    left_out = _PASSING | receipts | challenges | ignored
    return {name: value for name, value in sorted(answer.headers.items()) if name not in left_out}


_MAY_NOT_BE: dict[str, Callable[[Effects], str | None]] = {
    "charged": lambda one: "more than once" if len(one.charged) > 1 else None,
    "runs": lambda one: (
        "the handler ran again for a credential that had been charged" if one.charged and one.runs > 1 else None
    ),
    "forged": lambda one: "a forged signature got through" if one.forged != "refused" else None,
    "receipt": lambda one: (
        "money moved, and the answer does not say so"
        if one.charged and one.status < 400 and one.receipt != "names the transaction"
        else None
    ),
}
"""What no protocol may do, though all of them did it alike."""


def _compare(request: str, seen: Mapping[Protocol, Effects]) -> None:
    lines: list[str] = []
    for one in fields(Effects):
        values = {protocol: getattr(effects, one.name) for protocol, effects in seen.items()}
        first = next(iter(values.values()))
        check = _MAY_NOT_BE.get(one.name)
        wrong = next((said for effects in seen.values() if check is not None and (said := check(effects))), None)
        if wrong is None and all(value == first for value in values.values()):
            continue
        lines.append(f"  {one.name}" + (f": {wrong}" if wrong else " differs:"))
        lines += [f"    {protocol.value:<8} {_short(value)}" for protocol, value in values.items()]
    if lines:
        raise NotAlike("\n".join([f"{request} does not do the same in every protocol", *lines]))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"
