"""The command's own HTTP/1.1, on real sockets: trailers both ways, and what must not come of them."""

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.http1 import Http1Protocol
from bridge.trailers import MAX_FIELDS, RESPONSE, request_trailers, takes_trailers
from tests.bridge.gateway.lab import ON_BOTH_LOOPS, running, until

pytestmark = [pytest.mark.anyio, ON_BOTH_LOOPS]

POST = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
FIELDS = [(b"x-a", b"1"), (b"x-b", b"caf\xe9")]


class App:
    """Reads its request to the end and answers with `messages`."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = messages or (start(), body(b"ok"), trailers())
        self.early = False
        """It begins its answer before it reads."""
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []
        self.left = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        messages = list(self.messages)
        if self.early:
            await send(messages.pop(0))
        read, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            read, more = read + message["body"], message["more_body"]
        self.bodies.append(read)
        for message in messages:
            await send(message)


def start(status: int = 200, *headers: tuple[bytes, bytes], trails: bool = True) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers, "trailers": trails}


def body(part: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": part, "more_body": more}


def trailers(*fields: tuple[bytes, bytes], more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.trailers", "headers": fields or FIELDS, "more_trailers": more}


class Caller:
    """A client that writes bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, *parts: bytes) -> None:
        for part in parts:
            self._writer.write(part)
            await self._writer.drain()
            await asyncio.sleep(0.03 if len(parts) > 1 else 0)

    async def hear(self, end: bytes) -> bytes:
        """All that comes until `end`."""
        return await asyncio.wait_for(self._reader.readuntil(end), 10)

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        return await asyncio.wait_for(self._reader.read(), 10)

    def leave(self) -> None:
        self._writer.close()


class Watched:
    """A transport that notes what is written at once."""

    def __init__(self, transport: Any, written: list[bytes]) -> None:
        self._transport = transport
        self._written = written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._written.append(data)
        self._transport.write(data)

    def writelines(self, parts: Sequence[bytes]) -> None:
        self._written.append(b"".join(parts))
        self._transport.writelines(parts)


@asynccontextmanager
async def serving(app: Any, written: list[bytes] | None = None) -> AsyncIterator[Caller]:
    """The application behind the protocol, and somebody who calls it; what it writes is `written` down."""

    class Protocol(Http1Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport if written is None else Watched(transport, written))

    async with running(app, http=Protocol, server_header=False, date_header=False) as url:
        host, port = url.removeprefix("http://").split(":")
        caller = Caller(*await asyncio.open_connection(host, int(port)))
        try:
            yield caller
        finally:
            caller.leave()


@pytest.mark.parametrize(
    "parts", [[body(b"ok")], [body(b"o", more=True), body(b"k")], [body(b"ok", more=True), body(b"")]]
)
async def test_an_answer_ends_with_its_trailers(parts: list[dict[str, Any]]) -> None:
    """Behind its last chunk, as they were; and the connection is good for the next request."""
    async with serving(App(start(), *parts, trailers(FIELDS[0], more=True), trailers(FIELDS[1]))) as caller:
        for _ in range(3):
            await caller.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            said = await caller.hear(b"0\r\nx-a: 1\r\nx-b: caf\xe9\r\n\r\n")
            head, _, rest = said.partition(b"\r\n\r\n")
            assert head + b"\r\n" == b"HTTP/1.1 200 OK\r\n" + CHUNKED
            assert rest.startswith((b"2\r\nok\r\n", b"1\r\no\r\n1\r\nk\r\n"))


