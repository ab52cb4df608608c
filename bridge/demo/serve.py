"""Runs the demo's application on a real socket: in this process, or in several that share the socket."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import msgspec
import uvicorn
from litestar import Litestar

from bridge.demo.app import DemoSettings, create_app
from bridge.logs import configure_logs

__all__ = ["listen", "serve_here", "serve_in_workers"]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # asyncio sets it only on sockets that were made with IPPROTO_TCP. Without it answers wait 40 ms for an ACK.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind((host, port))
    sock.listen(1024)
    sock.set_inheritable(True)
    return sock


class _Server(uvicorn.Server):
    """A server that leaves the signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: Litestar) -> uvicorn.Server:
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=10)
    return _Server(config)


@asynccontextmanager
async def serve_here(app: Litestar, sock: socket.socket) -> AsyncIterator[None]:
    """Serve in this process while the context lasts; raises what keeps the application from starting."""
    async with _lifespan(app):
        server = _server(app)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            yield
        finally:
            server.should_exit = True
            await task


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
async def serve_in_workers(settings: DemoSettings, sock: socket.socket, count: int, url: str) -> AsyncIterator[None]:
    """Serve in `count` child processes, which end when this one does. Raises `RuntimeError` when they do not start."""
    workers = [await _worker(settings, sock) for _ in range(count)]
    try:
        await _answering(url, workers)
        yield
    finally:
        for worker in workers:
            if worker.returncode is None:
                worker.terminate()
        await asyncio.gather(*(worker.wait() for worker in workers))


async def _worker(settings: DemoSettings, sock: socket.socket) -> asyncio.subprocess.Process:
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bridge.demo.serve",
        str(sock.fileno()),
        stdin=asyncio.subprocess.PIPE,
        pass_fds=[sock.fileno()],
    )
    assert worker.stdin is not None
    worker.stdin.write(msgspec.json.encode(settings) + b"\n")
    await worker.stdin.drain()
    return worker


async def _answering(url: str, workers: list[asyncio.subprocess.Process], seconds: float = 30) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=2) as client:
        for _ in range(int(seconds * 10)):
            if any(worker.returncode is not None for worker in workers):
                break
            try:
                if (await client.get("/free")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)
    raise RuntimeError("the workers did not start: the log above says why")


async def _run_worker(fileno: int) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    settings = msgspec.json.decode(await reader.readline(), type=DemoSettings)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C reaches the whole group; the parent ends us.

    async def orphaned() -> None:
        await reader.read()
        stop.set()

    watch = asyncio.create_task(orphaned())
    sock: Any = socket.socket(fileno=fileno)
    async with serve_here(create_app(settings), sock):
        await stop.wait()
    watch.cancel()


if __name__ == "__main__":
    configure_logs()
    asyncio.run(_run_worker(int(sys.argv[1])))
