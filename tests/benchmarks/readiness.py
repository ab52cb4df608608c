"""How long the readiness report takes over many events, and how much memory: made through the recorder's own writer.

    python -m tests.benchmarks.readiness --events 10000000

Generates payers who move from x402 v1 to MPP over 60 days, on 20 routes and with 40 client products, four events a
payment (challenged, verified, settled, delivered), into a SQLite file; then runs `x402-mpp report readiness` in a
process of its own and prints its seconds, those of a core, and its peak memory. `--file` keeps the file, and uses it
where it is there.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bridge.analytics.database import open_database
from bridge.analytics.facts import Fact, Reducer
from bridge.analytics.writer import Writer

END = 1_790_000_000.0
DAYS = 60
BATCH = 20_000
ROUTES = [f"GET /resource/{number}" for number in range(20)]
AGENTS = [f"agent-{number % 10}/{1 + number // 10}.{number % 7}" for number in range(40)]
TOKEN = "0x036cbd53842c5426634e7929541ec2318f3dcf7e"


def events(count: int, payers: int, seed: int = 1) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """Events in the order of time; a payer has moved to MPP with the share of the days that are over."""
    random_ = random.Random(seed)
    payments = count // 4
    moves = [random_.random() for _ in range(payers)]
    addresses = [f"0x{random_.getrandbits(160):040x}" for _ in range(payers)]
    for number in range(payments):
        at = END - DAYS * 86400 * (1 - number / payments)
        payer = int(payers * random_.random() ** 2)
        protocol = "mpp" if moves[payer] < 0.9 * number / payments else ("x402-v1", "x402-v2")[payer % 3 == 0]
        base = {"route": ROUTES[number % 20], "user_agent": AGENTS[payer % 40], "network": "eip155:8453"}
        base |= {"asset": TOKEN, "amount": str(10_000 + payer % 7 * 1000), "correlation_id": f"{number:016x}"}
        yield at, "payment.challenged", base | {"offered": ["mpp", "x402-v1", "x402-v2"], "duration_ms": 0.3}
        base |= {"payment": f"{number:032x}", "protocol": protocol, "payer": addresses[payer]}
        yield at + 0.01, "payment.verified", base | {"duration_ms": 2 + random_.random() * 5}
        yield (
            at + 0.2,
            "payment.settled",
            base | {"settle_ms": 150 + random_.random() * 900, "transaction": "0x" + "ab" * 32},
        )
        yield at + 0.21, "payment.delivered", base | {"duration_ms": 160 + random_.random() * 900, "status": 200}


def generate(path: Path, count: int, payers: int) -> None:
    database = open_database(str(path), write=True)
    writer = Writer(database, 3600, time.time())
    reducer = Reducer()
    batch: list[Fact] = []
    begun = time.perf_counter()
    for number, (at, event, fields) in enumerate(events(count, payers)):
        fact = reducer.reduce(at, event, fields)
        assert isinstance(fact, Fact)
        batch.append(fact)
        if len(batch) == BATCH:
            writer.write(batch)
            batch.clear()
            if number % 500_000 < BATCH:
                print(f"{number} events, {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    writer.write(batch)
    database.close()
    print(f"generated {count} events in {time.perf_counter() - begun:.0f} s: {path.stat().st_size >> 20} MiB")


def measure(path: Path, *arguments: str) -> dict[str, Any]:
    """Seconds and peak MiB of `x402-mpp report ...` in a process of its own, and what it said."""
    command = [str(Path(sys.executable).with_name("x402-mpp")), "report", *arguments]
    command += ["--events", str(path), "--until", str(int(END)), "--format", "json"]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    answer = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{' '.join(arguments):<46}{seconds:6.1f} s ({cpu:5.1f} s of a core) {usage.ru_maxrss >> 10:5d} MiB")
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(answer)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--payers", type=int, default=200_000)
    parser.add_argument("--file", type=Path, help="where the events are, or are to be")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.file or Path(folder) / "events.sqlite3"
        if not path.exists():
            generate(path, given.events, given.payers)
        for window in ("14d", f"{DAYS + 1}d"):
            found = measure(path, "readiness", "--protocol", "x402-v1", "--window", window)
            print(f"  {found['payers']} of {found['all_payers']} payers, of whom {found['moved']} have moved;", end=" ")
            print(f"{found['payments']} of {found['all_payments']} payments")
        measure(path, "--window", "14d", "--by", "client")
        measure(path, "--window", f"{DAYS + 1}d", "--by", "client")
        measure(path, "journeys", "--window", f"{DAYS + 1}d")
        measure(path, "shares", "--window", f"{DAYS + 1}d")


if __name__ == "__main__":
    main()
