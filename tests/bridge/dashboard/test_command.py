"""`x402-mpp dashboard`, as a process: on loopback by default, with a token elsewhere, until it is told to end."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from bridge.analytics import EventStore, Part, Recorder
from bridge.cli import main
from bridge.stores import store_from_url

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def dashboard(*arguments: str) -> AsyncIterator[str]:
    """Its address, while it runs; it ends well."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from bridge.cli import main; main()", "dashboard", "--port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        assert line.startswith("Dashboard: http://127.0.0.1:"), line
        yield line.split()[1]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_on_a_file(market: str, tmp_path: Path) -> None:
    """The events, the store and the levers that it is given; no other name for this machine gets in."""
    store = store_from_url(f"sqlite:{tmp_path}/payments.sqlite3")
    await store.start()
    await store.close()
    levers = tmp_path / "levers.toml"
    levers.write_text('[levers."*"]\nx402-v1 = "deprecated"\n')
    given = ("--events", market, "--store", f"sqlite:{tmp_path}/payments.sqlite3", "--levers", str(levers))
    async with dashboard(*given) as url, httpx.AsyncClient(base_url=url) as client:
        assert "<title>Payments</title>" in (await client.get("")).text
        parts = {part["name"]: part["state"] for part in (await client.get("api/health")).json()["parts"]}
        assert parts == {"settler": "unknown", "store": "ok", "events": "ok"}
        stages = (await client.get("api/levers")).json()["stages"]
        assert stages[0] == {
            "route": "*",
            "protocol": "x402-v1",
            "stage": "deprecated",
            "share": None,
            "header": None,
            "next": None,
        }
        assert (await client.get("api/report")).json()["total"]["settled"] > 1500
        assert (await client.get("api/report", headers={"host": "evil.example"})).status_code == 421
        assert (await client.post("api/report")).status_code == 405


async def test_how_the_servers_do(tmp_path: Path) -> None:
    """Two processes of a server on a chain, beside it: each by name; a third that was killed is missed."""
    events = f"{tmp_path}/events.sqlite3"
    serve = ["demo", "--serve", "--json", "--events", events, "--store", f"sqlite:{tmp_path}/payments.sqlite3"]
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from bridge.cli import main; main()", *serve, "--workers", "2"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert server.stdout is not None
        assert await asyncio.wait_for(server.stdout.readline(), 60)
        killed = Recorder(EventStore(url=events), lambda: time.time() - 600)
        killed.start()
        killed.note([Part("settler", "ok")])
        assert await asyncio.to_thread(killed.flush, 20)
        async with dashboard("--events", events) as url, httpx.AsyncClient(base_url=url) as client:
            found: dict[str, Any] = {}
            for _ in range(200):
                found = (await client.get("api/health")).json()
                if len(found["workers"]) == 3:
                    break
                await asyncio.sleep(0.1)
            assert {part["name"] for part in found["parts"]} == {"events"}
            here = [worker for worker in found["workers"] if not worker["silent"]]
            assert len({worker["name"] for worker in here}) == 2
            for worker in here:
                assert 0 <= found["now"] - worker["at"] < 60
                assert {part["name"]: part["state"] for part in worker["parts"]} == {
                    "settler": "ok",
                    "store": "ok",
                    "recorder": "ok",
                }
                (settler,) = (part for part in worker["parts"] if part["name"] == "settler")
                assert settler["figures"]["settlements left"] > 100
            await asyncio.to_thread(killed.close)
    finally:
        server.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(server.wait(), 30) == 0


async def test_with_a_token(market: str) -> None:
    """Who has it gets in, by whatever name; nobody else does."""
    token = "a token that is long enough"
    async with dashboard("--events", market, "--token", token) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("api/report")).status_code == 401
        named = {"authorization": f"Bearer {token}", "host": "payments.example"}
        assert (await client.get("api/report", headers=named)).status_code == 200


async def test_before_there_are_events(tmp_path: Path) -> None:
    """It is served all the same, and makes no file."""
    async with dashboard("--events", f"{tmp_path}/later.sqlite3") as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("api/report")).status_code == 503
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "--token"),
        (["--host", "192.0.2.1"], "--token"),
        (["--token", "short"], "at least 16"),
        (["--store", "memory"], "another process's own"),
        (["--store", "sqlite:/nowhere/payments.sqlite3"], "there is no"),
        (["--store", "mongodb://x"], "store"),
        (["--levers", "levers.json"], "no levers"),
        (["--events", "mysql://x"], "events"),
    ],
)
def test_what_cannot_be(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is refused with a sentence that says what to do, before anything listens."""
    monkeypatch.setattr("bridge.serving.listen", lambda *_: pytest.fail("it listens"))
    result = CliRunner().invoke(main, ["dashboard", *arguments])
    assert result.exit_code in (1, 2)
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_port_that_is_taken(market: str) -> None:
    """Is told."""
    from bridge.serving import listen

    with listen("127.0.0.1", 0) as taken:
        result = CliRunner().invoke(main, ["dashboard", "--events", market, "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 1
    assert "cannot listen on 127.0.0.1" in result.output
