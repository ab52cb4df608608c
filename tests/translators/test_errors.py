"""The error tree: every class answers in both families, in words that the specifications know."""

import re

import pytest

from translators import errors
from translators.errors import PaymentError, Unavailable

# draft-httpauth-payment-00, section "Error Codes": code and status
MPP_PROBLEMS = {
    "payment-required": 402,
    "payment-insufficient": 402,
    "payment-expired": 402,
    "verification-failed": 402,
    "method-unsupported": 400,
    "malformed-credential": 402,
    "invalid-challenge": 402,
}
# No draft has a type for these.
OWN_PROBLEMS = {"payment-unavailable": 503, "payment-outcome-unknown": 503, "idempotency-conflict": 409}

# x402 v2, section 9
X402_REASONS = {
    *("insufficient_funds", "invalid_network", "invalid_payload", "invalid_payment_requirements", "invalid_scheme"),
    *("unsupported_scheme", "invalid_x402_version", "invalid_transaction_state", "unexpected_verify_error"),
    "unexpected_settle_error",
    *(f"invalid_exact_evm_payload_authorization_{what}" for what in ("valid_after", "valid_before", "value_mismatch")),
    *(f"invalid_exact_evm_payload_{what}" for what in ("signature", "recipient_mismatch")),
}
OTHER_REASONS = {
    *("payment_required", "invalid_exact_evm_nonce_already_used", "idempotency_conflict", "protocol_refused"),
}


def tree(root: type[PaymentError] = PaymentError) -> list[type[PaymentError]]:
    return [
        root,
        *(below for child in root.__subclasses__() if child.__module__ == errors.__name__ for below in tree(child)),
    ]


CLASSES = tree()


@pytest.mark.parametrize("cls", CLASSES)
def test_answers(cls: type[PaymentError]) -> None:
    """Slug and status are the draft's; or ours, under our own base, the same in both; the reason is a known word."""
    error = cls("what happened")
    if error.slug in OWN_PROBLEMS:
        assert (error.mpp_status, error.x402_status) == (OWN_PROBLEMS[error.slug],) * 2
        assert error.base == errors.OWN_PROBLEM_BASE
    else:
        assert error.base == errors.PROBLEM_BASE
        allowed = {MPP_PROBLEMS[error.slug]} | ({400} if cls is errors.AmbiguousCredentials else set())
        assert error.mpp_status in allowed
        assert error.x402_status in (400, 402)
    assert isinstance(error, Unavailable) == (error.x402_status == 503)
    assert getattr(error, "retry_after", 1) > 0
    assert error.reason in X402_REASONS | OTHER_REASONS
    assert error.title
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", error.slug)


def test_malformed_is_400_in_x402_and_402_in_mpp() -> None:
    """Each text for its own header, for every kind of malformed."""
    for cls in tree(errors.MalformedError):
        assert (cls.x402_status, cls.mpp_status) == (400, 402)


def test_reason_may_be_given() -> None:
    """A reason given wins over the class's; the detail is what is printed."""
    error = errors.VerificationFailed("to another", reason="invalid_exact_evm_payload_recipient_mismatch")
    assert (error.reason, error.detail, str(error)) == (
        "invalid_exact_evm_payload_recipient_mismatch",
        "to another",
        "to another",
    )


def test_picture_of_the_tree() -> None:
    """The tree in the docstring is the tree in the code: every class, once, under its parent."""
    drawn = re.findall(r"^    ([ |]*)(?:\+- )?([A-Z]\w+)(?: {2,}\S.*)?$", errors.__doc__, re.MULTILINE)
    parents: list[str] = []
    found = {}
    for indent, name in drawn:
        depth = 0 if name == "PaymentError" else (len(indent) - 1) // 4 + 1
        parents[depth:] = [name]
        found[name] = parents[depth - 1] if depth else "Exception"
    assert len(drawn) == len(found)
    assert found == {cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES}
