"""The life of a claimed payment, as one table. Stores keep it; `docs/` draws it from here.

A claim is won once. From `settling` on, money may move, and only what a settler, the chain or a facilitator says moves
the payment on; what nobody can say is `unknown`, and stays so until somebody can.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a claimed payment stands."""

    CLAIMED = "claimed"
    SETTLING = "settling"
    SETTLED = "settled"
    DELIVERED = "delivered"
    RELEASED = "released"
    UNKNOWN = "unknown"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.CLAIMED: frozenset({State.SETTLING, State.RELEASED}),
    State.SETTLING: frozenset({State.SETTLED, State.RELEASED, State.UNKNOWN}),
    State.UNKNOWN: frozenset({State.SETTLED, State.RELEASED, State.SETTLING}),
    State.SETTLED: frozenset({State.DELIVERED}),
    # A released authorization moved no money and may be presented again.
    State.RELEASED: frozenset({State.CLAIMED}),
    State.DELIVERED: frozenset(),
}
"""From each state, the states that may follow it."""


class IllegalTransition(RuntimeError):
    """A payment was asked to go where the table does not lead: a defect in the caller, never the client's doing."""


def check_transition(current: State, following: State) -> None:
    """Raise `IllegalTransition` unless `following` may come after `current`."""
    if following not in TRANSITIONS[current]:
        raise IllegalTransition(f"a payment cannot go from {current} to {following}")
