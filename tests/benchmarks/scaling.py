"""Two cores against one, with claims in PostgreSQL: `python -m tests.benchmarks.scaling [--rounds N] [--seconds S]`.

The three protocols are mixed. One worker has one core, and shares it with the database and the load; two workers have
both cores, and share them likewise. So what is compared is what a second core and a second worker bring together.
"""

import argparse
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.http import paid_for
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
            for which, cores, rates in (("ours-one", "0", result.one), ("ours-two", "0,1", result.two)):
                subprocess.run(
                    ["taskset", "-a", "-c", "-p", cores, str(database.process.pid)], check=True, capture_output=True
                )
                # A schema of its own, and connections of its own, which are born on the database's cores.
                server = Server(which, 18440, folder, cores=cores, BENCH_STORE=f"{url}?schema=s{number}_{len(rates)}")
                try:
                    guess = rates[-1] * 1.3 if rates else 600
                    paid_for(server, 1, folder / "payments.tsv", guess, tuple(Protocol), cores=cores)
                    measured = paid_for(server, seconds, folder / "payments.tsv", guess, tuple(Protocol), cores=cores)
                    rates.append(measured.per_second)
                finally:
                    server.stop()
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    scaling = measure(options.rounds, options.seconds)
    print(scaling, scaling.ratio)
