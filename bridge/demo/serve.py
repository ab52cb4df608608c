"""Runs the demo's application on a real socket: in this process, or in several that share the socket."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from litestar import Litestar

from bridge import serving
from bridge.demo.app import DemoSettings, create_app
from bridge.logs import configure_logs

__all__ = ["serve_here", "serve_in_workers"]

GRACE_SECONDS = 10
"""How long what is under way has to finish, once the demo is asked to end."""


@asynccontextmanager
async def serve_here(app: Litestar, sock: socket.socket) -> AsyncIterator[None]:
    """Serve in this process while the context lasts; raises what keeps the application from starting."""
    async with _lifespan(app), serving.serve(app, sock, timeout_graceful_shutdown=GRACE_SECONDS):
        yield


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncIterator[None]:
    """The application's own lifespan, run here so that its errors arrive as they are and not as a server's log."""
    try:
        async with app.lifespan():
            yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


@asynccontextmanager
async def serve_in_workers(settings: DemoSettings, sock: socket.socket, count: int) -> AsyncIterator[None]:
    """Serve in `count` child processes, which end when this one does. Raises `RuntimeError` when one does not start."""
    given = msgspec.json.encode(settings)
    async with serving.workers("bridge.demo.serve", given, sock, count, grace=GRACE_SECONDS + 5):
        yield


async def _run_worker(fileno: int) -> None:
    async with serving.worker_input() as (given, stop):
        app = create_app(msgspec.json.decode(given, type=DemoSettings))
        async with serve_here(app, socket.socket(fileno=fileno)):
            print("serving", flush=True)  # noqa: T201
            await stop.wait()


if __name__ == "__main__":
    configure_logs()
    asyncio.run(_run_worker(int(sys.argv[1])))
