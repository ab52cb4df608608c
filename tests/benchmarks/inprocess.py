"""Microseconds a request costs inside one process, no sockets: `python -m tests.benchmarks.inprocess`.

Each figure is the fastest of many short batches: what the machine does besides only ever makes one slower.
"""

import asyncio
import logging
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import httpx
import structlog
from coincurve import PrivateKey, PublicKey
from litestar import Litestar, get
from litestar.datastructures import ResponseHeader
from msgspec.structs import replace

from bridge.config import PaymentConfig
from bridge.credentials import read_credential
from bridge.litestar import PaymentPlugin
from bridge.payers import Asked, account, credential, read_402
from bridge.request import PaidRequest
from translators.binding import sign_challenge
from translators.payment import Protocol
from translators.wire.mpp import decode_opaque, encode_opaque

BATCHES, BATCH = 30, 40
SECRET = "a secret of thirty-two bytes or more, for benchmarks"
AUTHORITY = "127.0.0.1:8000"

Headers = Sequence[tuple[bytes, bytes]]


@get("/report", price="0.01", description="The weather, for a cent")
async def report() -> dict[str, dict[str, str | int]]:
    """Answer with the weather."""
    return {"report": {"weather": "sunny", "temperature": 70}}


def build(store: str = "memory", **settings: Any) -> tuple[Litestar, PaymentPlugin]:
    """An application of ours that settles nowhere, and records no events, as no peer does."""
    config = PaymentConfig(
        event_store=settings.pop("event_store", None),
        recipient="0x" + "11" * 20,
        network="base-sepolia",
        settler="null",
        store=store,
        secret_keys=[SECRET],
        public_url=f"http://{AUTHORITY}",
        **settings,
    )
    plugin = PaymentPlugin(config)
    return Litestar([report], plugins=[plugin], logging_config=None), plugin


