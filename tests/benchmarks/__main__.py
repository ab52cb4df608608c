"""Every measurement, one after the other, written to `docs/performance.md`: `python -m tests.benchmarks`.

`--quick` is for trying the benchmark itself: it measures too little to say anything, and writes nothing.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import gateway, http, inprocess, memory, scaling
from tests.benchmarks.chart import memory_chart
from tests.benchmarks.servers import SPECS
from tests.interop.peers import places
from translators.payment import Protocol

DOCS = places.ROOT / "docs"
BEGIN = "<!-- made by `make bench` -->\n"
END = "<!-- end of what `make bench` made -->"


class Scale(NamedTuple):
    """How much is measured."""

    rounds: int
    seconds: float
    pairs: int
    payments: int


FULL, QUICK = Scale(5, 2, 1_500, 1_000_000), Scale(1, 1, 200, 8_000)


class Row(NamedTuple):
    """One line of the table that says what must be reached."""

    measure: str
    wanted: str
    reached: str
    holds: bool


def cold_start(times: int = 7) -> float:
    """Milliseconds of `x402-mpp --help`, the median."""
    command = [str(Path(sys.executable).with_name("x402-mpp")), "--help"]
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken)


def at_least(measure: str, reached: float, wanted: float) -> Row:
    """A ratio that should be large."""
    return Row(measure, f"{wanted:.2f}", f"{reached:.2f}", reached >= wanted)


def at_most(measure: str, reached: float, wanted: float, unit: str = "") -> Row:
    """A figure that should be small."""
    return Row(measure, f"at most {wanted:g}{unit}", f"{reached:.2f}{unit}", reached <= wanted)


def versions() -> str:
    """What was measured with what."""
    peers = subprocess.run(
        [str(places.python("python")), "-m", "pip", "freeze", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    named = [line.replace("==", " ") for line in peers.splitlines() if line.split("==")[0] in ("pympp", "x402")]
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    own = [f"{name} {version(name)}" for name in ("litestar", "uvicorn", "uvloop", "httptools", "msgspec", "coincurve")]
    return ", ".join([f"Python {platform.python_version()}", *own, *named, f"mppx on Node {node}"])


def machine() -> str:
    """The processor, as it calls itself."""
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return f"{model.partition(':')[2].strip()}, {len(Path('/proc/cpuinfo').read_text().split('processor')) - 1} cores"


def rates(rounds: http.Rounds) -> list[str]:
    """A table of what everybody did."""
    lines = [
        "| server | a second, median | lowest to highest | processor time | median latency |",
        "|---|---|---|---|---|",
    ]
    for name, figures in http.summary(rounds).items():
        lines.append(
            f"| {SPECS[name].title} | {figures['per_second']:,.0f} | {figures['lowest']:,.0f} to "
            f"{figures['highest']:,.0f} | {figures['cpu_us']:,.0f} us | {figures['p50_ms']:.2f} ms |"
        )
    return lines


def main(scale: Scale) -> tuple[list[Row], list[str], list[tuple[int, float]]]:
    """Measure everything; the rows of what must be reached, and the text below them."""
    inprocess.quiet()
    verified = {protocol: inprocess.verification(protocol, scale.pairs) for protocol in Protocol}
    unpaid, paid = http.measure(scale.rounds, scale.seconds)
    two = scaling.measure(max(1, scale.rounds - 2), scale.seconds)
    through = gateway.measure(max(1, scale.rounds - 2), scale.seconds)
    points = memory.measure(scale.payments)
    settled = [mib for taken, mib in points if taken > scale.payments / 4]
    rows = [
        *(
            at_most(f"header bytes to verified payment, {protocol}, in bare recoveries", measured.ratio, 2.0)
            for protocol, measured in verified.items()
        ),
        at_least("402: of the bare Litestar floor", http.ratio(unpaid, "ours", "floor"), 0.80),
        at_least("402: times pympp", http.ratio(unpaid, "ours", "pympp-coincurve"), 4),
        at_least("402: times mppx", http.ratio(unpaid, "ours", "mppx"), 3.5),
        at_least("paid, claims in memory: times pympp with coincurve", http.ratio(paid, "ours", "pympp-coincurve"), 5),
        at_least("paid, claims in memory: times mppx", http.ratio(paid, "ours", "mppx"), 12),
        at_least(
            "paid, claims in SQLite: times pympp with coincurve and memory",
            http.ratio(paid, "ours-sqlite", "pympp-coincurve"),
            3.5,
        ),
        at_least("three protocols, PostgreSQL: two workers on two cores, times one on one", two.ratio, 1.7),
        at_least("gateway, unpaid: of the same proxy without the bridge", through.unpaid_ratio, 0.80),
        at_most("gateway, unpaid: added at the median", through.added_ms, 0.3, " ms"),
        at_most("gateway, MPP to v2, without its upstream's time: times in process", through.paid_ratio, 1.3),
        at_most("memory over a million payments: highest over lowest after the first quarter",
                max(settled) / min(settled), 1.1),
        at_most("cold start of `x402-mpp --help`", cold_start(), 300, " ms"),
    ]  # fmt: skip
    text = [
        "## Requests a second on the 402",
        "",
        *rates(unpaid),
        "",
        "## Requests a second, paid",
        "",
        *rates(paid),
        "",
        "## Verification",
        "",
        "| protocol | verified | a bare recovery in turn with it |",
        "|---|---|---|",
        *(f"| {name} | {v.verified:.1f} us | {v.recovery:.1f} us |" for name, v in verified.items()),
        "",
        "## The gateway",
        "",
        "| | a second | processor time | median latency |",
        "|---|---|---|---|",
        *(
            f"| {title} | {statistics.median(m.per_second for m in measured):,.0f} | "
            f"{statistics.median(m.cpu_us for m in measured):,.0f} us | "
            f"{statistics.median(m.p50_ms for m in measured):.3f} ms |"
            for title, measured in (
                ("unpaid, 16 connections: gateway", through.gateway),
                ("the same proxy without the bridge", through.proxy),
                ("unpaid, one connection: gateway", through.one_gateway),
                ("the same proxy without the bridge, one connection", through.one_proxy),
                ("paid in MPP, one connection: gateway", through.paid_gateway),
                ("the upstream alone, paid in v2 from the gateway's core", through.paid_upstream),
                ("paid in MPP at our own server", through.paid_in_process),
            )
        ),
        "",
        f"Of a payment through the gateway, {statistics.median(through.waited_ms):.3f} ms are the upstream's own, from",
        "before it is written to until its answer comes. Asked back to back, as in the table, it answers sooner; with",
        f"that taken out instead, the ratio is {through.paid_ratio_back_to_back:.2f}.",
        "",
        "## Two workers",
        "",
        f"Paid requests a second, claims in PostgreSQL: {statistics.median(two.one):,.0f} by one worker that shares",
        f"one core with the database and the load, {statistics.median(two.two):,.0f} by two that share two likewise.",
        "",
        "## Memory",
        "",
        f"{points[-1][0]:,} payments in one process, claims in SQLite: after the first quarter, {min(settled):.0f} to",
        f"{max(settled):.0f} MiB.",
        "",
        "![Memory over a million payments](performance-memory.svg)",
    ]
    return rows, text, points


def write(rows: list[Row], text: list[str], points: list[tuple[int, float]]) -> None:
    """Put the figures into the page, between its marks."""
    page = DOCS / "performance.md"
    head, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    lines = [
        f"Measured on {time.strftime('%Y-%m-%d')} on {machine()}, with {versions()}.",
        "",
        "| measure | must reach | reached |",
        "|---|---|---|",
        *(f"| {row.measure} | {row.wanted} | {row.reached}{'' if row.holds else ' (not reached)'} |" for row in rows),
        "",
        *text,
        "",
    ]
    page.write_text(f"{head}{BEGIN}" + "\n".join(lines) + f"\n{END}{tail}", "utf-8")
    (DOCS / "performance-memory.svg").write_text(memory_chart(points), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    measured = main(QUICK if quick else FULL)
    for row in measured[0]:
        print(f"{'ok      ' if row.holds else 'MISSED  '}{row.measure}: {row.reached} (must reach {row.wanted})")
    if not quick:
        write(*measured)
