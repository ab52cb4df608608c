"""A request's body on its way to an upstream that does what a test tells it, over bare sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.gateway.body import Body
from bridge.gateway.errors import ClientGone, TooLarge, Unanswered, Unreached
from bridge.gateway.forward import Answer, Forwarder
from bridge.gateway.upstreams import Upstream
from tests.bridge.gateway.lab import ON_BOTH_LOOPS, until
from tests.bridge.gateway.test_connection import OK, read

pytestmark = [pytest.mark.anyio, ON_BOTH_LOOPS]

Serves = Callable[["Peer"], Awaitable[None]]
CHUNKED = (b"transfer-encoding", b"chunked")
GONE = object()


class Peer:
    """One connection, as the upstream has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def head(self) -> bytes:
        return await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)

    async def hear(self, data: bytes) -> None:
        """Exactly this comes next."""
        assert await asyncio.wait_for(self._reader.readexactly(len(data)), 10) == data

    async def nothing(self, seconds: float = 0.2) -> None:
        """Nothing comes, for a while."""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self._reader.read(1), seconds)

    async def rest(self) -> bytes:
        """All that comes until the connection ends."""
        data = b""
        try:
            while part := await asyncio.wait_for(self._reader.read(65536), 10):
                data += part
        except ConnectionError:
            pass
        return data

    async def say(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


class Lot:
    """The upstream, whoever sends to it, and what a client hands over."""

    def __init__(self, forwarder: Forwarder) -> None:
        self.forwarder = forwarder
        self.upstream = Upstream("/", "http://127.0.0.1:1")
        self.connections = 0
        self.failed: list[BaseException] = []
        self.coming: asyncio.Queue[Any] = asyncio.Queue()
        self.taken = 0

    async def receive(self) -> dict[str, Any]:
        """ASGI's."""
        part = await self.coming.get()
        self.taken += 1
        if part is GONE:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    def hands_over(self, *parts: Any) -> None:
        """Parts of the body; None ends it."""
        for part in parts:
            self.coming.put_nowait(part)

    async def send(
        self, *headers: tuple[bytes, bytes], body: Body | None = None, method: str = "POST", expects: bool = False
    ) -> Answer:
        body = body or Body(self.receive)
        return await self.forwarder.send(
            self.upstream, method, b"/up", [(b"host", b"x"), *headers], body, expects=expects
        )


@asynccontextmanager
async def upstream(*serves: Serves, patience: float = 5) -> AsyncIterator[Lot]:
    """Each connection is served by the next of `serves`; what fails there fails the test."""
    lot = Lot(Forwarder(timeout=patience, stall=5))
    running = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal running
        running += 1
        number, lot.connections = lot.connections, lot.connections + 1
        try:
            await serves[number](Peer(reader, writer))
        except BaseException as error:
            lot.failed.append(error)
        finally:
            running -= 1
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    lot.upstream = Upstream("/", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield lot
        await lot.forwarder.close()
        await until(lambda: running == 0)
    finally:
        await lot.forwarder.close()
        server.close()
    assert lot.failed == []


HEAD = b"POST /up HTTP/1.1\r\nhost: x\r\n"


async def test_a_body_goes_on_as_it_comes() -> None:
    """Each part before the next is there; in chunks where the client sends chunks, and the connection is kept."""

    async def serve(peer: Peer) -> None:
        for _ in range(2):
            assert await peer.head() == HEAD + b"transfer-encoding: chunked\r\n\r\n"
            await peer.hear(b"5\r\nfirst\r\n")
            lot.hands_over(b"x" * 300_000, None)
            await peer.hear(b"493e0\r\n" + b"x" * 300_000 + b"\r\n0\r\n\r\n")
            await peer.say(OK)
        assert await peer.rest() == b""

    async with upstream(serve) as lot:
        for _ in range(2):
            lot.hands_over(b"first")
            assert await read(await lot.send(CHUNKED)) == b"ok"
        assert lot.connections == 1


async def test_a_body_of_a_known_length_goes_on_with_it() -> None:
    """As bytes alone."""

    async def serve(peer: Peer) -> None:
        assert await peer.head() == HEAD + b"content-length: 5\r\n\r\n"
        await peer.hear(b"hello")
        await peer.say(OK)
        assert await peer.rest() == b""

    async with upstream(serve) as lot:
        lot.hands_over(b"hel", b"", b"lo", None)
        assert await read(await lot.send((b"content-length", b"5"))) == b"ok"


async def test_trailers_go_behind_the_body() -> None:
    """Those that are known only then, and not those that stop here."""
    fields = [(b"x-a", b"1")]

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.hear(b"3\r\nabc\r\n")
        fields.extend([(b"x-payment", b"2"), (b"x-hop", b"3"), (b"content-length", b"9"), (b"x-b", b"caf\xe9")])
        lot.hands_over(None)
        await peer.hear(b"0\r\nx-a: 1\r\nx-b: caf\xe9\r\n\r\n")
        await peer.say(OK)

    async with upstream(serve) as lot:
        lot.hands_over(b"abc")
        assert await read(await lot.send(CHUNKED, body=Body(lot.receive, None, fields, {b"x-hop"}))) == b"ok"


@pytest.mark.parametrize("said", [b"12", b"4"])
async def test_a_body_of_another_length_than_announced_is_no_request(said: bytes) -> None:
    """What is beyond it would be read as a request of its own; what is short of it waits for the next one's bytes."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        assert len(await peer.rest()) <= int(said)

    async with upstream(serve) as lot:
        lot.hands_over(b"hel", b"lo", None)
        with pytest.raises(Unanswered):
            await lot.send((b"content-length", said))


@pytest.mark.parametrize("lengths", [[b"4", b"5"], [b"+4"], [b"four"], [b""], [b"1" * 19]])
async def test_a_length_that_says_nothing_is_not_sent(lengths: list[bytes]) -> None:
    """Nothing is: a payment can be released."""
    async with upstream() as lot:
        with pytest.raises(Unreached):
            await lot.send(*((b"content-length", length) for length in lengths))
        assert lot.connections == 0


async def test_nobody_there_is_unreached() -> None:
    """And nothing is read from the client."""
    async with upstream() as lot:
        lot.upstream = Upstream("/", "http://127.0.0.1:1")
        lot.hands_over(b"x", None)
        with pytest.raises(Unreached):
            await lot.send(CHUNKED)
        assert lot.taken == 0


async def test_a_client_that_leaves_takes_its_request_along() -> None:
    """The upstream never sees an end of it."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.hear(b"3\r\nabc\r\n")
        lot.hands_over(GONE)
        assert b"0\r\n" not in await peer.rest()

    async with upstream(serve) as lot:
        lot.hands_over(b"abc")
        with pytest.raises(ClientGone):
            await lot.send(CHUNKED)


async def test_a_body_that_grows_too_long_is_not_passed_on() -> None:
    """Nor does the upstream see an end of it."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        assert b"0\r\n" not in await peer.rest()

    async with upstream(serve) as lot:
        lot.hands_over(b"abc", b"abc", None)
        with pytest.raises(TooLarge):
            await lot.send(CHUNKED, body=Body(lot.receive, 5))


async def test_an_upstream_that_takes_nothing_is_waited_for_no_longer() -> None:
    """What it does not take is not kept here either."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        await over.wait()

    over = asyncio.Event()
    async with upstream(serve, patience=0.5) as lot:
        lot.hands_over(*[b"x" * 65536] * 500, None)
        with pytest.raises(Unanswered) as failed:
            await lot.send(CHUNKED)
        over.set()
        assert failed.value.timed_out
        # What the kernel holds for both, and two parts.
        assert lot.taken < 300


async def test_a_slow_client_is_not_the_upstreams_fault() -> None:
    """The upstream's time begins when it has all; then it is waited for no longer."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.hear(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
        assert await peer.rest() == b""

    async with upstream(serve, patience=0.3) as lot:
        lot.hands_over(b"a")
        sending = asyncio.ensure_future(lot.send(CHUNKED))
        await asyncio.sleep(0.6)
        assert not sending.done()
        lot.hands_over(b"b", None)
        with pytest.raises(Unanswered) as failed:
            await sending
        assert failed.value.timed_out


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 2", b"HTTP/1.1 100 Continue\r\n\r\n", b"nonsense\r\n\r\n"])
async def test_an_upstream_that_breaks_off_has_not_answered(says: bytes) -> None:
    """Though it may have done something; the client's body is let be."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.hear(b"3\r\nabc\r\n")
        await peer.say(says)

    async with upstream(serve) as lot:
        lot.hands_over(b"abc")
        with pytest.raises(Unanswered) as failed:
            await lot.send(CHUNKED)
        assert not failed.value.timed_out
        await asyncio.sleep(0)
        lot.hands_over(b"more")
        await asyncio.sleep(0.05)
        assert lot.coming.qsize() == 1


# An answer that comes before the body has gone


async def test_both_go_on_beside_each_other() -> None:
    """Each part is answered before the next one comes."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for part in (b"a", b"b"):
            await peer.hear(b"1\r\n" + part + b"\r\n")
            await peer.say(b"1\r\n" + part.upper() + b"\r\n")
        await peer.hear(b"0\r\n\r\n")
        await peer.say(b"0\r\n\r\n")
        assert await peer.rest() == b""

    async with upstream(serve) as lot:
        answer = await lot.send(CHUNKED)
        assert not answer.is_upload_over
        parts = answer.parts()
        for part in (b"a", b"b"):
            lot.hands_over(part)
            assert await anext(parts) == part.upper()
        lot.hands_over(None)
        assert [part async for part in parts] == []
        assert answer.is_upload_over


@pytest.mark.parametrize("closes", [False, True])
async def test_a_whole_answer_ends_the_upload(closes: bool) -> None:
    """Whoever answers has decided: no more is read from the client, and nobody else gets the connection."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.hear(b"3\r\nabc\r\n")
        await peer.say(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno")
        if not closes:
            assert await peer.rest() == b""

    async def serve_next(peer: Peer) -> None:
        await peer.head()
        await peer.say(OK)

    async with upstream(serve, serve_next) as lot:
        lot.hands_over(b"abc")
        answer = await lot.send(CHUNKED)
        assert (answer.status, await read(answer)) == (413, b"no")
        await asyncio.sleep(0.05)
        lot.hands_over(b"more", None)
        await asyncio.sleep(0.05)
        assert lot.coming.qsize() == 2
        lot.coming = asyncio.Queue()
        lot.hands_over(None)
        assert await read(await lot.send(CHUNKED)) == b"ok"
        assert lot.connections == 2


@pytest.mark.parametrize("ends", [GONE, b"x" * 100])
async def test_an_upload_that_breaks_off_breaks_its_answer_off(ends: Any) -> None:
    """Though it had begun: nobody knows what its end would have been."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome")
        await peer.rest()

    async with upstream(serve) as lot:
        answer = await lot.send(CHUNKED, body=Body(lot.receive, 50))
        parts = answer.parts()
        assert await anext(parts) == b"some"
        lot.hands_over(ends)
        with pytest.raises(Unanswered):
            await anext(parts)


async def test_whoever_is_not_wanted_any_more_reads_nothing() -> None:
    """A request that is cancelled lets its client's body be, and its connection go."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        assert await peer.rest() == b""

    async with upstream(serve) as lot:
        sending = asyncio.ensure_future(lot.send(CHUNKED))
        await asyncio.sleep(0.1)
        sending.cancel()
        await asyncio.wait({sending})
        await asyncio.sleep(0.05)
        lot.hands_over(b"abc")
        await asyncio.sleep(0.05)
        assert lot.coming.qsize() == 1


async def test_an_answer_that_is_let_go_ends_the_upload() -> None:
    """Nobody is left to hear of it."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome")
        assert await peer.rest() == b""

    async with upstream(serve) as lot:
        await (await lot.send(CHUNKED)).close()
        await asyncio.sleep(0.05)
        lot.hands_over(b"abc")
        await asyncio.sleep(0.05)
        assert lot.coming.qsize() == 1


# Expect: 100-continue


async def test_a_body_is_asked_for_when_the_upstream_asks() -> None:
    """Not before."""

    async def serve(peer: Peer) -> None:
        assert (await peer.head()).endswith(b"\r\nexpect: 100-continue\r\n\r\n")
        await peer.nothing()
        assert lot.taken == 0
        await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.hear(b"3\r\nabc\r\n0\r\n\r\n")
        await peer.say(OK)

    async with upstream(serve) as lot:
        lot.hands_over(b"abc", None)
        assert await read(await lot.send(CHUNKED, expects=True)) == b"ok"


async def test_an_upstream_that_answers_at_once_gets_no_body() -> None:
    """And its client is not asked for it; the connection, on which a body was to come, is nobody else's."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 402 Pay\r\ncontent-length: 2\r\n\r\nno")
        assert await peer.rest() == b""

    async with upstream(serve) as lot:
        lot.hands_over(b"abc", None)
        answer = await lot.send(CHUNKED, expects=True)
        assert (answer.status, await read(answer)) == (402, b"no")
        await asyncio.sleep(0.05)
        assert lot.taken == 0


async def test_an_upstream_that_streams_its_answer_at_once_gets_no_body_either() -> None:
    """Whoever watches for the client to leave may, for nobody reads the body."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 402 Pay\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await peer.nothing()
        await peer.say(b"1\r\nb\r\n0\r\n\r\n")
        assert await peer.rest() == b""

    async with upstream(serve) as lot:
        lot.hands_over(b"abc", None)
        answer = await lot.send(CHUNKED, expects=True)
        parts = answer.parts()
        assert await anext(parts) == b"a"
        assert answer.is_upload_over
        assert [part async for part in parts] == [b"b"]
        assert lot.taken == 0


async def test_an_upstream_that_does_not_know_the_word_gets_the_body() -> None:
    """After a while."""

    async def serve(peer: Peer) -> None:
        await peer.head()
        await peer.hear(b"3\r\nabc\r\n0\r\n\r\n")
        await peer.say(OK)

    async with upstream(serve) as lot:
        lot.hands_over(b"abc", None)
        assert await read(await lot.send(CHUNKED, expects=True)) == b"ok"


async def test_an_upstream_that_leaves_before_it_is_sent_a_body_has_not_answered() -> None:
    """The client's body is let be."""

    async def serve(peer: Peer) -> None:
        await peer.head()

    async with upstream(serve) as lot:
        lot.hands_over(b"abc", None)
        with pytest.raises(Unanswered):
            await lot.send(CHUNKED, expects=True)
        assert lot.taken == 0


async def test_bytes_are_passed_on_as_they_are() -> None:
    """Whatever they would be as text."""

    async def serve(peer: Peer) -> None:
        assert await peer.head() == HEAD + b"x-a: caf\xe9 \xc3\xa9\r\ncontent-length: 1\r\n\r\n"
        await peer.hear(b"a")
        await peer.say(OK)

    async with upstream(serve) as lot:
        lot.hands_over(b"a", None)
        assert await read(await lot.send((b"x-a", b"caf\xe9 \xc3\xa9"), (b"content-length", b"1"))) == b"ok"


async def test_a_request_is_never_two() -> None:
    """What a careless server let through of a client's bytes does not become a line of its own."""
    async with upstream() as lot:
        with pytest.raises(Unreached):
            await lot.send((b"x-a", b"1\r\nx: y"), CHUNKED)
        assert lot.connections == 0
