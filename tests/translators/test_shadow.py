"""The shadow: what MPP would have made of a payment that came in x402."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.translators import samples
from tests.translators.samples import CHALLENGE_KEY, NOW, OFFER, REALM, ROUTE, authorization, challenge
from translators.errors import PaymentError, PaymentExpired, VerificationFailed
from translators.payment import ForeignTerms, Payment, Protocol
from translators.shadow import Disagreement, compare, compare_refusal, nearest_offer, read_x402
from translators.wire.mpp import encode_challenge


def tried(payment: Payment, **changes: Any) -> None:
    terms: dict[str, Any] = {
        "offer": OFFER,
        "header": encode_challenge(challenge()),
        "now": NOW,
        "keys": [CHALLENGE_KEY],
        "realm": REALM,
        "bound_to": ROUTE,
        "clock_skew": 5.0,
    }
    compare(payment, **{**terms, **changes})


@pytest.mark.parametrize("payment", [samples.payment_v1(), samples.payment_v2()])
def test_a_good_payment_is_as_good_in_mpp(payment: Payment) -> None:
    """Of either version: the challenge is read back, the credential too, and every check says yes."""
    tried(payment)


def test_a_wallets_signature_is_left_to_the_chain() -> None:
    """As it is in x402."""
    tried(samples.payment_v1(replace(authorization(), signature=b"\x01" * 200)))


OTHER_OFFER = replace(OFFER, amount=20_000)
FOREIGN = replace(OFFER, foreign=ForeignTerms("upto", "eip155:84532", "permit2", "{}"))

DISAGREEMENTS: list[tuple[str, Payment, dict[str, Any]]] = [
    ("offer", samples.payment_v2(), {"offer": FOREIGN}),
    ("challenge", samples.payment_v2(), {"header": "Basic realm=x"}),
    ("challenge", samples.payment_v2(), {"keys": [b"another secret, of 32 bytes and more"]}),
    ("challenge", samples.payment_v2(), {"realm": "elsewhere"}),
    ("challenge", samples.payment_v2(), {"bound_to": "POST /report"}),
    ("challenge", samples.payment_v2(), {"now": NOW + 61.5}),
    ("terms", samples.payment_v2(), {"offer": OTHER_OFFER}),
    ("terms", samples.payment_v2(), {"offer": replace(OFFER, recipient="0x" + "11" * 20)}),
    ("terms", samples.payment_v2(), {"offer": replace(OFFER, asset=replace(OFFER.asset, decimals=18))}),
    ("verdict", samples.payment_v1(authorization(value=9_999)), {}),
    ("verdict", samples.payment_v1(authorization(recipient="0x" + "11" * 20)), {}),
    ("identity", replace(samples.payment_v1(), asset="0x" + "11" * 20), {}),
    ("checks", samples.payment_v1(authorization(valid_after=NOW + 30)), {}),
    ("checks", samples.payment_v1(authorization(valid_before=NOW + 1)), {}),
]


@pytest.mark.parametrize(("where", "payment", "changes"), DISAGREEMENTS)
def test_a_disagreement_says_where(where: str, payment: Payment, changes: dict[str, Any]) -> None:
    """At each step, and without the signature."""
    with pytest.raises(Disagreement) as raised:
        tried(payment, **changes)
    assert raised.value.where == where
    assert payment.authorization.signature.hex() not in raised.value.detail


def refused(payment: Payment, refusal: PaymentError) -> None:
    offer = nearest_offer(payment, [FOREIGN, OFFER])
    assert offer == OFFER
    terms: dict[str, Any] = {"keys": [CHALLENGE_KEY], "realm": REALM, "bound_to": ROUTE, "clock_skew": 5.0}
    compare_refusal(payment, OFFER, refusal, encode_challenge(challenge()), NOW, **terms)


@pytest.mark.parametrize(
    "payment",
    [
        samples.payment_v1(authorization(value=9_999)),
        samples.payment_v2(authorization(valid_before=NOW - 1)),
        samples.payment_v2(authorization(recipient="0x" + "11" * 20)),
        samples.payment_v2(replace(authorization(), signature=b"\x01" * 65)),
        replace(samples.payment_v2(authorization()), chain_id=1),
    ],
)
def test_what_both_refuse_is_no_disagreement(payment: Payment) -> None:
    """Each in its own words."""
    refused(payment, VerificationFailed("no"))


def test_what_mpp_would_take_is_said() -> None:
    """With x402's word for it; but for what only x402 compares."""
    with pytest.raises(Disagreement, match="x402 refuses it as payment-expired") as raised:
        refused(samples.payment_v2(), PaymentExpired("late"))
    assert raised.value.where == "verdict"
    refused(samples.payment_v2(), VerificationFailed("another resource", reason="invalid_payment_requirements"))


def test_a_credential_is_read_as_far_as_it_can_be() -> None:
    """Of both versions; else there is nothing to compare."""
    v1 = read_x402(Protocol.X402_V1, samples.credential_header_v1().encode(), [OFFER])
    v2 = read_x402(Protocol.X402_V2, samples.credential_header_v2().encode(), [OFFER])
    assert v1 is not None
    assert v2 is not None
    assert v1.authorization == v2.authorization == samples.payment_v1().authorization
    assert read_x402(Protocol.X402_V2, b"e30=", [OFFER]) is None
    assert nearest_offer(v1, [FOREIGN]) is None
