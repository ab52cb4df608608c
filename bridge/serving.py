"""Serves an ASGI application on a socket: in this process, or in several that share it, until a signal comes."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

__all__ = ["listen", "serve", "server_url", "stop_signal", "worker_input", "workers"]


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


def server_url(host: str, port: int) -> str:
    """Where a server on this machine reaches itself."""
    named = f"[{host}]" if ":" in host else host
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else named}:{port}"  # noqa: S104


class _Server(uvicorn.Server):
    """A server that leaves the signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve(app: Any, sock: socket.socket, **settings: Any) -> AsyncIterator[None]:
    """Serve `app`, whose lifespan the caller runs, while the context lasts; what is under way then is finished.

    `settings` are uvicorn's.
    """
    config = uvicorn.Config(app, **{"log_level": "warning", "access_log": False, "lifespan": "off", **settings})
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


def stop_signal() -> asyncio.Event:
    """Set when the process is asked to end."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    return stop


@asynccontextmanager
async def workers(
    module: str, settings: bytes, sock: socket.socket, count: int, *, grace: float
) -> AsyncIterator[Sequence[asyncio.subprocess.Process]]:
    """Run `count` processes of `python -m module`, which serve on `sock` until the context ends, or this process does.

    Each reads `settings` as a line from its standard input, and says with a line on its standard output that it serves.
    Raises `RuntimeError` when one does not. At the end each has `grace` seconds to finish what it is at.
    """
    started: list[asyncio.subprocess.Process] = []
    try:
        while len(started) < count:
            started.append(await _start(module, settings, sock))
        for process in started:
            assert process.stdout is not None
            if not await process.stdout.readline():
                raise RuntimeError("a worker did not start: the log above says why")
        yield started
    finally:
        for process in started:
            if process.returncode is None:
                process.terminate()
        await asyncio.gather(*(_ended(process, grace) for process in started))


async def _start(module: str, settings: bytes, sock: socket.socket) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        str(sock.fileno()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        pass_fds=[sock.fileno()],
    )
    assert process.stdin is not None
    process.stdin.write(settings + b"\n")
    await process.stdin.drain()
    return process


async def _ended(process: asyncio.subprocess.Process, grace: float) -> None:
    try:
        await asyncio.wait_for(process.wait(), grace)
    except TimeoutError:
        process.kill()
        await process.wait()


@asynccontextmanager
async def worker_input() -> AsyncIterator[tuple[bytes, asyncio.Event]]:
    """In a worker: its settings, and an event for when it is to end, be it because its parent is gone."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    settings = await reader.readline()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C reaches the whole group; the parent ends us.

    async def orphaned() -> None:
        await reader.read()
        stop.set()

    watch = asyncio.create_task(orphaned())
    try:
        yield settings, stop
    finally:
        watch.cancel()
