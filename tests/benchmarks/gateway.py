"""What the gateway adds: `python -m tests.benchmarks.gateway [--rounds N] [--seconds S]`.

Unpaid: a free route of the upstream, through the gateway and through the same proxy without the bridge. Paid: an MPP
client behind the gateway, whose payment is translated for a v2 upstream, against the same payment at our own server.
The upstream and the load share the other core. What the upstream takes itself is measured from the gateway's core, and
taken out: it is the gateway that asks it, and each way between two cores costs a wake-up. The load reaches the gateway
and our own server alike, from the other core.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.http import paid_for
from tests.benchmarks.load import Measured, run
from tests.benchmarks.servers import LOAD_CORE, SERVER_CORE, Server
from translators.payment import Protocol

MPP, V2 = (Protocol.MPP,), (Protocol.X402_V2,)


class Through(NamedTuple):
    """Every round's figures; `one_*` were measured with one connection, so that their medians are latencies."""

    gateway: list[Measured]
    proxy: list[Measured]
    one_gateway: list[Measured]
    one_proxy: list[Measured]
    paid_gateway: list[Measured]
    paid_upstream: list[Measured]
    paid_in_process: list[Measured]

    @property
    def unpaid_ratio(self) -> float:
        """The gateway's rate as a share of the bare proxy's."""
        return statistics.median(a.per_second / b.per_second for a, b in zip(self.gateway, self.proxy, strict=True))

    @property
    def added_ms(self) -> float:
        """What the bridge adds to an unpaid request at the median, in milliseconds."""
        return statistics.median(a.p50_ms - b.p50_ms for a, b in zip(self.one_gateway, self.one_proxy, strict=True))

    @property
    def paid_ratio(self) -> float:
        """A translated payment without the upstream's own time, in payments at our own server."""
        return statistics.median(
            (through.p50_ms - own.p50_ms) / inside.p50_ms
            for through, own, inside in zip(self.paid_gateway, self.paid_upstream, self.paid_in_process, strict=True)
        )


def measure(rounds: int, seconds: float) -> Through:
    """Everybody in turn."""
    through = Through([], [], [], [], [], [], [])
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name), Path(name) / "payments.tsv"
        servers = [upstream := Server("upstream", 18450, folder, cores=LOAD_CORE)]
        try:
            for which, port in (("gateway", 18451), ("proxy", 18452), ("ours", 18453)):
                servers.append(Server(which, port, folder, BENCH_UPSTREAM=upstream.url))
            gateway, proxy, ours = servers[1:]
            for _ in range(rounds):
                through.gateway.append(run(gateway, seconds, path="/free"))
                through.proxy.append(run(proxy, seconds, path="/free"))
                through.one_gateway.append(run(gateway, seconds, path="/free", connections=1))
                through.one_proxy.append(run(proxy, seconds, path="/free", connections=1))
                through.paid_gateway.append(paid_for(gateway, seconds, file, 700, MPP, connections=1))
                through.paid_upstream.append(
                    paid_for(upstream, seconds, file, 5_000, V2, cores=SERVER_CORE, connections=1)
                )
                through.paid_in_process.append(paid_for(ours, seconds, file, 2_000, MPP, connections=1))
        finally:
            for server in servers:
                server.stop()
    return through


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    result = measure(options.rounds, options.seconds)
    for field, measured in result._asdict().items():
        print(field, [f"{m.per_second:.0f}/s {m.cpu_us:.0f} us cpu p50 {m.p50_ms:.3f} ms" for m in measured])
    print(f"unpaid {result.unpaid_ratio:.2f}, adds {result.added_ms:.3f} ms; paid {result.paid_ratio:.2f}")
