"""Rules about the 402's body: the problem in it, and what it says it is."""

from collections.abc import Iterator

from translators.lint.probe import Exchange
from translators.lint.reading import PROBLEM_BASE, Reading
from translators.lint.rule import Kind, Rule, Severity

__all__ = ["RULES"]

_CORE = "draft-httpauth-payment-00"


def _problem_missing(reading: Reading) -> Iterator[str]:
    if reading.speaks_mpp and not isinstance(reading.members.get("type"), str):
        yield "the body has no problem's `type`"


def _problem_type(reading: Reading) -> Iterator[str]:
    kind = reading.members.get("type")
    if reading.speaks_mpp and isinstance(kind, str) and not kind.startswith(PROBLEM_BASE):
        yield f"type is {kind[:80]}"


def _problem_status(reading: Reading) -> Iterator[str]:
    status = reading.members.get("status")
    if isinstance(reading.members.get("type"), str) and status is not None and status != 402:
        yield f"the problem's status is {status!r}, the answer's 402"


def _problem_content_type(reading: Reading) -> Iterator[str]:
    told = _media_type(reading.probe.answer)
    if reading.speaks_mpp and isinstance(reading.members.get("type"), str) and told != "application/problem+json":
        yield f"Content-Type is {told or 'absent'}"


def _media_type(answer: Exchange) -> str:
    return (answer.value("Content-Type") or "").partition(";")[0].strip().lower()


def _json_content_type(reading: Reading) -> Iterator[str]:
    told = _media_type(reading.probe.answer)
    if reading.speaks_v1 and told != "application/json" and not told.endswith("+json"):
        yield f"Content-Type is {told or 'absent'}"


def _problem_challenge(reading: Reading) -> Iterator[str]:
    told = reading.members.get("challengeId")
    ids = [challenge.params.get("id") for challenge in reading.challenges]
    if ids and told is not None and told not in ids:
        yield "the problem's challengeId is no challenge's id"


RULES = (
    Rule(
        "problem-missing",
        Severity.INFO,
        Kind.SHOULD,
        "the body is no problem",
        f"{_CORE}, Error Response Format",
        "answer with RFC 9457 problem details; v1's members may stand beside them",
        _problem_missing,
    ),
    Rule(
        "problem-type",
        Severity.INFO,
        Kind.SHOULD,
        "the problem's type is not one of MPP's",
        f"{_CORE}, Error Response Format and Error Codes",
        f"write {PROBLEM_BASE}payment-required",
        _problem_type,
    ),
    Rule(
        "problem-status",
        Severity.WARNING,
        Kind.MUST,
        "the problem names another status",
        "RFC 9457, 3.1.2",
        "write the answer's own status into the problem, or none",
        _problem_status,
    ),
    Rule(
        "problem-content-type",
        Severity.INFO,
        Kind.SHOULD,
        "the problem does not say that it is one",
        "RFC 9457, 3",
        "send Content-Type: application/problem+json",
        _problem_content_type,
    ),
    Rule(
        "v1-content-type",
        Severity.WARNING,
        Kind.ADVICE,
        "the v1 challenge does not say that it is JSON",
        "x402 transports-v1/http, Payment Required Signaling",
        "send Content-Type: application/json, or application/problem+json",
        _json_content_type,
    ),
    Rule(
        "problem-challenge-id",
        Severity.WARNING,
        Kind.ADVICE,
        "the body speaks of another challenge",
        f"{_CORE}, Examples, One-Time Charge",
        "write the id of a challenge that is sent with it; see that no cache mixes answers",
        _problem_challenge,
    ),
)
