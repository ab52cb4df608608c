"""A rule and what it finds: how bad it is, who says so, and what to do about it."""

from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from translators.lint.reading import Reading

__all__ = ["Finding", "Kind", "Rule", "Severity"]


class Severity(StrEnum):
    """What a finding costs, the worst first."""

    ERROR = "error"
    """Some client cannot pay, or money can go astray."""
    WARNING = "warning"
    """Some clients, proxies or browsers will have trouble, or a text is broken that they rely on."""
    INFO = "info"
    """Worth knowing; nobody is kept from paying."""

    @property
    def rank(self) -> int:
        """0 for info, 2 for error."""
        return {"error": 2, "warning": 1, "info": 0}[self.value]


class Kind(StrEnum):
    """Who asks for it: a specification in one of its two voices, or we."""

    MUST = "must"
    SHOULD = "should"
    ADVICE = "advice"


class Rule(msgspec.Struct, frozen=True):
    """One thing that can be wrong. `check` yields a sentence for each time that it is; none is good.

    `clause` names the specification's section, or for advice the source that it rests on.
    """

    id: str
    severity: Severity
    kind: Kind
    title: str
    clause: str
    remedy: str
    check: Callable[[Reading], Iterable[str]]


class Finding(msgspec.Struct, frozen=True):
    """One rule, broken once; `detail` says by what."""

    rule: Rule
    detail: str
