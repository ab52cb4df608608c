"""`x402-mpp check` says of other people's servers, and of ours, what is true of them and no more."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from bridge.cli import main

from .chain import Anvil
from .our_server import OurServer
from .peers import SERVERS, Server

# What is found, and why it is so. A finding that goes away is a peer that has changed: take its line out.
NO_STORE = "x402-no-store"
"""x402-express 1.2.0 sends no Cache-Control with its 402."""
HEAD = "head-free"
"""x402's middlewares charge `GET /weather` by its method's name; Express, Flask and Hono run the same handler for HEAD,
which is not on the list. FastAPI answers it 405."""
UNPRICED = "openapi-unpriced"
"""FastAPI serves an OpenAPI document on its own, and neither the x402 SDK nor pympp adds prices to it."""
REALM = "mpp-realm"
"""pympp 0.16.0 has `localhost` for its realm where it finds no host in its environment, whatever port it listens on."""
DIGEST = "mpp-digest-missing"
"""Neither mppx 0.11.0 nor pympp 0.16.0 binds a challenge to the body of a POST unless its caller hands it a digest."""

TRUE_OF: dict[str, dict[str, set[str]]] = {
    "x402-express": {"/weather": {NO_STORE, HEAD}, "/echo": {NO_STORE}},
    "py-x402-fastapi": {"/weather": {UNPRICED}, "/echo": {UNPRICED}},
    "py-x402-flask": {"/weather": {HEAD}, "/echo": set()},
    "@x402/express": {"/weather": {HEAD}, "/echo": set()},
    "@x402/hono": {"/weather": {HEAD}, "/echo": set()},
    "mppx-server": {"/weather": set(), "/echo": {DIGEST}},
    "pympp-server": {"/weather": {UNPRICED, REALM}, "/echo": {UNPRICED, REALM, DIGEST}},
}

BODY = {"/echo": ("--data", '{"city":"Oslo"}')}


def check(url: str, *arguments: str) -> dict[str, Any]:
    ran = CliRunner().invoke(main, ["check", url, "--format", "json", *arguments])
    assert ran.exit_code in (0, 3, 4, 5), ran.output
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def test_every_server_is_checked() -> None:
    """No peer is left out."""
    assert TRUE_OF.keys() == SERVERS.keys()


@pytest.mark.parametrize("name", SERVERS)
def test_what_is_found_at_a_peer_is_true_of_it(name: str, peer_server: Callable[[str], Server], anvil: Anvil) -> None:
    """Its protocols are seen, and the findings are those that are explained above."""
    server = peer_server(name)
    for path, expected in TRUE_OF[name].items():
        told = check(server.url + path, "--rpc-url", anvil.rpc_url, *BODY.get(path, ()))
        assert set(told["speaks"]) == server.spec.protocols
        assert {finding["rule"] for finding in told["findings"]} == expected, told["findings"]
        assert told["notes"] == []


def test_nothing_is_found_at_our_demo(our_server: Callable[..., OurServer], anvil: Anvil) -> None:
    """Every priced route of it, in all three protocols."""
    demo = our_server()
    for route in demo.routes:
        if route["price"] is None:
            continue
        more = BODY["/echo"] if route["method"] == "POST" else ()
        told = check(demo.url + route["path"], "--rpc-url", anvil.rpc_url, "--fail-on", "info", *more)
        assert told["findings"] == []
        assert told["speaks"] == ["x402-v1", "x402-v2", "mpp"]
