"""A client that pays in whichever protocol a server offers.

`httpx.Client(auth=PaymentAuth(Wallet(KeySigner(key), Policy(max_amount="0.10"))))`
"""

from bridge.client.auth import PaymentAuth
from bridge.client.errors import (
    BodyTooLong,
    Declined,
    LedgerFailed,
    LimitExceeded,
    NothingPayable,
    OutcomeUnknown,
    PayError,
    SignerFailed,
)
from bridge.client.ledger import Ledger
from bridge.client.outcome import Outcome, OutcomeState, Receipt, outcome_of, read_receipt
from bridge.client.policy import Policy
from bridge.client.resend import asend, send
from bridge.client.signers import CommandSigner, KeySigner, RpcSigner, Signer
from bridge.client.wallet import Progress, Wallet

__all__ = [
    "BodyTooLong",
    "CommandSigner",
    "Declined",
    "KeySigner",
    "Ledger",
    "LedgerFailed",
    "LimitExceeded",
    "NothingPayable",
    "Outcome",
    "OutcomeState",
    "OutcomeUnknown",
    "PayError",
    "PaymentAuth",
    "Policy",
    "Progress",
    "Receipt",
    "RpcSigner",
    "Signer",
    "SignerFailed",
    "Wallet",
    "asend",
    "outcome_of",
    "read_receipt",
    "send",
]
