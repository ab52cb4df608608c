"""The interop suite's world: one chain, one facilitator, the peers' clients and servers, and our own server.

Everything is started on first use, once a session, and ended by its process id. The peers are installed by
`python -m tests.interop.peers.install`; where they are not, the tests that need them are skipped, except in CI, where
that is a failure.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .chain import Anvil, Wallet
from .our_gateway import OurGateway
from .our_server import OurServer
from .peers import Clients, Facilitator, Server, install


@pytest.fixture(scope="session")
def installed() -> None:
    """The peers are there and are what their pins say."""
    if stale := install.stale():
        reason = f"not installed: {', '.join(stale)}; run python -m tests.interop.peers.install"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the log of every child."""
    return tmp_path_factory.mktemp("interop")


@pytest.fixture(scope="session")
def anvil(installed: None, logs: Path) -> Iterator[Anvil]:
    """A chain that mines a block a second, with the token on it."""
    chain = Anvil(logs)
    yield chain
    chain.stop()


@pytest.fixture(scope="session")
def facilitator(anvil: Anvil, logs: Path) -> Iterator[Facilitator]:
    """The official facilitator, settling on that chain."""
    facilitator = Facilitator(rpc_url=anvil.rpc_url, private_key=anvil.keys[-1], logs=logs)
    yield facilitator
    facilitator.stop()


@pytest.fixture(scope="session")
def clients(installed: None, logs: Path) -> Iterator[Clients]:
    """Other people's clients, by name: `clients["mppx"].request("GET", url, private_key=...)`."""
    clients = Clients(logs)
    yield clients
    clients.stop()


@pytest.fixture(scope="session")
def peer_server(facilitator: Facilitator, logs: Path) -> Iterator[Callable[[str], Server]]:
    """Other people's servers, by name, each paid at an address of its own."""
    running: dict[str, Server] = {}

    def start(name: str) -> Server:
        if name not in running:
            running[name] = Server(name, pay_to=Wallet.fresh().address, facilitator_url=facilitator.url, logs=logs)
        return running[name]

    yield start
    for server in running.values():
        server.stop()


@pytest.fixture(scope="session")
def our_server(request: pytest.FixtureRequest, anvil: Anvil, logs: Path) -> Iterator[Callable[..., OurServer]]:
    """Start our demo: `our_server(settler="chain" or "facilitator", store=..., workers=...)`."""
    running: list[OurServer] = []

    def start(settler: str = "chain", **options: object) -> OurServer:
        if settler == "facilitator":
            settler = f"facilitator:{request.getfixturevalue('facilitator').url}"
        server = OurServer(rpc_url=anvil.rpc_url, settler=settler, logs=logs, **options)  # type: ignore[arg-type]
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="session")
def our_gateway(anvil: Anvil, logs: Path) -> Iterator[Callable[..., OurGateway]]:
    """Start our gateway in front of a URL: `our_gateway(url, store=..., extra=...)`; each is started once."""
    running: dict[tuple[Any, ...], OurGateway] = {}

    def start(*upstreams: str, **options: Any) -> OurGateway:
        key = (*upstreams, *sorted(options.items()))
        if key not in running:
            running[key] = OurGateway(*upstreams, logs=logs, rpc_url=anvil.rpc_url, **options)
        return running[key]

    yield start
    for gateway in running.values():
        gateway.stop()
