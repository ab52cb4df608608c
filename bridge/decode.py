"""The command `x402-mpp decode`. What is heavy is imported when it runs, so that help is quick."""

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from translators.explain.explain import Explained

__all__ = ["CHECK_FAILED", "decode"]

CHECK_FAILED = 5
"""The exit code where a check found something wrong; the message was read all the same."""

_WIDTH = 80
_MARKS = {True: "ok", False: "BAD", None: "?"}


@click.command()
@click.argument("value", required=False)
@click.option("--body", metavar="TEXT|@FILE", help="The request's body, to hold a challenge's digest against.")
@click.option("--show-signatures", is_flag=True, help="Show signatures; who has one can pay in its owner's place.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an array of what was found.")
def decode(value: str | None, body: str | None, show_signatures: bool, as_json: bool) -> None:
    """Show what a payment header or body says, and whether it holds.

    VALUE is any challenge, credential or receipt of x402 v1, x402 v2 or MPP: a header with or without its name, the
    bare base64, a 402's body, or a whole dump of `curl -i` or `curl -v`. Without VALUE, or with -, standard input is
    read. What it is, is told by itself.

    Verified is what needs no secret and no chain: the signature, the time window, the nonce and the digest, canonical
    form, and that terms agree. Signatures are hidden.

    Exit codes: 0 where everything holds, 5 where a check fails, 1 for what cannot be read, 2 for a command line that
    makes no sense.
    """
    from bridge.clock import system_clock
    from translators.errors import MalformedError
    from translators.explain.explain import explain
    from translators.explain.pieces import MAX_PASTE

    paste = _read(MAX_PASTE) if value is None or value == "-" else value
    try:
        found = explain(paste, system_clock(), body=_body(body), show_signatures=show_signatures)
    except MalformedError as error:
        raise click.ClickException(f"cannot be read: {error.detail}") from None
    click.echo(_json(found) if as_json else "\n\n".join("\n".join(_lines(one)) for one in found))
    if any(check.ok is False for one in found for check in one.checks):
        sys.exit(CHECK_FAILED)


def _read(limit: int) -> str:
    if sys.stdin.isatty():
        click.echo("Paste it, and end with Ctrl-D on a line of its own.", err=True)
    # One more than the limit, so that what is too long is seen to be.
    return sys.stdin.buffer.read(limit + 1).decode("utf-8", "replace")


def _body(text: str | None) -> bytes | None:
    if text is None or not text.startswith("@"):
        return None if text is None else text.encode()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{text[1:]}: {error.strerror}", param_hint="--body") from None


def _json(found: "list[Explained]") -> str:
    told: list[dict[str, Any]] = [
        {
            "form": one.form.value,
            "where": one.where,
            "facts": [{"label": label, "text": text} for label, text in one.facts],
            "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in one.checks],
            "decoded": one.decoded,
        }
        for one in found
    ]
    # A lone surrogate is written as JSON writes it: no terminal and no file takes it.
    return json.dumps(told, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _lines(one: "Explained") -> Iterator[str]:
    yield f"{one.where}: {one.form.value}"
    for label, text in one.facts:
        yield from _wrapped(f"  {_plain(label):<11} ", _plain(text))
    if one.checks:
        yield ""
    for check in one.checks:
        yield from _wrapped(f"  {_MARKS[check.ok]:<4}{check.name:<13}", _plain(check.detail))
    if one.decoded is None:
        return
    yield ""
    yield from (f"  {_plain(line)}" for line in json.dumps(one.decoded, indent=2, ensure_ascii=False).splitlines())


def _wrapped(lead: str, text: str) -> list[str]:
    lines = textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [lead.rstrip()]


def _plain(text: str) -> str:
    """Text that somebody else wrote, without what a terminal takes for more than text."""
    return "".join(c if c.isprintable() else "?" for c in text)
