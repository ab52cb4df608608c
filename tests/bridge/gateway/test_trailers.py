"""Trailers through the gateway: up and down, free and paid, and what stops on the way."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest
from litestar import Litestar

from bridge.http1 import Http1Protocol
from bridge.litestar.gateway import GatewayPlugin
from bridge.trailers import MAX_FIELDS, request_trailers
from tests.bridge.gateway.lab import (
    MPP,
    ON_BOTH_LOOPS,
    PROTOCOLS,
    V1,
    V2,
    Lab,
    Script,
    Server,
    gateway_before,
    running,
    until,
)
from translators.payment import Protocol

pytestmark = [pytest.mark.anyio, ON_BOTH_LOOPS]

Fields = Sequence[tuple[bytes, bytes]]
TE = "TE: trailers\r\nConnection: close, TE\r\n"
SAID = [(b"X-Sum", b"1"), (b"x-odd", b"caf\xe9")]
"""What an upstream's answers end with."""
STOPS = [(b"set-cookie", b"a=1"), (b"payment-response", b"e30="), (b"x-hop", b"1"), (b"location", b"/")]
"""What they had better not."""


def trailing(*parts: bytes, fields: Fields = (*SAID, *STOPS), slowly: bool = False) -> Script:
    """Answers with trailers; `slowly`: when the start is with the client already."""

    async def answer(server: Server, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"trailer", b"X-Sum, Set-Cookie"), (b"connection", b"x-hop")]
        if server.authorization is not None:
            headers += server.receipt()
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        for part in parts or (b"the ", b"report"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(0.05 if slowly else 0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        await send({"type": "http.response.trailers", "headers": list(fields), "more_trailers": False})

    return answer


@asynccontextmanager
async def trailers_lab(server: Server, **settings: Any) -> AsyncIterator[Lab]:
    """A gateway before a server that speaks of trailers."""
    async with running(server, http=Http1Protocol, server_header=False, date_header=False) as url:
        server.url = url
        async with gateway_before({"/": url}, server, **settings) as at:
            yield at


class Said(NamedTuple):
    """An answer, taken apart by hand: no client of Python's shows trailers."""

    status: int
    head: bytes
    body: bytes
    trailers: bytes | None
    """None: it had no chunks."""


async def ask(at: Lab, request: bytes) -> Said:
    """Send bytes, and read until the gateway closes."""
    authority = at.url.removeprefix("http://")
    host, port = authority.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.replace(b"{host}", authority.encode()))
    try:
        return apart(await asyncio.wait_for(reader.read(), 10))
    finally:
        writer.close()


def apart(said: bytes) -> Said:
    head, _, rest = said.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if b"transfer-encoding: chunked" not in head:
        return Said(status, head, rest, None)
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            assert rest.endswith(b"\r\n")
            return Said(status, head, body, rest.removesuffix(b"\r\n"))
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


def get(path: str = "/free", headers: str = TE, method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} {path} HTTP/{version}\r\nHost: {{host}}\r\n{headers}\r\n".encode("latin-1")


def post(path: str, headers: str = "", body: bytes = b"3\r\nabc\r\n0\r\n", trailers: bytes = b"") -> bytes:
    return (
        get(path, f"{headers}Transfer-Encoding: chunked\r\nConnection: close\r\n", "POST") + body + trailers + b"\r\n"
    )


# Down


@pytest.mark.parametrize("slowly", [False, True])
async def test_an_answers_trailers_reach_the_client(slowly: bool) -> None:
    """Behind the body, in one piece with it or long after; announced as they were, and none that leads its reader."""
    server = Server()
    server.free["/free"] = trailing(slowly=slowly)
    async with trailers_lab(server) as at:
        said = await ask(at, get())
        assert (said.status, said.body, said.trailers) == (200, b"the report", b"X-Sum: 1\r\nx-odd: caf\xe9\r\n")
        assert b"trailer: X-Sum\r\n" in said.head
        assert b"set-cookie" not in said.head.lower()
        assert (server.last.header("te"), server.last.header("connection")) == ("trailers", "te")


async def test_a_client_need_not_ask_for_them() -> None:
    """Every recipient of chunks can read them (RFC 9112, section 7.1); but nothing is asked in its name."""
    server = Server()
    server.free["/free"] = trailing()
    async with trailers_lab(server) as at:
        said = await ask(at, get(headers="Connection: close\r\nTE: gzip\r\n"))
        assert said.trailers == b"X-Sum: 1\r\nx-odd: caf\xe9\r\n"
        assert (server.last.header("te"), server.last.header("connection")) == (None, None)


async def test_a_connection_goes_on_behind_trailers() -> None:
    """On both sides of the gateway."""
    server = Server()
    server.free["/free"] = trailing()
    peers: list[Any] = []

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        peers.append(scope["client"])
        await server(scope, receive, send)

    async with running(noting, http=Http1Protocol) as url, gateway_before({"/": url}, server) as at:
        host, port = at.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(3):
            writer.write(get(headers=""))
            await asyncio.wait_for(reader.readuntil(b"0\r\nX-Sum: 1\r\nx-odd: caf\xe9\r\n\r\n"), 10)
        writer.close()
    assert len(set(peers)) == 1


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (get(version="1.0", headers="TE: trailers\r\n"), b"the report"),
        (get(method="HEAD"), b""),
    ],
)
async def test_where_there_are_no_chunks_there_are_no_trailers(request_: bytes, body: bytes) -> None:
    """HTTP/1.0, and HEAD: the answer is whole without them, and says nothing of them."""
    server = Server()
    server.free["/free"] = trailing()
    async with trailers_lab(server) as at:
        said = await ask(at, request_)
        assert (said.status, said.body, said.trailers or b"") == (200, body, b"")
        assert b"trailer:" not in said.head


