"""The table of states: money is never forgotten, and nothing leads out of a delivered payment."""

from itertools import product

import pytest

from translators.lifecycle import TRANSITIONS, IllegalTransition, State, check_transition


@pytest.mark.parametrize(("current", "following"), list(product(State, State)))
def test_the_table_decides(current: State, following: State) -> None:
    """A step is taken if the table has it, and refused by name otherwise."""
    if following in TRANSITIONS[current]:
        check_transition(current, following)
    else:
        with pytest.raises(IllegalTransition, match=f"from {current} to {following}"):
            check_transition(current, following)


def reachable(start: State) -> set[State]:
    found = {start}
    while grown := {following for state in found for following in TRANSITIONS[state]} - found:
        found |= grown
    return found


def test_every_state_is_reached_and_left() -> None:
    """From a claim every state can come about; only `delivered` is an end; no state follows itself."""
    assert set(TRANSITIONS) == reachable(State.CLAIMED) == set(State)
    assert {state for state in State if not TRANSITIONS[state]} == {State.DELIVERED}
    assert all(state not in TRANSITIONS[state] for state in State)


def test_money_that_moved_is_never_released() -> None:
    """Once settled, a payment can only be delivered; it cannot be claimed, settled or released again."""
    assert reachable(State.SETTLED) == {State.SETTLED, State.DELIVERED}


def test_nothing_is_delivered_unsettled() -> None:
    """`delivered` follows `settled` alone, and `settled` only what began to settle."""
    assert {state for state in State if State.DELIVERED in TRANSITIONS[state]} == {State.SETTLED}
    assert {state for state in State if State.SETTLED in TRANSITIONS[state]} == {State.SETTLING, State.UNKNOWN}


def test_unknown_begins_in_settling_only() -> None:
    """Nobody doubts what was never tried."""
    assert {state for state in State if State.UNKNOWN in TRANSITIONS[state]} == {State.SETTLING}
