"""A check from its command line's options to its text and exit code."""

import asyncio
import json
import os
import re
import textwrap
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import click
from msgspec.structs import replace

from bridge.check.gather import gather
from bridge.check.network import CheckError, Network, Request
from bridge.check.paying import Purse, pay_in_each
from bridge.check.report import Report, as_json, as_junit, as_table
from bridge.clock import system_clock
from translators.lint.known import split_url
from translators.lint.rule import Severity
from translators.lint.table import GROUPS, RULES, lint
from translators.payment import Protocol

__all__ = ["KEY_VARIABLE", "CheckError", "rules_text", "run"]

KEY_VARIABLE = "X402_MPP_PRIVATE_KEY"
"""Where the payer's key is: a command line is for everybody to read."""

_FORMS = {"table": as_table, "json": as_json, "junit": as_junit}


def run(
    url: str,
    *,
    method: str | None,
    headers: Sequence[str],
    data: str | None,
    expect: Sequence[str],
    rpc_url: str | None,
    follow: bool,
    connect_to: str | None,
    timeout: float,
    ignore: Sequence[str],
    fail_on: str,
    form: str,
    pay: bool = False,
    limit: str = "0.10",
    real_money: bool = False,
    rules: bool = False,
) -> tuple[str, int]:
    """The findings as text, and the exit code. Raises `CheckError`, and click's errors for options that cannot be."""
    unknown = set(ignore) - {rule.id for rule in RULES}
    if unknown:
        raise click.BadParameter(
            f"no such rule: {', '.join(sorted(unknown))}; --rules lists them", param_hint="--ignore"
        )
    request = _request(url, method, headers, data)
    purse = _purse(limit, real_money=real_money) if pay else None

    async def work() -> Report:
        async with Network(timeout_seconds=timeout, follow=follow, connect_to=connect_to) as network:
            probe, notes = await gather(
                network,
                request,
                clock=system_clock,
                rpc_url=rpc_url,
                expected=[Protocol(name) for name in expect],
            )
            if purse is not None and probe.answer.status == 402:
                paid, unpaid = await pay_in_each(network, request, probe, purse, clock=system_clock, rpc_url=rpc_url)
                probe, notes = replace(probe, paid=paid), notes + unpaid
        return Report(
            probe,
            tuple(lint(probe, ignore)),
            tuple(ignore),
            tuple(notes),
            None if fail_on == "never" else Severity(fail_on),
        )

    report = asyncio.run(work())
    return _FORMS[form](report), report.exit_code


def _purse(limit: str, *, real_money: bool) -> Purse:
    key = os.environ.get(KEY_VARIABLE)
    if not key:
        raise click.UsageError(f"--pay needs the payer's private key in {KEY_VARIABLE}")
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,18})?", limit) is None or not Fraction(limit):
        raise click.BadParameter(f'{limit!r} is no amount of money, such as "0.10"', param_hint="--limit")
    return Purse(key, limit, real_money)


def _request(url: str, method: str | None, headers: Sequence[str], data: str | None) -> Request:
    url = url if "://" in url else f"https://{url}"
    if split_url(url) is None:
        raise click.BadParameter(f"{url} is no http or https URL", param_hint="URL")
    pairs = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip() or not (name + value).isascii() or not (name + value).isprintable():
            # Not quoted: it may hold a token, and a log of CI keeps what is printed.
            raise click.BadParameter("write NAME:VALUE, in printable ASCII", param_hint="--header")
        pairs.append((name.strip(), value.strip()))
    body = b"" if data is None else _body(data)
    if body and not any(name.lower() == "content-type" for name, _ in pairs):
        pairs.append(("Content-Type", "application/json" if _is_json(body) else "application/octet-stream"))
    return Request(url, (method or ("POST" if data is not None else "GET")).upper(), tuple(pairs), body)


def _body(data: str) -> bytes:
    if not data.startswith("@"):
        return data.encode()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{data[1:]}: {error.strerror}", param_hint="--data") from None


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def rules_text() -> str:
    """Every rule, by what it is about."""
    lines: list[str] = []
    for group, rules in GROUPS.items():
        lines += ["", group] if lines else [group]
        for rule in rules:
            lead = f"  {rule.id:<24}{rule.severity.value:<8}{rule.kind.value:<7}"
            lines += textwrap.wrap(rule.title, 80, initial_indent=lead, subsequent_indent=" " * len(lead))
    return "\n".join(lines)
