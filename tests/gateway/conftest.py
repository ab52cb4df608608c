"""One upstream and one gateway for every test that does not need its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.interop.our_gateway import OurGateway

from .processes import Upstream


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the log of every child."""
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="session")
def upstream(logs: Path) -> Iterator[Upstream]:
    """A server that costs a cent in x402 v2 under `/paid`."""
    upstream = Upstream(logs)
    yield upstream
    upstream.stop()


@pytest.fixture
def start_upstream(logs: Path) -> Iterator[Callable[..., Upstream]]:
    """One that a test may kill."""
    running: list[Upstream] = []

    def start(**options: Any) -> Upstream:
        running.append(Upstream(logs, **options))
        return running[-1]

    yield start
    for upstream in running:
        upstream.stop()


@pytest.fixture
def start_gateway(logs: Path) -> Iterator[Callable[..., OurGateway]]:
    """A gateway with options of its own."""
    running: list[OurGateway] = []

    def start(*upstreams: str, **options: Any) -> OurGateway:
        running.append(OurGateway(*upstreams, logs=logs, **options))
        return running[-1]

    yield start
    for gateway in running:
        gateway.stop()


@pytest.fixture(scope="session")
def gateway(upstream: Upstream, logs: Path) -> Iterator[OurGateway]:
    """The gateway in front of the upstream, with nothing set."""
    gateway = OurGateway(upstream.url, logs=logs)
    yield gateway
    gateway.stop()


@pytest.fixture
def client(gateway: OurGateway) -> Iterator[httpx.Client]:
    """A client of that gateway."""
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        yield client
