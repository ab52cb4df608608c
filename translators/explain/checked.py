"""What can be verified of a message without a secret and without a chain."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from translators.binding import challenge_hash, challenge_hashes, check_digest, parse_time
from translators.checks import MIN_VALIDITY_SECONDS
from translators.eip3009 import EOA_SIGNATURE_BYTES, authorization_digest, is_signed_by_payer, recover_signer
from translators.encoding import jcs_encode
from translators.errors import PaymentError
from translators.explain.words import ago, chain_of, token_at
from translators.fields import parse_address, parse_signature, parse_uint256, parse_word
from translators.networks import KNOWN_TOKENS
from translators.payment import Asset, Authorization
from translators.wire.mpp import Challenge

__all__ = [
    "Check",
    "authorization_of",
    "challenge_checks",
    "credential_checks",
    "jcs_check",
    "payment_v1_checks",
    "payment_v2_checks",
    "receipt_checks",
    "signed_token",
    "token_checks",
]

_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_HMAC_ID = re.compile(r"[A-Za-z0-9_-]{43}")


class Check(msgspec.Struct, frozen=True):
    """One thing that was verified: `ok` is None where it could not be told."""

    name: str
    ok: bool | None
    detail: str


def _members(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def authorization_of(payload: Any, signature: Any) -> Authorization | None:
    """An EIP-3009 authorization out of a payload's members; None where one of them is not in its form."""
    said = _members(payload)
    try:
        return Authorization(
            payer=parse_address(str(said.get("from")), "from"),
            recipient=parse_address(str(said.get("to")), "to"),
            value=parse_uint256(str(said.get("value")), "value"),
            valid_after=parse_uint256(str(said.get("validAfter")), "validAfter"),
            valid_before=parse_uint256(str(said.get("validBefore")), "validBefore"),
            nonce=parse_word(str(said.get("nonce")), "nonce"),
            signature=parse_signature(str(signature)),
        )
    except PaymentError:
        return None


def _form(signed: Authorization | None) -> Iterator[Check]:
    if signed is None:
        yield Check("form", None, "no EIP-3009 authorization, or one with a member out of form")


def _window(signed: Authorization, now: float) -> Check:
    if signed.valid_before <= now:
        return Check("window", False, f"expired {ago(now - signed.valid_before)} ago")
    if signed.valid_after >= now:
        return Check("window", False, f"not valid for another {ago(signed.valid_after - now)}")
    if signed.valid_before < now + MIN_VALIDITY_SECONDS:
        return Check("window", False, f"ends in {ago(signed.valid_before - now)}: too soon to be settled")
    return Check("window", True, f"valid for another {ago(signed.valid_before - now)}")


def _signature(signed: Authorization, domains: list[Asset]) -> Check:
    if len(signed.signature) != EOA_SIGNATURE_BYTES:
        return Check("signature", None, f"{len(signed.signature)} bytes: a contract wallet's, which the chain judges")
    if not domains:
        return Check("signature", None, "the token's EIP-712 domain is not said, and the token not known here")
    signer = ""
    for domain in domains:
        try:
            signer = recover_signer(authorization_digest(signed, domain), signed.signature)
        except PaymentError as error:
            return Check("signature", False, error.detail)
        if signer == signed.payer:
            under = f"{domain.name!r} version {domain.version!r} on chain {domain.chain_id}"
            return Check("signature", True, f"recovers to the payer, under {under}")
    return Check("signature", False, f"recovers to {signer}: not the payer's, or under another domain or other terms")


def _domain(chain_id: int | None, address: Any, extra: Any) -> Asset | None:
    said = _members(extra)
    name, version = said.get("name"), said.get("version")
    try:
        if chain_id is None or not isinstance(name, str) or not isinstance(version, str):
            return None
        return Asset(chain_id, parse_address(str(address), "asset"), 0, name, version)
    except PaymentError:
        return None


