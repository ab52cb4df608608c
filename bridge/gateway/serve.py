"""The command `x402-mpp gateway`: the gateway on a socket, in this process or in several."""

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from bridge.gateway.app import Gateway
from bridge.gateway.config import GatewayConfig
from bridge.http1 import Http1Protocol
from bridge.logs import configure_logs
from bridge.serving import listen, serve, server_url, stop_signal, worker_input, workers

__all__ = ["run"]

GRACE_SECONDS: Final = 30
"""How long what is under way has to finish, once the gateway is asked to end."""


def run(config: GatewayConfig, *, json: bool) -> None:
    """Serve until a signal comes. Raises what keeps it from starting."""
    _run_loop(_run(config, json))


def _run_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed: what passes through costs a third less."""
    try:
        import uvloop
    except ModuleNotFoundError:
        asyncio.run(work)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


async def _run(config: GatewayConfig, json: bool) -> None:
    configure_logs(json=True if json else None)
    sock = listen(config.host, config.port)
    url = server_url(config.host, sock.getsockname()[1])
    stop = stop_signal()
    serving = (
        _serve(config, sock)
        if config.workers == 1
        else workers(
            "bridge.gateway.serve", msgspec.json.encode((config, json)), sock, config.workers, grace=GRACE_SECONDS + 10
        )
    )
    async with serving:
        print(msgspec.json.encode({"url": url}).decode() if json else _welcome(url, config), flush=True)  # noqa: T201
        await stop.wait()


@asynccontextmanager
async def _serve(config: GatewayConfig, sock: socket.socket) -> AsyncIterator[None]:
    gateway = Gateway(config)
    await gateway.start()
    # What was loaded stays as long as the process, which is ours alone: looked through again and again, it would stop
    # every request for up to tens of milliseconds.
    gc.collect()
    gc.freeze()
    try:
        # The upstream's Server and Date go through: a proxy's own would stand beside them.
        async with serve(
            gateway,
            sock,
            http=Http1Protocol,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        ):
            yield
    finally:
        await gateway.close()


def _welcome(url: str, config: GatewayConfig) -> str:
    lines = [f"Serving on {config.public_url or url}"]
    lines += [f"  {prefix:<12} {upstream}" for prefix, upstream in config.upstreams.items()]
    return "\n".join(lines)


async def _run_worker(fileno: int) -> None:
    async with worker_input() as (given, stop):
        config, json = msgspec.json.decode(given, type=tuple[GatewayConfig, bool])
        configure_logs(json=True if json else None)
        async with _serve(config, socket.socket(fileno=fileno)):
            print("serving", flush=True)  # noqa: T201
            await stop.wait()


if __name__ == "__main__":
    _run_loop(_run_worker(int(sys.argv[1])))
