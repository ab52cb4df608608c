"""The README, followed to the letter in an empty folder."""

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.layers import ROOT

BIN = Path(sys.executable).parent


def test_the_readme_works_to_the_letter(tmp_path: Path) -> None:
    """Its two files, its two commands, and all three protocols are paid; only the port is another."""
    readme = (ROOT / "README.md").read_text("utf-8")
    port = _free_port()
    names = re.findall(r"`(\w+\.py)`", readme)
    for name, block in zip(names, re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE), strict=True):
        (tmp_path / name).write_text(block.replace(":8000", f":{port}"))
    serve, visit = re.findall(r"^```console\n(uvicorn .+)\n(python .+)\n```", readme, re.MULTILINE)[0]
    with (tmp_path / "log").open("w") as log:
        command = [BIN / serve.split()[0], *serve.split()[1:], "--port", str(port)]
        server = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        _wait_for(port)
        paid = subprocess.run(
            [sys.executable, *visit.split()[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        )
    finally:
        server.terminate()
        server.wait(timeout=20)
    answer = '200 {"report":"all is well"}'
    assert paid.stdout.splitlines() == [f"x402-v1 {answer}", f"x402-v2 {answer}", f"mpp {answer}"]
    assert (tmp_path / "payments.sqlite3").exists()
    assert (tmp_path / "log").read_text().count("payment.delivered") == 3


def test_the_readme_shows_the_demos_command() -> None:
    """Two commands, in this order."""
    commands = re.findall(r"^```console\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert commands[0].splitlines() == ['pip install "x402-mpp-bridge[all]"', "x402-mpp demo"]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the server did not start")
