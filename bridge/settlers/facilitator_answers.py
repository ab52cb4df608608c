"""What a facilitator's answers mean. Pure: a status and bytes in, a value or the payment's error out.

The texts give `/verify` and `/settle` one shape each (x402 v1 and v2, section 7). What comes is that shape with any
status, other JSON, HTML or nothing, so only what is certain is taken as a verdict: `Unavailable` when nothing can have
been charged, `OutcomeUnknown` when something can.
"""

import re
from typing import Any, Final, TypeVar

import msgspec

from translators.encoding import json_decode
from translators.errors import (
    AlreadyUsed,
    InsufficientFunds,
    MalformedError,
    OutcomeUnknown,
    PaymentError,
    PaymentExpired,
    SettlementFailed,
    Unavailable,
    VerificationFailed,
)
from translators.networks import caip2, chain_id_from_network

__all__ = [
    "Doubtful",
    "Failed",
    "Kind",
    "Pending",
    "is_certain_refusal",
    "leaves_open",
    "read_settlement",
    "read_supported",
    "read_verdict",
]

T = TypeVar("T")


class Kind(msgspec.Struct, rename="camel", frozen=True):
    """One entry of `kinds` in the answer of `/supported`."""

    x402_version: int
    scheme: str
    network: str

    def covers(self, chain_id: int) -> bool:
        """Whether its network is the chain with this id, by name, by CAIP-2 id, or as `eip155:*`."""
        if self.network == "eip155:*":
            return True
        try:
            return chain_id_from_network(self.network) == chain_id
        except MalformedError:
            return False


class _Supported(msgspec.Struct):
    kinds: list[msgspec.Raw]


class _Verdict(msgspec.Struct, rename="camel"):
    is_valid: bool
    invalid_reason: Any = None


class _Settlement(msgspec.Struct, rename="camel"):
    success: bool
    transaction: Any = None
    network: Any = None
    error_reason: Any = None


_KIND: Final = msgspec.json.Decoder(Kind)
_SUPPORTED: Final = msgspec.json.Decoder(_Supported)
_VERDICT: Final = msgspec.json.Decoder(_Verdict)
_SETTLEMENT: Final = msgspec.json.Decoder(_Settlement)

_TRANSACTION: Final = re.compile(r"0x[0-9a-fA-F]{64}")
_OTHER_TRANSACTION: Final = re.compile(r"[0-9A-Za-z][!-~]{15,127}")
"""How a network that is not EVM may name a transaction: Solana by 64 bytes of base58."""
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")

_NOT_PROCESSED: Final = frozenset({301, 302, 307, 308, 401, 403, 404, 405, 413, 415, 429})
"""Statuses by which a server says that it did not do what it was asked."""

_PENDING: Final = "settlement_pending"
"""Sent, not confirmed yet (x402's SDKs from 2.20 on); the same request again is answered from that transaction."""

_UNDECIDED: Final = re.compile(
    r"(?:^|[_.-])(?:unexpected|timeout|timed|pending|progress|flight|confirm|confirmation|confirmed|deadline|unknown"
    r"|internal|error|server|node|rpc|rate|busy|unavailable|onchain|event|settle|settlement|transaction)(?:[_.-]|$)"
)
"""Words in a reason that does not say whether the payment is refused. `transaction_failed` is such a reason: official
SDKs gave it for whatever went wrong from the moment of sending on, a receipt that did not come included."""

_REFUSED: Final = re.compile(
    r"^(invalid|insufficient|unsupported|missing|expired|payment_expired|asset_not|no_facilitator)"
    r"|mismatch|not_supported|not_allowed|blocked|denied|sanction|used|replay"
    r"|^permit2_(allowance|insufficient|not_yet|deadline|payment_too_early|invalid_(amount|owner|destination))"
    r"|^upto_(amount_exceeds|unauthorized)"
)
"""Reasons for which a facilitator refuses before it sends anything (x402 v2, section 9, and the official SDKs')."""


class Doubtful(OutcomeUnknown):
    """What the facilitator says leaves the outcome open; `transaction` is what it named, if anything."""

    def __init__(self, detail: str, transaction: str | None = None) -> None:
        super().__init__(detail)
        self.transaction = transaction


class Failed(Doubtful):
    """The facilitator calls a settlement failed for which it had sent a transaction."""


class Pending(Doubtful):
    """The facilitator has sent the payment in `transaction`, and offers to say later what came of it."""

    transaction: str

    def __init__(self, transaction: str) -> None:
        super().__init__(f"the facilitator has sent {transaction}, and does not know its outcome yet", transaction)


def read_supported(body: bytes) -> list[Kind]:
    """The kinds in an answer of `/supported`, without entries in another form; raises `MalformedError`."""
    kinds = []
    for entry in json_decode(body, _SUPPORTED, "the facilitator's answer").kinds:
        try:
            kinds.append(json_decode(bytes(entry), _KIND, "kind"))
        except MalformedError:
            continue
    return kinds


