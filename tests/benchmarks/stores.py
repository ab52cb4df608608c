"""How many claims a second a store takes: `python -m tests.benchmarks.stores URL...`

Each URL is measured with 1 and 200 tasks in one process, and with 200 tasks in each of two. A claim is of a payment
that nobody has claimed yet; a life is a claim and its three steps to `delivered`. The rows stay in the store: give it a
schema or prefix that can be dropped.
"""

import asyncio
import multiprocessing
import sys
import time
from multiprocessing.synchronize import Barrier

from bridge.stores import Store
from tests.bridge.stores.rows import NOW, fresh, put, with_store
from translators.lifecycle import State

COUNT = 4_000


def measure(url: str, tasks: int, first: int, to: State, barrier: Barrier | None = None) -> float:
    """Seconds that `COUNT` payments from number `first` on take from claim to `to`, by `tasks` tasks."""

    async def use(store: Store) -> float:
        numbers = iter(range(first, first + COUNT))

        async def work() -> None:
            for number in numbers:
                await put(store, to, number)

        await store.claim(fresh(first + COUNT), now=NOW)  # connects
        if barrier is not None:
            barrier.wait()
        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(tasks)))
        return time.perf_counter() - began

    seconds: float = with_store(url, use)
    return seconds


def work_in_process(url: str, tasks: int, first: int, to: State, barrier: Barrier, answers: object) -> None:
    answers.put(measure(url, tasks, first, to, barrier))  # type: ignore[attr-defined]


def measure_processes(url: str, processes: int, tasks: int, first: int, to: State) -> float:
    """Payments a second, of several processes together."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=work_in_process, args=(url, tasks, first + number * 100_000, to, barrier, answers))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    seconds = max(answers.get(timeout=300) for _ in workers)
    for worker in workers:
        worker.join()
    return processes * COUNT / seconds


def main() -> None:
    first = time.time_ns() % 10**9 * 10**7
    for url in sys.argv[1:]:
        for to, name in ((State.CLAIMED, "claims"), (State.DELIVERED, "lives")):
            for processes, tasks in ((1, 1), (1, 200), (2, 200)):
                rate = measure_processes(url, processes, tasks, first, to)
                first += 10**6
                print(f"{url.partition(':')[0]}: {rate:,.0f} {name}/s, {processes} process(es) of {tasks} task(s)")


if __name__ == "__main__":
    main()
