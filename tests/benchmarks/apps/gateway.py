"""The gateway, and the same proxy without the bridge: its own pieces, and nothing that knows of payments."""

import logging
import os
from typing import Any

import structlog

from bridge.gateway.app import Gateway
from bridge.gateway.config import GatewayConfig
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
