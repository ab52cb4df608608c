"""The proxy itself: which headers go on, what is streamed, which limits hold, and where a path goes."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from bridge.gateway.headers import TrustedProxies, request_headers
from tests.bridge.gateway.lab import (
    MPP,
    PROTOCOLS,
    V1,
    V2,
    Server,
    gateway_before,
    lab,
    mpp_challenges,
    running,
    until,
)
from translators.payment import Protocol
from translators.wire import x402_v1, x402_v2

pytestmark = pytest.mark.anyio


async def raw(url: str, request: bytes, *, until_closed: bool = True) -> bytes:
    """Bytes to a server, and all that it answers until it closes."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(-1 if until_closed else 65536), 10)
    finally:
        writer.close()


async def test_hop_by_hop_headers_stop_here() -> None:
    """Both ways, and those that `Connection` names; everything else goes on as it is."""

    async def answer(server: Server, scope: Any, receive: Any, send: Any) -> None:
        own = [(b"connection", b"x-hop"), (b"x-hop", b"1"), (b"keep-alive", b"timeout=5"), (b"x-end", b"1")]
        await server.reply(send, 200, b"ok", [*own, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])

    async with lab() as at:
        at.server.free["/free"] = answer
        request = (
            b"GET /free HTTP/1.1\r\nHost: localhost\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 1\r\n"
            b"TE: trailers\r\nUpgrade: h2c\r\nProxy-Authorization: Basic x\r\nProxy-Connection: close\r\n"
            b"Authorization: Bearer kept\r\nX-Kept: 1\r\nX-Kept: 2\r\nCookie: a=1\r\n\r\n"
        )
        said = await raw(at.url, request)
        names = [name for name, _ in at.server.last.headers]
        for gone in ("x-secret", "keep-alive", "upgrade", "proxy-authorization", "proxy-connection"):
            assert gone not in names
        # The gateway's own, for it takes trailers on; and `TE` is for the next hop.
        assert (at.server.last.header("te"), at.server.last.header("connection")) == ("trailers", "te")
        assert at.server.last.header("authorization") == "Bearer kept"
        assert [value for name, value in at.server.last.headers if name == "x-kept"] == ["1", "2"]
        head = said.partition(b"\r\n\r\n")[0].lower()
        assert b"x-hop" not in head
        assert b"keep-alive" not in head
        assert b"x-end: 1" in head
        assert head.count(b"set-cookie") == 2


