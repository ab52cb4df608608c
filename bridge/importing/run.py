"""What `x402-mpp import` does: reads a source, compares, says what came of it, and writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec

from bridge.importing.diff import Diff, compare
from bridge.importing.module import read_module
from bridge.importing.notes import EVERY_ROUTE, Note, lost
from bridge.importing.offered import Read
from bridge.importing.openapi import read_openapi
from bridge.importing.probe import probe
from bridge.importing.sources import read_any
from bridge.importing.table import Table, build_table
from bridge.importing.written import write_python

__all__ = ["Wanted", "run"]

ASSUMED_FACILITATOR = "https://x402.org/facilitator"
MAX_DOCUMENT = 4 * 1024 * 1024
"""The longest document that is fetched, in bytes."""


class Wanted(msgspec.Struct, frozen=True):
    """The options of the command: `source` is one of `module`, `routes`, `openapi` and `url`, and `place` its value."""

    source: str
    place: str
    python: str | None
    paths: tuple[str, ...]
    pay_to: str | None
    network: str | None
    settler: str | None
    write: str | None
    partial: bool
    form: str


def run(wanted: Wanted) -> int:
    """Do it; the exit code is 1 where a route cannot be carried. Raises `ClickException`."""
    try:
        read = _read(wanted)
        table = build_table(read, _given(read, wanted.settler, wanted.pay_to, wanted.network))
    except (ValueError, OSError, httpx.HTTPError, msgspec.DecodeError) as error:
        raise click.ClickException(str(error)) from None
    diff = compare(table)
    as_json = wanted.form == "json"
    click.echo(msgspec.json.format(msgspec.json.encode(diff)).decode() if as_json else "\n".join(_plain(_lines(diff))))
    if table.refused and not wanted.partial:
        return 1
    if wanted.write is not None:
        _write(table, f"{wanted.source} {wanted.place}", Path(wanted.write))
    return 0


def _read(wanted: Wanted) -> Read:
    match wanted.source:
        case "module":
            return read_module(wanted.place, wanted.python)
        case "routes":
            return _read_table(wanted.place, wanted.pay_to)
        case "openapi":
            if wanted.pay_to is None or wanted.network is None:
                raise click.UsageError("an OpenAPI document names neither: give --pay-to and --network")
            return read_openapi(_document(wanted.place), pay_to=wanted.pay_to, network=wanted.network)
        case _:
            return probe(wanted.place, wanted.paths)


def _given(read: Read, settler: str | None, pay_to: str | None, network: str | None) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if pay_to:
        given["recipient"] = pay_to
    if network:
        given["network"] = network
    if settler:
        given["settler"] = settler
    elif read.facilitator is None:
        given["settler"] = f"facilitator:{ASSUMED_FACILITATOR}"
        read.notes.append(
            lost(EVERY_ROUTE, "facilitator", f"who settles is not said: {ASSUMED_FACILITATOR} is assumed (--settler)")
        )
    if read.public_url is not None:
        given["public_url"] = read.public_url
    return given


def _read_table(path: str, pay_to: str | None) -> Read:
    """A table as such, or the arguments of the middleware: `{payTo, routes, facilitator}`."""
    said = msgspec.json.decode(Path(path).read_bytes())
    if isinstance(said, Mapping) and isinstance(said.get("routes"), Mapping):
        return read_any(said["routes"], pay_to=pay_to or said.get("payTo"), facilitator=said.get("facilitator"))
    return read_any(said, pay_to=pay_to)


def _document(place: str) -> Any:
    if not place.startswith(("http://", "https://")):
        text = Path(place).read_bytes()
    else:
        with httpx.stream("GET", place, timeout=15, follow_redirects=True) as response:
            response.raise_for_status()
            text = b""
            for chunk in response.iter_bytes():
                text += chunk
                if len(text) > MAX_DOCUMENT:
                    raise ValueError(f"{place}: longer than {MAX_DOCUMENT} bytes")
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return msgspec.yaml.decode(text)


def _write(table: Table, source: str, path: Path) -> None:
    if not table.routes:
        raise click.ClickException("nothing is left to write")
    try:
        path.write_text(write_python(table, source, path.stem), "utf-8")
    except (ValueError, OSError) as error:
        raise click.ClickException(f"{path}: {error}") from None
    click.echo(f"{path} written: uvicorn {path.stem}:app", err=True)


def _lines(diff: Diff) -> list[str]:
    lines = ["Settings"]
    lines += [f"  {name:<20} {value}" for name, value in diff.settings.items()]
    lines += ["", "Carries over"]
    for key, entries in diff.carried.items():
        lines += [f"  {key}", *(f"    {entry}" for entry in entries)]
    lines += [] if diff.carried else ["  nothing"]
    if diff.refused:
        lines += ["", "Cannot be carried over: these routes would be free"]
        lines += [f"  {key}: {why}" for key, why in diff.refused.items()]
    for title, notes in (("Does not carry over", diff.lost), ("Clients will see", diff.changed)):
        if notes:
            lines += ["", title, *map(_line, notes)]
    return lines


def _plain(lines: list[str]) -> list[str]:
    """Without what a terminal would obey: part of it comes from a stranger's server, or document."""
    return ["".join(c if c.isprintable() else "?" for c in line) for line in lines]


def _line(note: Note) -> str:
    return f"  {note.route or 'every route'}: {note.what}: {note.says}"