def signed_token(chain_id: int | None, authorization: Any, signature: Any) -> Asset | None:
    """The known token on a chain that an authorization was signed for: x402 v1 names none."""
    signed = authorization_of(authorization, signature)
    known = [token for token in KNOWN_TOKENS if token.chain_id == chain_id]
    return next((token for token in known if signed is not None and is_signed_by_payer(signed, token)), None)


def payment_v1_checks(value: dict[str, Any], offers: list[dict[str, Any]], now: float) -> Iterator[Check]:
    """Of `X-PAYMENT`; `offers` are entries of v1's `accepts` that stood beside it."""
    payload = _members(value.get("payload"))
    signed = authorization_of(payload.get("authorization"), payload.get("signature"))
    yield from _form(signed)
    if signed is None:
        return
    chain_id = chain_of(value.get("network"))
    told = [domain for o in offers if (domain := _domain(chain_of(o.get("network")), o.get("asset"), o.get("extra")))]
    known = [token for token in KNOWN_TOKENS if token.chain_id == chain_id]
    yield _signature(signed, [domain for domain in (*told, *known) if domain.chain_id == chain_id])
    yield _window(signed, now)
    if not offers:
        yield Check("terms", None, "v1 echoes none; paste the 402 with it to compare")
        return
    fits = [
        o
        for o in offers
        if chain_of(o.get("network")) == chain_id
        and str(o.get("payTo")).lower() == signed.recipient
        and str(o.get("maxAmountRequired")) == str(signed.value)
    ]
    told_how = "network, recipient and amount are those of the 402" if fits else "no entry of the 402 has these terms"
    yield Check("terms", bool(fits), told_how)


def payment_v2_checks(value: dict[str, Any], offers: list[dict[str, Any]], now: float) -> Iterator[Check]:
    """Of `PAYMENT-SIGNATURE`; `offers` are entries of v2's `accepts` that stood beside it."""
    payload, accepted = _members(value.get("payload")), _members(value.get("accepted"))
    signed = authorization_of(payload.get("authorization"), payload.get("signature"))
    yield from _form(signed)
    if signed is None:
        return
    chain_id = chain_of(accepted.get("network"))
    candidates = (
        _domain(chain_id, accepted.get("asset"), accepted.get("extra")),
        token_at(chain_id, accepted.get("asset")),
    )
    yield _signature(signed, [domain for domain in candidates if domain is not None])
    yield _window(signed, now)
    yield from token_checks(chain_id, accepted.get("asset"), accepted.get("extra"))
    wrong = []
    if str(accepted.get("payTo")).lower() != signed.recipient:
        wrong.append("recipient")
    if str(accepted.get("amount")) != str(signed.value):
        wrong.append("amount")
    if offers and accepted not in offers:
        wrong.append("the 402's entry")
    agree = "accepted and authorization agree" + (", and with the 402" if offers else "")
    yield Check("terms", not wrong, f"accepted differs in {', '.join(wrong)}" if wrong else agree)


def token_checks(chain_id: int | None, address: Any, extra: Any) -> Iterator[Check]:
    """Whether a known token's domain is what the message says."""
    token, told = token_at(chain_id, address), _domain(chain_id, address, extra)
    if token is None or told is None:
        return
    if (told.name, told.version) == (token.name, token.version):
        yield Check("token", True, f"{token.symbol}, with its own domain")
    else:
        yield Check("token", False, f"its domain is {token.name!r} version {token.version!r}, not what is said")


def challenge_checks(challenge: dict[str, str], now: float, body: bytes | None) -> Iterator[Check]:
    """Of a challenge's parameters."""
    missing = [name for name in ("id", "realm", "method", "intent", "request") if not challenge.get(name)]
    if missing:
        yield Check("parameters", False, f"{', '.join(missing)} missing")
    if challenge.get("id") and not _HMAC_ID.fullmatch(challenge["id"]):
        yield Check("id", None, "not the shape of an HMAC-SHA256; only the server knows how it is bound")
    if "expires" in challenge:
        try:
            expires = parse_time(challenge["expires"])
        except PaymentError as error:
            yield Check("expires", False, error.detail)
        else:
            left = expires - now
            said = f"expired {ago(-left)} ago" if left < 0 else f"good for another {ago(left)}"
            yield Check("expires", left >= 0, said)
    if "digest" in challenge:
        yield _digest(challenge, body)


