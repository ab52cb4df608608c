"""What a store decides, apart from where it keeps rows: pure functions from the row in force to the row that follows.

A store reads the row, asks here, and writes the answer, all in one critical section of its own. So the rules stand
once, and a store in another database is only another critical section.
"""

from msgspec.structs import replace

from bridge.stores.base import Claim, ClaimLost, Record
from translators.lifecycle import TRANSITIONS, State, check_transition

__all__ = [
    "FINISHED",
    "FORGETTABLE",
    "OUTCOME_OPEN",
    "advance",
    "claim",
    "is_disposable",
    "is_lease_over",
    "is_orphaned",
    "leading_to",
    "take_over",
]

OUTCOME_OPEN = (State.SETTLING, State.UNKNOWN)
"""States in which money may have moved and nobody has said so yet."""

FINISHED = (State.DELIVERED, State.RELEASED)
"""States in which nobody is owed anything."""

FORGETTABLE = (State.CLAIMED, *FINISHED)
"""States of rows that `purge` may have to look at."""


def is_lease_over(row: Record, now: float) -> bool:
    """Whether somebody else may take the row: from `lease_until` itself on."""
    return row.lease_until <= now


def claim(row: Record | None, record: Record, now: float) -> Claim:
    """Who holds the payment once `record.owner` has asked for it, `row` being what is stored, if anything."""
    if record.state is not State.CLAIMED:
        raise ValueError(f"a claim begins as {State.CLAIMED}, not as {record.state}")
    if row is None or State.CLAIMED in TRANSITIONS[row.state]:
        return Claim(won=True, record=record)
    if is_lease_over(row, now):
        if row.state is State.CLAIMED:
            return Claim(won=True, record=record)
        if row.state is State.SETTLED:
            # Paid and never delivered: whoever brings the credential again gets what was paid for, and pays nothing.
            return Claim(won=True, record=take_over(row, owner=record.owner, now=now, lease_until=record.lease_until))
    return Claim(won=False, record=row)


def advance(
    row: Record | None,
    to: State,
    *,
    owner: str,
    now: float,
    lease_until: float | None,
    transaction: str | None,
    reason: str | None,
) -> Record:
    """The row moved to `to` by `owner`; raises `ClaimLost` or `IllegalTransition`."""
    # Ownership first: somebody who lost the row has no business knowing where it stands.
    if row is None or row.owner != owner:
        raise ClaimLost("the payment is no longer held by this request")
    if to is not row.state:
        check_transition(row.state, to)
    return replace(
        row,
        state=to,
        updated_at=now,
        lease_until=row.lease_until if lease_until is None else lease_until,
        transaction=row.transaction if transaction is None else transaction,
        reason=row.reason if reason is None else reason,
    )


def leading_to(to: State) -> tuple[State, ...]:
    """The states from which `advance` moves its owner's row to `to`, for a store that has its server look."""
    return tuple(state for state in State if state is to or to in TRANSITIONS[state])


def is_orphaned(row: Record, now: float) -> bool:
    """Whether money may have moved and the one who moved it has not been heard of since its lease ended."""
    return row.state in OUTCOME_OPEN and is_lease_over(row, now)


def take_over(row: Record, *, owner: str, now: float, lease_until: float) -> Record:
    """The same row in another's hands."""
    return replace(row, owner=owner, lease_until=lease_until, updated_at=now)


def is_disposable(row: Record, now: float) -> bool:
    """Whether the row can be forgotten: nobody needs it, and its authorization can never be presented again."""
    if row.valid_before > now:
        return False
    return row.state in FINISHED or (row.state is State.CLAIMED and is_lease_over(row, now))
