"""Requests a second, everybody in turn on one core: `python -m tests.benchmarks.http [--rounds N] [--seconds S]`."""

import argparse
import itertools
import json
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from tests.benchmarks.load import CONNECTIONS, Measured, TooFew, mint, run
from tests.benchmarks.servers import LOAD_CORE, Server, keep_sample
from translators.payment import Protocol

UNPAID = ("ours", "floor", "pympp-coincurve", "x402", "mppx")
PAID = ("ours", "ours-events", "ours-sqlite", "pympp-coincurve", "pympp", "x402", "mppx")
FIRST_GUESS = 300
"""Payments a second that the first round brings along."""

Rounds = dict[str, list[Measured]]


def paid_for(
    server: Server,
    seconds: float,
    file: Path,
    guess: float,
    protocols: tuple[Protocol, ...] = (Protocol.X402_V2,),
    cores: str = LOAD_CORE,
    connections: int = CONNECTIONS,
) -> Measured:
    """Load `server` with paid requests; `guess` is how many a second are signed before."""
    while True:
        mint(server, int(guess * (seconds + 1)), file, protocols)
        try:
            return run(server, seconds, file, cores=cores, connections=connections)
        except TooFew:
            guess *= 2


def measure(rounds: int, seconds: float) -> tuple[Rounds, Rounds]:
    """What every server did in each round, unpaid and paid."""
    unpaid, paid = defaultdict(list), defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ports = itertools.count(18410)
        servers = {"ours": Server("ours", next(ports), folder)}
        try:
            keep_sample(servers["ours"], folder)
            for other in dict.fromkeys(UNPAID + PAID):
                if other not in servers:
                    servers[other] = Server(other, next(ports), folder)
            for _ in range(rounds):
                for which in UNPAID:
                    unpaid[which].append(run(servers[which], seconds))
                for which in PAID:
                    guess = max((m.per_second for m in paid[which]), default=FIRST_GUESS) * 1.3
                    paid[which].append(paid_for(servers[which], seconds, folder / "payments.tsv", guess))
        finally:
            for server in servers.values():
                server.stop()
    return unpaid, paid


def summary(rounds: Rounds) -> dict[str, dict[str, float]]:
    """Medians and spreads."""
    return {
        name: {
            "per_second": statistics.median(m.per_second for m in measured),
            "lowest": min(m.per_second for m in measured),
            "highest": max(m.per_second for m in measured),
            "cpu_us": statistics.median(m.cpu_us for m in measured),
            "p50_ms": statistics.median(m.p50_ms for m in measured),
        }
        for name, measured in rounds.items()
    }


def ratio(rounds: Rounds, name: str, other: str, measure: str = "per_second") -> float:
    """How many times `other` the server `name` does: the median of the rounds' own ratios, so that a slow round hurts
    both."""
    pairs = zip(rounds[name], rounds[other], strict=True)
    return statistics.median(getattr(a, measure) / getattr(b, measure) for a, b in pairs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    both = measure(options.rounds, options.seconds)
    print(json.dumps([summary(rounds) for rounds in both], indent=1))
    print("402: ours / floor", ratio(both[0], "ours", "floor"), "by cpu", 1 / ratio(both[0], "ours", "floor", "cpu_us"))
    for peer in ("pympp-coincurve", "mppx"):
        print("402: ours /", peer, ratio(both[0], "ours", peer))
    for own in ("ours", "ours-sqlite"):
        for peer in ("pympp-coincurve", "pympp", "x402", "mppx"):
            by_cpu = 1 / ratio(both[1], own, peer, "cpu_us")
            print("paid:", own, "/", peer, ratio(both[1], own, peer), "by cpu", by_cpu)
