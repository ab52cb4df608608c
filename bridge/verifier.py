"""The one verifier: whatever protocol a payment came in, these checks in this order, and nothing is moved by them."""

from collections.abc import Sequence
from typing import assert_never
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from bridge.clock import Clock
from bridge.credentials import PresentedCredential
from bridge.proofs import Proofs
from bridge.request import PaidRequest
from bridge.settlers.base import Settler
from translators import foreign, mpp, x402
from translators.binding import check_challenge_id, check_digest, check_expiry
from translators.checks import check_signed, check_terms, check_window
from translators.errors import (
    AlreadyUsed,
    MalformedError,
    MethodUnsupported,
    PaymentError,
    PaymentExpired,
    Unavailable,
    VerificationFailed,
)
from translators.payment import Offer, Payment, Protocol, Resource, ResourceBinding
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

__all__ = ["Verified", "Verifier"]


class Verified(msgspec.Struct, frozen=True):
    """A payment that its payer made for `offer`."""

    payment: Payment
    offer: Offer
    refused: PaymentError | None = None
    """Why it cannot be settled (any more); one that was settled in time is still owed its answer."""
    by_wallet: bool = False
    """A contract wallet's word proves it, and somebody has just taken that."""
    is_judged: bool = False
    """Whoever did found nothing else against the payment either."""


class Verifier:
    """Turns a credential into a payment and checks it against what the route offers.

    `keys` are the challenge secrets, all of which are accepted; `body_limit` is the longest body, in bytes, that a
    challenge is bound to; `clock_skew` is in seconds.
    """

    def __init__(
        self,
        settler: Settler,
        proofs: Proofs,
        *,
        keys: Sequence[bytes],
        clock: Clock,
        clock_skew: float,
        body_limit: int,
    ) -> None:
        self._settler = settler
        self._proofs = proofs
        self._keys = tuple(keys)
        self._clock = clock
        self._clock_skew = clock_skew
        self._body_limit = body_limit

    async def check(
        self,
        presented: PresentedCredential,
        offers: tuple[Offer, ...],
        request: PaidRequest,
        resource: Resource,
        realm: str,
        bound_to: str,
    ) -> Verified:
        """Who pays, and for what: the cheap refusals first, and a chain only where a contract wallet has signed.

        Raises a `PaymentError`; a payment that comes out is signed by its payer for one of `offers`, and may be
        `refused`, which `verify` raises. Who signed a foreign proof only `verify` can tell.
        """
        expired = None
        match presented.protocol:
            case Protocol.MPP:
                payment, expired = await self._from_mpp(presented, request, realm, bound_to)
                offer = check_terms(payment, offers)
            case Protocol.X402_V2:
                payment, offer = self._from_v2(presented.token, offers, resource)
            case Protocol.X402_V1:
                payment = x402.from_payload_v1(x402_v1.decode_payment_payload(presented.token), offers)
                offer = check_terms(payment, offers)
            case _:
                assert_never(presented.protocol)
        try:
            check_window(payment, self._clock(), clock_skew=self._clock_skew)
        except PaymentExpired as error:
            expired = expired or error
        if payment.foreign is None and not check_signed(payment, offer, contract_wallets=True):
            # Asked before anything else is: until the payer is known, nothing is told of his payments.
            return await self._ask_wallet(Verified(payment, offer, expired), resource)
        return Verified(payment, offer, expired)

    async def _ask_wallet(self, verified: Verified, resource: Resource) -> Verified:
        """Prove a contract wallet's signature, by whoever can judge it, or by what was judged before."""
        try:
            is_judged = await self._settler.check_signature(verified.payment, verified.offer, resource)
        except PaymentError as error:
            if await self._proofs.has(verified.payment):
                return replace(verified, refused=verified.refused or error)
            if isinstance(error, AlreadyUsed):
                # It may be paid, and whether by him who asks nobody says: not "pay again".
                raise Unavailable("whether the payer's wallet has signed this cannot be told now") from None
            raise
        return replace(verified, by_wallet=True, is_judged=is_judged)

    def _from_v2(self, token: bytes, offers: tuple[Offer, ...], resource: Resource) -> tuple[Payment, Offer]:
        payload = x402_v2.decode_payment_payload(token)
        echoed = x402.echoed_offer(payload, offers)
        offer = foreign.find_foreign_offer(payload, offers) if echoed is None else None
        if offer is not None:
            payment = foreign.from_foreign_payload(payload, offer)
            _check_resource(payment, resource)
            return payment, offer
        payment = x402.from_payload_v2(payload, echoed)
        _check_resource(payment, resource)
        offer = check_terms(payment, offers)
        if offer is not echoed:
            x402.check_accepted(payload, offer)
        return payment, offer

    async def _from_mpp(
        self, presented: PresentedCredential, request: PaidRequest, realm: str, bound_to: str
    ) -> tuple[Payment, PaymentExpired | None]:
        credential = presented.genuine or mpp_wire.decode_credential(presented.token)
        challenge = credential.challenge
        if challenge.method != mpp.METHOD or challenge.intent != mpp.INTENT:
            raise MethodUnsupported("only evm charges are offered")
        if presented.genuine is None:
            check_challenge_id(self._keys, challenge)
        mpp.check_route(challenge, realm, bound_to)
        expired = None
        try:
            check_expiry(challenge, self._clock())
        except PaymentExpired as error:
            expired = error
        if challenge.digest is not None:
            body = await request.body(self._body_limit)
            if body is None:
                raise VerificationFailed("the body is not the one that the challenge was issued for")
            check_digest(challenge, body)
        return mpp.from_credential(credential), expired

    async def verify(self, verified: Verified, resource: Resource) -> None:
        """Check that the payment can be settled, which only the chain knows, or the facilitator that reads it.

        Raises a `PaymentError`.
        """
        if verified.refused is not None:
            raise verified.refused
        if not verified.is_judged:
            await self._settler.verify(verified.payment, verified.offer, resource)
        if verified.by_wallet:
            # Of what could not be settled nothing is kept: anybody can sign that, and have our store filled up.
            await self._proofs.keep(verified.payment)


def _check_resource(payment: Payment, resource: Resource) -> None:
    """An x402 v2 client that echoes a resource must have meant this one (x402 v2, section 5.2).

    Some clients put their request's own URL there, so only authority and path are compared.
    """
    binding = payment.binding
    if not isinstance(binding, ResourceBinding) or binding.resource_url in (None, resource.url):
        return
    try:
        echoed = urlsplit(binding.resource_url)
    except ValueError:
        raise MalformedError("resource.url is not a URL") from None
    own = urlsplit(resource.url)
    if (echoed.netloc.lower(), echoed.path) != (own.netloc.lower(), own.path):
        raise VerificationFailed("the payment is for another resource", reason="invalid_payment_requirements")
