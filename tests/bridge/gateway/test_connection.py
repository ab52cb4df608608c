"""The connections to upstreams, against servers that send whatever bytes a test tells them."""

import asyncio
import gc
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.gateway.errors import Unanswered, Unreached
from bridge.gateway.forward import Answer, Forwarder
from bridge.gateway.pool import _context
from bridge.gateway.upstreams import Upstream
from tests.bridge.gateway.lab import ON_BOTH_LOOPS

pytestmark = [pytest.mark.anyio, ON_BOTH_LOOPS]

Says = Callable[["Raw", asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Raw:
    """A server that reads a request's head and lets `says` answer it."""

    def __init__(self, says: Says) -> None:
        self.says = says
        self.asked: list[bytes] = []
        self.connections = 0
        self.closed = 0
        self.upstream = Upstream("/", "http://127.0.0.1:1")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.asked.append(await reader.readuntil(b"\r\n\r\n"))
                await self.says(self, writer)
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            writer.close()


def saying(*parts: bytes, closes: bool = False) -> Says:
    """Send these, each by itself."""

    async def says(_: Raw, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.02 if len(parts) > 1 else 0)
        if closes:
            writer.close()

    return says


@asynccontextmanager
async def serving(
    says: Says, *, patience: float = 5, stall: float = 5, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Raw, Forwarder]]:
    """The server, and whoever sends to it."""
    raw = Raw(says)
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    raw.upstream = Upstream("/", f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}")
    forwarder = Forwarder(timeout=patience, stall=stall)
    try:
        yield raw, forwarder
    finally:
        await forwarder.close()
        server.close()


async def ask(
    raw: Raw, forwarder: Forwarder, method: str = "GET", body: bytes = b"", *, once: bool = True, **headers: bytes
) -> Answer:
    """One request."""
    sent = [(b"host", b"shop"), *((name.replace("_", "-").encode(), value) for name, value in headers.items())]
    return await forwarder.send(raw.upstream, method, b"/report?a=b", sent, body, once=once)


async def read(answer: Answer) -> bytes:
    """The body, however it comes."""
    whole = answer.whole()
    if whole is not None:
        return whole
    return b"".join([part async for part in answer.parts()])


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("said", "body", "kept"),
    [
        (OK, b"ok", True),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nx-end: 1\r\n\r\n",
            b"abc",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK, b"ok", True),
        (b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok", b"ok", True),
    ],
)
async def test_answers_are_read(said: bytes, body: bytes, kept: bool, apart: bool) -> None:
    """However they are framed, and however the bytes come; a connection is kept where its server keeps it."""
    parts = [said[at : at + 7] for at in range(0, len(said), 7)] if apart else [said]
    async with serving(saying(*parts)) as (raw, forwarder):
        for _ in range(2):
            answer = await ask(raw, forwarder)
            assert answer.status in (200, 204, 304)
            assert (await read(answer), b"link" in dict(answer.headers), b"x-end" in dict(answer.headers)) == (
                body,
                False,
                False,
            )
            await answer.close()
        assert raw.connections == (1 if kept else 2)


async def test_a_body_may_end_with_its_connection() -> None:
    """RFC 9112, section 6.3: without a length, the end is the end; with one, it is a body that broke off."""
    async with serving(saying(b"HTTP/1.1 200 OK\r\n\r\nall ", b"of it", closes=True)) as (raw, forwarder):
        assert await read(await ask(raw, forwarder)) == b"all of it"
    for head in (b"content-length: 9", b"transfer-encoding: chunked"):
        async with serving(saying(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n4\r\nab", closes=True)) as (raw, forwarder):
            answer = await ask(raw, forwarder)
            with pytest.raises(Unanswered):
                await read(answer)


async def test_an_answer_to_head_has_no_body() -> None:
    """Whatever length it tells."""
    async with serving(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")) as (raw, forwarder):
        for _ in range(3):
            assert await read(await ask(raw, forwarder, "HEAD")) == b""
        assert raw.connections == 1


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + b"x: 1\r\n" * 20_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;" + b"a" * 700_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x: 1\r\n" * 200_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000,
        b"",
    ],
    ids=lambda said: repr(said[:60]),
)
async def test_what_is_no_answer_is_none(said: bytes) -> None:
    """Garbage, two framings at once, and heads without end: the connection is closed, and nothing is passed on."""
    async with serving(saying(said, closes=not said), patience=2) as (raw, forwarder):
        with pytest.raises(Unanswered) as failed:
            await read(await ask(raw, forwarder))
        assert not failed.value.timed_out
        async with asyncio.timeout(5):
            while not raw.closed:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("more", [OK, b"x", b"\r\nHTTP/1.1 500 No\r\n"])
async def test_nobody_gets_an_answer_to_somebody_else(more: bytes) -> None:
    """Bytes behind an answer would be taken for the next request's: with that answer, or later."""
    async with serving(saying(OK + more)) as (raw, forwarder):
        for _ in range(3):
            assert await read(await ask(raw, forwarder)) == b"ok"
        assert raw.connections == 3
    async with serving(saying(OK, more)) as (raw, forwarder):
        for _ in range(3):
            assert await read(await ask(raw, forwarder)) == b"ok"
            await asyncio.sleep(0.1)
        assert raw.connections == 3


def dropping_every_second() -> Says:
    """A server that closes a connection when the second request comes on it."""
    seen: dict[asyncio.StreamWriter, int] = {}

    async def says(_: Raw, writer: asyncio.StreamWriter) -> None:
        seen[writer] = seen.get(writer, 0) + 1
        if seen[writer] == 1:
            writer.write(OK)
        else:
            writer.close()

    return says


@pytest.mark.parametrize(
    ("method", "body", "once", "again"),
    [
        ("GET", b"", False, True),
        ("HEAD", b"", False, True),
        ("GET", b"", True, False),
        ("POST", b"", False, False),
        ("PUT", b"x", False, False),
    ],
)
async def test_a_request_is_sent_again_only_where_it_may_be(method: str, body: bytes, once: bool, again: bool) -> None:
    """A kept connection breaks: an unpaid GET is sent again, a payment never (`once`), nor what may do work twice."""
    async with serving(dropping_every_second()) as (raw, forwarder):
        await read(await ask(raw, forwarder))
        if again:
            assert (await ask(raw, forwarder, method, body, once=once)).status == 200
        else:
            with pytest.raises(Unanswered):
                await ask(raw, forwarder, method, body, once=once)
        assert len(raw.asked) == (3 if again else 2)


async def test_a_request_is_not_sent_again_on_a_new_connection() -> None:
    """There it did not break for having waited too long."""
    async with serving(saying(closes=True)) as (raw, forwarder):
        with pytest.raises(Unanswered):
            await ask(raw, forwarder, once=False)
        assert len(raw.asked) == 1


async def test_an_answer_that_does_not_come_is_waited_for_no_longer() -> None:
    """Neither its start nor the rest of it; the connection ends."""
    async with serving(saying(), patience=0.2) as (raw, forwarder):
        with pytest.raises(Unanswered) as failed:
            await ask(raw, forwarder)
        assert failed.value.timed_out
    async with serving(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), stall=0.2) as (raw, forwarder):
        answer = await ask(raw, forwarder)
        with pytest.raises(Unanswered) as failed:
            await read(answer)
        assert failed.value.timed_out