async def test_the_target_goes_on_byte_for_byte() -> None:
    """Escapes, double slashes, dots and odd queries as the client wrote them."""
    async with lab() as at:
        for target in ("/a%2Fb//c/../d;x=1?q=%7E%20+&&=", "/%e2%82%ac/~'()*!$", "/x?", "/free?a=b?c"):
            await raw(at.url, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            assert at.server.last.target == target.removesuffix("?")


async def test_a_client_cannot_say_who_forwarded_it() -> None:
    """What comes from nobody that is trusted is replaced."""
    lies = {"x-forwarded-for": "9.9.9.9", "forwarded": "for=9.9.9.9", "x-forwarded-proto": "https", "x-real-ip": "9"}
    async with lab(public_url="https://api.example.com", host="127.0.0.1") as at:
        await at.client.get("/free", headers={**lies, "x-forwarded-host": "evil", "x-forwarded-port": "1"})
        seen = at.server.last
        assert seen.header("x-forwarded-for") == "127.0.0.1"
        assert seen.header("x-forwarded-proto") == "https"
        assert seen.header("x-forwarded-host") == "api.example.com"
        assert seen.header("forwarded") == "for=127.0.0.1;host=api.example.com;proto=https"
        assert seen.header("host") == "api.example.com"
        assert seen.header("x-real-ip") is None
        assert seen.header("x-forwarded-port") is None
        assert seen.header("via") == "1.1 x402-mpp"


async def test_a_trusted_proxy_is_added_to() -> None:
    """Its word stands, and ours follows."""
    told = {"x-forwarded-for": "9.9.9.9, 10.0.0.1", "x-forwarded-proto": "https", "x-forwarded-host": "shop.example"}
    async with lab(trusted_proxies=("127.0.0.0/8", "10.0.0.0/8")) as at:
        await at.client.get("/free", headers={**told, "forwarded": "for=9.9.9.9"})
        seen = at.server.last
        assert seen.header("x-forwarded-for") == "9.9.9.9, 10.0.0.1, 127.0.0.1"
        assert seen.header("x-forwarded-proto") == "https"
        assert seen.header("x-forwarded-host") == "shop.example"
        assert seen.header("forwarded") == "for=9.9.9.9, for=127.0.0.1;host=shop.example;proto=https"
        challenge = mpp_challenges(await at.client.get("/report", headers=told))[0]
        assert challenge.realm == "shop.example"


@pytest.mark.parametrize(
    ("proxies", "client", "chain", "address"),
    [
        ((), "10.0.0.5", b"1.1.1.1", "10.0.0.5"),
        (("10.0.0.5",), "10.0.0.5", b"1.1.1.1", "1.1.1.1"),
        (("10.0.0.5",), "10.0.0.6", b"1.1.1.1", "10.0.0.6"),
        (("10.0.0.0/8",), "10.0.0.5", b"6.6.6.6, 1.1.1.1, 10.0.0.9", "1.1.1.1"),
        (("10.0.0.0/8",), "10.0.0.5", b"", "10.0.0.5"),
        (("fd00::/8",), "fd00::1", b"2001:db8::1", "2001:db8::1"),
        (("unix",), "", b"1.1.1.1", "1.1.1.1"),
        (("127.0.0.1",), "::ffff:127.0.0.1", b"1.1.1.1", "1.1.1.1"),
    ],
)
def test_who_a_client_is(proxies: tuple[str, ...], client: str, chain: bytes, address: str) -> None:
    """The last address that no trusted proxy has; before it anybody could have written."""
    scope = {"client": (client, 1) if client else None, "headers": [(b"x-forwarded-for", chain)] if chain else []}
    assert TrustedProxies(proxies).peer(scope).address == address


def test_an_ipv6_client_is_quoted() -> None:
    """RFC 7239, section 6."""
    scope = {"client": ("2001:db8::1", 1), "headers": []}
    headers = dict(
        request_headers(scope, TrustedProxies(()).peer(scope), host=b"h", public_host=b"[::1]:80", proto=b"http")
    )
    assert headers[b"forwarded"] == b'for="[2001:db8::1]";host="[::1]:80";proto=http'


@pytest.mark.parametrize(
    ("upstreams", "path", "target"),
    [
        ({"/": "{url}"}, "/a/b", "/a/b"),
        ({"/": "{url}/"}, "/a/b", "/a/b"),
        ({"/": "{url}/base"}, "/a?x=1", "/base/a?x=1"),
        ({"/api": "{url}"}, "/api/a", "/api/a"),
        ({"/api": "{url}/"}, "/api/a", "/a"),
        ({"/api": "{url}/"}, "/api", "/"),
        ({"/api/": "{url}/v2/"}, "/api/a%20b", "/v2/a%20b"),
        ({"/": "http://127.0.0.1:9", "/api": "{url}"}, "/api/x", "/api/x"),
        ({"/": "{url}", "/api": "http://127.0.0.1:9"}, "/apix", "/apix"),
        ({"/api": "{url}"}, "/other", None),
    ],
)
async def test_where_a_path_goes(upstreams: dict[str, str], path: str, target: str | None) -> None:
    """The longest prefix counts, in whole segments; a URL with a path has it in the prefix's place."""
    server = Server()
    async with (
        running(server) as url,
        gateway_before({prefix: to.format(url=url) for prefix, to in upstreams.items()}, server) as at,
    ):
        answer = await at.client.get(path)
        if target is None:
            assert (answer.status_code, answer.json()["type"]) == (404, "urn:x402-mpp-bridge:problem:no-upstream")
        else:
            assert server.last.target == target


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("version", [1, 2])
async def test_an_upstream_that_names_itself_is_renamed_and_back(client: Protocol, version: int) -> None:
    """Clients read the public URL, path included; the upstream gets back the one that it wrote."""
    server = Server([version])
    server.says_public_urls = False
    async with running(server) as url:
        server.url = url
        upstreams = {"/shop": f"{url}/"}
        async with gateway_before(upstreams, server, public_url="https://api.example.com/x") as at:
            answer = await at.client.get("/shop/report")
            assert url.removeprefix("http://") not in str(answer.headers) + answer.text
            entry = x402_v1.decode_payment_required(answer.content).accepts[0]
            required = x402_v2.decode_payment_required(answer.headers["payment-required"])
            public = "https://api.example.com/x/shop/report"
            assert entry["resource"] == (required.resource or {})["url"] == public
            assert (await at.pay(client, "/shop/report")).status_code == 200
            if version == 2 and client is not V1:
                payload = x402_v2.decode_payment_payload(server.last.header("payment-signature") or "")
                assert payload.resource is None or payload.resource["url"] == f"{url}/report"


async def test_streams_flow_both_ways() -> None:
    """The upstream hears a part before the client sends the next, and the client as well."""
    heard: list[bytes] = []
    go_on = asyncio.Event()

    async def echo(server: Server, scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            if message.get("body"):
                heard.append(message["body"])
                go_on.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"one", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await go_on.wait()
            go_on.clear()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def upload() -> AsyncIterator[bytes]:
        yield b"first"
        async with asyncio.timeout(10):
            await go_on.wait()
        go_on.clear()
        yield b"second"

    async with lab() as at:
        at.server.free["/free"] = echo
        async with at.client.stream("POST", "/free", content=upload()) as answer:
            got = []
            async for part in answer.aiter_raw():
                got.append(part)
                go_on.set()
        assert (b"".join(heard), b"".join(got)) == (b"firstsecond", b"onetwo")


async def test_an_answer_may_begin_before_its_request_has_ended() -> None:
    """Each part is answered before the next is sent."""

    async def echo(server: Server, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            if message.get("body"):
                await send({"type": "http.response.body", "body": message["body"].upper(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with lab() as at:
        at.server.free["/free"] = echo
        host, port = at.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /free HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (b"first", b"other"):
            writer.write(b"5\r\n" + part + b"\r\n")
            await asyncio.wait_for(reader.readuntil(part.upper() + b"\r\n"), 10)
        writer.write(b"0\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10)
        writer.close()


@pytest.mark.parametrize("client", PROTOCOLS)
async def test_paid_events_arrive_one_by_one(client: Protocol) -> None:
    """Server-sent events of a paid route: each is with the client before the next is made."""
    arrived = asyncio.Event()

    async def events(server: Server, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream"), *server.receipt()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(3):
            body = b"data: %d\n\n" % number
            await send({"type": "http.response.body", "body": body, "more_body": True})
            async with asyncio.timeout(10):
                await arrived.wait()
            arrived.clear()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with lab(Server([2 if client is not V2 else 1], paid=events)) as at:
        header, value = await at.credential(client)
        got = b""
        async with at.client.stream("GET", "/report", headers={header: value}) as answer:
            async for part in answer.aiter_raw():
                got += part
                arrived.set()
        assert got == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
        await until(lambda: at.events[-1] == "payment.delivered")


async def test_a_client_that_leaves_ends_the_upstreams_work() -> None:
    """An endless stream does not go on for nobody."""
    ended = asyncio.Event()

    async def endless(server: Server, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    async with lab() as at:
        at.server.free["/free"] = endless
        async with at.client.stream("GET", "/free") as answer:
            async for _ in answer.aiter_raw():
                break
        async with asyncio.timeout(10):
            await ended.wait()


async def test_an_answer_that_breaks_off_is_seen_to() -> None:
    """Half an answer is never passed off as a whole one, and a paid one stays to be asked for again."""

    async def half(server: Server, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": server.receipt()})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        send.__self__.transport.close()

    async with lab(Server([2], paid=half)) as at:
        header, value = await at.credential(MPP)
        with pytest.raises(httpx.RemoteProtocolError):
            await at.client.get("/report", headers={header: value})
        await until(lambda: at.events[-1] == "payment.undelivered")
        (row,) = at.rows()
        assert row.state == "settled"


async def test_compression_is_passed_through() -> None:
    """The bytes as they came, and `Accept-Encoding` as it was."""
    packed = gzip.compress(b"hello" * 100)

    async def answer(server: Server, scope: Any, receive: Any, send: Any) -> None:
        await server.reply(send, 200, packed, [(b"content-encoding", b"gzip"), (b"etag", b'"1"')])

    async with lab() as at:
        at.server.free["/free"] = answer
        async with at.client.stream("GET", "/free", headers={"accept-encoding": "gzip, br"}) as response:
            assert b"".join([part async for part in response.aiter_raw()]) == packed
            assert response.headers["etag"] == '"1"'
        assert at.server.last.header("accept-encoding") == "gzip, br"


async def test_a_compressed_402_is_read_all_the_same() -> None:
    """A v1 challenge in a gzipped body: unpacked, completed, and sent plainly."""
    server = Server([1])
    async with lab(server) as at:
        plain = await at.client.get("/report")
        content = json.dumps({k: plain.json()[k] for k in ("x402Version", "error", "accepts")}).encode()
        server.body_402 = ("application/json", gzip.compress(content))
        server.headers_402 = [(b"content-encoding", b"gzip")]
        answer = await at.client.get("/report")
        assert "content-encoding" not in answer.headers
        assert answer.json()["accepts"] == plain.json()["accepts"]
        assert len(mpp_challenges(answer)) == 1


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_body_is_not_asked_for_before_the_upstream_wants_it(wanted: bool) -> None:
    """`Expect: 100-continue`: an upstream that answers 402 at once spares its client the upload."""

    async def upload(server: Server, scope: Any, receive: Any, send: Any) -> None:
        if not wanted:
            await server.ask(scope, send, None)
            return
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        await server.reply(send, 200, b"%d" % size)

    async with lab() as at:
        at.server.free["/upload"] = upload
        host, port = at.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        length = 200_000
        writer.write(
            f"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
            "Expect: 100-continue\r\nConnection: close\r\n\r\n".encode()
        )
        first = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        if wanted:
            assert first.startswith(b"HTTP/1.1 100 ")
            writer.write(b"x" * length)
            await writer.drain()
            rest = await asyncio.wait_for(reader.read(), 10)
            assert rest.startswith(b"HTTP/1.1 200 ")
            assert rest.endswith(str(length).encode()) or str(length).encode() in rest
        else:
            assert first.startswith(b"HTTP/1.1 402 ")
            assert b"www-authenticate: Payment " in first
        assert at.server.last.header("expect") == "100-continue"
        writer.close()


async def test_limits_are_problems() -> None:
    """413 for a body, 503 for too many at once, 502 and 504 for the upstream: RFC 9457, and nothing is passed on."""
    hold = asyncio.Event()

    async def slow(server: Server, scope: Any, receive: Any, send: Any) -> None:
        await hold.wait()
        await server.reply(send, 200, b"late")

    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b"x" * 1000

    def problem(answer: httpx.Response) -> tuple[int, str]:
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code, answer.json()["type"].rpartition(":")[2]

    async with lab(max_body=5000, max_concurrency=1, timeout=0.5) as at:
        at.server.free["/slow"] = slow
        assert problem(await at.client.post("/free", content=b"x" * 5001)) == (413, "body-too-large")
        assert not at.server.seen
        assert problem(await at.client.post("/report", content=unannounced())) == (413, "body-too-large")
        late = asyncio.create_task(at.client.get("/slow"))
        await until(lambda: len(at.server.seen) > 0 and at.server.last.target == "/slow")
        busy = await at.client.get("/free")
        assert problem(busy) == (503, "gateway-busy")
        assert "retry-after" in busy.headers
        assert problem(await late) == (504, "upstream-timeout")
        hold.set()
    server = Server()
    async with gateway_before({"/": "http://127.0.0.1:9"}, server) as at:
        assert problem(await at.client.get("/")) == (502, "upstream-unreachable")
    async with lab() as at:
        at.server.free["/cut"] = _cut
        assert problem(await at.client.get("/cut")) == (502, "upstream-failed")


async def _cut(server: Server, scope: Any, receive: Any, send: Any) -> None:
    send.__self__.transport.abort()


async def test_head_and_options_are_what_they_are() -> None:
    """HEAD has no body and the challenges all the same; OPTIONS is the upstream's own."""
    async with lab() as at:
        answer = await at.client.head("/report")
        assert (answer.status_code, answer.content) == (402, b"")
        assert len(mpp_challenges(answer)) == 1
        header, value = await at.credential(MPP, method="HEAD")
        assert (await at.client.head("/report", headers={header: value})).status_code == 200

        async def preflight(server: Server, scope: Any, receive: Any, send: Any) -> None:
            await server.reply(send, 204, b"", [(b"access-control-allow-origin", b"*")])

        at.server.free["/cors"] = preflight
        assert (await at.client.options("/cors")).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("upstream", "allowed"),
    [
        ("Content-Type, X-PAYMENT", "Content-Type, X-PAYMENT, authorization, payment-authorization, payment-signature"),
        ("content-type", "content-type"),
        ("*", "*, authorization"),
        (
            "Authorization, Payment-Signature",
            "Authorization, Payment-Signature, payment-authorization, x-payment",
        ),
    ],
)
async def test_a_browser_that_may_pay_may_pay_in_every_protocol(upstream: str, allowed: str) -> None:
    """The upstream's preflight lets payments of its own through: then the others' headers as well."""

    async def preflight(server: Server, scope: Any, receive: Any, send: Any) -> None:
        await server.reply(send, 200, b"", [(b"access-control-allow-headers", upstream.encode())])

    async with lab() as at:
        at.server.free["/cors"] = preflight
        assert (await at.client.options("/cors")).headers["access-control-allow-headers"] == allowed


async def test_not_modified_is_passed_on() -> None:
    """With the length that it tells, and without a body."""

    async def unchanged(server: Server, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", b'"1"')]})
        await send({"type": "http.response.body", "body": b""})

    async with lab() as at:
        at.server.free["/free"] = unchanged
        assert (await at.client.get("/free")).status_code == 304
        assert (await at.client.get("/free")).headers["etag"] == '"1"'


async def test_a_websocket_is_passed_through() -> None:
    """Subprotocol, text, bytes and the close both ways; an upstream that declines is quoted."""
    import websockets
    from websockets.asyncio.client import connect

    async def echo(server: Server, scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        if scope["path"] == "/no":
            await send({"type": "websocket.http.response.start", "status": 402, "headers": [(b"x-own", b"1")]})
            await send({"type": "websocket.http.response.body", "body": b"pay first"})
            return
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0], "headers": [(b"x-own", b"1")]})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                server.seen.append(message["code"])
                return
            if message.get("text") == "close":
                await send({"type": "websocket.close", "code": 4001, "reason": "asked"})
                return
            await send({"type": "websocket.send", **{k: message[k] for k in ("text", "bytes") if message.get(k)}})

    async with lab() as at:
        at.server.free["websocket"] = echo
        url = at.url.replace("http", "ws")
        async with connect(f"{url}/chat?a=1", subprotocols=["one"], proxy=None) as ws:  # type: ignore[list-item]
            assert ws.subprotocol == "one"
            assert ws.response is not None
            assert ws.response.headers["x-own"] == "1"
            await ws.send("hello")
            assert await ws.recv() == "hello"
            await ws.send(b"\x00" * 100_000)
            assert await ws.recv() == b"\x00" * 100_000
            await ws.send("close")
            with pytest.raises(websockets.ConnectionClosed):
                await ws.recv()
            assert (ws.close_code, ws.close_reason) == (4001, "asked")
        async with connect(f"{url}/chat", subprotocols=["one"], proxy=None) as ws:  # type: ignore[list-item]
            await ws.close(4002)
        await until(lambda: 4002 in at.server.seen)
        with pytest.raises(websockets.InvalidStatus) as declined:
            await connect(f"{url}/no", proxy=None)
        assert (declined.value.response.status_code, declined.value.response.body) == (402, b"pay first")
        assert declined.value.response.headers["x-own"] == "1"
