"""Four workers on one journal, every payment sent three times, and what they share fails. `make faults` does more."""

import asyncio

import pytest

from tests.faults.lab import ANVIL, PRICE, laboratory
from tests.faults.load import Load, load
from tests.faults.outages import outage, reorganised

CHAIN = "anvil" if ANVIL.exists() else "embedded"


@pytest.mark.parametrize("store", ["postgresql", "redis"])
def test_every_payment_is_taken_once_and_delivered(store: str) -> None:
    """200 payments in mixed protocols, each sent three times at random workers, under a facilitator that fails one time
    in five: all are settled once, all three sendings are answered, and the money is right to the atomic unit."""

    async def run() -> Load:
        async with laboratory(chain=CHAIN, payers=200, stores=[store]) as lab:
            return await load(lab, lab.store(store), "facilitator+rpc", 200, seconds=120)

    result = asyncio.run(run())
    assert result.violations == []
    assert (result.settled, result.delivered, result.earned) == (200, 200, 200 * PRICE)
    assert sum(count for mode, count in result.faults.items() if mode != "well") >= 20


@pytest.mark.parametrize("store", ["postgresql", "redis"])
def test_a_store_that_is_killed_and_comes_back_loses_nothing_and_gives_nothing_away(store: str) -> None:
    """Its server is killed three times under load: who asks meanwhile gets a 503 with `Retry-After`, nobody is served
    without a claim, and in the end everything is as if nothing had happened."""

    async def run() -> Load:
        async with laboratory(chain=CHAIN, payers=60, stores=[store]) as lab:
            return await outage(lab, store, "chain", 60, kill=True)

    result = asyncio.run(run())
    assert result.violations == []
    assert (result.settled, result.delivered, result.earned) == (60, 60, 60 * PRICE)


@pytest.mark.parametrize("settler", ["chain", "facilitator+rpc"])
def test_a_chain_that_is_reorganised_takes_nothing_back(settler: str) -> None:
    """Its newest five blocks vanish four times under load, and what counts is what has six confirmations: all payments
    are settled in the end, once, and nobody is told to pay again."""

    async def run() -> Load:
        async with laboratory(chain="anvil") as lab:
            return await reorganised(lab, "sqlite", settler, 40, reorganisations=4, pace=2.5)

    result = asyncio.run(run())
    assert result.violations == []
    assert (result.settled, result.delivered, result.earned) == (40, 40, 40 * PRICE)
