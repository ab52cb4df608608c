"""A stream that is paid for in another protocol streams: the gateway holds nothing back.

x402's own middlewares hold their answers back until they have settled, so the server here is one that settles first.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.gateway.processes import Upstream

from .chain import Anvil
from .our_gateway import OurGateway
from .peers import CLIENTS, Clients
from .test_clients import PAYING

STREAMING = [name for name in PAYING if CLIENTS[name].streams]


@pytest.fixture(scope="module")
def url(our_gateway: Callable[..., OurGateway], logs: Path) -> Iterator[str]:
    """The gateway in front of a server that streams, and speaks x402 v2."""
    upstream = Upstream(logs)
    yield our_gateway(upstream.url).url
    upstream.stop()


def test_the_first_event_comes_long_before_the_last(url: str, clients: Clients, anvil: Anvil) -> None:
    """To every client that hands on what arrives: of the three generations, at once."""
    waiting = {
        name: clients[name].submit(
            "GET", f"{url}/paid/events?count=5&pause=0.5", private_key=anvil.payer().private_key, stream=True
        )
        for name in STREAMING
    }
    for name, future in waiting.items():
        answer = clients[name].answer(future)
        assert (answer.status, answer.body.count("data:")) == (200, 5), name
        assert answer.chunks is not None
        assert answer.chunks[-1][0] - answer.chunks[0][0] > 1, name
    assert {CLIENTS[name].protocol for name in STREAMING} == {"x402-v1", "x402-v2", "mpp"}
