"""The one check that every payment passes, whatever protocol carried it. Pure: what the chain knows comes after it."""

from collections.abc import Iterable, Sequence

from translators.eip3009 import EOA_SIGNATURE_BYTES, check_signature
from translators.errors import MethodUnsupported, PaymentExpired, PaymentInsufficient, VerificationFailed
from translators.payment import Offer, Payment

__all__ = ["MIN_VALIDITY_SECONDS", "check_payment", "check_window", "find_offer"]

MIN_VALIDITY_SECONDS = 6
"""How long an authorization must still be valid to be settled in time; x402's official facilitator asks as much."""


def find_offer(payment: Payment, offers: Iterable[Offer]) -> Offer:
    """The offer that `payment` takes up: network, asset, recipient and exactly the amount.

    x402 v1 echoes nothing, so the terms themselves are the key. Raises, by how far the nearest offer agrees,
    `MethodUnsupported` (network), `VerificationFailed` (asset, recipient, more than the price) or
    `PaymentInsufficient` (less than the price).
    """
    authorization = payment.authorization
    candidates = [offer for offer in offers if offer.asset.chain_id == payment.chain_id]
    if not candidates:
        raise MethodUnsupported("the route is not offered on this network", reason="invalid_network")
    candidates = [offer for offer in candidates if offer.asset.address == payment.asset]
    if not candidates:
        raise VerificationFailed("the route is not offered in this asset", reason="invalid_payment_requirements")
    candidates = [offer for offer in candidates if offer.recipient == authorization.recipient]
    if not candidates:
        raise VerificationFailed(
            "the payment goes to another recipient", reason="invalid_exact_evm_payload_recipient_mismatch"
        )
    for offer in candidates:
        if offer.amount == authorization.value:
            return offer
    if authorization.value < min(offer.amount for offer in candidates):
        raise PaymentInsufficient("the payment is below the price")
    raise VerificationFailed(
        "the payment is not exactly the price", reason="invalid_exact_evm_payload_authorization_value_mismatch"
    )


def check_window(payment: Payment, now: float, *, clock_skew: float = 0) -> None:
    """Raise unless the authorization is valid now and long enough to be settled.

    EIP-3009 compares strictly: validAfter < block time < validBefore. `clock_skew` seconds are forgiven to a payer
    whose clock runs ahead of ours; the chain's own clock has the last word at settlement.
    """
    authorization = payment.authorization
    if authorization.valid_after >= now + clock_skew:
        raise VerificationFailed(
            "the authorization is not valid yet", reason="invalid_exact_evm_payload_authorization_valid_after"
        )
    if authorization.valid_before < now + MIN_VALIDITY_SECONDS:
        raise PaymentExpired("the authorization has expired, or is about to")


def check_payment(payment: Payment, offers: Sequence[Offer], now: float, *, clock_skew: float = 0) -> Offer:
    """Everything that can be told without a chain: terms, then window, then the payer's signature.

    Returns the offer that is paid. A signature that is not 65 bytes long is a contract wallet's, which only the chain
    can judge (EIP-1271): it is left to the verifier.
    """
    offer = find_offer(payment, offers)
    check_window(payment, now, clock_skew=clock_skew)
    if len(payment.authorization.signature) == EOA_SIGNATURE_BYTES:
        check_signature(payment.authorization, offer.asset)
    return offer
