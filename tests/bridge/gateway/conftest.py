"""What the tests of the gateway share."""

from pathlib import Path

import pytest

from tests.bridge.gateway.lab import PROTOCOLS
from tests.bridge.gateway.levered import Start, starting
from translators.payment import Protocol


@pytest.fixture
def levered(tmp_path: Path) -> Start:
    """Starts a gateway with levers: see `tests.bridge.gateway.levered`."""
    return starting(tmp_path / "levers.toml")


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """The protocol whose lever is moved."""
    return request.param


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    """Of x402, that the upstream speaks."""
    return request.param
