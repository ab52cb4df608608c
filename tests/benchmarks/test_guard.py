"""The cheap benchmarks in CI, as ratios with room for a busy machine: what became twice as slow shows."""

from collections.abc import Iterator

import pytest
import structlog

from tests.benchmarks import inprocess
from translators.payment import Protocol


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log lines, as where the figures of `docs/performance.md` are made."""
    before = structlog.get_config()
    inprocess.quiet()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("protocol", Protocol)
def test_a_verification_costs_a_few_recoveries(protocol: Protocol) -> None:
    """Measured at 1.7 to 2.1; a generic typed-data encoder, or decoding twice, makes it four."""
    assert inprocess.verification(protocol, pairs=300).ratio < 3.5


def test_a_402_costs_little_more_than_the_frameworks_own() -> None:
    """Measured at 0.6 of a constant's rate without a server around both."""
    ours, constant = inprocess.unpaid()
    assert constant / ours > 0.3


def test_a_paid_request_costs_a_few_verifications() -> None:
    """Measured at five: Litestar's handler, the claim, the settlement and the delivery."""
    assert inprocess.paid(Protocol.X402_V2) / inprocess.verification(Protocol.X402_V2, pairs=300).verified < 12
