"""Why a client did not pay, or stopped, as one tree.

    PayError
     +- NothingPayable     the 402 asks for nothing that this client could pay
     +- Declined           the wallet's own rules say no: host, network, recipient, asset, amount, or a person
     |   +- LimitExceeded  a limit a request or a day
     +- SignerFailed       no signature came, or one that is not the payer's
     +- BodyTooLong        the request's body cannot be sent again, and is too long to be kept
     +- LedgerFailed       what was signed cannot be remembered, so nothing is
     +- OutcomeUnknown     an earlier payment for this request may have been made, and a person has to decide

All but the last say that nothing was charged, and nothing was sent that could be.
"""

__all__ = [
    "BodyTooLong",
    "Declined",
    "LedgerFailed",
    "LimitExceeded",
    "NothingPayable",
    "OutcomeUnknown",
    "PayError",
    "SignerFailed",
]


class PayError(Exception):
    """The root; its message is one sentence for a person, without a key, a signature or a credential."""


class NothingPayable(PayError):
    """The 402 asks for nothing that this client could pay; the message has the reason for each ask."""


class Declined(PayError):
    """The wallet's own rules say no."""


class LimitExceeded(Declined):
    """The price is over the limit a request, or would take the day's payments over theirs."""


class SignerFailed(PayError):
    """No signature came, or one that is not the payer's."""


class BodyTooLong(PayError):
    """The request's body cannot be sent again, and is longer than what is kept for that."""


class LedgerFailed(PayError):
    """The ledger's file cannot be read or written."""


class OutcomeUnknown(PayError):
    """An earlier payment for the same request may have been made, and nobody could say.

    `payment_id` is `eip155:<chain>/<token>/<payer>/<nonce>`: whoever has a node asks `authorizationState` about it.
    """

    def __init__(self, message: str, payment_id: str) -> None:
        super().__init__(message)
        self.payment_id = payment_id