def scope_of(headers: Headers = ()) -> dict[str, Any]:
    """A request as a server hands it over."""
    common = [(b"host", AUTHORITY.encode()), (b"user-agent", b"bench/1.0"), (b"accept", b"*/*")]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/report",
        "raw_path": b"/report",
        "query_string": b"",
        "root_path": "",
        "headers": [*common, *headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


async def call(app: Any, headers: Headers = ()) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """One request, and its whole answer."""
    start: dict[str, Any] = {}
    body: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            body.append(message.get("body", b""))

    await app(scope_of(headers), receive, send)
    return start["status"], list(start["headers"]), b"".join(body)


def asked_of(answer: tuple[int, list[tuple[bytes, bytes]], bytes], protocol: Protocol) -> Asked:
    """What a 402 asks of a client of `protocol`."""
    return read_402(httpx.Response(answer[0], headers=answer[1], content=answer[2]), protocol)


def payments(asked: Asked) -> Iterator[Headers]:
    """Payments without end, each for what was asked and none like another."""
    number, payer = 0, account("benchmark")
    while True:
        number += 1
        fresh = asked
        if asked.challenge is not None:
            opaque = decode_opaque(asked.challenge.opaque or "") | {"n": f"benchmark{number}"}
            renewed = replace(asked.challenge, opaque=encode_opaque(opaque))
            fresh = replace(asked, challenge=sign_challenge([SECRET.encode()], renewed))
        header, value = credential(fresh, payer)
        yield [(header.lower().encode(), value.encode())]


async def fastest(work: Callable[[Any], Awaitable[Any]], arguments: Iterator[Any], batches: int = BATCHES) -> float:
    """Microseconds of one `work`, in the fastest batch."""
    best = float("inf")
    for _ in range(batches):
        batch = [next(arguments) for _ in range(BATCH)]
        began = time.perf_counter()
        for argument in batch:
            await work(argument)
        best = min(best, time.perf_counter() - began)
    return best / BATCH * 1e6


PAIRS = 1_500


class Verification(NamedTuple):
    """Microseconds, both measured in turn, so that neither finds the processor's caches warmer than the other does."""

    verified: float
    """From header bytes to a verified payment."""
    recovery: float
    """One bare libsecp256k1 recovery: the floor of every verification."""

    @property
    def ratio(self) -> float:
        """How many recoveries a verification costs."""
        return self.verified / self.recovery


async def _verification(protocol: Protocol, pairs: int) -> Verification:
    app, plugin = build()
    asked = asked_of(await call(app), protocol)
    (route,) = plugin.config.routes
    verifier = plugin.gate._means.verifier
    assert isinstance(route.offers, tuple)
    digest = b"\x01" * 32
    signature = PrivateKey(b"\x07" * 32).sign_recoverable(digest, hasher=None)

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is read")

    verified, recovered = [], []
    for scope in [scope_of(headers) for headers in islice(payments(asked), pairs)]:
        request = PaidRequest(scope, receive, f"http://{AUTHORITY}")
        resource = route.resource(request.url)
        began = time.perf_counter()
        presented = read_credential(request.headers)
        assert presented is not None
        await verifier.check(presented, route.offers, request, resource, request.authority, "GET /report")
        half = time.perf_counter()
        PublicKey.from_signature_and_message(signature, digest, hasher=None)
        recovered.append(time.perf_counter() - half)
        verified.append(half - began)
    return Verification(statistics.median(verified) * 1e6, statistics.median(recovered) * 1e6)


def verification(protocol: Protocol, pairs: int = PAIRS) -> Verification:
    """What it costs to go from header bytes to a verified payment."""
    return asyncio.run(_verification(protocol, pairs))


def floor_app(answer: tuple[int, list[tuple[bytes, bytes]], bytes]) -> Litestar:
    """A Litestar route that returns `answer`, as the framework would at its cheapest."""
    own = {b"content-length", b"content-type"}
    headers = [ResponseHeader(name=k.decode(), value=v.decode()) for k, v in answer[1] if k not in own]

    @get("/report", status_code=answer[0], media_type="application/problem+json", response_headers=headers)
    async def constant() -> bytes:
        return answer[2]

    return Litestar([constant], logging_config=None)


async def _unpaid() -> tuple[float, float]:
    app, plugin = build()
    await plugin.gate.start(plugin.config.offers_to_check())
    try:
        floor = floor_app(await call(app))
        nothing = iter(lambda: None, 0)
        return (
            await fastest(lambda _: call(app), nothing),
            await fastest(lambda _: call(floor), nothing),
        )
    finally:
        await plugin.gate.close()


def unpaid() -> tuple[float, float]:
    """Microseconds of one 402 of ours, and of the same answer as a constant."""
    return asyncio.run(_unpaid())


async def _paid(protocol: Protocol, store: str, settings: dict[str, Any]) -> float:
    app, plugin = build(store, **settings)
    await plugin.gate.start(plugin.config.offers_to_check())
    try:
        asked = asked_of(await call(app), protocol)
        return await fastest(lambda headers: call(app, headers), payments(asked))
    finally:
        await plugin.gate.close()


def paid(protocol: Protocol, store: str = "memory", **settings: Any) -> float:
    """Microseconds of one paid request, verified, claimed, settled nowhere and delivered."""
    return asyncio.run(_paid(protocol, store, settings))


def quiet() -> None:
    """No log lines: they are measured where they are the subject."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


if __name__ == "__main__":
    quiet()
    for protocol in Protocol:
        taken = verification(protocol)
        print(f"verification, {protocol:<9} {taken.verified:7.1f} us, {taken.ratio:.2f} recoveries")
    ours, constant = unpaid()
    print(f"402                     {ours:7.1f} us, {constant / ours:.2f} of the constant's rate ({constant:.1f} us)")
    for protocol in Protocol:
        print(f"paid, {protocol:<17} {paid(protocol):7.1f} us")
