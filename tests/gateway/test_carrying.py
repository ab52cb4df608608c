"""What a proxy must carry, and what it must not, seen by real clients: curl, httpx, websockets, and a bare socket."""

import gzip
import hashlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from bridge.payers import account, credential, read_402
from tests.interop.our_gateway import OurGateway
from translators.payment import Protocol

from .processes import Upstream

CURL = shutil.which("curl")

HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "proxy-authorization", "proxy-connection", "upgrade"}


def curl(*arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run curl, which must be there."""
    assert CURL is not None, "these tests need curl"
    command = [CURL, "--silent", "--show-error", "--max-time", "30", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=True, timeout=40)


def seen(client: httpx.Client, *headers: tuple[str, str], path: str = "/headers") -> dict[str, list[str]]:
    """The headers that reach the upstream."""
    arrived: dict[str, list[str]] = {}
    for name, value in client.get(path, headers=list(headers)).json()["headers"]:
        arrived.setdefault(name, []).append(value)
    return arrived


# The request


def test_the_target_arrives_as_it_was_written(gateway: OurGateway) -> None:
    """Path and query byte for byte: what one server decodes another takes for something else."""
    target = "/a%2Fb//c%20d/./headers?x=%20&y=a+b&z=%C3%BC&empty="
    answer = curl("--path-as-is", f"{gateway.url}{target}")
    assert json.loads(answer.stdout)["target"] == target


def test_the_method_and_body_arrive(client: httpx.Client) -> None:
    """Whole, for every method that has one."""
    body = b"\x00\xff" * 5000
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        told = client.request(method, "/upload", content=body).json()
        assert (told["bytes"], told["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


def test_ordinary_headers_arrive(client: httpx.Client) -> None:
    """As they were, and several of one name as several."""
    arrived = seen(client, ("X-Mine", "1"), ("X-Mine", "2"), ("Authorization", "Bearer of news"), ("Cookie", "a=b"))
    assert arrived["x-mine"] == ["1", "2"] or arrived["x-mine"] == ["1, 2"]
    assert arrived["authorization"] == ["Bearer of news"]
    assert arrived["cookie"] == ["a=b"]


def test_what_is_for_the_next_hop_stops_here(client: httpx.Client) -> None:
    """RFC 9110, section 7.6.1: the hop-by-hop fields, and those that `Connection` names."""
    arrived = seen(
        client,
        ("Connection", "keep-alive, X-Mine"),
        ("X-Mine", "for the gateway"),
        ("Keep-Alive", "timeout=99"),
        ("TE", "trailers"),
        ("Proxy-Authorization", "Basic c2VjcmV0"),
        ("Proxy-Connection", "keep-alive"),
    )
    assert "x-mine" not in arrived
    assert not {"keep-alive", "proxy-authorization", "proxy-connection"} & arrived.keys()
    # What is for the next hop is said anew: the gateway takes trailers on.
    assert (arrived["te"], arrived["connection"]) == (["trailers"], ["te"])


def test_who_asked_is_told_and_nobody_can_say_otherwise(client: httpx.Client, gateway: OurGateway) -> None:
    """`Forwarded` and `X-Forwarded-*` name the client that is connected, whatever it claims."""
    arrived = seen(
        client,
        ("Forwarded", "for=6.6.6.6;proto=https"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
    )
    assert arrived["x-forwarded-for"] == ["127.0.0.1"]
    assert arrived["x-forwarded-proto"] == ["http"]
    assert arrived["x-forwarded-host"] == [gateway.url.removeprefix("http://")]
    (forwarded,) = arrived["forwarded"]
    assert "for=127.0.0.1" in forwarded.lower().replace('"', "")
    assert "6.6.6.6" not in forwarded


def test_a_trusted_proxy_is_believed(upstream: Upstream, start_gateway: Callable[..., OurGateway]) -> None:
    """What it says is kept, and its own address is added."""
    gateway = start_gateway(upstream.url, extra=("--trusted-proxy", "127.0.0.1"))
    with httpx.Client(base_url=gateway.url) as client:
        arrived = seen(client, ("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https"))
    assert arrived["x-forwarded-for"][0].replace(" ", "") == "203.0.113.7,127.0.0.1"
    assert arrived["x-forwarded-proto"] == ["https"]


# The answer


def test_answers_come_back_as_they_are(client: httpx.Client) -> None:
    """Status, headers and body; an odd status, several cookies, and nothing that was meant for the gateway."""
    answer = client.get("/teapot")
    assert (answer.status_code, answer.json()) == (418, {"short": "stout"})
    answer = client.get("/hop")
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert "x-secret" not in answer.headers
    assert "timeout=99" not in answer.headers.get("keep-alive", "")


def test_head_and_options_are_carried(client: httpx.Client) -> None:
    """A HEAD has the length of what a GET would bring, and no body."""
    answer = client.head("/download?bytes=70000")
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "70000", b"")
    assert client.options("/headers").json()["method"] == "OPTIONS"


def test_compression_passes_through(gateway: OurGateway, tmp_path: Path) -> None:
    """The same compressed bytes, for a client that asked and for one that did not: nothing is unpacked on the way."""
    for wanted in ((), ("--header", "Accept-Encoding: gzip")):
        answer = curl("--include", *wanted, f"{gateway.url}/gzip").stdout
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"content-encoding: gzip" in head.lower()
        assert b'etag: "squeezed"' in head.lower()
        assert body == gzip.compress(b"squeezed " * 1000, mtime=0)
    assert curl("--compressed", f"{gateway.url}/gzip").stdout == b"squeezed " * 1000


def test_server_sent_events_are_not_held_back(gateway: OurGateway) -> None:
    """curl has the first event long before the upstream makes the last."""
    command = [str(CURL), "--silent", "--no-buffer", f"{gateway.url}/events?count=5&pause=0.3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        arrived = [time.monotonic() for line in process.stdout if line.startswith(b"data:")]
    assert len(arrived) == 5
    assert arrived[-1] - arrived[0] > 0.9


def test_an_upload_is_passed_on_while_it_comes(gateway: OurGateway) -> None:
    """The upstream has read the first piece before the client sends the second."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as sock:
        head = "POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode() + b"5\r\nfirst\r\n")
        time.sleep(0.3)
        sock.sendall(b"6\r\nsecond\r\n0\r\n\r\n")
        told = json.loads(_body(sock))
    assert (told["bytes"], told["pieces"]) == (11, 2)


def test_expect_100_continue(gateway: OurGateway) -> None:
    """curl holds its body back until it is told to go on, and is told so."""
    answer = curl(
        *("--include", "--header", "Expect: 100-continue", "--expect100-timeout", "20", "--data-binary", "@-"),
        f"{gateway.url}/upload",
        stdin=b"x" * 100_000,
    ).stdout
    first, _, rest = answer.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 100")
    assert json.loads(rest.rpartition(b"\r\n\r\n")[2])["bytes"] == 100_000


@pytest.mark.parametrize(("trailers", "status"), [(b"x-a: 1\r\n", 200), (b"x: 1\r\n" * 101, 431), (b"x : 1\r\n", 400)])
def test_trailers_are_taken_within_bounds(gateway: OurGateway, trailers: bytes, status: int) -> None:
    """By the command as it is: more of them than a request may have, and bad ones, are refused with a word."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as sock:
        head = b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        sock.sendall(head + b"5\r\nfirst\r\n0\r\n" + trailers + b"\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 %d " % status)


def test_an_answer_to_http_1_0_has_no_chunks(gateway: OurGateway) -> None:
    """Its body ends with the connection."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as sock:
        sock.sendall(b"GET /events?count=2&pause=0.1 HTTP/1.0\r\nHost: x\r\n\r\n")
        said = b""
        while part := sock.recv(65536):
            said += part
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"data: 0\n\ndata: 1\n\n"


def _body(sock: socket.socket) -> bytes:
    """What stands between the head of an answer and the end of the connection, out of its chunks if it has any."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        return body.split(b"\r\n")[1]
    return body


# WebSockets


def test_a_websocket_is_carried(gateway: OurGateway) -> None:
    """Text and bytes both ways, the subprotocol, the headers, and the code and reason of the end."""
    url = gateway.url.replace("http", "ws") + "/chat?room=1"
    with connect(url, subprotocols=["second.best", "third.best"], additional_headers={"X-Mine": "1"}) as ws:  # type: ignore[list-item]
        described: dict[str, Any] = json.loads(ws.recv())
        assert ws.subprotocol == "second.best"
        assert described["target"] == "/chat?room=1"
        assert ["x-mine", "1"] in described["headers"]
        assert ["x-forwarded-for", "127.0.0.1"] in described["headers"]
        ws.send("grüezi")
        assert ws.recv() == "grüezi"
        ws.send(b"\x00" * 300_000)
        assert ws.recv() == b"\x00" * 300_000
        ws.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4321, "as you wish")


def test_a_websocket_that_is_refused_is_refused(gateway: OurGateway) -> None:
    """The upstream's own status reaches the client, before anything is upgraded."""
    with pytest.raises(InvalidStatus) as refused:
        connect(gateway.url.replace("http", "ws") + "/refuses").close()
    assert refused.value.response.status_code == 403


# What goes wrong


def problem(answer: httpx.Response, status: int) -> None:
    """It is ours, and says so as RFC 9457 has it."""
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["status"] == status
    assert "www-authenticate" not in answer.headers


def test_an_upstream_that_is_down_is_a_502(
    start_upstream: Callable[..., Upstream], start_gateway: Callable[..., OurGateway]
) -> None:
    """As a problem; and the gateway goes on, and finds the upstream again when it is back."""
    first = start_upstream()
    gateway = start_gateway(first.url)
    first.kill()
    with httpx.Client(base_url=gateway.url) as client:
        problem(client.get("/headers"), 502)
        start_upstream(port=first.port)
        assert client.get("/headers").status_code == 200


def test_an_upstream_that_dies_on_the_way_is_a_502(
    start_upstream: Callable[..., Upstream], start_gateway: Callable[..., OurGateway]
) -> None:
    """It takes the request and answers nothing."""
    gateway = start_gateway(start_upstream().url)
    problem(httpx.post(f"{gateway.url}/dies", content=b"x"), 502)


def test_an_upstream_that_is_slow_is_a_504(upstream: Upstream, start_gateway: Callable[..., OurGateway]) -> None:
    """When it says nothing for `--timeout` seconds."""
    gateway = start_gateway(upstream.url, extra=("--timeout", "1"))
    began = time.monotonic()
    problem(httpx.get(f"{gateway.url}/slow?seconds=20", timeout=15), 504)
    assert time.monotonic() - began < 10


def test_a_body_over_the_limit_is_a_413(upstream: Upstream, start_gateway: Callable[..., OurGateway]) -> None:
    """Whether its length was announced or not, and at the limit itself it passes."""
    gateway = start_gateway(upstream.url, extra=("--max-body", "100000"))
    with httpx.Client(base_url=gateway.url) as client:
        problem(client.post("/upload", content=b"x" * 100_001), 413)
        problem(client.post("/upload", content=(b"x" * 1000 for _ in range(200))), 413)
        assert client.post("/upload", content=b"x" * 100_000).json()["bytes"] == 100_000


def test_more_at_once_than_the_limit_is_a_503(upstream: Upstream, start_gateway: Callable[..., OurGateway]) -> None:
    """Who comes when the house is full is told when to come again."""
    gateway = start_gateway(upstream.url, extra=("--max-concurrency", "1"))
    command = [str(CURL), "--silent", "--no-buffer", f"{gateway.url}/events?count=2&pause=3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        assert busy.stdout.readline() == b"data: 0\n"
        answer = httpx.get(f"{gateway.url}/headers")
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) >= 0
        busy.stdout.read()
    assert httpx.get(f"{gateway.url}/headers").status_code == 200


# Where it is told to stand


def test_two_upstreams_by_path(
    start_upstream: Callable[..., Upstream], start_gateway: Callable[..., OurGateway]
) -> None:
    """The longest path that fits decides, and only whole segments fit."""
    first, second = start_upstream(), start_upstream()
    gateway = start_gateway(first.url, f"/v2={second.url}")

    def asked(path: str) -> str:
        ports = {first.port: "first", second.port: "second"}
        return ports[httpx.get(gateway.url + path).json()["port"]]

    assert asked("/headers") == "first"
    assert asked("/v2/headers") == "second"
    assert asked("/v20/headers") == "first"


def test_a_toml_file_says_the_same(
    start_upstream: Callable[..., Upstream], start_gateway: Callable[..., OurGateway], tmp_path: Path
) -> None:
    """Everything that flags can say can stand in a file, and a flag is stronger."""
    upstream = start_upstream()
    file = tmp_path / "gateway.toml"
    file.write_text(f'max_body = 1000\n\n[upstreams]\n"/" = "{upstream.url}"\n')
    gateway = start_gateway(extra=("--config", str(file)))
    problem(httpx.post(f"{gateway.url}/upload", content=b"x" * 1001), 413)
    gateway = start_gateway(extra=("--config", str(file), "--max-body", "2000"))
    assert httpx.post(f"{gateway.url}/upload", content=b"x" * 1001).status_code == 200


def test_it_finishes_what_is_under_way(upstream: Upstream, start_gateway: Callable[..., OurGateway]) -> None:
    """Told to stop, it takes no more, and a stream that has begun comes to its end."""
    gateway = start_gateway(upstream.url)
    streams = [
        subprocess.Popen(
            [str(CURL), "--silent", "--no-buffer", f"{gateway.url}/events?count=4&pause=0.4"], stdout=subprocess.PIPE
        )
        for _ in range(10)
    ]
    for stream in streams:
        assert stream.stdout is not None
        assert stream.stdout.readline() == b"data: 0\n"
    gateway.terminate()
    for stream in streams:
        rest, _ = stream.communicate(timeout=20)
        assert rest.count(b"data:") == 3
        assert stream.returncode == 0
    gateway.finish(10)
    with pytest.raises(httpx.ConnectError):
        httpx.get(gateway.url)


def test_it_finishes_what_is_paid(upstream: Upstream, start_gateway: Callable[..., OurGateway]) -> None:
    """Told to stop while a server works on payments, it hands every answer over, and the journal says so."""
    gateway = start_gateway(upstream.url)
    path = "/paid/slow?seconds=1.5"

    def pay(number: int) -> httpx.Response:
        name, value = credential(asked, account(f"leaving {number}"))
        return httpx.get(gateway.url + path, headers={name: value}, timeout=30)

    asked = read_402(httpx.get(gateway.url + path), Protocol.X402_V1)
    with ThreadPoolExecutor(10) as pool:
        paid = [pool.submit(pay, number) for number in range(10)]
        deadline = time.monotonic() + 20
        while len([e for e in gateway.events() if e["event"] == "payment.verified"]) < 10:
            assert time.monotonic() < deadline, gateway.tail()
            time.sleep(0.05)
        gateway.terminate()
        answers = [future.result() for future in paid]
    assert [answer.status_code for answer in answers] == [200] * 10
    gateway.finish(10)
    assert len([event for event in gateway.events() if event["event"] == "payment.delivered"]) == 10
