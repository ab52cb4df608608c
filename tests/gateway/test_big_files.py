"""A file that is larger than the gateway may be: it passes both ways, and the gateway stays small."""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from bridge.payers import account, credential, read_402
from tests.interop.our_gateway import OurGateway
from translators.payment import Protocol

from .processes import Upstream
from .upstream import BLOCK

MIB = 1024 * 1024
SIZE = int(os.environ.get("BIG_FILE_MIB", "256")) * MIB
"""`make gateway-load` takes 1024."""
LIMIT = 100 * MIB
PIECE = BLOCK * 4


def _pieces() -> Iterator[bytes]:
    for _ in range(SIZE // len(PIECE)):
        yield PIECE


def _digest() -> str:
    digest = hashlib.sha256()
    for piece in _pieces():
        digest.update(piece)
    return digest.hexdigest()


def test_a_download_passes_and_the_gateway_stays_small(
    upstream: Upstream, start_gateway: Callable[..., OurGateway]
) -> None:
    """Paid in MPP at a server that knows x402 v2: every byte arrives, and the gateway never has 100 MiB."""
    gateway = start_gateway(upstream.url)
    with httpx.Client(base_url=gateway.url, timeout=60) as client:
        path = f"/paid/download?bytes={SIZE}"
        name, value = credential(read_402(client.get(path), Protocol.MPP), account("big files"))
        digest, began = hashlib.sha256(), time.monotonic()
        with client.stream("GET", path, headers={name: value}) as answer:
            assert answer.status_code == 200
            for piece in answer.iter_raw(len(PIECE)):
                digest.update(piece)
    assert digest.hexdigest() == _digest()
    assert gateway.memory_peak() < LIMIT
    _note("download", began, gateway)


@pytest.mark.parametrize("in_chunks", [False, True])
def test_an_upload_passes_and_the_gateway_stays_small(
    upstream: Upstream, start_gateway: Callable[..., OurGateway], in_chunks: bool
) -> None:
    """Likewise the other way, whether its length is announced or not."""
    gateway = start_gateway(upstream.url)
    with httpx.Client(base_url=gateway.url, timeout=60) as client:
        asked = read_402(client.post("/paid/upload"), Protocol.MPP)
        name, value = credential(asked, account("big files"))
        headers = {name: value, "Content-Type": "application/octet-stream"}
        if not in_chunks:
            headers["Content-Length"] = str(SIZE)
        began = time.monotonic()
        answer = client.post("/paid/upload", content=_pieces(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["bytes"], answer.json()["sha256"]) == (SIZE, _digest())
    assert gateway.memory_peak() < LIMIT
    _note("upload in chunks" if in_chunks else "upload", began, gateway)


def test_a_slow_reader_fills_no_memory(upstream: Upstream, start_gateway: Callable[..., OurGateway]) -> None:
    """A client that takes its time is waited for: what the upstream could send meanwhile is not kept here."""
    gateway = start_gateway(upstream.url)
    command = ["curl", "--silent", "--limit-rate", "2M", "--max-time", "3", f"{gateway.url}/download?bytes={SIZE}"]
    subprocess.run(command, stdout=subprocess.DEVNULL, timeout=30, check=False)
    assert gateway.memory_peak() < LIMIT


def _note(what: str, began: float, gateway: OurGateway) -> None:
    """The figures, for whoever asks for them with `-s`."""
    seconds = time.monotonic() - began
    peak = gateway.memory_peak() / MIB
    print(f"{what}: {SIZE // MIB} MiB in {seconds:.1f} s, {SIZE / MIB / seconds:.0f} MiB/s, peak {peak:.1f} MiB")
