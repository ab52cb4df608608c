"""The gateway, and the same proxy without the bridge: its own pieces, and nothing that knows of payments."""

import json
import logging
import os
import statistics
from time import perf_counter
from typing import Any

import structlog

from bridge.gateway import pool
from bridge.gateway.app import Gateway
from bridge.gateway.config import GatewayConfig
from bridge.gateway.connection import Connection, Reply
from bridge.gateway.forward import Body, Forwarder, relay
from bridge.gateway.headers import TrustedProxies, request_headers
from bridge.gateway.upstreams import Upstreams
from bridge.trailers import takes_trailers

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR), cache_logger_on_first_use=True)

UPSTREAM = os.environ["BENCH_UPSTREAM"]


def gateway() -> Gateway:
    """The gateway, with claims in memory."""
    return Gateway(
        GatewayConfig(
            upstreams={"/": UPSTREAM},
            public_url=os.environ["BENCH_URL"],
            store="memory",
            events=None,
            secret_keys=(os.environ["BENCH_SECRET"],),
        )
    )


waited: list[float] = []
"""How long the upstream took to answer each request, in seconds, from before it was written."""


class TimedConnection(Connection):
    """A connection that notes how long its upstream takes."""

    _asked = 0.0

    def ask(self, request: bytes, *, is_head: bool) -> Reply:
        """See `Connection`."""
        self._asked = perf_counter()
        return super().ask(request, is_head=is_head)

    def data_received(self, data: bytes) -> None:
        """See `Connection`."""
        if self._asked:
            waited.append(perf_counter() - self._asked)
            self._asked = 0.0
        super().data_received(data)


def timed_gateway() -> Any:
    """The same; `/waited` says how many milliseconds its upstream took at the median since that was asked last."""
    pool.Connection = TimedConnection  # type: ignore[misc]
    timed = gateway()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/waited":
            await timed(scope, receive, send)
            return
        said = json.dumps(statistics.median(waited) * 1e3).encode()
        waited.clear()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(said)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": said})

    return app


def proxy() -> Any:
    """The proxy alone."""
    upstreams, trusted = Upstreams({"/": UPSTREAM}), TrustedProxies(())
    forwarder = Forwarder(timeout=60, stall=300)
    authority = os.environ["BENCH_URL"].rpartition("/")[2].encode()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("http only")
        upstream = upstreams.find(scope["path"])
        assert upstream is not None
        headers = request_headers(scope, trusted.peer(scope), host=authority, public_host=authority, proto=b"http")
        target = upstream.target(scope["path"], scope.get("query_string", b""))
        has_body = any(name == b"content-length" and value != b"0" for name, value in scope["headers"])
        body = Body(receive) if has_body else b""
        answer = await forwarder.send(upstream, scope["method"], target, headers, body, once=False)
        await relay(answer, send, receive, trails=takes_trailers(scope))

    return app
