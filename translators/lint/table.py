"""The one table of rules, and a probe held against it."""

from collections.abc import Sequence

from translators.lint import (
    rules_binding,
    rules_body,
    rules_browser,
    rules_discovery,
    rules_mpp,
    rules_paid,
    rules_resource,
    rules_route,
    rules_terms,
    rules_x402,
)
from translators.lint.probe import Probe
from translators.lint.reading import Reading
from translators.lint.rule import Finding, Rule

__all__ = ["GROUPS", "RULES", "lint", "rules_for"]

GROUPS: dict[str, tuple[Rule, ...]] = {
    "Before the 402": rules_route.BEFORE_402,
    "The answer as HTTP": rules_route.RULES,
    "Browsers": rules_browser.RULES,
    "The body": rules_body.RULES,
    "x402's envelopes": rules_x402.RULES,
    "MPP's challenges": rules_mpp.RULES,
    "What a challenge is bound to": rules_binding.RULES,
    "What is asked for": rules_terms.RULES,
    "What the chain says (--rpc-url)": rules_terms.ON_CHAIN,
    "The resource": rules_resource.RULES,
    "Discovery": rules_discovery.RULES,
    "After a payment (--pay)": rules_paid.RULES,
}

RULES: tuple[Rule, ...] = tuple(rule for group in GROUPS.values() for rule in group)


def rules_for(probe: Probe, ignore: Sequence[str] = ()) -> list[Rule]:
    """The rules that can be asked: where there is no 402 only why there is none, and nothing about what is absent."""
    if probe.answer.status != 402:
        asked: tuple[Rule, ...] = rules_route.BEFORE_402
    else:
        left_out: tuple[Rule, ...] = () if probe.paid else rules_paid.RULES
        left_out += () if probe.openapi is not None and probe.openapi.status == 200 else rules_discovery.RULES
        left_out += () if probe.tokens else rules_terms.ON_CHAIN
        asked = tuple(rule for rule in RULES if rule not in left_out)
    return [rule for rule in asked if rule.id not in ignore]


def lint(probe: Probe, ignore: Sequence[str] = ()) -> list[Finding]:
    """Every finding of the rules that can be asked and are not in `ignore`, the worst first."""
    reading = Reading(probe)
    findings = [Finding(rule, detail) for rule in rules_for(probe, ignore) for detail in rule.check(reading)]
    return sorted(findings, key=lambda finding: -finding.rule.severity.rank)