async def test_a_server_that_has_none_drops_them() -> None:
    """Behind plain uvicorn: what they would have been is not announced, and not asked for."""
    server = Server()
    server.free["/free"] = trailing()
    async with trailers_lab(server, http="httptools") as at:
        said = await ask(at, get())
        assert (said.body, said.trailers) == (b"the report", b"")
        assert b"trailer:" not in said.head
        assert server.last.header("te") is None


async def test_more_trailers_than_an_answer_may_have() -> None:
    """A 502 where nothing has gone out yet, else the answer breaks off: half of one is never passed off as a whole."""
    many = b"x: 1\r\n" * (MAX_FIELDS + 1)

    async def says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        parts = [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", b"0\r\n" + many + b"\r\n"]
        for part in parts if b"/slow" in request else [b"".join(parts)]:
            writer.write(part)
            await asyncio.sleep(0.1)
        await reader.read()
        writer.close()

    upstream = await asyncio.start_server(says, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
    async with gateway_before({"/": url}, Server()) as at:
        answer = await at.client.get("/")
        assert (answer.status_code, answer.json()["type"]) == (502, "urn:x402-mpp-bridge:problem:upstream-failed")
        with pytest.raises(httpx.RemoteProtocolError):
            await at.client.get("/slow")
    upstream.close()


@pytest.mark.parametrize("version", [1, 2])
async def test_a_402s_trailers_go_with_its_body(version: int) -> None:
    """Where the body is another's now, they would say something about what nobody got."""
    server = Server([version])

    async def ask_with_trailers(_: Any, scope: Any, receive: Any, send: Any) -> None:
        async def trailing_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [item for item in message["headers"] if item[0] != b"content-length"]
                await send({**message, "headers": headers, "trailers": True})
            else:
                await send(message)
                await send({"type": "http.response.trailers", "headers": SAID, "more_trailers": False})

        await server.ask(scope, trailing_send, None)

    server.free["/asks"] = ask_with_trailers
    async with trailers_lab(server) as at:
        said = await ask(at, get("/asks"))
        assert said.status == 402
        assert b"WWW-Authenticate: Payment ".lower() in said.head.lower()
        assert b"X-Sum" not in (said.trailers or b"")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.parametrize("client", PROTOCOLS)
async def test_a_paid_answer_has_its_trailers_and_again(client: Protocol, version: int, slowly: bool) -> None:
    """In every crossing; and the answer that is kept says them again, to whoever takes any."""
    server = Server([version], paid=trailing(slowly=slowly))
    async with trailers_lab(server) as at:
        name, value = await at.credential(client)
        headers = f"{name}: {value}\r\n{TE}"
        for _ in range(2):
            said = await ask(at, get("/report", headers))
            assert (said.status, said.body, said.trailers) == (200, b"the report", b"X-Sum: 1\r\nx-odd: caf\xe9\r\n")
        assert b"payment-response" not in (said.trailers or b"")
        plain = await ask(at, get("/report", headers, version="1.0"))
        assert (plain.status, plain.body, plain.trailers) == (200, b"the report", None)
        assert len(server.settled) == 1
        assert at.events.count("payment.delivered") == 1
        assert at.events.count("payment.replayed") == 2


async def test_a_paid_answer_that_breaks_off_in_its_trailers_stays_to_be_asked_for() -> None:
    """It is settled, and not delivered."""
    server = Server(paid=trailing(fields=[(b"x", b"1")] * (MAX_FIELDS + 1), slowly=True))
    async with trailers_lab(server) as at:
        name, value = await at.credential(MPP)
        with pytest.raises(httpx.RemoteProtocolError):
            await at.client.get("/report", headers={name: value})
        await until(lambda: at.events[-1] == "payment.undelivered")
        assert [row.state for row in at.rows()] == ["settled"]


# Up


def noting_trailers(seen: list[Fields]) -> Script:
    """Reads its request to the end, and notes the trailers."""

    async def answer(server: Server, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more and scope["path"] in server.free:
            message = await receive()
            if message["type"] == "http.disconnect":
                seen.append([(b"left", b"")])
                return
            body, more = body + message["body"], message["more_body"]
        seen.append(request_trailers(scope))
        receipt = server.receipt() if server.authorization is not None else []
        await server.reply(send, 200, body or server.last.body, receipt)

    return answer


SENT = b"X-Up: 1\r\nx-payment: e30=\r\nAuthorization: Payment e30\r\nHost: evil\r\nX-Odd: caf\xe9\r\n"
ARRIVES = [(b"x-up", b"1"), (b"x-odd", b"caf\xe9")]


async def test_a_requests_trailers_reach_the_upstream() -> None:
    """As trailers, behind the body: the request was announced to have some, and its headers are its headers."""
    server, seen = Server(), list[Fields]()
    server.free["/free"] = noting_trailers(seen)
    async with trailers_lab(server) as at:
        said = await ask(at, post("/free", "Trailer: X-Up, Host\r\n", trailers=SENT))
        assert (said.status, said.body, seen) == (200, b"abc", [ARRIVES])
        assert server.last.header("trailer") == "X-Up"
        assert [name for name, _ in server.last.headers].count("host") == 1
        for name in ("x-up", "authorization", "x-payment"):
            assert server.last.header(name) is None


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("client", PROTOCOLS)
async def test_a_paid_upload_has_its_trailers(client: Protocol, version: int) -> None:
    """In every crossing: with the body, and with the payment in its place."""
    seen = list[Fields]()
    server = Server([version], paid=noting_trailers(seen))
    async with trailers_lab(server) as at:
        name, value = await at.credential(client, "/up", "POST", content=_part())
        said = await ask(at, post("/up", f"{name}: {value}\r\n", trailers=SENT))
        assert (said.status, said.body, seen) == (200, b"abc", [ARRIVES])
        assert len(server.settled) == 1


async def _part() -> AsyncIterator[bytes]:
    yield b"abc"


@pytest.mark.parametrize("client", PROTOCOLS)
async def test_a_payment_in_a_trailer_is_none(client: Protocol) -> None:
    """Nobody here reads it, and it goes no further; in the server's own version either."""
    server = Server([2 if client is V2 else 1])
    async with trailers_lab(server) as at:
        name, value = await at.credential(client, "/up", "POST", content=_part())
        said = await ask(at, post("/up", trailers=f"{name}: {value}\r\n".encode()))
        assert said.status == 402
        assert (len(server.settled), at.rows()) == (0, [])
        assert server.last.header(name.lower()) is None


@pytest.mark.parametrize(
    ("fields", "status"),
    [(b"x: 1\r\n" * (MAX_FIELDS + 1), 431), (b"x: " + b"y" * 20_000 + b"\r\n", 431), (b"x : 1\r\n", 400)],
    ids=["many", "long", "bad"],
)
async def test_bad_trailers_are_refused(fields: bytes, status: int) -> None:
    """The upstream never sees an end of the request, and the gateway goes on."""
    server, seen = Server(), list[Fields]()
    server.free["/free"] = noting_trailers(seen)
    async with trailers_lab(server) as at:
        assert (await ask(at, post("/free", trailers=fields))).status == status
        await until(lambda: seen == [[(b"left", b"")]] or not seen)
        assert (await ask(at, post("/free"))).body == b"abc"


@pytest.mark.parametrize("client", [V1, MPP])
async def test_a_paid_upload_that_breaks_off_in_its_trailers_is_not_served(client: Protocol) -> None:
    """Its upstream never had all of it, so nothing has moved; but who says so is the chain, and here is none."""
    server = Server([2])
    async with trailers_lab(server) as at:
        name, value = await at.credential(client, "/up", "POST", content=_part())
        said = await ask(at, post("/up", f"{name}: {value}\r\n", trailers=b"x: 1\r\n" * (MAX_FIELDS + 1)))
        assert said.status == 431
        await until(lambda: [row.state for row in at.rows()] == ["unknown"])
        assert len(server.settled) == 0


# Mounted


@pytest.mark.parametrize("http", [Http1Protocol, "httptools"])
async def test_a_mounted_gateway_has_trailers_where_its_server_has(http: Any) -> None:
    """Inside a Litestar application, on the protocol that uvicorn can be told to use, and on uvicorn's own."""
    server, seen = Server(), list[Fields]()
    async with trailers_lab(server) as at:
        mounted = Litestar([], plugins=[GatewayPlugin(at.gateway, "/old")], logging_config=None)
        async with running(mounted, http=http) as at.url, httpx.AsyncClient(base_url=at.url) as at.client:
            server.on_paid = trailing()
            name, value = await at.credential(MPP, "/old/report")
            said = await ask(at, get("/old/report", f"{name}: {value}\r\n{TE}"))
            assert (said.status, said.body) == (200, b"the report")
            server.on_paid = noting_trailers(seen)
            name, value = await at.credential(V1, "/old/up", "POST", content=_part())
            assert (await ask(at, post("/old/up", f"{name}: {value}\r\n", trailers=b"x-up: 1\r\n"))).body == b"abc"
    has_trailers = http is Http1Protocol
    assert said.trailers == (b"X-Sum: 1\r\nx-odd: caf\xe9\r\n" if has_trailers else b"")
    assert (b"trailer:" in said.head) is has_trailers
    assert seen == [[(b"x-up", b"1")] if has_trailers else []]
