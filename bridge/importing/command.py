"""`x402-mpp import`: settings of ours from a server that takes x402 today, and what differs."""

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

__all__ = ["import_command"]

ASSUMED_FACILITATOR = "https://x402.org/facilitator"
MAX_DOCUMENT = 4 * 1024 * 1024
"""The longest document that is fetched, in bytes."""


@click.command("import")
@click.option("--module", metavar="FILE[:NAME]", help="A Python file with the x402 SDK's route table. It is run.")
@click.option("--python", metavar="PATH", help="The Python that can import it, with --module.", show_default="this one")
@click.option("--routes", metavar="FILE", help="A route table of the TypeScript SDK, as JSON.")
@click.option("--openapi", metavar="FILE|URL", help="An OpenAPI document with x-payment-info.")
@click.option("--url", metavar="URL", help="A live server: its 402s are read, nothing is paid.")
@click.option(
    "--path", "paths", multiple=True, metavar="PATH", help='With --url: ask for this, as "POST /echo". Several.'
)
@click.option("--pay-to", metavar="ADDRESS", help="Who is paid, where the source does not say.")
@click.option("--network", metavar="NAME", help="The chain, where the source does not say.")
@click.option("--settler", metavar="SPEC", help="Who settles: facilitator:URL, or null. Else as the source says.")
@click.option(
    "--write", metavar="FILE", type=click.Path(dir_okay=False), help="Write a Python file that can be served."
)
@click.option(
    "--partial", is_flag=True, help="With --write: leave out routes that cannot be carried. They will be free."
)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Output."
)
def import_command(
    module: str | None,
    python: str | None,
    routes: str | None,
    openapi: str | None,
    url: str | None,
    paths: tuple[str, ...],
    pay_to: str | None,
    network: str | None,
    settler: str | None,
    write: str | None,
    partial: bool,
    form: str,
) -> None:
    """Read an x402 server's prices, and say what carries over.

    Shows the settings and routes that make the same offers, what has no place in them, and what clients will see
    change. Exits with 1 where a route cannot be carried: it would be free.
    """
    sources = {"--module": module, "--routes": routes, "--openapi": openapi, "--url": url}
    chosen = {option: place for option, place in sources.items() if place}
    if len(chosen) != 1:
        raise click.UsageError(f"say what to read, with one of {', '.join(sources)}")
    if (python and not module) or (paths and not url):
        raise click.UsageError("--python goes with --module, and --path with --url")
    ((option, place),) = chosen.items()
    try:
        if module:
            read = read_module(module, python)
        elif routes:
            read = _read_table(routes, pay_to)
        elif openapi:
            if pay_to is None or network is None:
                raise click.UsageError("an OpenAPI document names neither: give --pay-to and --network")
            read = read_openapi(_document(openapi), pay_to=pay_to, network=network)
        else:
            read = probe(place, paths)
        table = build_table(read, _given(read, settler, pay_to, network))
    except (ValueError, OSError, httpx.HTTPError, msgspec.DecodeError) as error:
        raise click.ClickException(str(error)) from None
    diff = compare(table)
    click.echo(msgspec.json.format(msgspec.json.encode(diff)).decode() if form == "json" else "\n".join(_lines(diff)))
    if table.refused and not partial:
        click.get_current_context().exit(1)
    if write is not None:
        _write(table, f"{option.removeprefix('--')} {place}", Path(write))


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


def _line(note: Note) -> str:
    return f"  {note.route or 'every route'}: {note.what}: {note.says}"
