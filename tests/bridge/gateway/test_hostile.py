"""What somebody sends who means harm, or an upstream answers that should not be followed."""

from typing import Any

import pytest

from bridge.gateway.upstreams import Upstreams
from bridge.request import PaidRequest
from tests.bridge.gateway.lab import PROTOCOLS, Server, lab, running
from tests.bridge.gateway.test_proxy import raw

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("target", ["@127.0.0.1:{port}/x", "http://127.0.0.1:{port}/x", ".internal:{port}/x", "*"])
async def test_a_target_without_a_slash_reaches_no_server(target: str) -> None:
    """Put behind the upstream's address it would name another host: `http://upstream` and `@elsewhere/`."""
    asked = []

    async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a secret of the inside"})

    async with running(elsewhere) as other, lab() as at:
        at.server.free["/x"] = at.server.free["/free"]
        method = "OPTIONS" if target == "*" else "GET"
        where = target.format(port=other.rpartition(":")[2])
        said = await raw(at.url, f"{method} {where} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        assert not asked
        # Servers read the absolute form by themselves, as long as its path is one of the upstream's.
        assert said.split(b" ", 2)[1] in (b"404", b"400") or [seen.target for seen in at.server.seen] == ["/x"], said


def test_a_path_beside_where_the_gateway_is_mounted_is_nobodys() -> None:
    """What is left of `/gw@elsewhere/` behind `/gw` is no path."""
    assert Upstreams({"/": "http://inside"}).find("@elsewhere/") is None


@pytest.mark.parametrize(
    "rest", ["/../admin", "/a/../../admin", "/%2e%2E/admin", "/a%2F..%2f..%2Fadmin", "/..;/admin", "/.."]
)
@pytest.mark.parametrize(
    "upstreams", [{"/shop": "http://inside/app/"}, {"/shop": "http://inside"}, {"/": "http://inside/shop/"}]
)
def test_no_path_climbs_out_of_what_is_shown(upstreams: dict[str, str], rest: str) -> None:
    """An upstream that resolves `..` would answer for what stands beside."""
    found = Upstreams(upstreams)
    prefix = next(iter(upstreams)).rstrip("/")
    assert found.find(prefix + rest) is None
    for inside in ("/a/../b", "/a//b", "/...", "/..a/b", "", "/"):
        assert found.find(prefix + inside or "/") is not None
    assert Upstreams({"/": "http://inside"}).find(rest) is not None


async def test_a_length_beside_chunks_does_not_make_anybody_hold_them() -> None:
    """RFC 9112, section 6.3: the chunks count, and of a body whose length is not known nothing is read here.

    Some servers refuse such a request, others hand it over.
    """
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/report",
        "raw_path": b"/report",
        "query_string": b"",
        "headers": [(b"content-length", b"5"), (b"transfer-encoding", b"chunked"), (b"host", b"localhost")],
    }
    taken = []

    async def receive() -> dict[str, Any]:
        taken.append(1)
        return {"type": "http.request", "body": b"x" * 65536, "more_body": len(taken) < 100}

    request = PaidRequest(scope, receive, None)
    assert await request.body(64) is None
    assert not taken


async def test_a_websocket_is_not_redirected_behind_the_clients_back() -> None:
    """The client is told, as with any other answer: it may not want to go there, nor to send its credentials."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus

    hits = []

    async def app(server: Server, scope: Any, receive: Any, send: Any) -> None:
        hits.append(scope["path"])
        await receive()
        location = {"/same": b"/there", "/cross": b"ws://127.0.0.1:9/there"}.get(scope["path"])
        if location is None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.http.response.start", "status": 307, "headers": [(b"location", location)]})
        await send({"type": "websocket.http.response.body", "body": b""})

    async with lab() as at:
        at.server.free["websocket"] = app

        class Plain(connect):
            def process_redirect(self, exc: Exception) -> Exception | str:
                return exc

        for path in ("/same", "/cross"):
            with pytest.raises(InvalidStatus) as declined:
                await Plain(at.url.replace("http", "ws") + path, proxy=None)
            assert declined.value.response.status_code == 307
        assert hits == ["/same", "/cross"]


async def test_long_paths_are_not_remembered_and_are_paid_all_the_same() -> None:
    """Anybody can ask for thousands of them, and what an upstream asks for each is longer still."""
    long = "/report/" + "a" * 2_000
    for client in PROTOCOLS:
        async with lab(Server([2])) as at:
            assert (await at.pay(client, long)).status_code == 200
            assert len(at.server.settled) == 1
            assert not list(at.gateway._parts.learned.all(at.gateway._parts.upstreams.all[0]))
