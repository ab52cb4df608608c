"""Paid requests and nothing else, for a profiler to look at: `make profile` draws `docs/performance-profile.svg`."""

import asyncio
from itertools import islice

from tests.benchmarks.inprocess import asked_of, build, call, payments, quiet
from translators.payment import Protocol

AT_ONCE = 16


async def take(count: int) -> None:
    """Take `count` payments, the protocols in turn."""
    app, plugin = build()
    await plugin.gate.start(plugin.config.offers_to_check())
    try:
        answer = await call(app)
        each = [islice(payments(asked_of(answer, protocol)), count // 3) for protocol in Protocol]
        signed = [headers for turn in zip(*each, strict=True) for headers in turn]
        for at in range(0, len(signed), AT_ONCE):
            await asyncio.gather(*(call(app, headers) for headers in signed[at : at + AT_ONCE]))
    finally:
        await plugin.gate.close()


if __name__ == "__main__":
    quiet()
    asyncio.run(take(30_000))
