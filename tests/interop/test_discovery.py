"""Other people's tools read what we publish: mppx's own validator and command, and the x402 SDK's bazaar."""

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .chain import Anvil
from .our_server import OurServer
from .peers import places
from .visits import MINTED, ROUTES

MPPX = places.NODE / "node_modules/mppx/dist/bin.js"


@pytest.fixture(scope="module")
def server(our_server: Callable[..., OurServer]) -> Iterator[OurServer]:
    """Our demo under its host's name, which mppx wants as the realm."""
    return our_server(extra=("--public-url", "http://127.0.0.1"))


def _mppx(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    # It batches its output for programs where it takes one for its user.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLAUDE", "CODEX"))}
    return subprocess.run(
        ["node", str(MPPX), *arguments], env=kept | env, capture_output=True, text=True, timeout=120, check=False
    )


def test_mppx_takes_the_discovery_document(server: OurServer) -> None:
    """Its validator of documents has nothing to say."""
    ran = _mppx("discover", "validate", f"{server.url}/openapi.json")
    assert (ran.returncode, ran.stdout.strip()) == (0, "Discovery document is valid."), ran.stdout + ran.stderr


def test_mppx_takes_every_challenge_of_every_paid_operation(server: OurServer) -> None:
    """Its validator of servers finds them by the document: nothing fails, and it warns of nothing."""
    ran = _mppx("validate", server.url, "--output-json")
    told = json.loads(ran.stdout)
    assert ran.returncode == 0, ran.stdout
    summary = told["summary"]
    assert (summary["failed"], summary["warnings"]) == (0, 0), ran.stdout
    priced = {f"{route['method']} {route['path']}" for route in server.routes if route["price"]}
    assert {f"{found['method']} {found['path']}" for found in told["discovery"]["endpoints"]} == priced
    # It pays from a wallet in a keychain only, which there is none of: the next test pays.
    assert summary["skipped"] == len(priced)


def test_mppx_pays_from_its_command_line(server: OurServer, anvil: Anvil) -> None:
    """What its document led to."""
    payer = anvil.payer()
    ran = _mppx(f"{server.url}/weather", "--silent", MPPX_PRIVATE_KEY=payer.private_key, MPPX_RPC_URL=anvil.rpc_url)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "sunny" in ran.stdout
    assert anvil.balance_of(payer.address) == MINTED - ROUTES["weather"].price


_BAZAAR = """
import json, sys
from x402.extensions.bazaar import validate_discovery_extension, validate_discovery_extension_spec
extension = json.load(sys.stdin)
for check in (validate_discovery_extension, validate_discovery_extension_spec):
    result = check(extension)
    assert result.valid, result.errors
"""


def test_the_x402_sdk_takes_the_bazaar_listing(server: OurServer, tmp_path: Path) -> None:
    """By both of its checks: the listing against its own schema, and against the specification."""
    required: dict[str, Any] = json.loads(
        base64.b64decode(httpx.get(f"{server.url}/weather").headers["payment-required"])
    )
    subprocess.run(
        [places.python("python"), "-c", _BAZAAR],
        input=json.dumps(required["extensions"]["bazaar"]),
        text=True,
        timeout=60,
        check=True,
    )