async def test_nobody_there_is_unreached() -> None:
    """Nothing was sent: a payment can be released."""
    forwarder = Forwarder(timeout=1, stall=1)
    for url in ("http://127.0.0.1:1", "http://no-such-host.invalid"):
        with pytest.raises(Unreached):
            await forwarder.send(Upstream("/", url), "GET", b"/", [], b"")
    await forwarder.close()


@pytest.mark.parametrize(
    ("target", "header"),
    [(b"/a b", b"1"), (b"/a\r\nx: y", b"1"), (b"/", b"1\r\nx: y"), (b"/", b"1\nx: y"), (b"/", b"\0")],
)
async def test_a_request_is_never_two(target: bytes, header: bytes) -> None:
    """What a careless server let through of a client's bytes does not become a line of its own."""
    async with serving(saying(OK)) as (raw, forwarder):
        with pytest.raises(Unreached):
            await forwarder.send(raw.upstream, "GET", target, [(b"x-a", header)], b"")
        assert not raw.asked


async def test_bytes_are_passed_on_as_they_are() -> None:
    """Names and values of headers, both ways, and the body with its length."""
    said = b"HTTP/1.1 200 OK\r\nX-Own: caf\xe9 \xc3\xa9\r\ncontent-length: 0\r\n\r\n"
    async with serving(saying(said)) as (raw, forwarder):
        answer = await ask(raw, forwarder, "POST", b"", x_a=b"caf\xe9 \xc3\xa9", content_length=b"7")
        assert (b"X-Own", b"caf\xe9 \xc3\xa9") in answer.headers
    head = b"POST /report?a=b HTTP/1.1\r\nhost: shop\r\nx-a: caf\xe9 \xc3\xa9\r\ncontent-length: 0\r\n\r\n"
    assert raw.asked == [head]


async def test_a_long_body_waits_for_whoever_takes_it() -> None:
    """It is read ahead of him by a little only, and all of it comes."""
    size = 20_000_000
    written = 0

    async def says(_: Raw, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // 100_000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            written += 100_000

    async with serving(says) as (raw, forwarder):
        answer = await ask(raw, forwarder)
        await asyncio.sleep(0.3)
        assert written < size
        taken = 0
        async for part in answer.parts():
            taken += len(part)
        assert taken == size
        assert await read(await ask(raw, forwarder, "HEAD")) == b""


@pytest.mark.parametrize("begun", [False, True])
async def test_a_cancelled_request_takes_its_connection_along(begun: bool) -> None:
    """Its answer is nobody's any more."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"
    async with serving(saying(head if begun else b"HTTP/1.1")) as (raw, forwarder):

        async def asking() -> None:
            await read(await ask(raw, forwarder))

        task = asyncio.ensure_future(asking())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait({task})
        del task
        gc.collect()
        async with asyncio.timeout(5):
            while not raw.closed:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_answers_leave_no_circles_behind() -> None:
    """Thousands of them a second would wait for the garbage collector."""
    async with serving(saying(OK)) as (raw, forwarder):
        await read(await ask(raw, forwarder))
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await read(await ask(raw, forwarder))
            found = gc.collect()
        finally:
            gc.enable()
        assert found < 20


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for `localhost` that nobody vouches for, with its key."""
    file = tmp_path / "localhost.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch"]
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "1"]
    subprocess.run([*made, *named, "-keyout", file, "-out", tmp_path / "public.pem"], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + (tmp_path / "public.pem").read_bytes())
    return file


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_an_upstream_over_tls(certificate: Path, is_trusted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its certificate is checked, and nothing is sent where nobody vouches for it; connections are kept."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    _context.cache_clear()
    try:
        async with serving(saying(OK), tls=tls) as (raw, forwarder):
            if not is_trusted:
                with pytest.raises(Unreached):
                    await ask(raw, forwarder, body=b"a payment", method="POST")
                assert raw.asked == []
                return
            for _ in range(2):
                assert await read(await ask(raw, forwarder)) == b"ok"
            assert raw.connections == 1
    finally:
        _context.cache_clear()
