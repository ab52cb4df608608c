"""Between x402's two wires and the vocabulary, both ways.

Scheme `exact` on EVM with EIP-3009; what else v2 can carry is in `translators.foreign`. Going out, what a route offers
becomes requirements; coming in, a payload becomes a `Payment` bound to whatever it echoes. A `Payment` of any protocol
can go on to a facilitator as either version's payload, because x402 takes any 32 bytes as a nonce.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from translators.eip3009 import is_signed_by_payer
from translators.errors import MalformedError, MethodUnsupported, VerificationFailed
from translators.fields import checksum_address, parse_address, parse_signature, parse_uint256, parse_word
from translators.foreign import requirements_of
from translators.networks import caip2, chain_id_from_network, v1_network
from translators.payment import Asset, Authorization, Offer, Payment, Protocol, Resource, ResourceBinding, Settlement
from translators.wire import x402_v1 as v1
from translators.wire import x402_v2 as v2
from translators.wire.exact_evm import ExactEvmAuthorization, ExactEvmPayload, encode_exact_evm_payload

__all__ = [
    "SCHEME",
    "check_accepted",
    "echoed_offer",
    "from_payload_v1",
    "from_payload_v2",
    "from_requirements_v1",
    "from_requirements_v2",
    "to_failed_settlement_v1",
    "to_failed_settlement_v2",
    "to_payload_v1",
    "to_payload_v2",
    "to_payment_required_v1",
    "to_payment_required_v2",
    "to_requirements_v1",
    "to_requirements_v2",
    "to_settlement_response_v1",
    "to_settlement_response_v2",
]

SCHEME = "exact"

MAX_TIMEOUT_SECONDS = 2**31
"""The longest `maxTimeoutSeconds` that is read: a client adds it to a time that must fit a uint256."""


def to_requirements_v1(offer: Offer, resource: Resource) -> v1.PaymentRequirements | None:
    """The offer as an entry of v1's `accepts`; None on a network that v1 has no name for, and for a foreign offer.

    v1's clients refuse a whole 402 for one scheme or network that they do not know.
    """
    network = v1_network(offer.asset.chain_id)
    if network is None or offer.foreign is not None:
        return None
    return v1.PaymentRequirements(
        scheme=SCHEME,
        network=network,
        max_amount_required=str(offer.amount),
        asset=checksum_address(offer.asset.address),
        pay_to=checksum_address(offer.recipient),
        resource=resource.url,
        description=resource.description,
        mime_type=resource.mime_type,
        max_timeout_seconds=offer.max_timeout_seconds,
        extra={"name": offer.asset.name, "version": offer.asset.version},
    )


def to_requirements_v2(offer: Offer) -> v2.PaymentRequirements:
    """The offer, which is not foreign, as an entry of v2's `accepts`."""
    assert offer.foreign is None
    return v2.PaymentRequirements(
        scheme=SCHEME,
        network=caip2(offer.asset.chain_id),
        amount=str(offer.amount),
        asset=checksum_address(offer.asset.address),
        pay_to=checksum_address(offer.recipient),
        max_timeout_seconds=offer.max_timeout_seconds,
        extra={"name": offer.asset.name, "version": offer.asset.version},
    )


def to_payment_required_v1(
    offers: Sequence[Offer], resource: Resource, error: str | None
) -> v1.PaymentRequirementsResponse:
    """The v1 challenge; its `accepts` is empty when no offer's network has a v1 name."""
    entries = (to_requirements_v1(offer, resource) for offer in offers)
    return v1.PaymentRequirementsResponse(
        x402_version=1,
        error=error,
        accepts=[msgspec.to_builtins(entry) for entry in entries if entry is not None],
    )


def to_payment_required_v2(
    offers: Sequence[Offer], resource: Resource, error: str | None, extensions: dict[str, Any] | None = None
) -> v2.PaymentRequired:
    """The v2 challenge."""
    info = v2.ResourceInfo(
        url=resource.url, description=resource.description or None, mime_type=resource.mime_type or None
    )
    return v2.PaymentRequired(
        x402_version=2,
        error=error,
        resource=msgspec.to_builtins(info),
        accepts=[_entry_v2(offer) for offer in offers],
        extensions=extensions,
    )


def _entry_v2(offer: Offer) -> dict[str, Any]:
    if offer.foreign is not None:
        return requirements_of(offer.foreign)
    entry: dict[str, Any] = msgspec.to_builtins(to_requirements_v2(offer))
    return entry


def from_requirements_v1(entry: v1.PaymentRequirements) -> Offer:
    """An entry of v1's `accepts` as an offer.

    Raises `MethodUnsupported` for another scheme or network, `MalformedError` for a field not in its form. Decimals
    are not on the wire and read as 0.
    """
    return _offer(entry, entry.max_amount_required)


