"""The one check that every payment passes: each way to fail, with its class, its reason, and the boundary beside it."""

from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from tests.translators.samples import (
    NOW,
    OFFER,
    OTHER_TEST_KEY,
    RECIPIENT,
    USDC,
    authorization,
    payment_mpp,
    payment_v1,
    payment_v2,
)
from translators.checks import MIN_VALIDITY_SECONDS, check_payment, check_terms, check_window, is_proven
from translators.errors import (
    MethodUnsupported,
    PaymentError,
    PaymentExpired,
    PaymentInsufficient,
    VerificationFailed,
)
from translators.networks import KNOWN_TOKENS
from translators.payment import Offer, Payment

ELSEWHERE = "0x" + "01" * 20
SIGNATURE = "invalid_exact_evm_payload_signature"
VALUE = "invalid_exact_evm_payload_authorization_value_mismatch"
AFTER = "invalid_exact_evm_payload_authorization_valid_after"
BEFORE = "invalid_exact_evm_payload_authorization_valid_before"

CHEAP = replace(OFFER, amount=500)
ON_BASE = replace(OFFER, asset=KNOWN_TOKENS[0])
OTHER_TOKEN = replace(OFFER, asset=replace(USDC, address=ELSEWHERE))
OTHER_RECIPIENT = replace(OFFER, recipient=ELSEWHERE)


@dataclass
class Terms:
    """An authorization's fields that differ from a good one's, the offers, and what comes of it."""

    outcome: Offer | tuple[type[PaymentError], str]
    offers: list[Offer] = field(default_factory=lambda: [OFFER])
    signed: dict[str, object] = field(default_factory=dict)


TERMS = {
    "exactly": Terms(OFFER),
    "one less": Terms((PaymentInsufficient, VALUE), signed={"value": 9_999}),
    "one more": Terms((VerificationFailed, VALUE), signed={"value": 10_001}),
    "nothing": Terms((PaymentInsufficient, VALUE), signed={"value": 0}),
    "everything": Terms((VerificationFailed, VALUE), signed={"value": 2**256 - 1}),
    "to another": Terms(
        (VerificationFailed, "invalid_exact_evm_payload_recipient_mismatch"), signed={"recipient": ELSEWHERE}
    ),
    "on another network": Terms((MethodUnsupported, "invalid_network"), [ON_BASE]),
    "in another asset": Terms((VerificationFailed, "invalid_payment_requirements"), [OTHER_TOKEN]),
    "nothing is offered": Terms((MethodUnsupported, "invalid_network"), []),
    "the second offer": Terms(OFFER, [CHEAP, OFFER]),
    "the first of two alike": Terms(OFFER, [OFFER, replace(OFFER, max_timeout_seconds=1)]),
    "the cheaper of two": Terms(CHEAP, [OFFER, CHEAP], {"value": 500}),
    "between two prices": Terms((VerificationFailed, VALUE), [OFFER, CHEAP], {"value": 501}),
    "below both": Terms((PaymentInsufficient, VALUE), [OFFER, CHEAP], {"value": 499}),
    "one network among several": Terms(OFFER, [ON_BASE, OFFER]),
    "one token among several": Terms(OFFER, [OTHER_TOKEN, OFFER]),
    "one recipient among several": Terms(OFFER, [OTHER_RECIPIENT, OFFER]),
    "price of one recipient to another": Terms(
        (PaymentInsufficient, VALUE),
        [OFFER, replace(OTHER_RECIPIENT, amount=500)],
        {"value": 500, "recipient": RECIPIENT},
    ),
}


@pytest.mark.parametrize("case", TERMS)
def test_terms(case: str) -> None:
    """An offer is found by network, asset, recipient and the exact amount, or the nearest miss is named."""
    terms = TERMS[case]
    payment = payment_v1(authorization(**terms.signed))
    if isinstance(terms.outcome, Offer):
        assert check_terms(payment, terms.offers) is not None
        assert check_payment(payment, terms.offers, NOW) == terms.outcome
        return
    error, reason = terms.outcome
    for check in (lambda: check_terms(payment, iter(terms.offers)), lambda: check_payment(payment, terms.offers, NOW)):
        with pytest.raises(error) as caught:
            check()
        assert type(caught.value) is error
        assert caught.value.reason == reason


WINDOWS = [
    # valid after, valid before, now, clock skew, reason of refusal
    (0, NOW + 60, NOW, 0, None),
    (NOW - 1, NOW + 60, NOW, 0, None),
    (NOW, NOW + 60, NOW, 0, AFTER),
    (NOW, NOW + 60, NOW + 0.001, 0, None),
    (NOW + 1, NOW + 60, NOW, 0, AFTER),
    (NOW + 4, NOW + 60, NOW, 5, None),
    (NOW + 5, NOW + 60, NOW, 5, AFTER),
    (2**256 - 1, 2**256 - 1, NOW, 5, AFTER),
    (0, NOW + MIN_VALIDITY_SECONDS, NOW, 0, None),
    (0, NOW + MIN_VALIDITY_SECONDS - 1, NOW, 0, BEFORE),
    (0, NOW + MIN_VALIDITY_SECONDS, NOW + 0.001, 0, BEFORE),
    (0, NOW + MIN_VALIDITY_SECONDS - 1, NOW, 60, BEFORE),
    (0, NOW, NOW, 0, BEFORE),
    (0, 0, NOW, 0, BEFORE),
    (0, 2**256 - 1, NOW, 0, None),
    (NOW + 10, NOW + 5, NOW, 0, AFTER),
]


