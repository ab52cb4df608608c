"""A check's findings for a person, a script and a test runner."""

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import msgspec

from translators.binding import parse_time
from translators.errors import MalformedError
from translators.explain.words import money
from translators.lint.probe import Probe
from translators.lint.reading import Reading, Term
from translators.lint.rule import Finding, Rule, Severity
from translators.lint.rules_route import block_size
from translators.lint.table import rules_for
from translators.networks import KNOWN_TOKENS, v1_network
from translators.payment import Protocol

__all__ = ["EXIT_CODES", "Report", "as_json", "as_junit", "as_table", "plain"]

EXIT_CODES = {Severity.INFO: 3, Severity.WARNING: 4, Severity.ERROR: 5}
"""What the command ends with, by its worst finding; 1 and 2 are taken by errors and usage."""

_WIDTH = 80
_MOST = 5
"""Of one rule broken many times, so many are shown."""


class Report(msgspec.Struct, frozen=True):
    """What a check found; `fail_on` is the least severity that makes the command fail, None for none."""

    probe: Probe
    findings: tuple[Finding, ...]
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fail_on: Severity | None = Severity.ERROR

    @property
    def exit_code(self) -> int:
        """0 where nothing is as bad as `fail_on`."""
        worst = max((finding.rule.severity for finding in self.findings), key=lambda s: s.rank, default=None)
        if worst is None or self.fail_on is None or worst.rank < self.fail_on.rank:
            return 0
        return EXIT_CODES[worst]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that were asked."""
        return tuple(rules_for(self.probe, self.ignored))


def plain(text: str) -> str:
    """Text of a server's, without what a terminal or an XML reader would take for more than text."""
    return "".join(c if c.isprintable() else "?" for c in text)


# For a person


def as_table(report: Report) -> str:
    """Lines of at most 80 columns, URLs and hashes left whole."""
    return "\n".join([*_summary(report), "", *_findings(report), *_count(report)])


def _summary(report: Report) -> Iterator[str]:
    probe, reading = report.probe, Reading(report.probe)
    yield plain(f"{probe.method} {probe.answer.url} -> {probe.answer.status}")
    if probe.answer.status != 402:
        return
    for protocol in Protocol:
        terms = reading.terms_of(protocol)
        if protocol not in reading.speaks:
            said = "not spoken"
        elif not terms:
            said = "a challenge that offers nothing readable"
        else:
            said = offer_text(terms[0], report.probe)
            if len(terms) > 1:
                said += f", and {len(terms) - 1} more"
        yield from _wrapped(f"  {protocol.value:<10}", plain(said))
    yield from _wrapped("  headers   ", f"{block_size(probe.answer)} bytes")
    yield from _wrapped("  discovery ", _discovery(reading))
    for paid in probe.paid:
        yield from _wrapped("  paid      ", f"{paid.protocol.value}: {paid.answer.status}{_moved(paid.spent)}")
    for note in report.notes:
        yield from _wrapped("  note      ", plain(note))


def _moved(spent: int | None) -> str:
    return "" if spent is None else f", {spent} atomic units moved"


def offer_text(term: Term, probe: Probe) -> str:
    """What an offer asks, in words."""
    token = next((t for t in KNOWN_TOKENS if (t.chain_id, t.address) == term.key), None)
    facts = next((f for f in probe.tokens if (f.chain_id, f.address.lower()) == term.key), None)
    decimals = token.decimals if token else facts.decimals if facts else None
    name = token.symbol if token else term.asset or "an unnamed token"
    if decimals is not None and re.fullmatch(r"[0-9]{1,78}", term.amount):
        amount = f"{money(int(term.amount), decimals)} {name}"
    else:
        amount = f"{term.amount or '?'} atomic units of {name}"
    network = (v1_network(term.chain_id) if term.chain_id is not None else None) or term.network or "?"
    return f"{amount} on {network}, to {term.recipient or '?'}{_expiry(term, probe)}"


def _expiry(term: Term, probe: Probe) -> str:
    if term.protocol is not Protocol.MPP:
        return ""
    number = int(term.where.rpartition(" ")[2]) - 1
    try:
        left = parse_time(Reading(probe).challenges[number].params["expires"]) - probe.at
    except (KeyError, IndexError, MalformedError):
        return ""
    return f", for {left:.0f} s" if left >= 0 else ", expired"