def from_requirements_v2(entry: v2.PaymentRequirements) -> Offer:
    """An entry of v2's `accepts` as an offer; raises as `from_requirements_v1` does."""
    return _offer(entry, entry.amount)


def _offer(entry: v1.PaymentRequirements | v2.PaymentRequirements, amount: str) -> Offer:
    extra = entry.extra or {}
    _check_transfer_method(extra)
    name, version = extra.get("name"), extra.get("version")
    if not isinstance(name, str) or not isinstance(version, str):
        raise MalformedError("extra lacks the token's EIP-712 name and version")
    return Offer(
        asset=Asset(
            chain_id=_exact_chain_id(entry.scheme, entry.network),
            address=parse_address(entry.asset, "asset"),
            decimals=0,
            name=name,
            version=version,
        ),
        amount=parse_uint256(amount, "amount"),
        recipient=parse_address(entry.pay_to, "payTo"),
        max_timeout_seconds=_timeout(entry.max_timeout_seconds),
    )


def _timeout(seconds: int) -> int:
    if not 0 <= seconds <= MAX_TIMEOUT_SECONDS:
        raise MalformedError("maxTimeoutSeconds is negative or beyond any use")
    return seconds


def _check_transfer_method(extra: dict[str, Any]) -> None:
    if extra.get("assetTransferMethod") not in (None, "eip3009"):
        raise MethodUnsupported("only EIP-3009 transfers are understood", reason="unsupported_scheme")


def _exact_chain_id(scheme: str, network: str) -> int:
    if scheme != SCHEME:
        raise MethodUnsupported("the scheme is not supported", reason="unsupported_scheme")
    chain_id = chain_id_from_network(network)
    if chain_id is None:
        raise MethodUnsupported("the network is not supported", reason="invalid_network")
    return chain_id


def _authorization(payload: ExactEvmPayload) -> Authorization:
    signed = payload.authorization
    return Authorization(
        payer=parse_address(signed.from_, "from"),
        recipient=parse_address(signed.to, "to"),
        value=parse_uint256(signed.value, "value"),
        valid_after=parse_uint256(signed.valid_after, "validAfter"),
        valid_before=parse_uint256(signed.valid_before, "validBefore"),
        nonce=parse_word(signed.nonce, "nonce"),
        signature=parse_signature(payload.signature),
    )


def from_payload_v1(payload: v1.PaymentPayload, offers: Sequence[Offer]) -> Payment:
    """A v1 payload as a payment.

    v1 does not say which token was signed for: of the offers on its network, the one with the signed recipient and
    value names the asset; where two tokens cost the same, the one whose domain the signature fits. Raises
    `MethodUnsupported` for a scheme or network that no offer has, `MalformedError`.
    """
    chain_id = _exact_chain_id(payload.scheme, payload.network)
    authorization = _authorization(payload.exact_evm())
    on_chain = [offer for offer in offers if offer.foreign is None and offer.asset.chain_id == chain_id]
    if not on_chain:
        raise MethodUnsupported("the route is not offered on this network", reason="invalid_network")
    alike = [o for o in on_chain if o.recipient == authorization.recipient and o.amount == authorization.value]
    taken = (alike or on_chain)[0]
    if len(alike) > 1:
        taken = next((offer for offer in alike if is_signed_by_payer(authorization, offer.asset)), taken)
    return Payment(Protocol.X402_V1, chain_id, taken.asset.address, authorization, ResourceBinding())


def echoed_offer(payload: v2.PaymentPayload, offers: Iterable[Offer]) -> Offer | None:
    """The offer that a payload echoes member by member, as most clients do; None says nothing about the payload."""
    accepted = payload.accepted
    for offer in offers:
        if offer.foreign is None and _offered_v2(offer)[1] == accepted:
            return offer
    return None


def from_payload_v2(payload: v2.PaymentPayload, echoed: Offer | None = None) -> Payment:
    """A v2 payload as a payment on the terms it says it accepted; `check_accepted` holds them against the offer.

    `echoed` is its `echoed_offer`, whose terms need not be read out of it once more.
    """
    if echoed is not None:
        chain_id, asset = echoed.asset.chain_id, echoed.asset.address
    else:
        accepted = v2.decode_requirements(payload.accepted, v2.CREDENTIAL_HEADER)
        chain_id, asset = _exact_chain_id(accepted.scheme, accepted.network), parse_address(accepted.asset, "asset")
        _check_transfer_method(accepted.extra or {})
    url = (payload.resource or {}).get("url")
    if url is not None and not isinstance(url, str):
        raise MalformedError("resource.url is not a string")
    return Payment(
        Protocol.X402_V2,
        chain_id,
        asset,
        _authorization(payload.exact_evm()),
        ResourceBinding(url, payload.extensions),
    )


