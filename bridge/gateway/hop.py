"""One request on its way to its upstream: what goes on of it, paid, unpaid or as it came, as often as it has to."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from bridge.gateway.demands import Asked, read_402
from bridge.gateway.forward import Answer, Body, TooLarge
from bridge.gateway.headers import CREDENTIALS, named_in_connection, request_headers, without
from bridge.gateway.parts import Parts
from bridge.gateway.upstreams import Upstream
from bridge.request import PaidRequest
from bridge.trailers import request_trailers
from translators.completion import Place, naming, restored_url

__all__ = ["Hop"]

_OF_THE_BODY = (b"content-length", b"transfer-encoding", b"trailer")


class Hop:
    """The way of one request to `upstream`. `path` is as for `bridge.gateway.visit.Visit`."""

    def __init__(self, parts: Parts, upstream: Upstream, path: str, scope: Any, receive: Any) -> None:
        self.parts = parts
        self.upstream = upstream
        self._scope = scope
        peer = parts.trusted.peer(scope)
        told = f"{peer.proto}://{peer.host}" if peer.proto and peer.host else None
        # Who is told apart by address is the proxy's client, not the proxy.
        seen = {**scope, "client": (peer.address, 0)} if peer.forwarded else scope
        self.request = PaidRequest(seen, receive, parts.public or told)
        self.target = upstream.target(path, scope.get("query_string", b""))
        proto, public_host = _as_told(self.request.origin)
        by_public = parts.config.host_header == "public" or (parts.config.host_header is None and not upstream.is_tls)
        self.headers = request_headers(
            scope,
            peer,
            host=public_host if by_public else upstream.authority.encode("latin-1"),
            public_host=public_host,
            proto=proto,
        )
        """What goes on, with the credential that it came with."""
        self.mounted_at = self.request.path[: len(self.request.path) - len(path)]

    @property
    def place(self) -> Place:
        """Where the upstream is, and where clients find it."""
        upstream, request = self.upstream, self.request
        return Place(own=upstream.own, public=request.origin + self.mounted_at + upstream.prefix, url=request.url)

    def elsewhere(self, path: str) -> "Hop":
        """The same request without a body, for another `path` below where the gateway is mounted."""
        whole = self.mounted_at + path
        scope = {**self._scope, "path": whole, "raw_path": whole.encode(), "query_string": b""}
        return Hop(self.parts, self.upstream, path, scope, _nothing)

    def leave_out(self, names: Iterable[bytes]) -> None:
        """Headers that do not go on; nor does a credential in MPP."""
        self.headers = without(self.headers, names)

    def restore_url(self) -> None:
        """Give the upstream the URL that it knows its resource by, where its challenge was given the public one.

        Only where it does not use the public one itself: everything else goes on byte for byte.
        """
        named = self.parts.learned.named(self.upstream)
        if named is None:
            return
        self.headers = [
            (name, restored_url(value, self.place, named) if name == b"payment-signature" else value)
            for name, value in self.headers
        ]

    async def body(self) -> Body | bytes:
        """The request's body: whole where it is short, so that it can be told and sent again, else as it comes."""
        short = await self.request.body(self.parts.config.bind_body_bytes)
        if short is not None:
            return short
        headers, limit = self._scope["headers"], self.parts.config.max_body
        return Body(self.request.receive, limit, request_trailers(self._scope), named_in_connection(headers))

    def check_announced(self) -> None:
        """Raise `TooLarge` for a body that says so itself, before a payment is claimed that could not be passed on."""
        limit, length = self.parts.config.max_body, self.request.header(b"content-length")
        if limit is not None and length is not None and (not length.isdecimal() or int(length) > limit):
            raise TooLarge

    async def pass_on(self, credential: tuple[bytes, bytes] | None, *, once: bool = True) -> Answer:
        """Send the request on, with `credential` in the place of the one that it came with; None: as it came."""
        headers = self.headers
        if credential is not None:
            headers = [*without(headers, CREDENTIALS), credential]
        method = self.request.method
        body = await self.body()
        expects = isinstance(body, Body) and (self.request.header(b"expect") or "").lower() == "100-continue"
        return await self.parts.forwarder.send(
            self.upstream, method, self.target, headers, body, once=once, expects=expects
        )

    async def probe(self) -> Asked | Answer:
        """Ask the upstream what it asks of this request, unpaid; its answer where that is no 402 of x402."""
        headers = without(self.headers, (*CREDENTIALS, b"accept-encoding"))
        body = await self.body()
        if isinstance(body, Body):
            # Too long to be sent twice.
            headers = [*without(headers, _OF_THE_BODY), (b"content-length", b"0")]
            body = b""
        answer = await self.parts.forwarder.send(
            self.upstream, self.request.method, self.target, headers, body, once=False
        )
        return await self.read(answer) if answer.status == 402 else answer

    async def read(self, answer: Answer) -> Asked | Answer:
        """A 402 as what it asks, or as it is where nobody here can read it."""
        asked = await read_402(answer)
        if asked is None:
            return answer
        self.parts.learned.note(
            self.upstream,
            self.request.method,
            self.request.path,
            asked.demand,
            named=naming(asked.demand, self.place),
        )
        return asked


async def _nothing() -> dict[str, Any]:
    """ASGI's `receive` of a request without a body."""
    return {"type": "http.request", "body": b"", "more_body": False}


@lru_cache(maxsize=256)
def _as_told(origin: str) -> tuple[bytes, bytes]:
    """Scheme and authority of an origin, as headers name them."""
    parts = urlsplit(origin)
    return parts.scheme.encode(), parts.netloc.encode("latin-1")
