"""The route table of an x402 server in Python, by importing its module in its own Python."""

import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from bridge.importing.notes import EVERY_ROUTE, lost
from bridge.importing.offered import Read
from bridge.importing.sdk_v1 import is_call
from bridge.importing.sources import read_any

__all__ = ["ModuleError", "read_module"]

SECONDS = 60.0
"""How long a module may take to be imported."""


class ModuleError(ValueError):
    """The module could not be imported, or has no route table; its message ends with what the module said."""


def read_module(place: str, python: str | None = None) -> Read:
    """Read `FILE` or `FILE:NAME`, with this Python or another.

    The module is run, in the current folder and environment, as its server would run it; a server that it starts is
    stopped before it listens. Raises `ModuleError`, and `ValueError` for a table that makes no sense.
    """
    path, _, name = place.rpartition(":") if ".py:" in place else (place, "", "")
    if not Path(path).is_file():
        raise ModuleError(f"{path}: no such file")
    found = _extract(python or sys.executable, path, name)
    if "error" in found:
        raise ModuleError(f"{path}: {found['error']}")
    calls = [call for call in found["calls"] if is_call(call)]
    if found["routes"] is None:
        return read_any(calls)
    read = read_any(found["routes"])
    if calls:
        read.notes.append(
            lost(EVERY_ROUTE, "require_payment", "the module has both generations; the first is left out")
        )
    read.facilitator = ",".join(found["facilitators"]) or None
    if found["authenticated"]:
        says = "its requests are authenticated: give the same headers to FacilitatorSettler(URL, headers=...)"
        read.notes.append(lost(EVERY_ROUTE, "facilitator", says))
    return read


def _extract(python: str, path: str, name: str) -> dict[str, Any]:
    program = files("bridge.importing").joinpath("extract.py").read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        out, said = Path(folder) / "routes.json", Path(folder) / "said"
        with said.open("wb") as log:
            try:
                # Its standard input stays open: some servers take its end for an order to leave.
                child = subprocess.Popen(  # noqa: S603
                    [python, "-c", program, path, name, str(out)], stdin=subprocess.PIPE, stdout=log, stderr=log
                )
            except OSError as error:
                raise ModuleError(f"{python}: {error.strerror}") from None
        with child:
            try:
                child.wait(SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                raise ModuleError(f"{path}: was not imported within {SECONDS:g} seconds") from None
        if not out.exists():
            raise ModuleError(f"{path}: {said.read_text('utf-8', 'replace')[-2000:]}")
        loaded: dict[str, Any] = msgspec.json.decode(out.read_bytes())
        return loaded
