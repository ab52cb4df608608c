"""Other people's clients, each behind one long-running process that speaks the line protocol of `python/driver.py`."""

import itertools
import json
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import places
from .processes import Process


@dataclass(frozen=True)
class ClientSpec:
    """One client library in one way of using it."""

    protocol: str
    """What it pays with when a 402 offers everything: the `protocol` of our own events."""
    command: tuple[str | Path, ...]
    streams: bool = True
    """Whether it hands an answer on while it is still arriving."""
    decodes: bool = True
    """Whether it has a decoder for receipts."""
    gives_up: str | None = None
    """Why it pays nothing at all when a 402 offers everything; None for the clients that do pay."""


def _python(venv: str, script: str, *arguments: str) -> tuple[str | Path, ...]:
    return (places.python(venv), places.PYTHON / script, *arguments)


def _node(script: str, *arguments: str) -> tuple[str | Path, ...]:
    return ("node", places.NODE / script, *arguments)


_READS_V2_FIRST = "decides for v2 as soon as PAYMENT-REQUIRED is there, and has no v2 scheme"

CLIENTS: dict[str, ClientSpec] = {
    # The first generation.
    "py-x402-0.2.1-httpx": ClientSpec("x402-v1", _python("python-v1", "client_x402_v1.py", "httpx"), streams=False),
    "py-x402-0.2.1-requests": ClientSpec(
        "x402-v1", _python("python-v1", "client_x402_v1.py", "requests"), streams=False
    ),
    "x402-fetch": ClientSpec("x402-v1", _node("client-x402-fetch.mjs")),
    "x402-axios": ClientSpec("x402-v1", _node("client-x402-axios.mjs"), streams=False),
    # The second.
    "py-x402-httpx": ClientSpec("x402-v2", _python("python", "client_x402.py", "httpx")),
    "py-x402-requests": ClientSpec("x402-v2", _python("python", "client_x402.py", "requests")),
    "@x402/fetch": ClientSpec("x402-v2", _node("client-fetch.mjs")),
    "@x402/axios": ClientSpec("x402-v2", _node("client-axios.mjs")),
    "@faremeter/fetch": ClientSpec("x402-v2", _node("client-faremeter.mjs")),
    "mppx-x402": ClientSpec("x402-v2", _node("client-mppx.mjs", "x402")),
    "routeweiler": ClientSpec("x402-v2", _python("python", "client_routeweiler.py"), streams=False, decodes=False),
    # The Machine Payments Protocol.
    "mppx": ClientSpec("mpp", _node("client-mppx.mjs", "mpp")),
    "pympp": ClientSpec("mpp", _python("python", "client_pympp.py")),
    # Libraries of the second generation with nothing but the scheme of the first.
    "py-x402-httpx-only-v1": ClientSpec(
        "x402-v1", _python("python", "client_x402.py", "httpx", "v1"), gives_up=_READS_V2_FIRST
    ),
    "py-x402-requests-only-v1": ClientSpec(
        "x402-v1", _python("python", "client_x402.py", "requests", "v1"), gives_up=_READS_V2_FIRST
    ),
    "@x402/fetch-only-v1": ClientSpec("x402-v1", _node("client-fetch.mjs", "v1"), gives_up=_READS_V2_FIRST),
}


@dataclass(frozen=True)
class Answer:
    """What a client library made of one paid request."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str
    receipt: dict[str, Any] | None
    """The receipt header as the client's own decoder reads it."""
    chunks: tuple[tuple[float, str], ...] | None
    """When each piece of the body reached the program, in seconds since the request; None if it came whole."""
    seconds: float

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def transaction(self) -> str | None:
        """The settling transaction the receipt names."""
        receipt = self.receipt or {}
        return receipt.get("transaction") or receipt.get("reference")


class ClientError(RuntimeError):
    """The client library raised; the message is its own."""


class Peer:
    """A running client. `request` may be called from several threads at once."""

    def __init__(self, name: str, spec: ClientSpec, logs: Path) -> None:
        self.name, self.spec = name, spec
        self._process = Process(name, spec.command, logs=logs)
        self._ids = itertools.count()
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, name=f"peer {name}", daemon=True).start()

    def _listen(self) -> None:
        try:
            self._process.ready()
            for line in self._process.stdout:
                answer = json.loads(line)
                self._waiting.pop(answer["id"]).set_result(answer)
        except Exception as error:
            self._fail(error)
        else:
            self._fail(self._process.error("ended"))

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self._broken = error
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(error)

    _broken: Exception | None = None

    def submit(
        self,
        method: str,
        url: str,
        *,
        private_key: str,
        headers: Mapping[str, str] | None = None,
        body: str | list[str] | None = None,
        stream: bool = False,
        **more: Any,
    ) -> "Future[dict[str, Any]]":
        """Begin a request; the future is its raw answer. `more` is for a client that takes more than the others."""
        request = {
            "id": next(self._ids),
            "url": url,
            "method": method,
            "headers": dict(headers or {}),
            "body": body,
            "private_key": private_key,
            "stream": stream,
            **more,
        }
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            if self._broken is not None:
                raise self._broken
            self._waiting[request["id"]] = future
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        return future

    def request(self, method: str, url: str, *, timeout: float = 60, **options: Any) -> Answer:
        """Send a request and wait; raises `ClientError` with what the library raised."""
        return self.answer(self.submit(method, url, **options), timeout)

    def answer(self, future: "Future[dict[str, Any]]", timeout: float = 60) -> Answer:
        """The answer of a submitted request."""
        try:
            raw = future.result(timeout)
        except TimeoutError:
            raise self._process.error(f"gave no answer in {timeout} s") from None
        if "error" in raw:
            raise ClientError(f"{self.name}: {raw['error']}")
        chunks = raw["chunks"]
        return Answer(
            status=raw["status"],
            headers=tuple((name, value) for name, value in raw["headers"]),
            body=raw["body"],
            receipt=raw["receipt"],
            chunks=None if chunks is None else tuple((seconds, text) for seconds, text in chunks),
            seconds=raw["seconds"],
        )

    def stop(self) -> None:
        self._process.stop()


class Clients:
    """The clients of one session, started on first use."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, Peer] = {}

    def __getitem__(self, name: str) -> Peer:
        if name not in self._running:
            self._running[name] = Peer(name, CLIENTS[name], self._logs)
        return self._running[name]

    def stop(self) -> None:
        for peer in self._running.values():
            peer.stop()