async def test_no_trailers_after_all() -> None:
    """Said, and then none: the body ends as any other."""
    app = App(start(), body(b"ok"), {"type": "http.response.trailers", "headers": [], "more_trailers": False})
    async with serving(app) as caller:
        await caller.say(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await caller.rest()).endswith(b"\r\n\r\n2\r\nok\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("request_line", "messages", "heard"),
    [
        (b"HEAD / HTTP/1.1", [start(), body(b"")], b""),
        (b"GET / HTTP/1.1", [start(204), body(b"")], b""),
        (b"GET / HTTP/1.1", [start(304), body(b"")], b""),
        (b"GET / HTTP/1.1", [start(200, (b"content-length", b"2")), body(b"ok")], b"ok"),
        (b"GET / HTTP/1.0", [start(200, (b"content-length", b"2")), body(b"ok")], b"ok"),
        (b"GET / HTTP/1.0", [start(), body(b"o", more=True), body(b"k")], b"ok"),
        (b"HEAD / HTTP/1.0", [start(), body(b"")], b""),
    ],
)
async def test_what_has_no_chunks_has_no_trailers(request_line: bytes, messages: list[Any], heard: bytes) -> None:
    """RFC 9110, section 6.5: they are let go, and the answer is whole. HTTP/1.0 has none (RFC 9112, section 6.1)."""
    async with serving(App(*messages, trailers())) as caller:
        await caller.say(request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        head, _, rest = (await caller.rest()).partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert b"connection: close" in head
        assert rest == heard


async def test_an_answer_without_trailers_is_as_it_was() -> None:
    """With a length, or in chunks."""
    for messages, rest in (
        ([start(200, (b"content-length", b"2"), trails=False), body(b"ok")], b"\r\n\r\nok"),
        ([start(trails=False), body(b"o", more=True), body(b"k")], b"\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"),
    ):
        async with serving(App(*messages)) as caller:
            await caller.say(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await caller.rest()).endswith(rest)


async def test_head_and_body_go_together() -> None:
    """One write for a short answer; further parts go as they come. To HEAD there is no body to wait for."""
    asked = b" / HTTP/1.1\r\nHost: x\r\n\r\n"
    for method, parts, tails in (
        (b"GET", [body(b"ok")], [b"2\r\nok\r\n0\r\n\r\n"]),
        (b"GET", [body(b"")], [b"0\r\n\r\n"]),
        (b"GET", [body(b"o", more=True), body(b"k")], [b"1\r\no\r\n", b"1\r\nk\r\n0\r\n\r\n"]),
        (b"HEAD", [body(b"ok")], [b""]),
    ):
        written: list[bytes] = []
        async with serving(App(start(trails=False), *parts), written) as caller:
            for _ in range(2):
                await caller.say(method + asked)
                await caller.hear(tails[-1] or b"\r\n\r\n")
        first = b"HTTP/1.1 200 OK\r\n" + (b"" if method == b"HEAD" else CHUNKED) + b"\r\n" + tails[0]
        assert written == [first, *tails[1:]] * 2


async def test_a_head_does_not_wait_for_a_late_body() -> None:
    """What comes first is for the client to see: an upstream may take its time with the rest."""
    heard = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(trails=False))
        await heard.wait()
        await send(body(b"ok"))

    async with serving(app) as caller:
        for _ in range(2):
            await caller.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await caller.hear(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n"
            heard.set()
            assert await caller.hear(b"0\r\n\r\n") == b"2\r\nok\r\n0\r\n\r\n"
            heard.clear()


@pytest.mark.parametrize("parts", [[body(b"ok")], [body(b"o", more=True), body(b"k")]])
async def test_an_answer_leaves_no_garbage(parts: list[dict[str, Any]]) -> None:
    """Nothing that refers to itself, whether the body came with the head or after it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (start(trails=False), *parts):
            await send(message)
            if len(parts) > 1:
                await asyncio.sleep(0)

    async with serving(app) as caller:
        await caller.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await caller.hear(b"0\r\n\r\n")
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await caller.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await caller.hear(b"0\r\n\r\n")
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            assert not [left for left in gc.garbage if type(left).__module__ == "bridge.http1"]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()


async def test_a_head_goes_though_its_body_fails() -> None:
    """The client learns what was said, and that it is not whole."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(trails=False))
        raise ValueError

    async with serving(app) as caller:
        await caller.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await caller.rest() == b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n"


@pytest.mark.parametrize(
    "messages",
    [
        [start(), body(b"ok")],
        [start(), body(b"ok"), trailers((b"x-a", b"1\r\nx-b: 2"))],
        [start(), body(b"ok"), trailers((b"x a", b"1"))],
        [start(), body(b"o", more=True), trailers()],
        [start(), body(b"ok"), body(b"more"), trailers()],
        [start(), body(b"ok"), start(), trailers()],
    ],
)
async def test_an_answer_that_is_not_ended_is_broken_off(messages: list[Any]) -> None:
    """Its client can tell: the last chunk is missing."""
    async with serving(App(*messages)) as caller:
        await caller.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        said = await caller.rest()
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"0\r\n" not in said.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("apart", [False, True])
async def test_trailers_of_a_request_are_no_headers(apart: bool) -> None:
    """Whether they come with the head or long after it; a payment, an upgrade or a second framing is none there."""
    sent = [
        *(POST, b"2\r\nab\r\n"),
        b"0\r\nX-A: 1\r\nX-Payment: 2\r\nAuthorization: Payment x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Expect: 100-continue\r\n\r\n",
    ]
    app = App()
    async with serving(app) as caller:
        for _ in range(2):
            await caller.say(*(sent if apart else [b"".join(sent)]))
            assert b"100 Continue" not in await caller.hear(b"0\r\nx-a: 1\r\nx-b: caf\xe9\r\n\r\n")
    for scope in app.scopes:
        assert scope["headers"] == [(b"host", b"x"), (b"transfer-encoding", b"chunked")]
        assert (b"x-a", b"1") in request_trailers(scope)
        assert (b"x-payment", b"2") in request_trailers(scope)
        assert takes_trailers(scope)
    assert app.bodies == [b"ab", b"ab"]


async def test_each_request_has_its_own() -> None:
    """Pipelined, and with none between."""
    app = App()
    async with serving(app) as caller:
        await caller.say(
            POST + b"0\r\nx-n: 1\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + POST + b"0\r\nx-n: 3\r\n\r\n"
        )
        for _ in range(3):
            await caller.hear(b"0\r\nx-a: 1\r\nx-b: caf\xe9\r\n\r\n")
    assert [request_trailers(scope) for scope in app.scopes] == [[(b"x-n", b"1")], [], [(b"x-n", b"3")]]


async def test_http_1_0_is_offered_none() -> None:
    """So nobody asks an upstream for what could not be passed on."""
    app = App(start(trails=False), body(b"ok"))
    async with serving(app) as caller:
        await caller.say(b"GET / HTTP/1.0\r\n\r\n")
        await caller.rest()
    assert RESPONSE not in app.scopes[0]["extensions"]


MANY = b"x: 1\r\n" * (MAX_FIELDS + 1)
LONG = b"x: " + b"y" * 20_000 + b"\r\n"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (MANY, b"431 Request Header Fields Too Large"),
        (LONG, b"431 Request Header Fields Too Large"),
        (b"content-length: 7\r\n", b"400 Bad Request"),
        (b"x : 1\r\n", b"400 Bad Request"),
        (b"x: a\0b\r\n", b"400 Bad Request"),
        (b"no colon\r\n", b"400 Bad Request"),
    ],
    ids=lambda value: repr(value[:20]),
)
@pytest.mark.parametrize("apart", [False, True])
async def test_bad_trailers_end_the_connection(fields: bytes, status: bytes, apart: bool) -> None:
    """With a word, and once; the application hears that its client has gone, and never that the body is whole."""
    app = App()
    async with serving(app) as caller:
        parts = [POST, b"2\r\nab\r\n0\r\n", fields + b"\r\n"]
        await caller.say(*(parts if apart else [b"".join(parts)]))
        said = await caller.rest()
        assert said.startswith(b"HTTP/1.1 " + status + b"\r\n")
        assert said.count(b"HTTP/1.1 ") == 1
        await until(lambda: app.left == 1)
    assert app.bodies == []


@pytest.mark.parametrize("fields", [MANY, b"x : 1\r\n"])
async def test_an_answer_that_has_begun_gets_no_second_one_inside(fields: bytes) -> None:
    """It breaks off: a status line in the middle of it would be read as a part of it."""
    app = App()
    app.early = True
    async with serving(app) as caller:
        await caller.say(POST, b"2\r\nab\r\n0\r\n", fields + b"\r\n")
        said = await caller.rest()
        assert said == b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n"
        await until(lambda: app.left == 1)


async def test_a_request_that_breaks_off_in_its_trailers_is_not_whole() -> None:
    """The application hears that its client has gone."""
    app = App()
    async with serving(app) as caller:
        await caller.say(POST, b"2\r\nab\r\n0\r\nx-a: 1\r\nx-b")
        caller.leave()
        await until(lambda: app.left == 1)
    assert app.bodies == []


async def test_a_client_that_left_is_sent_no_trailers() -> None:
    """Nor does it break what comes after."""
    left = asyncio.Event()
    done = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(body(b"ok"))
        left.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        await send(trailers())
        done.set()

    async with serving(app) as caller:
        await caller.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await left.wait()
        caller.leave()
        async with asyncio.timeout(10):
            await done.wait()
