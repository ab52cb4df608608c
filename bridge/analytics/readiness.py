"""Whether a protocol can be switched off: whom that would lose today, and what to do next."""

from collections.abc import Sequence
from fractions import Fraction

import msgspec

from bridge.analytics.coverage import Gap
from bridge.analytics.figures import amounts
from bridge.analytics.report import Span

__all__ = ["Left", "LeftGroup", "Readiness", "covered_days", "lacking", "next_steps", "per_day", "share_lost"]


class LeftGroup(msgspec.Struct, frozen=True):
    """What would be lost on one route, or of one client product."""

    name: str
    payers: int
    payments: int
    revenue: dict[str, str]
    """By asset, in atomic units, over the window."""


class Left(msgspec.Struct, frozen=True):
    """A payer who still pays in the protocol."""

    payer: str
    payments: int
    """In this protocol, over the window."""
    revenue: dict[str, str]
    last_at: float
    also: list[str]
    """The other protocols that this payer had ever paid in, at the end of the window."""


class Readiness(msgspec.Struct, frozen=True):
    """What switching `protocol` off today would lose, by what was paid in the window."""

    protocol: str
    since: float
    until: float
    days: float
    """Of the window, those that are recorded: what figures by day are divided by."""
    recorded_since: float | None
    """When recording began, or from when on figures are kept."""
    recorded_until: float | None
    """The last sign of a server that records."""
    gaps: list[Gap]
    """What the record lacks of the window; nothing where it covers it."""
    dropped: int
    """Events of the window that were not recorded: what is lost may be more than the figures say."""
    payers: int
    """Who paid in it."""
    moved: int
    """Of these, who had already paid in another protocol at its end, in the window or before it."""
    payments: int
    unnamed_payments: int
    """Of these, those whose payer is not known."""
    revenue: dict[str, str]
    """Over the window, by asset, in atomic units."""
    revenue_per_day: dict[str, str]
    """Rounded down to whole atomic units."""
    all_payers: int
    """Who paid in any protocol."""
    all_payments: int
    share_of_payers: float
    """`payers` of `all_payers`."""
    share_of_payments: float
    """`payments` of `all_payments`."""
    share: float
    """The larger of the two: what `--fail-over` compares."""
    share_at_most: float
    """The same, were every event that was dropped a payment in the protocol, by somebody else."""
    routes: list[LeftGroup]
    clients: list[LeftGroup]
    """By product and version."""
    left: list[Left]
    """The payers who would be lost, those with the most payments first; not more than were asked for."""
    refused: int
    """Payments in it that the levers refused in the window: whoever sent them may be among nobody else here."""
    stage: str
    """Where its lever stood at the end of the window, for every route; empty where none was recorded."""
    next: list[str]
    """What to do about it."""


def share_lost(payers: int, all_payers: int, payments: int, all_payments: int) -> tuple[float, float, float]:
    """Shares of payers and of payments, and the larger."""
    of_payers = payers / all_payers if all_payers else 0.0
    of_payments = payments / all_payments if all_payments else 0.0
    return round(of_payers, 8), round(of_payments, 8), round(max(of_payers, of_payments), 8)


def lacking(found: Readiness, limit: float) -> list[Gap]:
    """The gaps that could hide a share above `limit`: events that were dropped may be too few for it."""
    return [gap for gap in found.gaps if gap.kind != "dropped" or found.share_at_most > limit]


def covered_days(span: Span, recorded_since: float | None) -> float:
    """The days of `span` that there are figures for, one at least."""
    begins = max(span.since, recorded_since if recorded_since is not None else span.since)
    return max(1.0, (span.until - begins) / 86400)


def per_day(money: dict[tuple[str, str], int], days: float) -> dict[str, str]:
    """Revenue a day, in whole atomic units."""
    return amounts({key: int(Fraction(amount) / Fraction(days)) for key, amount in money.items()})


def next_steps(
    *,
    protocol: str,
    payers: int,
    moved: int,
    payments: int,
    refused: int,
    stage: str,
    clients: Sequence[LeftGroup],
    gaps: Sequence[Gap],
) -> list[str]:
    """What the figures advise, in sentences."""
    steps = [gap.detail for gap in gaps]
    if refused:
        steps.append(f"{refused} payments in {protocol} were refused in this window: who sent them wants to pay still.")
    if stage == "refused":
        if payments:
            steps.append(f"{protocol} is `refused`: what was paid in this window was paid before.")
        steps.append(f"{protocol} is off already: when nobody is refused any more, leave it out of `protocols`.")
        return steps
    if payments == 0 and gaps:
        steps.append(f"Nobody paid in {protocol} as far as is recorded: find out about the rest before you refuse it.")
        return steps
    if payments == 0:
        steps.append(f"Nobody paid in {protocol}: set it to `refused`, and watch who is refused.")
        return steps
    is_told = stage in ("deprecated", "brownout")
    if payers and moved == payers:
        steps.append(
            f"All {payers} can pay in another protocol: announce `brownout`, then set {protocol} to `refused`."
        )
        return steps
    stranded = payers - moved
    if stranded:
        steps.append(
            f"{stranded} have never paid in another protocol"
            + (
                f", although {protocol} is `{stage}`: write to them, and wait before you refuse it."
                if is_told
                else f": set {protocol} to `deprecated`, so that they hear."
            )
        )
    if moved:
        steps.append(f"{moved} could pay in another protocol already: `brownout` shows whether their clients do.")
    if clients:
        names = ", ".join(client.name or "(unknown)" for client in clients[:3])
        steps.append(f"Ask for upgrades where the most is paid by: {names}.")
    return steps
