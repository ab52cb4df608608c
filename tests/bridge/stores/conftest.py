"""The stores that the contract is held against."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.stores import Store
from tests.bridge.stores.rows import with_store

Use = Callable[[Store], Awaitable[Any]]


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind."""
    return {"memory": "memory:", "sqlite": f"sqlite:{tmp_path}/payments.db"}[request.param]


@pytest.fixture
def run(url: str) -> Callable[[Use], Any]:
    """Run an async function with the store, started before and closed after."""
    return lambda use: with_store(url, use)