def check_accepted(payload: v2.PaymentPayload, offer: Offer) -> None:
    """Raise `VerificationFailed` unless the echoed entry is the offer's own (x402 v2, section 5.2).

    Compared by value: key order, null members and the case of addresses may differ, members of `extra` may be added or
    left out.
    """
    expected, entry = _offered_v2(offer)
    if payload.accepted == entry:
        return
    accepted = v2.decode_requirements(payload.accepted, v2.CREDENTIAL_HEADER)
    extra = accepted.extra or {}
    same = (
        accepted.scheme == expected.scheme
        and chain_id_from_network(accepted.network) == offer.asset.chain_id
        and accepted.amount == expected.amount
        and parse_address(accepted.pay_to, "payTo") == offer.recipient
        and parse_address(accepted.asset, "asset") == offer.asset.address
        and accepted.max_timeout_seconds == expected.max_timeout_seconds
        and all(extra.get(name) in (None, value) for name, value in (expected.extra or {}).items())
    )
    if not same:
        raise VerificationFailed("the accepted terms are not the offered ones", reason="invalid_payment_requirements")


@lru_cache(maxsize=1024)
def _offered_v2(offer: Offer) -> tuple[v2.PaymentRequirements, dict[str, Any]]:
    expected = to_requirements_v2(offer)
    return expected, msgspec.to_builtins(expected)


def _payload(payment: Payment) -> msgspec.Raw:
    authorization = payment.authorization
    return encode_exact_evm_payload(
        ExactEvmPayload(
            signature="0x" + authorization.signature.hex(),
            authorization=ExactEvmAuthorization(
                from_=checksum_address(authorization.payer),
                to=checksum_address(authorization.recipient),
                value=str(authorization.value),
                valid_after=str(authorization.valid_after),
                valid_before=str(authorization.valid_before),
                nonce=authorization.nonce,
            ),
        )
    )


def to_payload_v1(payment: Payment) -> v1.PaymentPayload:
    """Any payment as a v1 payload: the MPP challenge's hash is as good a nonce as any.

    Raises `MethodUnsupported` on a network that v1 has no name for.
    """
    network = v1_network(payment.chain_id)
    if network is None:
        raise MethodUnsupported("x402 v1 has no name for this network", reason="invalid_network")
    return v1.PaymentPayload(x402_version=1, scheme=SCHEME, network=network, payload=_payload(payment))


def to_payload_v2(payment: Payment, accepted: dict[str, Any], resource: dict[str, Any] | None) -> v2.PaymentPayload:
    """Any payment as a v2 payload; `accepted` and `resource` are what the challenge said."""
    extensions = payment.binding.extensions if isinstance(payment.binding, ResourceBinding) else None
    return v2.PaymentPayload(
        x402_version=2, resource=resource, accepted=accepted, payload=_payload(payment), extensions=extensions
    )


def to_settlement_response_v1(settlement: Settlement) -> v1.SettlementResponse:
    """The receipt for a v1 client."""
    return v1.SettlementResponse(
        success=True,
        transaction=settlement.transaction,
        network=v1_network(settlement.chain_id) or caip2(settlement.chain_id),
        payer=checksum_address(settlement.payer),
    )


def to_settlement_response_v2(settlement: Settlement) -> v2.SettlementResponse:
    """The receipt for a v2 client."""
    return v2.SettlementResponse(
        success=True,
        transaction=settlement.transaction,
        network=settlement.network,
        payer=_payer(settlement.payer),
        amount=str(settlement.amount),
    )


def to_failed_settlement_v1(payment: Payment, reason: str) -> v1.SettlementResponse:
    """What a v1 client hears when its payment was not settled."""
    return v1.SettlementResponse(
        success=False,
        transaction="",
        network=v1_network(payment.chain_id) or caip2(payment.chain_id),
        payer=checksum_address(payment.authorization.payer),
        error_reason=reason,
    )


def to_failed_settlement_v2(payment: Payment, reason: str) -> v2.SettlementResponse:
    """What a v2 client hears when its payment was not settled."""
    return v2.SettlementResponse(
        success=False,
        transaction="",
        network=payment.network,
        payer=_payer(payment.authorization.payer),
        error_reason=reason,
    )


def _payer(payer: str) -> str | None:
    """An address as wallets like to see it; an account of another kind of network as it is, and none where unknown."""
    return checksum_address(payer) if payer.startswith("0x") else payer or None
