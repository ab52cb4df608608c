"""The memory of a process that takes a million payments: `python -m tests.benchmarks.memory [--payments N]`.

Through the application itself, no sockets, with claims in SQLite, a batch of requests at a time. Another process signs.
"""

import argparse
import asyncio
import gc
import multiprocessing
import os
import tempfile
import time
from itertools import islice
from multiprocessing.queues import Queue
from pathlib import Path

import uvloop

from bridge.payers import Asked
from tests.benchmarks.inprocess import Headers, asked_of, build, call, payments, quiet
from translators.payment import Protocol

BATCH = 250
"""Signed payments that wait in this process are no memory of ours: as few as keep it busy."""
POINTS = 40


def resident_mib() -> float:
    """What the process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _sign(asked: Asked, count: int, batches: "Queue[list[Headers]]") -> None:
    signed = payments(asked)
    for begun in range(0, count, BATCH):
        batches.put(list(islice(signed, min(BATCH, count - begun))))


async def _run(count: int, folder: Path) -> list[tuple[int, float]]:
    app, plugin = build(f"sqlite:{folder / 'claims.sqlite3'}")
    await plugin.gate.start(plugin.config.offers_to_check())
    context = multiprocessing.get_context("spawn")
    batches: Queue[list[Headers]] = context.Queue(maxsize=16)
    points: list[tuple[int, float]] = []
    try:
        asked = asked_of(await call(app), Protocol.X402_V2)
        signer = context.Process(target=_sign, args=(asked, count, batches))
        signer.start()
        done = 0
        while done < count:
            batch = await asyncio.to_thread(batches.get)
            answers = await asyncio.gather(*(call(app, headers) for headers in batch))
            assert all(status == 200 for status, _, _ in answers)
            done += len(batch)
            if done * POINTS // count > (done - len(batch)) * POINTS // count:
                gc.collect()
                points.append((done, resident_mib()))
        signer.join()
    finally:
        await plugin.gate.close()
    return points


def measure(count: int) -> list[tuple[int, float]]:
    """Payments taken so far, and MiB resident then."""
    quiet()
    # In memory, where there is a file system for that: how fast a disk is does not matter here.
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.exists() else None) as name:
        return uvloop.run(_run(count, Path(name)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--payments", type=int, default=1_000_000)
    began = time.monotonic()
    for taken, mib in measure(parser.parse_args().payments):
        print(f"{taken:>9} payments  {mib:7.1f} MiB  {time.monotonic() - began:6.1f} s")