@pytest.mark.parametrize(("after", "before", "now", "skew", "reason"), WINDOWS)
def test_window(after: int, before: int, now: float, skew: float, reason: str | None) -> None:
    """The window is open strictly after its start, and until there is just time left to settle."""
    payment = payment_v1(authorization(valid_after=after, valid_before=before))
    for check in (
        lambda: check_window(payment, now, clock_skew=skew),
        lambda: check_payment(payment, [OFFER], now, clock_skew=skew),
    ):
        if reason is None:
            check()
            continue
        with pytest.raises(PaymentExpired if reason == BEFORE else VerificationFailed) as caught:
            check()
        assert caught.value.reason == reason


@pytest.mark.parametrize("payment", [payment_v1(), payment_v2(), payment_mpp()])
def test_every_protocol_passes_the_same_check(payment: Payment) -> None:
    """A good payment passes, whatever protocol carried it."""
    assert check_payment(payment, [ON_BASE, OFFER], NOW) == OFFER


def with_signature(signature: bytes) -> Payment:
    fields = {name: getattr(authorization(), name) for name in authorization().__struct_fields__}
    return payment_v1(type(authorization())(**{**fields, "signature": signature}))


@pytest.mark.parametrize(
    "signature", [bytes(65), authorization(key=OTHER_TEST_KEY).signature, authorization(value=9_999).signature]
)
def test_signature_of_a_key(signature: bytes) -> None:
    """65 bytes must be the payer's own signature over this very authorization."""
    with pytest.raises(VerificationFailed) as caught:
        check_payment(with_signature(signature), [OFFER], NOW)
    assert caught.value.reason == SIGNATURE


@pytest.mark.parametrize("length", [1, 64, 66, 500])
def test_signature_of_a_contract(length: int) -> None:
    """Any other length is a contract wallet's, and is left to the chain."""
    assert check_payment(with_signature(b"\x01" * length), [OFFER], NOW) == OFFER


def test_signature_of_a_wallets_owner() -> None:
    """65 bytes by another key pass only where contract wallets are asked for, and are proven by nobody yet."""
    by_owner = with_signature(authorization(key=OTHER_TEST_KEY).signature)
    assert check_payment(by_owner, [OFFER], NOW, contract_wallets=True) == OFFER
    assert not is_proven(by_owner, OFFER)
    assert check_payment(payment_v1(), [OFFER], NOW, contract_wallets=True) == OFFER


GOOD = authorization().signature
HIGH_S = (2**256 - 1).to_bytes(32, "big")


@pytest.mark.parametrize(
    "signature",
    [bytes(65), GOOD[:64] + b"\x1d", GOOD[:64] + b"\x02", GOOD[:32] + HIGH_S + GOOD[64:], bytes(32) + GOOD[32:]],
    ids=["zeros", "v of 29", "v of 2", "high s", "r of nobody"],
)
def test_malformed_signature(signature: bytes) -> None:
    """65 bytes that no token takes are refused here, contract wallets or not."""
    for wallets in (False, True):
        with pytest.raises(VerificationFailed) as caught:
            check_payment(with_signature(signature), [OFFER], NOW, contract_wallets=wallets)
        assert caught.value.reason == SIGNATURE
    assert not is_proven(with_signature(signature), OFFER)


def test_proven() -> None:
    """Only the payer's own 65 bytes prove anything, in either spelling of v, whatever terms and window say."""
    assert all(is_proven(payment, OFFER) for payment in (payment_v1(), payment_v2(), payment_mpp()))
    assert is_proven(with_signature(GOOD[:64] + bytes((GOOD[64] - 27,))), OFFER)
    assert is_proven(payment_v1(authorization(valid_before=0, value=1)), OFFER)
    assert not is_proven(with_signature(authorization(value=9_999).signature), OFFER)
    assert not is_proven(payment_v1(), OTHER_TOKEN)
    for length in (0, 1, 64, 66, 500):
        assert not is_proven(with_signature(b"\x01" * length), OFFER)


def test_order_of_checks() -> None:
    """Terms are told before the window, the window before the signature: the cheap refusals first."""
    bad = replace(authorization(value=1, valid_before=0), signature=bytes(65))
    with pytest.raises(PaymentInsufficient):
        check_payment(payment_v1(bad), [OFFER], NOW)
    with pytest.raises(PaymentExpired):
        check_payment(payment_v1(replace(bad, value=10_000)), [OFFER], NOW)
    with pytest.raises(VerificationFailed, match="signature"):
        check_payment(payment_v1(replace(bad, value=10_000, valid_before=NOW + 60)), [OFFER], NOW)
