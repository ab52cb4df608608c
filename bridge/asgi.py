"""Plain ASGI middleware: everything the bridge does to a request, for any framework that speaks ASGI.

Nothing is buffered. A paid answer is held at its first message only, for as long as the settlement takes; then its
bytes flow as the application makes them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from bridge.admitted import Shown
from bridge.config import ConfigError, PaymentConfig
from bridge.discovery import describe
from bridge.gate import Admitted, Free, Gate, Refused, Replayed
from bridge.health import live, ready
from bridge.patterns import RoutePattern, normalize
from bridge.pricing import AnyPrice, Paid
from bridge.request import PaidRequest
from bridge.responses import Response, merge_receipt
from bridge.routes import PaidRoute
from bridge.trailers import takes_trailers
from translators.discovery import ServiceInfo
from translators.payment import Payment, Settlement

__all__ = [
    "SCOPE_KEY",
    "Delivery",
    "GateMiddleware",
    "PaymentMiddleware",
    "accept_of",
    "openapi",
    "payment_of",
    "send_response",
    "settlement_of",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
FindRoute = Callable[[Scope], PaidRoute | None]

SCOPE_KEY = "x402_mpp.admitted"
"""Where the payment of a request stands in its ASGI scope."""


def payment_of(scope: Scope) -> Payment | None:
    """The verified payment of this request; None on a free one."""
    shown: Shown | None = scope.get(SCOPE_KEY)
    return shown.payment if shown else None


def settlement_of(scope: Scope) -> Settlement | None:
    """The settlement of this request; None on a free one, and before it is settled."""
    shown: Shown | None = scope.get(SCOPE_KEY)
    return shown.settlement if shown else None


_ENDS = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")


class GateMiddleware:
    """Puts `app` behind `gate`; `find_route` tells the priced route of a scope, or None."""

    def __init__(self, app: ASGIApp, *, gate: Gate, find_route: FindRoute, public_url: str | None = None) -> None:
        self.app = app
        self._gate = gate
        self._find_route = find_route
        self._public_url = public_url.rstrip("/") if public_url else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        # A browser asks by OPTIONS whether it may pay at all, and cannot pay for that.
        priceable = scope["type"] == "http" and scope["method"] != "OPTIONS"
        route = self._find_route(scope) if priceable else None
        if route is None:
            await self.app(scope, receive, send)
            return
        self._gate.in_flight += 1
        try:
            request = PaidRequest(scope, receive, self._public_url)
            match await self._gate.admit(route, request):
                case Admitted() as admitted:
                    scope[SCOPE_KEY] = admitted.shown
                    await Delivery(admitted, send, request.method).run(self.app, scope, request.receive)
                case Refused() | Replayed() as answered:
                    await send_response(send, answered.response, request.method, trails=takes_trailers(scope))
                case Free():
                    await self.app(scope, request.receive, send)
        finally:
            self._gate.in_flight -= 1


class PaymentMiddleware:
    """Payment for any ASGI application.

    `routes` prices paths: a key is `GET /report`, or `/report` for every method but OPTIONS; `{name}` stands for one
    segment of the path and `*` for the rest of it; the first that matches counts. A value is a price or a `Paid`.
    WebSockets are let through: they cannot be paid for.

    Raises `ConfigError` or `PriceError` when a route could not be charged.
    """

    def __init__(self, app: ASGIApp, *, config: PaymentConfig, routes: Mapping[str, AnyPrice | Paid]) -> None:
        self.config = config
        self._table = [
            (_pattern(key), config.route(key, price if isinstance(price, Paid) else Paid(price)))
            for key, price in routes.items()
        ]
        self.gate = config.build()
        self._app = app
        self._gated = GateMiddleware(app, gate=self.gate, find_route=self._find, public_url=config.public_url)
        self._starting = asyncio.Lock()
        self._started = False

    def _find(self, scope: Scope) -> PaidRoute | None:
        method, paths = scope["method"].upper(), _paths(scope)
        return next((route for pattern, route in self._table if pattern.matches(method, paths)), None)

    async def _start(self) -> None:
        async with self._starting:
            if not self._started:
                self.config.warn()
                await self.gate.start(self.config.offers_to_check())
                self._started = True

    async def _stop(self) -> None:
        async with self._starting:
            if self._started:
                # A server may start the same application again.
                self._started = False
                await self.gate.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection; the gate opens and closes with the application's lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if not self._started:
            # A server or a test client that runs no lifespan.
            await self._start()
        place = self.config.health_path
        if place is not None and scope["type"] == "http" and scope["path"] in (f"{place}/live", f"{place}/ready"):
            answer = live() if scope["path"].endswith("/live") else await ready(self.gate)
            await send_response(send, answer, scope["method"])
            return
        metrics = self.config.metrics
        if metrics is not None and scope["type"] == "http" and scope["path"] == self.config.metrics_path:
            await send_response(send, await metrics.page(self.gate, accept_of(scope)), scope["method"])
            return
        await self._gated(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_and_start() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._start()
                except Exception as error:
                    # Said here: raised only, it would pass for an application that knows no lifespan, and be served.
                    await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
                    raise
            return message

        async def close_and_send(message: Message) -> None:
            if message["type"] in ("lifespan.startup.failed", *_ENDS):
                await self._stop()
            await send(message)

        await self._app(scope, receive_and_start, close_and_send)


def openapi(
    config: PaymentConfig,
    document: Mapping[str, Any] | None = None,
    *,
    title: str = "Paid API",
    version: str = "1",
    service: ServiceInfo | None = None,
) -> dict[str, Any]:
    """An OpenAPI document with what every route of `config` costs (draft-payment-discovery-00).

    `document` is the framework's own, and stays as it is otherwise; without one, a document of the priced routes alone
    is made. Routes are known once their middleware exists.
    """
    table = [(_pattern(route.name), route) for route in config.routes]

    def find(method: str, path: str) -> PaidRoute | None:
        return next((route for pattern, route in table if pattern.matches(method, [normalize(path)])), None)

    names = [route.name for route in config.routes]
    return describe(document, find, names, title=title, version=version, service=service)


def _pattern(key: str) -> RoutePattern:
    try:
        return RoutePattern(key)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _paths(scope: Scope) -> set[str]:
    """The paths that a request may be routed by: under a `root_path` an application sees the rest only.

    Servers and frameworks differ in whether `path` still has the prefix, and what matches either way is charged.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    rest = path.removeprefix(root) if path.startswith(root + "/") or path == root else path
    return {normalize(path), normalize(rest)}