def read_verdict(status: int, body: bytes) -> None:
    """Read an answer of `/verify`: returns for a valid payment.

    Raises the payment's error for an invalid one, and `Unavailable` for what is no verdict.
    """
    answer = _read(body, _VERDICT)
    if answer is not None:
        if answer.is_valid and status < 300:
            return
        reason = _slug(answer.invalid_reason)
        # Without a reason, a plain 200 is still a verdict; an error of the server is not.
        if not answer.is_valid and (_is_refusal(reason) or (status < 500 and not _is_undecided(reason))):
            raise _refusal(reason, VerificationFailed)
    raise Unavailable("the facilitator cannot tell whether the payment is good")


def read_settlement(status: int, body: bytes, network: str) -> str:
    """Read an answer of `/settle` for a payment on `network` (CAIP-2): the transaction's hash, in lower case on EVM.

    Raises `Pending`, `OutcomeUnknown`, `Unavailable`, or, when the facilitator certainly sent nothing, the payment's
    error.
    """
    answer = _read(body, _SETTLEMENT)
    if answer is None:
        if status in _NOT_PROCESSED:
            raise Unavailable("the facilitator does not take settlements now")
        raise _unknown("gives no understandable answer")
    transaction = _transaction(answer.transaction, network)
    if answer.success:
        if status >= 300 or transaction is None:
            raise _unknown("claims a settlement without telling a transaction")
        if not _is_on(answer.network, network):
            raise Doubtful(_unknown("claims a settlement on another network").detail, transaction)
        return transaction
    reason = _slug(answer.error_reason)
    if answer.transaction:
        # A transaction was sent. Even one that failed says only that this one did not move the money.
        if reason == _PENDING and transaction is not None:
            raise Pending(transaction)
        what = f"has sent {transaction or 'a transaction'}, and does not know its outcome"
        raise Failed(_unknown(what).detail, transaction)
    if not _is_refusal(reason):
        if status in _NOT_PROCESSED:
            raise Unavailable("the facilitator does not take settlements now")
        raise _unknown("does not know the outcome of the settlement")
    error = _refusal(reason, SettlementFailed)
    if isinstance(error, AlreadyUsed):
        # It was not used when it was verified. Whoever used it since, the money went to the recipient.
        raise _unknown("says that the authorization was used meanwhile")
    raise error


def is_certain_refusal(said: str) -> bool:
    """Whether somebody who says this of a settlement certainly sent nothing; not so of a nonce that is used."""
    return _is_refusal(word := _word(said)) and not _is_used(word)


def leaves_open(said: str) -> bool:
    """Whether these words of a refusal leave open what became of the payment: money may have moved, or may yet."""
    word = _word(said)
    return _is_undecided(word) or _is_used(word)


def _word(said: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", said.lower()).strip("_")


def _is_used(reason: str) -> bool:
    return re.search(r"nonce.*used|already_used|authorization_used|replay", reason) is not None


def _read(body: bytes, decoder: "msgspec.json.Decoder[T]") -> T | None:
    try:
        return json_decode(body, decoder, "the facilitator's answer")
    except MalformedError:
        return None


def _is_undecided(reason: str) -> bool:
    # A simulated transaction was not sent, and a permit's deadline is looked at before.
    sent_nothing = "simulation" in reason or reason == "permit2_deadline_expired"
    return _UNDECIDED.search(reason) is not None and not sent_nothing


def _is_refusal(reason: str) -> bool:
    return _REFUSED.search(reason) is not None and not _is_undecided(reason)


def _slug(reason: Any) -> str:
    """A reason as it may be repeated: a short word in lower case; empty for anything else."""
    word = reason.strip().lower() if isinstance(reason, str) else ""
    return word if _SLUG.fullmatch(word) else ""


def _transaction(value: Any, network: str) -> str | None:
    if not isinstance(value, str):
        return None
    if network.startswith("eip155:"):
        return value.lower() if _TRANSACTION.fullmatch(value) else None
    return value if _OTHER_TRANSACTION.fullmatch(value) else None


def _is_on(told: Any, network: str) -> bool:
    """Whether a network is the payment's, or is not told in a form that says."""
    if not isinstance(told, str):
        return True
    try:
        chain_id = chain_id_from_network(told)
    except MalformedError:
        return True
    if chain_id is not None:
        return caip2(chain_id) == network
    return told == network or ":" not in told or network.startswith("eip155:")


def _refusal(reason: str, otherwise: type[PaymentError]) -> PaymentError:
    """The payment's error for a facilitator's reason."""
    if _is_used(reason):
        return AlreadyUsed("the authorization is used or canceled")
    if re.search(r"insufficient_(funds|balance)", reason):
        return InsufficientFunds("the authorization is for more than the payer has")
    if re.search(r"expired|valid_before", reason):
        return PaymentExpired("the authorization has expired, or is about to")
    said = f": {reason}" if reason else ""
    return otherwise(f"the facilitator refuses the payment{said}", reason=reason or None)


def _unknown(what: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"the facilitator {what}; the same credential gets the outcome later")
