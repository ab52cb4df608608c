"""Servers out of sockets: each sends exactly the bytes that it is told to, which no library would send."""

import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


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


CERTIFICATE = Path(__file__).with_name("certificates") / "shop.example.org.pem"
"""A certificate for that name, which only these tests trust, and its key, which is good for nothing else."""


@contextmanager
def serving(answer: Answering, *, tls: bool = False) -> Iterator[int]:
    """A server on the loopback that answers so, for as long as the context lasts; yields its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if tls:
        context.load_cert_chain(CERTIFICATE)

    class Handler(socketserver.StreamRequestHandler):
        timeout = 30

        def setup(self) -> None:
            if tls:
                self.request.settimeout(self.timeout)
                self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

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

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up is no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
