"""A paid application in memory, whatever is needed to pay it well or badly, and what it said and did."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

import httpx
import msgspec
from coincurve import PrivateKey

from bridge.asgi import PaymentMiddleware
from bridge.config import PaymentConfig
from bridge.payers import Account, Asked, account, read_402, sign
from bridge.pricing import AnyPrice, Paid
from bridge.stores import MemoryStore
from bridge.testing import FakeSettler, FixedClock
from translators import mpp, x402
from translators.eip3009 import authorization_digest
from translators.payment import Asset, Payment, Protocol
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

KEY = b"a secret of the tests, 32 bytes and more"
RECIPIENT = account("recipient").address
PAYER = account("payer")
STRANGER = account("stranger")

V1, V2, MPP = Protocol.X402_V1, Protocol.X402_V2, Protocol.MPP
PROTOCOLS = (V1, V2, MPP)

Message = MutableMapping[str, Any]
Headers = list[tuple[str, str]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

RECEIPT_HEADER = {
    V1: x402_v1.RECEIPT_HEADER,
    V2: x402_v2.RECEIPT_HEADER,
    MPP: mpp_wire.RECEIPT_HEADER,
}


class Answer(httpx.Response):
    """What an application sent, and the ASGI messages that it sent it in."""

    messages: list[Message]

    @property
    def problem(self) -> str:
        """The last segment of the problem's type."""
        return str(self.json()["type"]).replace("/", ":").rpartition(":")[2]

    @property
    def text_of_everything(self) -> str:
        """Headers and body as text, to search."""
        return "\n".join(f"{k}: {v}" for k, v in self.headers.multi_items()) + "\n" + self.text


def answer_of(messages: list[Message]) -> Answer:
    """The HTTP answer that ASGI messages make."""
    start = next(m for m in messages if m["type"] == "http.response.start")
    body = b"".join(m.get("body", b"") for m in messages if m["type"] == "http.response.body")
    # A HEAD answer announces a length that it does not have.
    answer = Answer(start["status"], headers=list(start["headers"]), content=body)
    answer.messages = messages
    return answer


def scope_of(
    method: str = "GET",
    path: str = "/report",
    headers: Iterable[tuple[str, str]] = (),
    *,
    host: str | None = "localhost",
    **more: Any,
) -> dict[str, Any]:
    """An ASGI scope as a server makes it."""
    raw = path.encode("latin-1")
    named = [(b"host", host.encode())] if host else []
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": httpx.URL(f"http://x{path}").path,
        "raw_path": raw,
        "query_string": b"",
        "root_path": "",
        "headers": named + [(k.lower().encode(), v.encode("latin-1")) for k, v in headers],
        "client": ("127.0.0.1", 4242),
        "server": ("127.0.0.1", 8000),
        **more,
    }


def receive_of(chunks: Iterable[bytes], answered: asyncio.Event | None = None) -> Callable[[], Awaitable[Message]]:
    """An ASGI `receive` that hands out a body in chunks and, once the request is `answered`, disconnects."""
    waiting = list(chunks) or [b""]
    ended = answered or asyncio.Event()

    async def receive() -> Message:
        if not waiting:
            await ended.wait()
            return {"type": "http.disconnect"}
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    return receive


async def visit(
    app: ASGIApp,
    method: str = "GET",
    path: str = "/report",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | list[bytes] = b"",
    **scope: Any,
) -> Answer:
    """Ask an application once, straight over ASGI; what it raises is raised here."""
    chunks = body if isinstance(body, list) else [body]
    length = sum(map(len, chunks))
    named = [*headers, ("Content-Length", str(length))] if length else headers
    messages: list[Message] = []
    answered = asyncio.Event()

    async def send(message: Message) -> None:
        messages.append(dict(message))
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            answered.set()

    await app(scope_of(method, path, named, **scope), receive_of(chunks, answered), send)
    return answer_of(messages)


async def visit_raising(app: ASGIApp, *args: Any, **kwargs: Any) -> tuple[Answer | None, Exception]:
    """As `visit`, for an application that raises; with what it had sent before, if anything."""
    messages: list[Message] = []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def noting(message: Message) -> None:
            messages.append(dict(message))
            await send(message)

        await app(scope, receive, noting)

    try:
        await visit(watched, *args, **kwargs)
    except Exception as error:
        return (answer_of(messages) if messages else None), error
    raise AssertionError("nothing was raised")


def reply(status: int = 200, body: bytes = b"the report", headers: Iterable[tuple[bytes, bytes]] = ()) -> list[Message]:
    """The messages of a small answer."""
    return [
        {"type": "http.response.start", "status": status, "headers": list(headers)},
        {"type": "http.response.body", "body": body, "more_body": False},
    ]


