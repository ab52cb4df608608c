"""Load by wrk, and the payments that it sends: each signed for the server's own 402, and sent once."""

import re
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import httpx
from msgspec.structs import replace

from bridge.payers import Asked, account, credential, read_402
from bridge.randomness import fresh_id
from tests.benchmarks.servers import LOAD_CORE, SECRET, Server
from translators.binding import sign_challenge
from translators.payment import Protocol
from translators.wire.mpp import decode_opaque, encode_opaque

SCRIPT = Path(__file__).parent / "paid.lua"
CONNECTIONS = 16


class Measured(NamedTuple):
    """One run of the load."""

    per_second: float
    cpu_us: float
    """Processor time of the server for one request, in microseconds."""
    p50_ms: float


class TooFew(RuntimeError):
    """The load ran out of payments before its time."""


def run(
    server: Server,
    seconds: float,
    payments: Path | None = None,
    *,
    cores: str = LOAD_CORE,
    path: str = "/report",
    connections: int = CONNECTIONS,
) -> Measured:
    """Load `server` for `seconds` from `cores`: with unpaid requests, or with every line of `payments` once.

    Raises `RuntimeError` where an answer is not what it should be, `TooFew` where the payments do not last.
    """
    before = server.cpu_seconds()
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency"]
    what = [server.url + path]
    if payments is not None:
        what = ["-s", str(SCRIPT), *what, "--", str(payments)]
    said = subprocess.run(["taskset", "-c", cores, *wrk, *what], capture_output=True, text=True, check=True).stdout
    used = server.cpu_seconds() - before
    count = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]
    unpaid = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    if (int(unpaid[1]) if unpaid else 0) != (count if payments is None and path == "/report" else 0):
        raise TooFew(server.name) if "payments ran out" in said else RuntimeError(f"{server.name}: {said}")
    if "payments ran out" in said:
        raise TooFew(server.name)
    rate = float(re.search(r"Requests/sec: +([\d.]+)", said)[1])  # type: ignore[index]
    half, unit = re.search(r"50% +([\d.]+)(us|ms|s)", said).groups()  # type: ignore[union-attr]
    return Measured(rate, used / count * 1e6, float(half) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit])


def mint(server: Server, count: int, file: Path, protocols: tuple[Protocol, ...] = (Protocol.X402_V2,)) -> None:
    """Write `count` payments for `server` into `file`, a header and its value a line, the protocols in turn."""
    answer = httpx.get(server.url + "/report")
    payer = account("benchmark")
    asked = {protocol: read_402(answer, protocol) for protocol in protocols}
    now = time.time()
    with file.open("w") as lines:
        for number in range(count):
            protocol = protocols[number % len(protocols)]
            header, value = credential(_fresh(asked[protocol]), payer, now)
            lines.write(f"{header}\t{value}\n")


def _fresh(asked: Asked) -> Asked:
    """The same terms to sign for once more; an MPP challenge of ours is made anew, with the server's own secret."""
    if asked.challenge is None:
        return asked
    opaque = decode_opaque(asked.challenge.opaque or "") | {"n": fresh_id()}
    return replace(
        asked, challenge=sign_challenge([SECRET.encode()], replace(asked.challenge, opaque=encode_opaque(opaque)))
    )
