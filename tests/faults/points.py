"""Places where a worker process kills itself, and the wrappers that put them around store, settler, network and answer.

A point is a name and a number: the third time that `advance:settled.before` is passed. `kill -9` leaves no `finally`
and no buffer of ours behind, as a lost machine does; what was written to a file or a socket before stays.
"""

import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import httpx

from translators.payment import Offer, Payment, Resource, Settlement

Message = Any


class Points:
    """Counts the points that are passed, writes their names to `trace`, and dies at one of them.

    `crash` is a name and a number, `kill_at` a number of points of any name; nothing counts before `arm`.
    """

    def __init__(self, trace: str, crash: tuple[str, int] | None, kill_at: int | None) -> None:
        self._trace = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._crash = crash
        self._kill_at = kill_at
        self._passed: Counter[str] = Counter()
        self._armed = False

    def arm(self) -> None:
        """A paid request has come."""
        self._armed = True

    def hit(self, name: str) -> None:
        """Pass the point `name`."""
        if not self._armed:
            return
        self._passed[name] += 1
        os.write(self._trace, f"{name}\n".encode())
        if self._crash == (name, self._passed[name]) or self._kill_at == self._passed.total():
            os.write(self._trace, b"killed\n")
            os.kill(os.getpid(), signal.SIGKILL)

    async def around(self, name: str, work: Awaitable[Any]) -> Any:
        """Await `work` between two points."""
        self.hit(f"{name}.before")
        done = await work
        self.hit(f"{name}.after")
        return done


class CrashingStore:
    """A store with a point before and after every call."""

    def __init__(self, store: Any, points: Points) -> None:
        self._store = store
        self._points = points

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name in ("start", "close"):
            return method

        async def called(*args: Any, **kwargs: Any) -> Any:
            point = f"{name}:{args[1]}" if name == "advance" else name
            return await self._points.around(point, method(*args, **kwargs))

        return called


class CrashingSettler:
    """A settler with points around `settle`, around what it tells before it broadcasts, and around `find`."""

    def __init__(self, settler: Any, points: Points) -> None:
        self._settler = settler
        self._points = points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._settler, name)

    async def settle(self, payment: Payment, offer: Offer, resource: Resource, before_broadcast: Any) -> Settlement:
        """See `Settler.settle`."""

        async def told(transaction: str) -> None:
            await self._points.around("before_broadcast", before_broadcast(transaction))

        settled: Settlement = await self._points.around("settle", self._settler.settle(payment, offer, resource, told))
        return settled

    async def find(self, record: Any) -> Any:
        """See `Settler.find`."""
        return await self._points.around("find", self._settler.find(record))


def watch_the_network(points: Points) -> None:
    """Put points around everything that moves money: `eth_sendRawTransaction`, and a facilitator's `/settle`.

    After means that the answer is there, and so that the other side has done its part.
    """
    ask_node, ask_http = aiohttp.ClientSession._request, httpx.AsyncClient.send

    async def node(self: Any, method: str, url: Any, **kwargs: Any) -> Any:
        asked = ask_node(self, method, url, **kwargs)
        if b"eth_sendRawTransaction" in bytes(kwargs.get("data") or b""):
            return await points.around("broadcast", asked)
        return await asked

    async def http(self: Any, request: httpx.Request, **kwargs: Any) -> Any:
        asked = ask_http(self, request, **kwargs)
        if request.url.path.endswith("/settle"):
            return await points.around("broadcast", asked)
        return await asked

    aiohttp.ClientSession._request = node  # type: ignore[method-assign,assignment]
    httpx.AsyncClient.send = http  # type: ignore[method-assign,assignment]


def crashing_send(send: Callable[[Message], Awaitable[None]], points: Points) -> Callable[[Message], Awaitable[None]]:
    """ASGI's `send` with a point before and after every message."""

    async def sent(message: Message) -> None:
        kind = str(message["type"]).removeprefix("http.response.")
        await points.around(f"send:{kind}", send(message))

    return sent
