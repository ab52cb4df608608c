"""The dashboard as an ASGI application: the page and its files, the analytics in JSON, and how the parts do.

Nothing but GET and HEAD is answered. A browser is told to load nothing from anywhere else, and to run nothing that
stands in a text: what clients call themselves, and why they failed, is whatever they like.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping, Sequence
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import msgspec

from bridge.analytics import Events, EventsAPI, EventsUnavailable, Part, Worker, open_events
from bridge.analytics.facts import PROTOCOLS
from bridge.analytics.http import QUESTIONS
from bridge.clock import Clock, system_clock
from bridge.dashboard.files import PAGE, File, page_at, read_files
from bridge.dashboard.guard import check_token, is_allowed, is_named
from bridge.dashboard.health import Health, NoHealth
from bridge.dashboard.levers import FindLevers, told_by_events
from translators.networks import KNOWN_TOKENS, caip2, v1_network
from translators.payment import Asset

__all__ = ["HEADERS", "Dashboard"]

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_API = "api/"

HEADERS: Headers = [
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
"""What every answer carries."""


class Dashboard:
    """Shows the events at `events`, a path, `sqlite:PATH` or `postgresql://...`.

    `token` is what a visitor has to know; None: whoever mounts this keeps others out. `hosts` are the names that it may
    be reached by (any, where there are none). `assets` are tokens whose decimals are known, besides
    `translators.networks.KNOWN_TOKENS`. `path` is where it stands, if `scope["path"]` begins with that. Raises
    `ValueError` for a token that is too short.
    """

    def __init__(
        self,
        events: str,
        *,
        token: str | None,
        hosts: Collection[str] = (),
        health: Health | None = None,
        levers: FindLevers | None = None,
        assets: Callable[[], Iterable[Asset]] = tuple,
        clock: Clock = system_clock,
        path: str = "",
    ) -> None:
        if token is not None:
            check_token(token)
        self._events = events
        self._token = token
        self._hosts = frozenset(hosts)
        self._health: Health = health or NoHealth()
        self._levers = levers
        self._assets = assets
        self._path = path.rstrip("/")
        self._clock = clock
        self._files = read_files()
        self._api = EventsAPI(events, clock=clock)
        self._own: dict[str, Callable[[], Awaitable[Any]]] = {
            "about": self._about,
            "health": self._parts,
            "levers": self._stages,
        }

    @property
    def paths(self) -> list[str]:
        """Every path that it answers at, from `path` on."""
        names = [
            "",
            *(name for name in self._files if name != PAGE),
            *(_API + name for name in (*QUESTIONS, *self._own)),
        ]
        return [f"{self._path}/{name}" for name in names]

    async def close(self) -> None:
        """Give up what was opened to find out how the parts do."""
        await self._health.close()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        if scope["type"] != "http":
            return
        if self._hosts and not is_named(scope, self._hosts):
            await self._say(scope, send, 421, _problem(421, "This dashboard is not reached by that name."))
        elif self._token is not None and not is_allowed(scope, self._token):
            challenge = (b"www-authenticate", b'Basic realm="payments dashboard", charset="UTF-8"')
            problem = _problem(401, "Give the dashboard's token, as the password or as a bearer's.")
            await self._say(scope, send, 401, problem, [challenge])
        elif scope["method"] not in ("GET", "HEAD"):
            problem = _problem(405, "This dashboard is only read.")
            await self._say(scope, send, 405, problem, [(b"allow", b"GET, HEAD")])
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        name = self._name(scope)
        if name.startswith(_API):
            question = name.removeprefix(_API)
            if question in QUESTIONS:
                await self._api(scope, receive, _sealed(send))
            elif question in self._own:
                await self._say(scope, send, 200, await self._own[question]())
            else:
                await self._say(scope, send, 404, _problem(404, "There is no such question."))
        elif name in ("", PAGE):
            await self._send_file(scope, send, page_at(self._files[PAGE], self._base(scope)))
        elif name in self._files:
            await self._send_file(scope, send, self._files[name])
        else:
            await self._say(scope, send, 404, _problem(404, "There is no such page."))

    def _name(self, scope: MutableMapping[str, Any]) -> str:
        """What is asked for, from where this stands."""
        path = str(scope["path"])
        for before in (scope.get("root_path", ""), self._path):
            if before and (path == before or path.startswith(f"{before}/")):
                path = path[len(before) :]
        return path.strip("/")

    def _base(self, scope: MutableMapping[str, Any]) -> str:
        """What leads from the page's own URL to its files: without a slash at its end, they are below its last part."""
        raw = bytes(scope.get("raw_path") or str(scope["path"]).encode()).partition(b"?")[0].decode("latin-1")
        last = raw.rpartition("/")[2]
        return "" if not last or last == PAGE else f"{quote(last, safe='%')}/"

    # What the event store does not know

    async def _about(self) -> Any:
        tokens = dict.fromkeys((*self._assets(), *KNOWN_TOKENS))
        return {
            "version": version("x402-mpp-bridge"),
            "protocols": PROTOCOLS,
            "tokens": [
                {
                    "network": caip2(token.chain_id),
                    "network_name": v1_network(token.chain_id),
                    "address": token.address,
                    "decimals": token.decimals,
                    "symbol": token.symbol or token.name,
                }
                for token in tokens
            ],
        }

    async def _parts(self) -> Any:
        workers: list[Worker] = []
        try:
            workers = await asyncio.to_thread(self._ask, Events.workers)
            events = Part("events", "ok")
        except (EventsUnavailable, RuntimeError) as error:
            events = Part("events", "away", str(error))
        now = self._clock()
        # What is not known here is none the less known where servers say it themselves.
        own = [part for part in await self._health.parts() if part.state != "unknown" or not workers]
        said = [{**msgspec.to_builtins(worker), "silent": worker.is_silent(now)} for worker in workers]
        return {"now": now, "parts": [*own, events], "workers": said}

    async def _stages(self) -> Any:
        if self._levers is not None:
            return await self._levers()
        try:
            marks = await asyncio.to_thread(
                self._ask, lambda events: events.marks(since=0, until=2.0**40, limit=10_000)
            )
        except (EventsUnavailable, RuntimeError) as error:
            return msgspec.structs.replace(told_by_events([]), problem=str(error))
        return told_by_events(marks)

    def _ask(self, ask: Callable[[Events], Any]) -> Any:
        with open_events(self._events) as events:
            return ask(events)

    # Answers

    async def _send_file(self, scope: MutableMapping[str, Any], send: Send, file: File) -> None:
        # Kept by browsers, and asked for again each time: an upgrade shows at once.
        headers: Headers = [(b"cache-control", b"no-cache"), (b"etag", file.tag)]
        if any(name.lower() == b"if-none-match" and file.tag in bytes(value) for name, value in scope["headers"]):
            await _send(scope, send, 304, headers, b"")
        else:
            await _send(scope, send, 200, [(b"content-type", file.kind), *headers], file.content)

    async def _say(
        self, scope: MutableMapping[str, Any], send: Send, status: int, content: Any, more: Sequence[Any] = ()
    ) -> None:
        kind = b"application/json" if status == 200 else b"application/problem+json"
        headers = [(b"content-type", kind), (b"cache-control", b"no-store"), *more]
        await _send(scope, send, status, headers, msgspec.json.encode(content))


def _problem(status: int, detail: str) -> dict[str, Any]:
    return {"type": "about:blank", "status": status, "detail": detail}


def _sealed(send: Send) -> Send:
    """`send`, with our headers on what it sends."""

    async def sealed(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *HEADERS]}
        await send(message)

    return sealed


async def _send(scope: MutableMapping[str, Any], send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers = [*headers, *HEADERS]
    if status != 304:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
