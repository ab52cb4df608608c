"""The command, as a process: it says when it serves, in how many workers, and finishes what is under way."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.payers import credential, read_402
from tests.bridge.gateway.lab import MPP, PAYER, Server, running

pytestmark = pytest.mark.anyio

MAIN = "from bridge.cli import main; main()"


async def start(*options: str, **environ: str) -> tuple[asyncio.subprocess.Process, str]:
    """A gateway that serves, and its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", MAIN, "gateway", "--port", "0", "--json", *options),
        env=os.environ | {"X402_MPP_SECRET_KEYS": "k" * 40, "X402_MPP_EVENTS": "none"} | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 60)
    assert line, (await process.communicate())[1]
    return process, json.loads(line)["url"]


async def slow(server: Server, scope: Any, receive: Any, send: Any) -> None:
    """Begins its answer, and goes on when it is told."""
    await send({"type": "http.response.start", "status": 200, "headers": server.receipt()})
    await send({"type": "http.response.body", "body": b"one ", "more_body": True})
    await asyncio.sleep(1)
    await send({"type": "http.response.body", "body": b"two", "more_body": False})


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_it_finishes_what_is_under_way(workers: str, tmp_path: Path) -> None:
    """SIGTERM amid a paid stream: the stream ends as it should, the journal says delivered, and the exit code is 0."""
    server = Server([2], paid=slow)
    store = f"sqlite:{tmp_path}/payments.sqlite3"
    async with running(server) as upstream:
        server.url = upstream
        process, url = await start("--upstream", upstream, "--workers", workers, "--store", store)
        try:
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                name, value = credential(read_402(await client.get("/report"), MPP), PAYER)
                got = b""
                async with client.stream("GET", "/report", headers={name: value}) as answer:
                    async for part in answer.aiter_raw():
                        got += part
                        if got == b"one ":
                            process.send_signal(signal.SIGTERM)
                assert (answer.status_code, got) == (200, b"one two")
                assert "payment-receipt" in answer.headers
            _, log = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == 0
            events = [json.loads(line) for line in log.decode().splitlines() if line.startswith("{")]
            assert events[-1]["event"] == "payment.delivered"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_what_keeps_it_from_starting_is_said(tmp_path: Path) -> None:
    """A bad setting is a usage error (2), a store that cannot be opened or levers that make no sense a failure (1)."""
    bad = tmp_path / "levers.toml"
    bad.write_text('[levers."*"]\nx402-v1 = "off"\nx402-v2 = "off"\nmpp = "off"\n')
    for options, code, says in (
        ((), 2, b"upstream"),
        (("--upstream", "ftp://x"), 2, b"upstreams"),
        (("--upstream", "http://x", "--store", "sqlite:/nowhere/at/all/x"), 1, b"Error"),
        (("--upstream", "http://x", "--store", "memory", "--levers", "levers.json"), 1, b"levers"),
        (
            ("--upstream", "http://x", "--store", "memory", "--levers", "/nowhere/levers.toml"),
            1,
            b"/nowhere/levers.toml",
        ),
        (("--upstream", "http://x", "--store", "memory", "--levers", str(bad)), 1, b"nobody could be sure to pay"),
    ):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MAIN, "gateway", "--port", "0", *options),
            env={k: v for k, v in os.environ.items() if not k.startswith("X402_MPP_")} | {"X402_MPP_EVENTS": "none"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, says in said) == (code, True), said
        assert b"Traceback" not in said
