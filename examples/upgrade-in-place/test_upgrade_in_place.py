"""The story of the README, followed to the letter: its own commands, on other ports."""

import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bridge.demo import token
from bridge.testing import account
from tests.interop.conftest import installed
from tests.interop.peers import places

HERE = Path(__file__).parent
README = (HERE / "README.md").read_text("utf-8")
PORTS = ("8545", "4022", "4021", "8402")
"""Of chain, facilitator, server and gateway."""
BLOCKS = re.findall(r"^```(console|text)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [text for kind, text in BLOCKS if kind == "console"]
SHOWN = [text for kind, text in BLOCKS if kind == "text"]

__all__ = ["installed"]


def test_it_works_to_the_letter(installed: None, tmp_path: Path) -> None:
    """The server understands x402 v2 alone; behind the gateway it is paid by all three, a cent each."""
    gateway, pay_there, pay_here, chain, facilitator, server = COMMANDS
    moved = dict(zip(PORTS, _free_ports(), strict=True))
    recipient = re.search(r"EVM_ADDRESS=(\S+)", server)
    assert recipient is not None
    with ExitStack() as stack:
        for number, (command, port) in enumerate(zip((chain, facilitator, server), PORTS, strict=False)):
            stack.enter_context(_running(command, moved, port, tmp_path / f"{number}.log"))
        assert _outcome(pay_here, moved) == SHOWN[1]
        stack.enter_context(_running(gateway, moved, "8402", tmp_path / "gateway.log"))
        assert _outcome(pay_there, moved) == SHOWN[0]
        rpc_url = f"http://127.0.0.1:{moved['8545']}"
        assert token.balance_of(rpc_url, recipient[1]) == 4 * 10_000
        assert token.balance_of(rpc_url, account("upgrade in place").address) == 1_000_000 - 4 * 10_000


def test_the_server_knows_nothing_of_it() -> None:
    """It is x402's, from its imports on."""
    server = (HERE / "server.py").read_text("utf-8")
    assert "import bridge" not in server
    assert "from bridge" not in server


@contextmanager
def _running(block: str, moved: dict[str, str], port: str, log: Path) -> Iterator[None]:
    """Run the last line of a block until it listens; the lines before it export its environment."""
    *exports, command = _moved(block, moved).strip().splitlines()
    env = dict(line.removeprefix("export ").split("=", 1) for line in exports)
    with log.open("w") as out:
        process = subprocess.Popen(
            _here(command), cwd=log.parent, stdin=subprocess.PIPE, stdout=out, stderr=out, env=_env(env, moved[port])
        )
    try:
        _wait_for(process, int(moved[port]), log)
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.terminate()
        process.wait(20)


def _outcome(block: str, moved: dict[str, str]) -> str:
    """What a command prints, with every transaction as the README writes one."""
    done = subprocess.run(_here(_moved(block, moved).strip()), capture_output=True, text=True, timeout=90, check=True)
    return re.sub(r"0x[0-9a-f]{64}", "0x...", done.stdout)


def _moved(block: str, moved: dict[str, str]) -> str:
    for port, other in moved.items():
        block = re.sub(rf"\b{port}\b", other, block)
    return block


def _here(command: str) -> list[str]:
    """A command line with the programs of this run, and this folder's files."""
    program, *arguments = shlex.split(command)
    programs = {
        "python": [sys.executable],
        "sdk/bin/python": [str(places.python("python"))],
        "x402-mpp": [str(Path(sys.executable).with_name("x402-mpp"))],
    }
    return [*programs[program], *(str(HERE / word) if (HERE / word).exists() else word for word in arguments)]


def _env(env: dict[str, str], port: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "PORT": port, **env}


def _free_ports() -> list[str]:
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    ports = [str(sock.getsockname()[1]) for sock in socks]
    for sock in socks:
        sock.close()
    return ports


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"port {port} stayed closed: {log.read_text()[-2000:]}")
