"""What x402 v2 can carry and no other protocol: Permit2 (`exact` and `upto`), ERC-7710, and chains that are not EVM.

Such terms are the owner's own entry of `accepts`, shown to x402 v2 clients as it is. A payload that takes them up
becomes a `Payment` with a foreign proof: read and checked as far as that goes without its chain, and judged by the
facilitator. What was read and checked is what the facilitator gets: members that nobody here knows are left out where
the form is known, so that none of them can mean something else to it.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from translators.encoding import b64_decode, b64_encode, jcs_encode
from translators.errors import MalformedError, PaymentInsufficient, VerificationFailed
from translators.fields import parse_address, parse_signature, parse_uint256
from translators.networks import caip2, chain_id_from_network
from translators.payment import (
    Asset,
    Authorization,
    ForeignProof,
    ForeignTerms,
    Offer,
    Payment,
    Protocol,
    ResourceBinding,
)
from translators.price import PriceError
from translators.solana import read_transaction
from translators.wire import x402_v2 as v2
from translators.wire.foreign import (
    decode_erc7710_payload,
    decode_object_payload,
    decode_permit2_payload,
    decode_transaction_payload,
)

__all__ = [
    "EXACT_PERMIT2_PROXY",
    "NEVER",
    "UPTO_PERMIT2_PROXY",
    "X402Only",
    "find_foreign_offer",
    "from_foreign_payload",
    "requirements_of",
    "to_foreign_offer",
]

EXACT_PERMIT2_PROXY = "0x402085c248eea27d92e8b30b2c58ed07f9e20001"
"""The only spender that an `exact` permit may name: it passes the money on to the witness's recipient alone, the same
on every chain (scheme_exact_evm, annex)."""

UPTO_PERMIT2_PROXY = "0x4020a4f3b7b90cca423b9fabcc0ce57c6c240002"
"""The same for `upto` (scheme_upto_evm, annex)."""

NEVER = 2**256 - 1
"""When a proof without a window of its own ends: its claim is never forgotten."""

MAX_ENTRY_BYTES = 2048
"""The longest entry that is offered, as JSON: it travels in a header, beside the others."""

_NETWORK = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}")
"""A CAIP-2 id."""
_ACCOUNT = re.compile(r"[!-~]{1,128}")
_HEX_NONCE = re.compile(r"0[xX][0-9a-fA-F]{1,64}")
_PERMIT2 = "permit2"
_ERC7710 = "erc7710"
_TRANSACTION = "transaction"


class X402Only(msgspec.Struct, frozen=True):
    """A price that x402 v2 clients alone can pay: the entry of `accepts` as its specification writes it.

    `scheme`, `network` (CAIP-2), `amount` (atomic units, as text), `asset`, `payTo`, `maxTimeoutSeconds`, and what the
    scheme wants in `extra`.
    """

    entry: dict[str, Any]


def to_foreign_offer(price: X402Only) -> Offer:
    """The offer that the owner's entry is. Raises `PriceError` for one that could not be paid or settled."""
    try:
        entry = v2.decode_requirements(price.entry, "X402Only")
        amount = parse_uint256(entry.amount, "amount")
        chain_id = _chain_id(entry.network)
        transfer = _transfer(entry)
        text = jcs_encode(price.entry).decode()
        if transfer is None:
            raise PriceError(_refused(entry))
        _check_extra(entry)
        asset, recipient = _account(entry.asset, "asset", chain_id), _account(entry.pay_to, "payTo", chain_id)
    except MalformedError as error:
        raise PriceError(error.detail) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise PriceError(str(error)) from None
    if not amount:
        raise PriceError("X402Only: the amount is zero")
    if not 6 < entry.max_timeout_seconds < 2**31:
        raise PriceError("X402Only: maxTimeoutSeconds leaves no time to settle, or is beyond any use")
    if len(text) > MAX_ENTRY_BYTES:
        raise PriceError(f"X402Only: the entry is longer than {MAX_ENTRY_BYTES} bytes")
    return Offer(
        asset=Asset(chain_id, asset, 0, "", ""),
        amount=amount,
        recipient=recipient,
        max_timeout_seconds=entry.max_timeout_seconds,
        foreign=ForeignTerms(entry.scheme, entry.network, transfer, text),
    )


