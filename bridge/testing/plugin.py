"""The parity check as a pytest fixture: put `pytest_plugins = ["bridge.testing.plugin"]` into your `conftest.py`."""

import pytest

from bridge.testing.parity import Parity

__all__ = ["payment_parity"]


@pytest.fixture
def payment_parity() -> Parity:
    """Pays your own application in all three protocols, and asserts that each does the same."""
    return Parity()