def _digest(challenge: dict[str, str], body: bytes | None) -> Check:
    if body is None:
        return Check("digest", None, "bound to a request's body; give it with --body to compare")
    try:
        check_digest(_challenge(challenge), body)
    except PaymentError as error:
        return Check("digest", False, error.detail)
    return Check("digest", True, "of the given body")


def _challenge(said: dict[str, Any]) -> Challenge:
    texts = {name: str(said[name]) for name in Challenge.__struct_fields__ if said.get(name) is not None}
    return Challenge(**{**dict.fromkeys(("id", "realm", "method", "intent", "request"), ""), **texts})


def jcs_check(request: Any, data: bytes | None) -> Check:
    """Whether a challenge's request is in canonical form."""
    if not isinstance(request, dict) or data is None:
        return Check("request", False, "not base64url of a JSON object")
    try:
        canonical = jcs_encode(request) == data
    except ValueError as error:
        return Check("request", False, str(error))
    return Check("request", canonical, "canonical JSON (JCS)" if canonical else "not in canonical form (JCS)")


def credential_checks(value: dict[str, Any], request: Any, now: float) -> Iterator[Check]:
    """Of an MPP credential, beside those of its challenge; `request` is the decoded one."""
    payload, challenge = _members(value.get("payload")), _members(value.get("challenge"))
    signed = authorization_of(payload, payload.get("signature"))
    yield from _form(signed)
    if signed is None:
        return
    asked, whole = _members(request), _challenge(challenge)
    chain_id = _members(asked.get("methodDetails")).get("chainId")
    token = token_at(chain_id if isinstance(chain_id, int) else None, asked.get("currency"))
    yield _signature(signed, [token] if token else [])
    yield _window(signed, now)
    nonce = bytes.fromhex(signed.nonce[2:])
    if nonce == challenge_hash(whole):
        yield Check("nonce", True, "the challenge's hash, by the draft: keccak256 of id and realm")
    elif nonce in challenge_hashes(whole):
        yield Check("nonce", True, "the challenge's hash, as pympp makes it: keccak256 of the JSON array")
    else:
        yield Check("nonce", False, "not the hash of this challenge")
    wrong = [
        name
        for name, same in (
            ("recipient", str(asked.get("recipient")).lower() == signed.recipient),
            ("amount", str(asked.get("amount")) == str(signed.value)),
        )
        if not same
    ]
    yield Check("terms", not wrong, f"differ in {', '.join(wrong)}" if wrong else "challenge and authorization agree")
    source = value.get("source")
    if isinstance(source, str) and source.lower().startswith("did:pkh:"):
        same = source.lower() == f"did:pkh:eip155:{chain_id}:{signed.payer}"
        yield Check("source", same, "the payer" if same else "not the payer on this chain")


def receipt_checks(value: dict[str, Any]) -> Iterator[Check]:
    """Of a receipt of any protocol: that it tells of a success, and names what did it."""
    if "success" in value:
        succeeded, told = value.get("success") is True, value.get("transaction")
        why = str(value.get("errorReason") or "no reason is given")
    else:
        succeeded, told = value.get("status") == "success", value.get("reference")
        why = f"status is {value.get('status')}"
    yield Check("settled", succeeded, "the server says so; the chain was not asked" if succeeded else why)
    network = value.get("network")
    on_evm = network is None or chain_of(network) is not None
    if succeeded and on_evm and value.get("method") in (None, "evm"):
        is_hash = isinstance(told, str) and _HASH.fullmatch(told) is not None
        yield Check("transaction", is_hash, "a transaction's hash" if is_hash else "no transaction's hash")
