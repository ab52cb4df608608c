"""A gateway whose levers a test moves, before a server that knows nothing of it."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from bridge.payers import Asked, credential
from bridge.testing import FixedClock
from tests.bridge.gateway.lab import MPP, PAYER, V1, V2, Lab, Server, gateway_before, lab
from translators.payment import Protocol

PAGE = "https://api.example.com/moving"
HEAD = f'migration = "{PAGE}"\n[levers."*"]\n'
HEADER = {V1: "x-payment-required", V2: "payment-required", MPP: "www-authenticate"}
NOTICE = ("deprecation", "sunset", "link")


class Levered(Lab):
    """A lab whose gateway has its levers in a file. Nobody looks at it but the test."""

    def __init__(self, at: Lab, path: Path, clock: FixedClock) -> None:
        super().__init__(at.server, at.gateway, at.client, at.url)
        self.told = at.told
        self.path = path
        self.clock = clock

    async def say(self, text: str) -> None:
        """The owner writes the file, and the gateway looks at it."""
        _write(self.path, text)
        await self.look()

    async def look(self) -> None:
        """The gateway looks at the file."""
        assert self.gateway.gate.board is not None
        await self.gateway.gate.board.refresh()

    @asynccontextmanager
    async def beside(self) -> "AsyncIterator[Levered]":
        """Another gateway with the same levers and the same store, before the same server."""
        settings: dict[str, Any] = {"levers": str(self.path), "levers_seconds": 3600.0, "clock": self.clock}
        async with gateway_before({"/": self.server.url}, self.server, store=self.store, **settings) as at:
            yield Levered(at, self.path, self.clock)

    async def later(self, asked: Asked, **headers: str) -> httpx.Response:
        """Pay what was asked, signed now."""
        name, value = credential(asked, PAYER, self.clock())
        return await self.client.get("/report", headers={**headers, name: value})

    async def pay(self, protocol: Protocol, path: str = "/report", method: str = "GET", **more: Any) -> httpx.Response:
        """Pay as it should be done, by the test's clock."""
        name, value = credential(await self.ask(protocol, path, method, **more), PAYER, self.clock())
        headers = {**more.pop("headers", {}), name: value}
        return await self.client.request(method, path, headers=headers, **more)

    @property
    def paid(self) -> list[str]:
        """The credentials that the upstream has seen."""
        credentials = ("x-payment", "payment-signature", "authorization")
        return [value for seen in self.server.seen for name in credentials if (value := seen.header(name))]


Start = Callable[..., AbstractAsyncContextManager[Levered]]


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def starting(path: Path) -> Start:
    """`levered(text, server, **settings)`: a gateway with these levers, in the file at `path`."""

    @asynccontextmanager
    async def start(text: str = "", server: Server | None = None, **settings: Any) -> AsyncIterator[Levered]:
        _write(path, text)
        clock = FixedClock(time.time())
        server = server or Server()
        server.clock = clock
        settings = {"levers": str(path), "levers_seconds": 3600.0, "clock": clock} | settings
        async with lab(server, **settings) as at:
            yield Levered(at, path, clock)

    return start


def offered(answer: httpx.Response) -> set[Protocol]:
    """The protocols that a 402 can be paid in."""
    assert answer.status_code == 402
    found = {protocol for protocol, header in HEADER.items() if header in answer.headers}
    assert (V1 in found) == bool(answer.json().get("accepts"))
    return found
