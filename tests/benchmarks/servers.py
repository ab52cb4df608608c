"""The servers under measurement, each a process of its own on a port of the loopback, pinned to one core."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.interop.peers import places

APPS = Path(__file__).parent / "apps"
PAY_TO = "0x" + "11" * 20
SECRET = "a secret of thirty-two bytes or more, for benchmarks"
SERVER_CORE, LOAD_CORE = "0", "1"
UVICORN = ("--host", "127.0.0.1", "--no-access-log", "--log-level", "error", "--loop", "uvloop", "--http", "httptools")


@dataclass(frozen=True)
class Spec:
    """A server: how it is started, and what its environment says besides."""

    title: str
    python: Path | None
    """The interpreter that runs it by uvicorn; None for Node."""
    app: str
    env: Mapping[str, str] = field(default_factory=dict)
    is_factory: bool = False


AS_THE_COMMAND = (
    *("--no-proxy-headers", "--no-server-header", "--no-date-header"),
    *("--http", "bridge.http1:Http1Protocol"),
)
"""As `x402-mpp gateway` has uvicorn serve; the proxy beside it is served in the same way."""

OURS, PEERS = Path(sys.executable), places.python("python")

SPECS: dict[str, Spec] = {
    "ours": Spec("x402-mpp-bridge, claims in memory", OURS, "tests.benchmarks.apps.ours:app"),
    "ours-events": Spec("x402-mpp-bridge, claims in memory, events recorded", OURS, "tests.benchmarks.apps.ours:app"),
    "ours-sqlite": Spec("x402-mpp-bridge, claims in SQLite", OURS, "tests.benchmarks.apps.ours:app"),
    "upstream": Spec("an x402 v2 upstream", OURS, "tests.benchmarks.apps.upstream:app"),
    "gateway": Spec("the gateway", OURS, "tests.benchmarks.apps.gateway:gateway", is_factory=True),
    "gateway-timed": Spec(
        "the gateway, and how long its upstream takes",
        OURS,
        "tests.benchmarks.apps.gateway:timed_gateway",
        is_factory=True,
    ),
    "proxy": Spec("the same proxy, without the bridge", OURS, "tests.benchmarks.apps.gateway:proxy", is_factory=True),
    "floor": Spec("Litestar, a constant 402", OURS, "tests.benchmarks.apps.floor:app"),
    "pympp-coincurve": Spec("pympp on Starlette, with coincurve", PEERS, "peer_pympp:app"),
    "pympp": Spec("pympp on Starlette, as it installs", PEERS, "peer_pympp:app", {"BENCH_WITHOUT_COINCURVE": "1"}),
    "x402": Spec("official x402 on FastAPI, verifies nothing itself", PEERS, "peer_x402:app"),
    "mppx": Spec("mppx on Hono and Node", None, "bench-mppx.mjs"),
}


class Server:
    """A running server."""

    def __init__(self, name: str, port: int, folder: Path, *, cores: str = SERVER_CORE, **env: str) -> None:
        spec = SPECS[name]
        self.name, self.url = name, f"http://127.0.0.1:{port}"
        settings = {
            "BENCH_PAY_TO": PAY_TO,
            "BENCH_SECRET": SECRET,
            "BENCH_URL": self.url,
            "BENCH_PORT": str(port),
            "BENCH_SAMPLE": str(folder / "402.json"),
        }
        if name == "ours-sqlite":
            settings["BENCH_STORE"] = f"sqlite:{folder / 'claims.sqlite3'}"
        if name == "ours-events":
            settings["BENCH_EVENTS"] = f"sqlite:{folder / 'events.sqlite3'}"
        command = ["node", str(places.NODE / spec.app)]
        if spec.python is not None:
            command = [str(spec.python), "-m", "uvicorn", spec.app, "--port", str(port), *UVICORN]
            command += ["--factory", *AS_THE_COMMAND] if spec.is_factory else []
        self._child = subprocess.Popen(
            ["taskset", "-c", cores, *command],
            cwd=places.ROOT if spec.python == OURS else APPS,
            env={**os.environ, **settings, **spec.env, **env},
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(self.url + "/report").status_code == 402:
                    return
            except httpx.TransportError:
                if self._child.poll() is not None:
                    break
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} did not start")

    def cpu_seconds(self) -> float:
        """What the process has used so far, of user and system time."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def sample(self) -> dict[str, object]:
        """A 402 of its own, whole."""
        answer = httpx.get(self.url + "/report")
        return {"headers": answer.headers.multi_items(), "body": answer.text}

    def stop(self) -> None:
        self._child.terminate()
        self._child.wait(20)


def keep_sample(server: Server, folder: Path) -> None:
    """Write a 402 down for the floor to copy."""
    (folder / "402.json").write_text(json.dumps(server.sample()))
