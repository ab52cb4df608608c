"""A worker is killed at every point of a payment, and nobody pays twice or for nothing. `make faults` does more."""

import asyncio

import pytest

from tests.faults.crashes import Outcome, Plan, crash_everywhere, storm, table
from tests.faults.lab import laboratory
from translators.payment import Protocol

V1, V2, MPP = Protocol.X402_V1, Protocol.X402_V2, Protocol.MPP

PLANS = {
    "chain": [("on_success", MPP), ("first", V1), ("on_success", V2)],
    "facilitator+rpc": [("first", MPP), ("on_success", V1), ("on_success", V2)],
    # It cannot be asked what became of a payment: what it leaves open stays open, and is never charged again.
    "facilitator": [("on_success", MPP)],
}


OTHERS = [
    # Without a node, the facilitator alone can say that a wallet has signed, and only until it is settled.
    Plan("sqlite", "facilitator", V1, "on_success", payer="wallet"),
    Plan("sqlite", "chain", MPP, "first", payer="new wallet"),
    Plan("sqlite", "facilitator", V2, "on_success", payer="permit2"),
    Plan("sqlite", "fallback", V2, "on_success"),
]


def run(plans: list[Plan], chain: str = "embedded", *, replays: int = 1, step: int = 1) -> list[Outcome]:
    async def crashes() -> list[Outcome]:
        async with laboratory(chain=chain, payers=500) as lab:
            return await crash_everywhere(lab, plans, at_once=12, replays=replays, step=step)

    return asyncio.run(crashes())


@pytest.mark.parametrize("settler", PLANS)
def test_a_worker_that_dies_at_any_point_takes_no_payment_twice_and_loses_none(settler: str) -> None:
    """Killed before and after every write, broadcast and message, restarted, and asked again with the same credential:
    the payer has paid at most once, was never told to pay again, and has the answer if he paid; no row stays open."""
    outcomes = run([Plan("sqlite", settler, protocol, policy) for policy, protocol in PLANS[settler]])
    print(table(outcomes))
    assert [violation for outcome in outcomes for violation in outcome.violations] == []
    assert sum(outcome.killed for outcome in outcomes) >= 0.9 * len(outcomes) >= 20
    if settler != "facilitator":
        assert all(outcome.delivered for outcome in outcomes)


def test_nor_of_a_wallet_or_by_permit2_or_by_a_second_facilitator() -> None:
    """The same for contract wallets, there or not yet, for what x402 v2 alone can carry, and where the first
    facilitator takes nothing."""
    outcomes = run(OTHERS, chain="anvil", replays=0, step=3)
    print(table(outcomes))
    assert [violation for outcome in outcomes for violation in outcome.violations] == []
    for plan in OTHERS:
        mine = [outcome for outcome in outcomes if outcome.plan.way == plan.way]
        assert sum(outcome.killed for outcome in mine) >= 0.9 * len(mine) >= 5
        # What only a facilitator knows stays unknown when the process died with its answer.
        assert sum(not outcome.delivered for outcome in mine) <= (0 if plan.can_tell else 2)


def test_workers_that_die_at_random_under_a_facilitator_that_fails() -> None:
    """Six payments at once, each sent twice, at two workers that are killed three times, and every third settlement
    fails: the same."""

    async def storms() -> list[Outcome]:
        async with laboratory(payers=50) as lab:
            await lab.break_facilitator(3, 0.33)
            plan = Plan("sqlite", "facilitator+rpc", MPP)
            return list(await asyncio.gather(*(storm(lab, plan, seed) for seed in range(3))))

    outcomes = asyncio.run(storms())
    assert [violation for outcome in outcomes for violation in outcome.violations] == []
    assert sum(outcome.delivered for outcome in outcomes) == 18
    assert sum(outcome.killed for outcome in outcomes) >= 4


def test_what_a_dead_worker_left_is_put_right_without_the_client() -> None:
    """Nobody sends again: what was sent off is settled or, once its window has closed, released; what was paid for is
    served even then."""

    async def silences() -> list[Outcome]:
        async with laboratory(payers=100) as lab:
            plan = Plan("sqlite", "chain", V2, resend=False)
            return await crash_everywhere(lab, [plan], at_once=14)

    outcomes = asyncio.run(silences())
    assert [violation for outcome in outcomes for violation in outcome.violations] == []
    # Died after the journal knew of it and before the chain did.
    unsent = {("advance:settling.after", 1), ("before_broadcast.after", 1), ("broadcast.before", 1)}
    assert unsent <= {outcome.plan.point for outcome in outcomes if not outcome.paid}