class House:
    """A small application with a price on `GET /report`, and everything around it in reach.

    `handler` is the application behind the gate; by default it sends `messages`. `runs` counts its calls.
    """

    def __init__(
        self,
        routes: Mapping[str, AnyPrice | Paid] | None = None,
        *,
        handler: ASGIApp | None = None,
        **settings: Any,
    ) -> None:
        self.clock: Any = settings.get("clock", FixedClock())
        self.settler: FakeSettler = settings.get("settler", FakeSettler())
        self.runs = 0
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.messages = reply()
        self.handler = handler
        self.config = PaymentConfig(
            **(
                {
                    "recipient": RECIPIENT,
                    "settler": self.settler,
                    "event_store": None,
                    "network": "base-sepolia",
                    "store": MemoryStore(),
                    "secret_keys": [KEY],
                    "clock": self.clock,
                    # Nobody waits for another request here, unless a test is about that.
                    "wait_seconds": 0.0,
                    # What a v2 credential ends with is then its own, and can be searched for.
                    "payment_identifier": False,
                    "sinks": [lambda event, fields: self.told.append((event, fields))],
                }
                | settings
            )
        )
        self.app = PaymentMiddleware(self._inner, config=self.config, routes=routes or {"GET /report": "0.01"})
        self.store = self.app.gate.store

    async def _inner(self, scope: Any, receive: Any, send: Any) -> None:
        self.runs += 1
        if self.handler is not None:
            await self.handler(scope, receive, send)
            return
        for message in self.messages:
            await send(message)

    @property
    def events(self) -> list[str]:
        """The names of the events so far."""
        return [event for event, _ in self.told]

    def event(self, name: str) -> dict[str, Any]:
        """The fields of the one event of this name."""
        (found,) = [fields for event, fields in self.told if event == name]
        return found

    async def visit(self, *args: Any, **kwargs: Any) -> Answer:
        """Ask once."""
        return await visit(self.app, *args, **kwargs)

    async def ask(self, protocol: Protocol, *args: Any, **kwargs: Any) -> Asked:
        """What a client of `protocol` reads in the 402."""
        return read_402(await self.visit(*args, **kwargs), protocol)

    async def credential(self, protocol: Protocol, path: str = "/report", method: str = "GET") -> tuple[str, str]:
        """A good credential: header and value."""
        asked = await self.ask(protocol, method, path)
        return envelope(sign(asked, PAYER, self.clock()), asked)

    async def pay(self, protocol: Protocol, path: str = "/report", method: str = "GET") -> Answer:
        """Pay as it should be done."""
        return await self.visit(method, path, [await self.credential(protocol, path, method)])

    async def record(self) -> Any:
        """The one row of the journal."""
        (row,) = self.store._rows.values()  # type: ignore[attr-defined]
        return row


def envelope(payment: Payment, asked: Asked, protocol: Protocol | None = None) -> tuple[str, str]:
    """Any payment in the envelope of the protocol that `asked` was read in."""
    match protocol or asked.protocol:
        case Protocol.X402_V1:
            return x402_v1.CREDENTIAL_HEADER, x402_v1.encode_payment_payload(x402.to_payload_v1(payment))
        case Protocol.X402_V2:
            assert asked.required is not None
            payload = x402.to_payload_v2(payment, asked.required.accepts[0], asked.required.resource)
            return x402_v2.CREDENTIAL_HEADER, x402_v2.encode_payment_payload(payload)
        case Protocol.MPP:
            assert asked.challenge is not None
            wire = mpp_wire.encode_credential(mpp.to_credential(payment, asked.challenge))
            return mpp_wire.CREDENTIAL_HEADER, f"{mpp_wire.SCHEME} {wire}"


def resign(payment: Payment, asset: Asset, signer: Account = PAYER, **changes: Any) -> Payment:
    """The same payment with other terms in its authorization, signed again."""
    unsigned = msgspec.structs.replace(payment.authorization, signature=b"", **changes)
    compact = PrivateKey(bytes.fromhex(signer.private_key[2:])).sign_recoverable(
        authorization_digest(unsigned, asset), hasher=None
    )
    signed = msgspec.structs.replace(unsigned, signature=compact[:64] + bytes((compact[64] + 27,)))
    return msgspec.structs.replace(payment, authorization=signed)


def token_json(header: tuple[str, str]) -> dict[str, Any]:
    """What a credential's token holds."""
    from translators.encoding import b64_decode

    value = header[1].removeprefix("Payment ")
    decoded: dict[str, Any] = json.loads(b64_decode(value, "token"))
    return decoded


def with_token(header: tuple[str, str], content: Any) -> tuple[str, str]:
    """The same header with another token: an object as JSON, or bytes as they are, in base64."""
    from translators.encoding import b64_encode, b64url_encode

    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    if header[0] == mpp_wire.CREDENTIAL_HEADER:
        return header[0], "Payment " + b64url_encode(data)
    return header[0], b64_encode(data)
