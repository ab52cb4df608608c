"""Everything that can be wrong with a payment, as one tree; one boundary (`bridge.responses`) turns it into answers.

    PaymentError
     +- PaymentRequired          no credential came
     +- MalformedError           the credential cannot be read
     |   +- UnsupportedVersion   an x402 version that does not go with its header
     +- AmbiguousCredentials     several credentials, and no rule says which one is meant
     +- MethodUnsupported        a method, intent, scheme or network that this route does not offer
     |   +- ProtocolRefused      a protocol that is switched off here, for good or for a while
     +- InvalidChallenge         the MPP challenge is not ours, not for this request, or used
     |   +- AlreadyUsed          this authorization was claimed before, in whatever protocol
     +- IdempotencyConflict      the key was used for another request
     +- PaymentExpired           the challenge or the authorization is past its time
     +- PaymentInsufficient      less than the price
     +- VerificationFailed       the proof does not prove this payment
     |   +- InsufficientFunds    the payer does not hold the amount
     +- SettlementFailed         the chain or the facilitator said no; no money moved
     +- Unavailable              a part of ours is down; nothing was charged
         +- OutcomeUnknown       money may have moved; do not pay again

Every class carries its answer in both families: MPP's problem slug and status (draft-httpauth-payment-00, section
"Error Codes"), and x402's status (both HTTP transport texts, section "Error Handling") and reason (x402 v2, section 9;
for a used nonce, which that list lacks, the word of x402's own facilitators).
A `detail` is for people, goes to the client as it is, and never holds a credential, a signature or a secret.
"""

from typing import ClassVar

PROBLEM_BASE = "https://paymentauth.org/problems/"
"""The canonical base URI of MPP's problem types (draft-httpauth-payment-00, section "Error Response Format")."""


OWN_PROBLEM_BASE = "urn:x402-mpp-bridge:problem:"
"""The base of the problem types that no draft defines."""


class PaymentError(Exception):
    """The root: a payment was asked for and did not come about.

    `detail` is one sentence for the client; `reason` is x402's machine-readable error code.
    """

    base: ClassVar[str] = PROBLEM_BASE
    slug: ClassVar[str] = "verification-failed"
    title: ClassVar[str] = "Payment Verification Failed"
    mpp_status: ClassVar[int] = 402
    x402_status: ClassVar[int] = 402
    x402_reason: ClassVar[str] = "invalid_payload"

    def __init__(self, detail: str, *, reason: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason or self.x402_reason


class PaymentRequired(PaymentError):
    """The request carried no credential."""

    slug = "payment-required"
    title = "Payment Required"
    x402_reason = "payment_required"


class MalformedError(PaymentError):
    """The credential is not in the form its specification gives it."""

    slug = "malformed-credential"
    title = "Malformed Credential"
    x402_status = 400
    x402_reason = "invalid_payload"


class UnsupportedVersion(MalformedError):
    """`x402Version` is unknown, or not the one that the header stands for."""

    x402_reason = "invalid_x402_version"


class AmbiguousCredentials(PaymentError):
    """Several credentials in one request (draft-httpauth-payment-00, section "Multiple Payment Options": 400)."""

    slug = "malformed-credential"
    title = "Several Payment Credentials"
    mpp_status = 400
    x402_status = 400
    x402_reason = "invalid_payload"


class MethodUnsupported(PaymentError):
    """The route does not offer what the credential pays with."""

    slug = "method-unsupported"
    title = "Payment Method Unsupported"
    mpp_status = 400
    x402_reason = "unsupported_scheme"


class ProtocolRefused(MethodUnsupported):
    """The route is not paid in this protocol any more, or not at the moment; nothing was charged.

    `instead` are the protocols to use, the preferred one first; `migration` is a page about it; `stage` says why, and
    `over_in` after how many seconds a brownout is over.
    """

    title = "Payment Protocol Refused"
    x402_reason = "protocol_refused"

    def __init__(
        self,
        detail: str,
        *,
        stage: str = "refused",
        instead: tuple[str, ...] = (),
        migration: str | None = None,
        over_in: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.stage = stage
        self.instead = instead
        self.migration = migration
        self.over_in = over_in


class InvalidChallenge(PaymentError):
    """The challenge id is unknown, forged, or belongs to another request."""

    slug = "invalid-challenge"
    title = "Invalid Challenge"
    x402_reason = "invalid_payload"


class AlreadyUsed(InvalidChallenge):
    """The authorization was claimed before, by this or another protocol, or its nonce is used on the chain."""

    title = "Payment Already Used"
    x402_reason = "invalid_exact_evm_nonce_already_used"


class IdempotencyConflict(PaymentError):
    """An idempotency key came again with another request (x402, extensions/payment_identifier: 409)."""

    base = OWN_PROBLEM_BASE
    slug = "idempotency-conflict"
    title = "Idempotency Key Conflict"
    mpp_status = 409
    x402_status = 409
    x402_reason = "idempotency_conflict"


class PaymentExpired(PaymentError):
    """The challenge's `expires` or the authorization's `validBefore` has passed, or leaves no time to settle."""

    slug = "payment-expired"
    title = "Payment Expired"
    x402_reason = "invalid_exact_evm_payload_authorization_valid_before"


class PaymentInsufficient(PaymentError):
    """The authorized value is below the price."""

    slug = "payment-insufficient"
    title = "Payment Insufficient"
    x402_reason = "invalid_exact_evm_payload_authorization_value_mismatch"


class VerificationFailed(PaymentError):
    """The proof is well formed and does not prove the payment that the route asks for."""

    x402_reason = "invalid_exact_evm_payload_signature"


class InsufficientFunds(VerificationFailed):
    """The payer's token balance is below the value."""

    title = "Insufficient Funds"
    x402_reason = "insufficient_funds"


class SettlementFailed(PaymentError):
    """Settlement was tried and certainly moved no money."""

    title = "Payment Settlement Failed"
    x402_reason = "invalid_transaction_state"


class Unavailable(PaymentError):
    """A store, chain or facilitator does not answer: nothing was charged, and no challenge is sent.

    `retry_after` is in seconds.
    """

    base = OWN_PROBLEM_BASE
    slug = "payment-unavailable"
    title = "Payment Temporarily Unavailable"
    mpp_status = 503
    x402_status = 503
    x402_reason = "unexpected_settle_error"

    def __init__(self, detail: str, *, reason: str | None = None, retry_after: int = 5) -> None:
        super().__init__(detail, reason=reason)
        self.retry_after = retry_after


class OutcomeUnknown(Unavailable):
    """Settlement was begun and its outcome is not known: the same credential gets it later; paying again is wrong."""

    slug = "payment-outcome-unknown"
    title = "Payment Outcome Unknown"