class _Stopped(OSError):
    """Raised out of `send` once the answer was replaced: what an application sees when a client has gone."""


class Delivery:
    """Watches one paid answer go out: settles at its first byte, and knows whether all of it went."""

    def __init__(self, admitted: Admitted, send: Send, method: str) -> None:
        self._admitted = admitted
        self._send = send
        self._method = method
        self._status: int | None = None
        self._refused = False
        self._complete = False
        self._takes_trailers = False
        self._waits_for_trailers = False
        """The answer ends with them, not with its body."""

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Run the application, and leave the payment in the state that its answer earned."""
        self._takes_trailers = takes_trailers(scope)
        self._admitted.hold()
        try:
            await app(scope, receive, self.send)
        except asyncio.CancelledError:
            if not self._refused and not self._complete and (self._status is None or self._status < 400):
                self._admitted.abandon()
            raise
        except Exception:
            if self._refused:
                # An application told to stop may say so in its own way; its answer has been replaced already.
                return
            if self._status is None and self._admitted.settlement is not None:
                # Whoever answers for this further out knows nothing of the money that has moved.
                await self._charged_in_vain()
            await self._conclude()
            raise
        else:
            await self._conclude()
        finally:
            self._admitted.let_go()

    async def _charged_in_vain(self) -> None:
        body = b'{"type":"about:blank","title":"Internal Server Error","status":500}'
        headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"" if self._method == "HEAD" else body})

    async def _conclude(self) -> None:
        if self._refused or self._complete:
            return
        if self._status is None:
            await self._admitted.release(500)
        elif self._status < 400:
            await self._admitted.broken_off(self._status)

    async def send(self, message: Message) -> None:
        """ASGI's `send` for the application."""
        if self._refused:
            raise _Stopped("the answer was replaced: payment was refused")
        match message["type"]:
            case "http.response.start":
                await self._start(message)
            case "http.response.body" | "http.response.pathsend" | "http.response.zerocopysend" as kind:
                if kind == "http.response.body":
                    self._admitted.capture.body(message.get("body", b""))
                else:
                    self._admitted.capture.miss()
                await self._send(message)
                if not message.get("more_body", False) and not self._waits_for_trailers:
                    await self._finish()
            case "http.response.trailers":
                self._admitted.capture.trailers(list(message.get("headers", ())))
                await self._send(message)
                if not message.get("more_trailers", False):
                    await self._finish()
            case _:
                await self._send(message)

    async def _start(self, message: Message) -> None:
        status: int = message["status"]
        if status >= 400:
            self._status = status
            receipt = self._admitted.receipt(status)
            await self._admitted.release(status)
            headers = merge_receipt(message.get("headers", ()), receipt) if receipt else message.get("headers", ())
            await self._send({**message, "headers": [*headers, *self._admitted.notice]})
            return
        refused = await self._admitted.settle_or_refuse()
        if refused is not None:
            self._refused = True
            await send_response(self._send, refused.response, self._method)
            raise _Stopped("the answer was replaced: payment was refused")
        self._status = status
        self._waits_for_trailers = self._takes_trailers and message.get("trailers", False)
        headers = merge_receipt(message.get("headers", ()), self._admitted.receipt(status))
        self._admitted.capture.start(status, headers)
        # Behind what is kept: the answer that is sent again says what holds then.
        await self._send({**message, "headers": [*headers, *self._admitted.notice]})

    async def _finish(self) -> None:
        if self._complete or self._status is None:
            return
        self._complete = True
        if self._status < 400:
            await self._admitted.delivered(self._status)


def accept_of(scope: Scope) -> str:
    """What a request says that it can read."""
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"accept")


async def send_response(send: Send, response: Response, method: str, *, trails: bool = False) -> None:
    """Send a whole answer of ours; to HEAD, without its body. Its trailers go along where the server `trails`."""
    body = b"" if method == "HEAD" else response.body
    if response.trailers and trails and method != "HEAD":
        # Only a body in chunks has any (RFC 9110, section 6.5).
        headers = [item for item in response.headers if item[0].lower() != b"content-length"]
        names = b", ".join(dict.fromkeys(name for name, _ in response.trailers))
        headers.append((b"trailer", names))
        await send({"type": "http.response.start", "status": response.status, "headers": headers, "trailers": True})
        await send({"type": "http.response.body", "body": body, "more_body": False})
        await send({"type": "http.response.trailers", "headers": response.trailers, "more_trailers": False})
        return
    await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
