"""Payments under fire: the official server behind two gateways ends and comes back. `make gateway-load` has more."""

from pathlib import Path

from tests.gateway.load import Load, run

from .chain import Anvil
from .peers import Facilitator


def _run(payments: int, kills: int, *, gently: bool, anvil: Anvil, facilitator: Facilitator, logs: Path) -> Load:
    store = f"sqlite:{logs / f'gateway-load-{gently}.sqlite3'}"
    return run(payments, kills=kills, gently=gently, store=store, logs=logs, anvil=anvil, facilitator=facilitator)


def test_nothing_is_lost_when_the_server_is_told_to_stop_and_comes_back(
    anvil: Anvil, facilitator: Facilitator, logs: Path
) -> None:
    """Twice, under load: every payment is settled once and served, and nobody is asked a second time."""
    load = _run(60, 2, gently=True, anvil=anvil, facilitator=facilitator, logs=logs)
    assert load.violations == []
    assert (load.settlements, load.served, load.paid_unserved) == (60, 60, {})


def test_nothing_is_charged_twice_when_the_server_is_killed(anvil: Anvil, facilitator: Facilitator, logs: Path) -> None:
    """With SIGKILL, twice: every payment is settled once. What died with the server after its facilitator had settled
    is paid and not served, as it would be without a gateway; but nobody whose payment was passed on is asked again.
    """
    load = _run(120, 2, gently=False, anvil=anvil, facilitator=facilitator, logs=logs)
    assert load.violations == []
    assert load.settlements == 120
    assert load.served + sum(load.paid_unserved.values()) == 120