def _chain_id(network: str) -> int:
    """The EIP-155 chain id, 0 for a network of another kind. Raises `MalformedError` for what is not a CAIP-2 id."""
    if _NETWORK.fullmatch(network) is None:
        raise MalformedError('network is not a CAIP-2 id, such as "eip155:8453"')
    chain_id = chain_id_from_network(network) or 0
    if chain_id and network != caip2(chain_id):
        raise MalformedError("network is not a CAIP-2 id in its only form")
    return chain_id


def _transfer(entry: v2.PaymentRequirements) -> str | None:
    """What moves the money under these terms; None for what is not foreign, or not known."""
    method = (entry.extra or {}).get("assetTransferMethod")
    if not entry.network.startswith("eip155:"):
        return _TRANSACTION if entry.scheme == "exact" else None
    if entry.scheme == "upto":
        # scheme_upto_evm: Permit2 exclusively.
        return _PERMIT2 if method in (None, _PERMIT2) else None
    if entry.scheme == "exact" and method in (_PERMIT2, _ERC7710):
        return str(method)
    return None


def _refused(entry: v2.PaymentRequirements) -> str:
    if entry.scheme == "exact" and (entry.extra or {}).get("assetTransferMethod") in (None, "eip3009"):
        return "X402Only: an EIP-3009 token can be paid in every protocol; write the price itself"
    return f"X402Only: {entry.scheme} on {entry.network} by this transfer method is not known"


def _check_extra(entry: v2.PaymentRequirements) -> None:
    """Raise `PriceError` unless the entry has what clients need of its scheme, for they pay nothing without."""
    extra = entry.extra or {}
    if entry.scheme == "upto":
        # scheme_upto_evm, section "Facilitator Address Discovery".
        named = extra.get("facilitatorAddress")
        if not isinstance(named, str):
            raise PriceError("X402Only: upto needs extra.facilitatorAddress, as the facilitator's /supported says it")
        parse_address(named, "extra.facilitatorAddress")
    if entry.network.startswith("solana:") and not isinstance(extra.get("feePayer"), str):
        raise PriceError("X402Only: Solana needs extra.feePayer, as the facilitator's /supported says it")


def _account(text: str, what: str, chain_id: int) -> str:
    if chain_id:
        return parse_address(text, what)
    if _ACCOUNT.fullmatch(text) is None:
        raise MalformedError(f"{what} is not an account")
    return text


def requirements_of(terms: ForeignTerms) -> dict[str, Any]:
    """The owner's entry, as it stands in `accepts` and as the facilitator gets it."""
    entry: dict[str, Any] = msgspec.json.decode(terms.entry)
    return entry


@lru_cache(maxsize=256)
def _entry_of(terms: ForeignTerms) -> v2.PaymentRequirements:
    return v2.decode_requirements(requirements_of(terms), "X402Only")


def find_foreign_offer(payload: v2.PaymentPayload, offers: Iterable[Offer]) -> Offer | None:
    """The foreign offer whose entry a payload echoes; None where it speaks of none.

    Compared as `x402.check_accepted` compares. Raises `VerificationFailed` for an echo of the same scheme, network and
    transfer whose terms are other ones, and `MalformedError`.
    """
    accepted: v2.PaymentRequirements | None = None
    near = False
    for offer in offers:
        if (terms := offer.foreign) is None:
            continue
        accepted = accepted or v2.decode_requirements(payload.accepted, v2.CREDENTIAL_HEADER)
        if (accepted.scheme, accepted.network, _transfer(accepted)) != (terms.scheme, terms.network, terms.transfer):
            continue
        near = True
        if _is_echo(accepted, offer, terms):
            return offer
    if near:
        raise VerificationFailed("the accepted terms are not the offered ones", reason="invalid_payment_requirements")
    return None


