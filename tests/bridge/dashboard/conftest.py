"""A market's events, written once."""

from pathlib import Path

import pytest

from tests.bridge.analytics.conftest import write
from tests.bridge.dashboard.market import events


@pytest.fixture(scope="package")
def market(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An event file; it is only read."""
    path = Path(tmp_path_factory.mktemp("market")) / "events.sqlite3"
    write(str(path), events(), batch=2000)
    return str(path)
