"""Servers out of sockets: each sends exactly the bytes that it is told to, which no library would send."""

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RawRequest:
    """What came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class RawAnswer:
    """What goes: a status, header lines as they are, and a body."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def encode(self, *, with_body: bool) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Whatever", *(f"{name}: {value}" for name, value in self.headers)]
        lines += [f"Content-Length: {len(self.body)}", "Connection: close"]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (self.body if with_body else b"")


Answering = Callable[[RawRequest], RawAnswer]


@contextmanager
def serving(answer: Answering) -> Iterator[int]:
    """A server on the loopback that answers so, for as long as the context lasts; yields its port."""

    class Handler(socketserver.StreamRequestHandler):
        timeout = 30

        def handle(self) -> None:
            first = self.rfile.readline().decode("latin-1").split()
            if len(first) < 2:
                return
            headers = {}
            while (line := self.rfile.readline().decode("latin-1").strip()) != "":
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body = self.rfile.read(int(headers.get("content-length", 0)))
            request = RawRequest(first[0], first[1], headers, body)
            self.wfile.write(answer(request).encode(with_body=first[0] != "HEAD"))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
