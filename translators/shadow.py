"""What MPP would have said of an x402 payment: MPP's translation and checks, tried out on what came in x402.

Nothing is claimed, settled or sent. An x402 payer chooses the nonce, so MPP's own binding of the nonce to a challenge
is the one thing that cannot be tried; everything else on the way there and back is.
"""

from collections.abc import Sequence

from translators import mpp, x402
from translators.binding import check_challenge_id, check_expiry
from translators.checks import check_payment
from translators.encoding import MAX_HEADER_BYTES
from translators.errors import PaymentError, VerificationFailed
from translators.payment import Offer, Payment, Protocol
from translators.wire import mpp as wire
from translators.wire import x402_v1, x402_v2

__all__ = ["Disagreement", "compare", "compare_refusal", "nearest_offer", "read_x402"]

ONLY_X402 = "invalid_payment_requirements"
"""The reason of what MPP has no word for: another resource, or other terms, in the echo of an x402 payment."""


class Disagreement(Exception):
    """MPP would have said something else. `where` is a word for the step, `detail` names no signature and no secret."""

    def __init__(self, where: str, detail: str) -> None:
        super().__init__(detail)
        self.where = where
        self.detail = detail


def compare(
    payment: Payment,
    offer: Offer,
    header: str,
    now: float,
    *,
    keys: Sequence[bytes],
    realm: str,
    bound_to: str,
    clock_skew: float,
) -> None:
    """Raise `Disagreement` where an MPP client could not have paid `offer` as this payment does, which x402 took.

    `header` is the challenge as the 402 would carry it; `bound_to` the method and path that it is for.
    """
    if offer.foreign is not None:
        raise Disagreement("offer", f"MPP has no words for {offer.foreign.scheme} by {offer.foreign.transfer}")
    challenge = compare_challenge(header, offer, now, keys=keys, realm=realm, bound_to=bound_to)
    compare_payment(payment, offer, challenge, now, clock_skew=clock_skew)


def read_x402(protocol: Protocol, token: bytes, offers: Sequence[Offer]) -> Payment | None:
    """What an x402 credential says, unchecked; None where it cannot be read, or is foreign to MPP."""
    try:
        if protocol is Protocol.X402_V1:
            return x402.from_payload_v1(x402_v1.decode_payment_payload(token), offers)
        return x402.from_payload_v2(x402_v2.decode_payment_payload(token))
    except PaymentError:
        return None


def nearest_offer(payment: Payment, offers: Sequence[Offer]) -> Offer | None:
    """The offer that an MPP client with this authorization would have taken up: on its chain, in its asset if need be.

    None where MPP would have offered nothing.
    """
    carried = [offer for offer in offers if offer.foreign is None]
    same = [
        offer for offer in carried if (offer.asset.chain_id, offer.asset.address) == (payment.chain_id, payment.asset)
    ]
    return next(iter(same or carried), None)


def compare_refusal(
    payment: Payment,
    offer: Offer,
    refusal: PaymentError,
    header: str,
    now: float,
    *,
    keys: Sequence[bytes],
    realm: str,
    bound_to: str,
    clock_skew: float,
) -> None:
    """Raise `Disagreement` where MPP would have taken a payment that x402 has refused.

    That both refuse it is enough: each has words of its own for why. What x402 compares and MPP does not have, the
    echo, is left out.
    """
    if refusal.reason == ONLY_X402:
        return
    challenge = compare_challenge(header, offer, now, keys=keys, realm=realm, bound_to=bound_to)
    try:
        token = wire.encode_credential(mpp.to_credential(payment, challenge))
        translated = mpp.from_unbound_credential(wire.decode_credential(token.encode()))
        check_payment(translated, (offer,), now, clock_skew=clock_skew)
    except (PaymentError, ValueError):
        return
    raise Disagreement("verdict", f"x402 refuses it as {refusal.slug}, and MPP would take it")


def compare_challenge(
    header: str, offer: Offer, now: float, *, keys: Sequence[bytes], realm: str, bound_to: str
) -> wire.Challenge:
    """Read a challenge back as a client does, and recognise it as this server would when it is echoed."""
    try:
        (challenge,) = wire.decode_challenges([header])
        check_challenge_id(keys, challenge)
        mpp.check_route(challenge, realm, bound_to)
        check_expiry(challenge, now)
        request = wire.decode_charge_request(challenge.request)
        offered = mpp.from_charge_request(request, offer.asset.name, offer.asset.version)
    except (PaymentError, ValueError) as error:
        raise Disagreement("challenge", _said(error)) from None
    for name in ("chain_id", "address", "decimals"):
        if getattr(offered.asset, name) != getattr(offer.asset, name):
            raise Disagreement("terms", f"{name} is another one in the challenge")
    if (offered.amount, offered.recipient) != (offer.amount, offer.recipient):
        raise Disagreement("terms", "amount or recipient is another one in the challenge")
    return challenge


def compare_payment(
    payment: Payment, offer: Offer, challenge: wire.Challenge, now: float, *, clock_skew: float
) -> None:
    """Write the payment as a credential, read it back, and check it as an MPP payment is checked."""
    try:
        token = wire.encode_credential(mpp.to_credential(payment, challenge))
        credential = wire.decode_credential(token.encode())
    except (PaymentError, ValueError) as error:
        raise Disagreement("credential", _said(error)) from None
    if len(token) > MAX_HEADER_BYTES:
        raise Disagreement("credential", f"longer than {MAX_HEADER_BYTES} bytes as a credential")
    if credential.challenge != challenge:
        raise Disagreement("credential", "the challenge is another one when it is echoed")
    translated = _translated(payment, credential)
    if translated.id != payment.id:
        raise Disagreement("identity", "it would be claimed as another payment")
    if translated.authorization != payment.authorization:
        raise Disagreement("authorization", "the authorization is another one in the credential")
    try:
        check_payment(translated, (offer,), now, clock_skew=clock_skew, contract_wallets=True)
    except PaymentError as error:
        raise Disagreement("checks", f"{error.slug}: {_said(error)}") from None


def _translated(payment: Payment, credential: wire.Credential) -> Payment:
    """The credential as a payment, on the nonce that its payer chose."""
    try:
        return mpp.from_unbound_credential(credential)
    except VerificationFailed as error:
        raise Disagreement("verdict", _said(error)) from None
    except PaymentError as error:
        raise Disagreement("verdict", f"{error.slug}: {_said(error)}") from None


def _said(error: Exception) -> str:
    return error.detail if isinstance(error, PaymentError) else str(error)
