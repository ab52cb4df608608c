"""What the gateway adds: `python -m tests.benchmarks.gateway [--rounds N] [--seconds S]`.

Unpaid: a free route of the upstream, through the gateway and through the same proxy without the bridge. Paid: an MPP
client behind the gateway, whose payment is translated for a v2 upstream, against the same payment at our own server.
The upstream and the load share the other core. The upstream's own time is taken out: what the gateway waits for it,
noted in place by the gateway's connections, from before they write until the answer comes. Asked back to back by nobody
else, the upstream answers sooner, for its core and caches do not rest in between; that is measured beside it.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

import httpx

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
    """The upstream alone, from the gateway's core."""
    paid_in_process: list[Measured]
    waited_ms: list[float]
    """What the upstream took at the median of a paid request through the gateway."""

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
        return self._paid_without(self.waited_ms)

    @property
    def paid_ratio_back_to_back(self) -> float:
        """The same without what the upstream takes of requests that come back to back."""
        return self._paid_without([alone.p50_ms for alone in self.paid_upstream])

    def _paid_without(self, own_ms: list[float]) -> float:
        return statistics.median(
            (through.p50_ms - own) / inside.p50_ms
            for through, own, inside in zip(self.paid_gateway, own_ms, self.paid_in_process, strict=True)
        )


def measure(rounds: int, seconds: float) -> Through:
    """Everybody in turn."""
    through = Through([], [], [], [], [], [], [], [])
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name), Path(name) / "payments.tsv"
        servers = [upstream := Server("upstream", 18450, folder, cores=LOAD_CORE)]
        try:
            for which, port in (("gateway", 18451), ("proxy", 18452), ("ours", 18453), ("gateway-timed", 18454)):
                servers.append(Server(which, port, folder, BENCH_UPSTREAM=upstream.url))
            gateway, proxy, ours, timed = servers[1:]
            for _ in range(rounds):
                through.gateway.append(run(gateway, seconds, path="/free"))
                through.proxy.append(run(proxy, seconds, path="/free"))
                through.one_gateway.append(run(gateway, seconds, path="/free", connections=1))
                through.one_proxy.append(run(proxy, seconds, path="/free", connections=1))
                through.paid_gateway.append(paid_for(timed, seconds, file, 700, MPP, connections=1))
                through.waited_ms.append(_waited(timed))
                through.paid_upstream.append(
                    paid_for(upstream, seconds, file, 5_000, V2, cores=SERVER_CORE, connections=1)
                )
                through.paid_in_process.append(paid_for(ours, seconds, file, 2_000, MPP, connections=1))
        finally:
            for server in servers:
                server.stop()
    return through


def _waited(gateway: Server) -> float:
    """What its upstream took at the median since this was asked last, in milliseconds."""
    waited: float = httpx.get(gateway.url + "/waited").json()
    return waited


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    result = measure(options.rounds, options.seconds)
    for field, measured in result._asdict().items():
        if field != "waited_ms":
            print(field, [f"{m.per_second:.0f}/s {m.cpu_us:.0f} us cpu p50 {m.p50_ms:.3f} ms" for m in measured])
    print("waited", [f"{ms:.3f} ms" for ms in result.waited_ms])
    print(f"unpaid {result.unpaid_ratio:.2f}, adds {result.added_ms:.3f} ms; paid {result.paid_ratio:.2f}")
    print(f"paid, by the upstream back to back {result.paid_ratio_back_to_back:.2f}")
