"""What the tests of the bridge share."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog


@pytest.fixture
def anyio_backend() -> str:
    """The bridge runs on asyncio."""
    return "asyncio"


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """Every structlog entry of the test."""
    with structlog.testing.capture_logs() as entries:
        yield entries