def _is_echo(accepted: v2.PaymentRequirements, offer: Offer, terms: ForeignTerms) -> bool:
    expected = _entry_of(terms)
    extra = accepted.extra or {}
    chain_id = offer.asset.chain_id
    return (
        accepted.amount == expected.amount
        and _account(accepted.asset, "asset", chain_id) == offer.asset.address
        and _account(accepted.pay_to, "payTo", chain_id) == offer.recipient
        and accepted.max_timeout_seconds == expected.max_timeout_seconds
        and all(extra.get(name) in (None, value) for name, value in (expected.extra or {}).items())
    )


class _Read(NamedTuple):
    """A proof as far as it can be read."""

    identity: str
    payload: msgspec.Raw
    payer: str = ""
    valid_after: int = 0
    valid_before: int = NEVER
    moves_once: bool = False


def from_foreign_payload(payload: v2.PaymentPayload, offer: Offer) -> Payment:
    """A payload as a payment for the offer whose entry it echoes (`find_foreign_offer`).

    Its terms are checked, as far as the proof says them; the window is for `checks.check_window`, and the signature for
    the facilitator. Raises `MalformedError`, `VerificationFailed` or `PaymentInsufficient`.
    """
    terms = offer.foreign
    assert terms is not None
    match terms.transfer:
        case "permit2":
            read = _read_permit2(payload.payload, offer, terms)
        case "erc7710":
            read = _read_erc7710(payload.payload)
        case _ if terms.network.startswith("solana:"):
            read = _read_solana(payload.payload, _entry_of(terms).extra or {})
        case _:
            read = _read_unknown(payload.payload)
    forwarded = v2.PaymentPayload(
        x402_version=2,
        resource=payload.resource,
        accepted=requirements_of(terms),
        payload=read.payload,
        extensions=payload.extensions,
    )
    return Payment(
        protocol=Protocol.X402_V2,
        chain_id=offer.asset.chain_id,
        asset=offer.asset.address,
        authorization=Authorization(
            payer=read.payer,
            recipient=offer.recipient,
            value=offer.amount,
            valid_after=read.valid_after,
            valid_before=read.valid_before,
            nonce="0x" + hashlib.sha256(bytes(read.payload)).hexdigest(),
            signature=b"",
        ),
        binding=ResourceBinding(_url(payload), payload.extensions),
        foreign=ForeignProof(
            scheme=terms.scheme,
            network=terms.network,
            identity=f"{terms.network}/{read.identity}",
            moves_once=read.moves_once,
            payload=msgspec.json.encode(forwarded),
        ),
    )


def _url(payload: v2.PaymentPayload) -> str | None:
    url = (payload.resource or {}).get("url")
    if url is not None and not isinstance(url, str):
        raise MalformedError("resource.url is not a string")
    return url