def _discovery(reading: Reading) -> str:
    exchange = reading.probe.openapi
    if exchange is None or exchange.status != 200:
        return "none at /openapi.json"
    if reading.openapi is None:
        return "/openapi.json, unreadable"
    paths = reading.openapi.get("paths")
    items = [item for item in paths.values() if isinstance(item, dict)] if isinstance(paths, dict) else []
    operations = [value for item in items for value in item.values() if isinstance(value, dict)]
    return f"/openapi.json, {sum('x-payment-info' in o for o in operations)} of {len(operations)} operations priced"


def _findings(report: Report) -> Iterator[str]:
    for rule, found in _by_rule(report.findings):
        yield from _wrapped(f"{rule.severity.value:<8}", f"{rule.title}  [{rule.id}, {rule.kind.value}]")
        for finding in found[:_MOST]:
            yield from _wrapped("        - ", plain(finding.detail))
        if len(found) > _MOST:
            yield f"        - and {len(found) - _MOST} more"
        yield from _wrapped("        clause: ", rule.clause)
        yield from _wrapped("        remedy: ", rule.remedy)
        yield ""


def _by_rule(findings: Sequence[Finding]) -> Iterator[tuple[Rule, list[Finding]]]:
    for _, group in groupby(findings, key=lambda finding: finding.rule.id):
        found = list(group)
        yield found[0].rule, found


def _count(report: Report) -> Iterator[str]:
    counted = dict.fromkeys(Severity, 0)
    for rule, _ in _by_rule(report.findings):
        counted[rule.severity] += 1
    errors, warnings, infos = counted.values()
    told = f"{errors} error{_s(errors)}, {warnings} warning{_s(warnings)}, {infos} info"
    yield f"{told}; {len(report.rules)} rules asked."


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _wrapped(lead: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [lead.rstrip()]


# For a script


def as_json(report: Report) -> str:
    """One JSON object."""
    probe, reading = report.probe, Reading(report.probe)
    told: dict[str, Any] = {
        "url": probe.answer.url,
        "method": probe.method,
        "status": probe.answer.status,
        "speaks": reading.speaks if probe.answer.status == 402 else [],
        "offers": [_offer(term) for term in reading.terms] if probe.answer.status == 402 else [],
        "header_bytes": block_size(probe.answer),
        "paid": [
            {"protocol": paid.protocol, "status": paid.answer.status, "spent": paid.spent, "amount": paid.amount}
            for paid in probe.paid
        ],
        "findings": [_finding(finding) for finding in report.findings],
        "rules_asked": [rule.id for rule in report.rules],
        "notes": list(report.notes),
        "exit_code": report.exit_code,
    }
    # A lone surrogate, which a server may send, is written as JSON writes it.
    return json.dumps(told, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _offer(term: Term) -> dict[str, Any]:
    return {
        "protocol": term.protocol,
        "network": term.network,
        "chain_id": term.chain_id,
        "asset": term.asset,
        "amount": term.amount,
        "recipient": term.recipient,
    }


def _finding(finding: Finding) -> dict[str, str]:
    rule = finding.rule
    return {
        "rule": rule.id,
        "severity": rule.severity.value,
        "kind": rule.kind.value,
        "title": rule.title,
        "detail": finding.detail,
        "clause": rule.clause,
        "remedy": rule.remedy,
    }


# For a test runner


def as_junit(report: Report) -> str:
    """JUnit's XML: a test case for each rule, failed where it found something as bad as `fail_on`."""
    found = {rule.id: findings for rule, findings in _by_rule(report.findings)}
    cases, failures = [], 0
    for rule in report.rules:
        opening = f"  <testcase classname={quoteattr('x402-mpp.' + rule.kind.value)} name={quoteattr(rule.id)}"
        if rule.id not in found:
            cases.append(f"{opening}/>")
            continue
        text = "\n".join(plain(finding.detail) for finding in found[rule.id])
        text = escape(f"{text}\nclause: {rule.clause}\nremedy: {rule.remedy}")
        if report.fail_on is not None and rule.severity.rank >= report.fail_on.rank:
            failures += 1
            message = quoteattr(f"{rule.severity.value}: {rule.title}")
            inner = f"<failure type={quoteattr(rule.severity.value)} message={message}>{text}</failure>"
        else:
            inner = f"<system-out>{escape(rule.severity.value)}: {escape(rule.title)}\n{text}</system-out>"
        cases.append(f"{opening}>{inner}</testcase>")
    name = quoteattr(plain(f"{report.probe.method} {report.probe.answer.url}"))
    head = f'<testsuite name={name} tests="{len(cases)}" failures="{failures}" errors="0" skipped="0">'
    return "\n".join(['<?xml version="1.0" encoding="utf-8"?>', head, *cases, "</testsuite>"])
