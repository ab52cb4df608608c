"""The one check that every payment passes, whatever protocol carried it. Pure: what the chain knows comes after it."""

from collections.abc import Iterable

from translators.eip3009 import EOA_SIGNATURE_BYTES, authorization_digest, is_signed_by_payer, recover_signer
from translators.errors import MethodUnsupported, PaymentExpired, PaymentInsufficient, VerificationFailed
from translators.payment import Offer, Payment

__all__ = ["MIN_VALIDITY_SECONDS", "check_payment", "check_signed", "check_terms", "check_window", "is_proven"]

MIN_VALIDITY_SECONDS = 6
"""How long an authorization must still be valid to be settled in time; x402's official facilitator asks as much."""


def check_terms(payment: Payment, offers: Iterable[Offer]) -> Offer:
    """The offer that `payment` takes up: network, asset, recipient and exactly the amount.

    x402 v1 echoes nothing, so the terms themselves are the key. Raises, by how far the nearest offer agrees,
    `MethodUnsupported` (network), `VerificationFailed` (asset, recipient, more than the price) or
    `PaymentInsufficient` (less than the price).
    """
    authorization = payment.authorization
    offers = tuple(offers)
    for offer in offers:
        if (
            offer.amount == authorization.value
            and offer.recipient == authorization.recipient
            and offer.asset.address == payment.asset
            and offer.asset.chain_id == payment.chain_id
            and offer.foreign is None
        ):
            return offer
    # Foreign offers are taken up by an echo of their terms (`translators.foreign`), and by nothing else.
    candidates = [o for o in offers if o.foreign is None and o.asset.chain_id == payment.chain_id]
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


def check_signed(payment: Payment, offer: Offer, *, contract_wallets: bool = False) -> bool:
    """Whether the signature is proven (`is_proven`); raises `VerificationFailed` where it is certainly not the payer's.

    65 bytes must be a signature that tokens take (see `recover_signer`), and the payer's own. With `contract_wallets`
    they may be another key's, for a wallet's owner signs in these 65 bytes as well; what then passes is not proven
    (`is_proven`), and the chain has to be asked, as it has for any other length (EIP-1271).
    """
    signature = payment.authorization.signature
    if len(signature) != EOA_SIGNATURE_BYTES:
        return False
    signer = recover_signer(authorization_digest(payment.authorization, offer.asset), signature)
    if signer != payment.authorization.payer and not contract_wallets:
        raise VerificationFailed("the signature is not the payer's")
    return signer == payment.authorization.payer


def is_proven(payment: Payment, offer: Offer) -> bool:
    """Whether the payer's own key made the signature: 65 bytes that recover to the payer.

    So it is for an EIP-7702 account as well, whatever its code says: only its key can have signed. Everything else
    that is not refused here may be a contract wallet's, of which only the chain can tell.
    """
    return is_signed_by_payer(payment.authorization, offer.asset)


def check_payment(
    payment: Payment, offers: Iterable[Offer], now: float, *, clock_skew: float = 0, contract_wallets: bool = False
) -> Offer:
    """Everything that can be told without a chain: terms, then window, then the payer's signature.

    Returns the offer that is paid. A signature that is not 65 bytes long is a contract wallet's, which only the chain
    can judge; with `contract_wallets`, so may be one of 65 bytes by another key than the payer's.
    """
    offer = check_terms(payment, offers)
    check_window(payment, now, clock_skew=clock_skew)
    check_signed(payment, offer, contract_wallets=contract_wallets)
    return offer
