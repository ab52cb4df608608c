"""The stores that the contract is held against."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.stores import Store
from tests.bridge.stores import servers
from tests.bridge.stores.rows import with_store

Use = Callable[[Store], Awaitable[Any]]


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A schema of its own in the PostgreSQL server at DATABASE_URL, dropped afterwards."""
    with servers.postgres_schema() as url:
        yield url


@pytest.fixture
def redis_url() -> Iterator[str]:
    """A prefix of its own in the Redis server at REDIS_URL, whose keys are deleted afterwards."""
    with servers.redis_prefix() as url:
        yield url


@pytest.fixture(params=["memory", "sqlite", "postgresql", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind."""
    match request.param:
        case "memory":
            return "memory:"
        case "sqlite":
            return f"sqlite:{tmp_path}/payments.db"
        case kind:
            return str(request.getfixturevalue({"postgresql": "postgres_url", "redis": "redis_url"}[kind]))


@pytest.fixture
def run(url: str) -> Callable[[Use], Any]:
    """Run an async function with the store, started before and closed after."""
    return lambda use: with_store(url, use)
