"""What recording costs a request: paid and unpaid requests through the middleware, with the event store and without.

    python -m tests.benchmarks.recording --requests 3000

The two take turns request by request, so that a busy machine hurts both alike; the recorder's thread writes to a SQLite
file meanwhile, as it does in a server. Prints quantiles in microseconds and their difference; then what one call of the
sink takes.
"""

import argparse
import asyncio
import io
import tempfile
import time
from pathlib import Path

from bridge.analytics import EventStore, Recorder
from bridge.logs import configure_logs
from tests.bridge.harness import PROTOCOLS, House


async def turns(houses: dict[str, House], requests: int) -> dict[tuple[str, str], list[float]]:
    """Microseconds of every request, by house and kind."""
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(requests):
        for name, house in list(houses.items())[:: 1 if number % 2 else -1]:
            house.clock.now += 1
            credential = await house.credential(PROTOCOLS[number % 3])
            house.told.clear()
            begun = time.perf_counter()
            answer = await house.visit(headers=[credential])
            paid = time.perf_counter()
            await house.visit()
            ended = time.perf_counter()
            assert answer.status_code == 200
            times.setdefault((name, "paid"), []).append((paid - begun) * 1e6)
            times.setdefault((name, "unpaid"), []).append((ended - paid) * 1e6)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    given = parser.parse_args()
    configure_logs(stream=io.StringIO(), json=True)
    with tempfile.TemporaryDirectory() as folder:

        async def run() -> dict[tuple[str, str], list[float]]:
            houses = {
                "without": House(event_store=None),
                "with": House(event_store=str(Path(folder) / "events.sqlite3")),
            }
            times = await turns(houses, given.requests)
            for house in houses.values():
                await house.app.gate.close()
            recorder = houses["with"].config.recorder
            assert recorder is not None
            print(f"{recorder.recorded} events recorded, {recorder.dropped} dropped")
            return times

        times = asyncio.run(run())
    for kind in ("paid", "unpaid"):
        for name, at in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            without, with_ = (sorted(times[house, kind])[int(at * given.requests)] for house in ("without", "with"))
            print(f"{kind:<7}{name} without {without:9.1f} us  with {with_:9.1f} us  costs {with_ - without:8.1f} us")
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(EventStore(url=f"{folder}/events.sqlite3", queue_events=10_000_000))
        fields = {"route": "GET /report", "user_agent": "curl/8.1", "payment": "ab", "amount": "10000"}
        begun = time.perf_counter()
        for _ in range(100_000):
            recorder("payment.verified", fields)
        print(f"one call of the sink: {(time.perf_counter() - begun) * 10:.2f} us")


if __name__ == "__main__":
    main()
