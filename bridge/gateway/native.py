"""A payment in the upstream's own version: it goes on byte for byte, and is claimed where its identity is proven."""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from bridge.credentials import PresentedCredential
from bridge.verifier import Verified
from translators import x402
from translators.checks import check_terms, is_proven
from translators.errors import PaymentError
from translators.networks import KNOWN_TOKENS, chain_id_from_network
from translators.payment import Asset, Offer, Payment, Protocol
from translators.upstream import Demand, longest_timeout
from translators.wire import x402_v1, x402_v2

__all__ = ["AsPresented", "as_asked", "read_native"]


def read_native(presented: PresentedCredential, offers: Iterable[Offer]) -> Verified | None:
    """The payment in an x402 credential, if its payer has certainly signed it; else None, and it is not ours to claim.

    What it has to pay is the upstream's to judge. `offers` are what the upstream was last seen to ask: v1 does not say
    which token was signed for, and only the right one's domain fits the signature.
    """
    try:
        if presented.protocol is Protocol.X402_V2:
            payload = x402_v2.decode_payment_payload(presented.token)
            payment = x402.from_payload_v2(payload)
            accepted = x402_v2.decode_requirements(payload.accepted, x402_v2.CREDENTIAL_HEADER)
            offer = x402.from_requirements_v2(accepted)
        else:
            payment, offer = _from_v1(x402_v1.decode_payment_payload(presented.token), offers)
    except PaymentError:
        return None
    return Verified(payment, offer) if is_proven(payment, offer) else None


def _from_v1(payload: x402_v1.PaymentPayload, offers: Iterable[Offer]) -> tuple[Payment, Offer]:
    chain_id = chain_id_from_network(payload.network)
    assets: list[Asset] = [offer.asset for offer in offers if offer.foreign is None]
    assets += [token for token in KNOWN_TOKENS if token.chain_id == chain_id]
    signed = payload.exact_evm().authorization
    candidates = [Offer(asset, int(signed.value), signed.to.lower()) for asset in dict.fromkeys(assets)]
    payment = x402.from_payload_v1(payload, candidates)
    return payment, next(offer for offer in candidates if offer.asset.address == payment.asset)


def as_asked(verified: Verified, demand: Demand | None) -> Verified:
    """The payment with the offer as the upstream made it: how long it may be paid is not for its client's echo to say.

    `demand` is the 402 that it pays; None where that is not known.
    """
    if demand is None:
        return verified
    try:
        offer = check_terms(verified.payment, [terms.offer for terms in demand.terms])
    except PaymentError:
        offer = replace(verified.offer, max_timeout_seconds=longest_timeout(demand))
    return replace(verified, offer=offer)


class AsPresented:
    """Stands in the verifier's place for a payment that the upstream verifies."""

    def __init__(self, verified: Verified) -> None:
        self._verified = verified

    async def check(self, *_: Any) -> Verified:
        """What was read already."""
        return self._verified

    async def verify(self, *_: Any) -> None:
        """The upstream's affair."""
