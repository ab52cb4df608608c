"""Two cores against one, with claims in PostgreSQL: `python -m tests.benchmarks.scaling [--rounds N] [--seconds S]`.

The three protocols are mixed. One worker has one core, and shares it with the database and the load; two workers have
both cores, and share them likewise. So what is compared is what a second core and a second worker bring together.

Each worker has as many connections as the other: of connections that stay open, the kernel gives two workers of one
socket 8 and 8 one time and 15 and 1 the next, and the ratio would be that of the luck.
"""

import argparse
import statistics
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.load import CONNECTIONS, TooFew, mint, run
from tests.benchmarks.servers import Server
from tests.bridge.stores.servers import private_postgres
from translators.payment import Protocol


class Scaling(NamedTuple):
    """Paid requests a second in each round."""

    one: list[float]
    two: list[float]

    @property
    def ratio(self) -> float:
        """How many times what one worker does two workers do: the median of the rounds' own ratios."""
        return statistics.median(two / one for one, two in zip(self.one, self.two, strict=True))


def measure(rounds: int, seconds: float) -> Scaling:
    """Both, in turn."""
    result = Scaling([], [])
    with tempfile.TemporaryDirectory() as name, private_postgres() as (database, url):
        folder = Path(name)
        assert database.process is not None
        for number in range(rounds):
            for workers, cores, rates in ((1, "0", result.one), (2, "0,1", result.two)):
                subprocess.run(
                    ["taskset", "-a", "-c", "-p", cores, str(database.process.pid)], check=True, capture_output=True
                )
                # A schema of their own, and connections of their own, which are born on the database's cores.
                store = f"{url}?schema=s{number}_{workers}"
                servers: list[Server] = []
                try:
                    ports = range(18440, 18440 + workers)
                    servers.extend(Server("ours", port, folder, cores=cores, BENCH_STORE=store) for port in ports)
                    guess = rates[-1] * 1.3 if rates else 600 * workers
                    _rate(servers, 1, folder, guess, cores)
                    rates.append(_rate(servers, seconds, folder, guess, cores))
                finally:
                    for server in servers:
                        server.stop()
    return result


def _rate(servers: list[Server], seconds: float, folder: Path, guess: float, cores: str) -> float:
    """What all of them do in a second, together, with the load shared among them."""
    files = [folder / f"payments-{server.url.rpartition(':')[2]}.tsv" for server in servers]
    while True:
        for server, file in zip(servers, files, strict=True):
            mint(server, int(guess * (seconds + 1)) // len(servers), file, tuple(Protocol))
        load = partial(run, cores=cores, connections=CONNECTIONS // len(servers))
        with ThreadPoolExecutor(len(servers)) as loads:
            running = [loads.submit(load, server, seconds, file) for server, file in zip(servers, files, strict=True)]
        try:
            return sum(each.result().per_second for each in running)
        except TooFew:
            guess *= 2


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    scaling = measure(options.rounds, options.seconds)
    print(scaling, scaling.ratio)
