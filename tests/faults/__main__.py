"""The long version of the fault tests: every store, settler, protocol, policy and point, and random storms.

    python -m tests.faults --all                    everything
    python -m tests.faults crashes --store sqlite   one part, one store

Prints a table of runs and violations; ends with status 1 when there is one violation.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Sequence

from tests.faults.crashes import Outcome, Plan, crash_everywhere, storm, table
from tests.faults.lab import ANVIL, Lab, laboratory
from tests.faults.load import Load, load
from tests.faults.outages import outage, reorganised, restarted, slowed, standstill
from translators.payment import Protocol

PARTS = ("crashes", "silence", "storms", "load", "outages", "standstill", "slow", "reorg", "restart")
STORES = ("sqlite", "postgresql", "redis")
SETTLERS = ("chain", "facilitator+rpc", "facilitator")
POLICIES = ("on_success", "first")

TELLING = SETTLERS[:2]
"""Settlers that can find out what became of a payment."""


async def crashes(lab: Lab, stores: Sequence[str]) -> list[Outcome]:
    """Every point, and the client sends again until it is served."""
    plans = [
        Plan(store, settler, protocol, policy)
        for store in stores
        for settler in SETTLERS
        for protocol in Protocol
        for policy in POLICIES
    ]
    # Who is no plain account, and a second facilitator: each way in each store, in one protocol of the three.
    others = [
        ("chain", "wallet"),
        ("facilitator+rpc", "wallet"),
        ("facilitator", "wallet"),
        ("chain", "new wallet"),
        ("fallback", "key"),
    ]
    protocols = list(Protocol)
    for row, store in enumerate(stores if lab.node is not None else ()):
        for column, (settler, payer) in enumerate(others):
            protocol, policy = protocols[(row + column) % 3], POLICIES[(row + column) % 2]
            plans.append(Plan(store, settler, protocol, policy, payer=payer))
        plans.append(Plan(store, "facilitator", Protocol.X402_V2, POLICIES[row % 2], payer="permit2"))
    litestar = [Plan(store, "chain", protocol, framework="litestar") for store in stores[:1] for protocol in Protocol]
    return await crash_everywhere(lab, plans + litestar, at_once=8)


async def silence(lab: Lab, stores: Sequence[str]) -> list[Outcome]:
    """Every point, and the client is silent until the reconciler is done, which is after the window has closed."""
    plans = [
        Plan(store, settler, protocol, policy, resend=False)
        for store in stores
        for settler in TELLING
        for protocol, policy in zip((Protocol.X402_V1, Protocol.MPP), POLICIES, strict=True)
    ]
    return await crash_everywhere(lab, plans, at_once=14)


async def storms(lab: Lab, stores: Sequence[str], seeds: int) -> list[Outcome]:
    """Two workers that die at random, several payments at once, and a facilitator that fails one time in three."""
    turn = asyncio.Semaphore(4)

    async def one(plan: Plan, seed: int) -> Outcome:
        async with turn:
            return await storm(lab, plan, seed)

    await lab.break_facilitator(1, 0.33)
    plans = [Plan(store, settler, Protocol.MPP) for store in stores for settler in (*TELLING, "fallback")]
    try:
        return list(await asyncio.gather(*(one(plan, seed) for plan in plans for seed in range(seeds))))
    finally:
        await lab.break_facilitator(1, 0.0)


async def restarts(stores: Sequence[str]) -> list[Load]:
    """Each in a laboratory of its own: a chain that is kept takes a while to write down."""
    loads = []
    for store in stores:
        for settler in TELLING if ANVIL.exists() else ():
            async with laboratory(chain="anvil", stores=[store], keeps=True) as lab:
                loads.append(await restarted(lab, store, settler, 100))
            print(f"restart {store} {settler}: {loads[-1]}", flush=True)
    return loads


async def main(options: argparse.Namespace) -> int:
    """Run what was asked for; the number of violations."""
    this = asyncio.current_task()
    assert this is not None
    # Told to stop, it ends its servers before it goes.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    parts = PARTS if options.all else options.parts
    stores = options.store or STORES
    outcomes: list[Outcome] = []
    loads: list[Load] = []
    told = 0
    began = time.monotonic()
    async with laboratory(
        chain="anvil" if ANVIL.exists() else "embedded", payers=20_000, stores=stores, sockets=64
    ) as lab:
        for part in parts:
            since, before = time.monotonic(), (len(outcomes), len(loads))
            match part:
                case "crashes":
                    outcomes += await crashes(lab, stores)
                case "silence":
                    outcomes += await silence(lab, stores)
                case "storms":
                    outcomes += await storms(lab, stores, options.seeds)
                case "restart":
                    loads += await restarts(stores)
                case _:
                    for store in stores:
                        for settler in TELLING:
                            if part == "load":
                                result = await load(lab, lab.store(store), settler, options.payments, seconds=400)
                            elif part == "standstill" and lab.node is not None:
                                result = await standstill(lab, store, settler, 100)
                            elif part == "slow" and lab.node is not None:
                                result = await slowed(lab, store, settler, 200)
                            elif part == "reorg" and lab.node is not None:
                                result = await reorganised(lab, store, settler, 200)
                            elif part == "outages" and store in lab.servers:
                                result = await outage(lab, store, settler, 200, kill=True)
                            else:
                                continue
                            print(f"{part} {store} {settler}: {result}", flush=True)
                            loads.append(result)
            results = (*outcomes[before[0] :], *loads[before[1] :])
            found = [violation for result in results for violation in result.violations]
            # As soon as they are known: what comes after takes long.
            for violation in found:
                print("VIOLATION", violation, flush=True)
            told += len(found)
            print(f"{part}: {time.monotonic() - since:.0f} s, {len(found)} violations", flush=True)
    if outcomes:
        print(table(outcomes))
    print(f"{told} violations in {time.monotonic() - began:.0f} s")
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to run")
    parser.add_argument("--all", action="store_true", help="run every part")
    parser.add_argument("--store", action="append", choices=STORES, help="only these stores")
    parser.add_argument("--seeds", type=int, default=25, help="storms for each store and settler")
    parser.add_argument("--payments", type=int, default=2000, help="payments of a load, each sent three times")
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(1 if asyncio.run(main(parser.parse_args())) else 0)
    sys.exit(130)