def _read_permit2(payload: msgspec.Raw, offer: Offer, terms: ForeignTerms) -> _Read:
    """Permit2 takes each of an owner's nonces once, whatever token or spender it was signed for.

    The checks are those of scheme_exact_evm and scheme_upto_evm, section "Verification Logic", that need no chain.
    """
    proof = decode_permit2_payload(payload)
    permit, witness = proof.permit2_authorization, proof.permit2_authorization.witness
    proxy = UPTO_PERMIT2_PROXY if terms.scheme == "upto" else EXACT_PERMIT2_PROXY
    parse_signature(proof.signature)
    owner = parse_address(permit.from_, "from")
    nonce = _permit2_nonce(permit.nonce)
    amount = parse_uint256(permit.permitted.amount, "permitted.amount")
    if parse_address(permit.spender, "spender") != proxy:
        raise VerificationFailed("the permit is for another spender", reason="invalid_permit2_spender")
    if parse_address(witness.to, "witness.to") != offer.recipient:
        raise VerificationFailed("the payment goes to another recipient", reason="invalid_permit2_recipient_mismatch")
    if parse_address(permit.permitted.token, "permitted.token") != offer.asset.address:
        raise VerificationFailed("the permit is for another token", reason="permit2_token_mismatch")
    if amount < offer.amount:
        raise PaymentInsufficient("the permit is below the price", reason="permit2_amount_mismatch")
    if amount != offer.amount:
        raise VerificationFailed("the permit is not exactly the price", reason="permit2_amount_mismatch")
    if terms.scheme == "upto":
        _check_facilitator(witness.facilitator, _entry_of(terms).extra or {})
    # Said in the one way that every facilitator reads, whatever way it was said in.
    permit.nonce = str(nonce)
    if terms.scheme != "upto":
        witness.facilitator = None
    return _Read(
        identity=f"permit2/{owner}/0x{nonce:064x}",
        payload=_encode(msgspec.to_builtins(proof)),
        payer=owner,
        valid_after=parse_uint256(witness.valid_after, "witness.validAfter"),
        valid_before=parse_uint256(permit.deadline, "deadline"),
        moves_once=True,
    )


def _permit2_nonce(text: str) -> int:
    """scheme_exact_evm writes it in decimal, scheme_upto_evm's example in hexadecimal."""
    return int(text, 16) if _HEX_NONCE.fullmatch(text) else parse_uint256(text, "nonce")


def _check_facilitator(named: str | None, extra: Mapping[str, Any]) -> None:
    """The upto proxy takes a permit from the facilitator that its witness names, and from nobody else."""
    if named is None:
        raise MalformedError("witness.facilitator is missing")
    if parse_address(named, "witness.facilitator") != str(extra["facilitatorAddress"]).lower():
        raise VerificationFailed("the permit is for another facilitator", reason="upto_facilitator_mismatch")


def _read_erc7710(payload: msgspec.Raw) -> _Read:
    """A delegation may be good for several payments (scheme_exact_evm, "one-time use and multi-use").

    Here one is good for one: what was redeemed stands on the chain for everybody to send again.
    """
    proof = decode_erc7710_payload(payload)
    manager = parse_address(proof.delegation_manager, "delegationManager")
    delegator = parse_address(proof.delegator, "delegator")
    context = parse_signature(proof.permission_context)
    digest = hashlib.sha256(bytes.fromhex(manager[2:] + delegator[2:]) + context).hexdigest()
    return _Read(f"erc7710/{digest}", _encode(msgspec.to_builtins(proof)), payer=delegator)


def _read_solana(payload: msgspec.Raw, extra: Mapping[str, Any]) -> _Read:
    """The cluster takes a message once. Its payer is who signs beside the facilitator, which pays the fee."""
    transaction = b64_decode(decode_transaction_payload(payload).transaction, "transaction")
    read = read_transaction(transaction)
    others = [signer for signer in read.signers if signer != extra.get("feePayer")]
    return _Read(
        identity=f"transaction/{hashlib.sha256(read.message).hexdigest()}",
        payload=_encode({"transaction": b64_encode(transaction)}),
        payer=others[0] if len(others) == 1 else "",
        moves_once=True,
    )


def _read_unknown(payload: msgspec.Raw) -> _Read:
    """Another network's payload: its transaction's bytes where it has one, else all of it in canonical form.

    Its signatures may be among these bytes, so another encoding of one payment can have another identity. That two
    went in one transaction shows when they are settled.
    """
    content = decode_object_payload(payload)
    transaction = content.get("transaction")
    try:
        canonical = b64_decode(transaction, "transaction") if isinstance(transaction, str) else jcs_encode(content)
    except (MalformedError, ValueError):
        canonical = bytes(payload)
    return _Read(f"transaction/{hashlib.sha256(canonical).hexdigest()}", payload)


def _encode(content: dict[str, Any]) -> msgspec.Raw:
    def present(value: Any) -> Any:
        return {k: present(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value

    return msgspec.Raw(msgspec.json.encode(present(content)))
