"""What came of a payment, as its payer can know it."""

from enum import StrEnum
from typing import Final

import httpx
import msgspec

from translators.errors import MalformedError
from translators.payment import Asset, Protocol
from translators.wire import mpp, x402_v1, x402_v2

__all__ = ["RECEIPT_HEADERS", "Outcome", "OutcomeState", "Receipt", "outcome_of", "read_receipt", "receipt_or_problem"]

EXTENSION: Final = "x402_mpp"
"""Where an `Outcome` stands in a response's `extensions`."""

RECEIPT_HEADERS: Final = {
    Protocol.X402_V1: x402_v1.RECEIPT_HEADER,
    Protocol.X402_V2: x402_v2.RECEIPT_HEADER,
    Protocol.MPP: mpp.RECEIPT_HEADER,
}


class OutcomeState(StrEnum):
    """What is known of the money."""

    PAID = "paid"
    """The server took the payment."""
    REFUSED = "refused"
    """The server did not take it. Until `valid_until` it still could."""
    UNKNOWN = "unknown"
    """No answer that would tell. The same request gets the same credential again, and no other is signed."""


class Receipt(msgspec.Struct, frozen=True):
    """A receipt, whichever protocol it is in; `details` is its own struct."""

    protocol: Protocol
    success: bool
    transaction: str | None
    network: str | None
    payer: str | None
    challenge_id: str | None
    details: x402_v1.SettlementResponse | x402_v2.SettlementResponse | mpp.Receipt


class Outcome(msgspec.Struct, frozen=True):
    """What was paid for a response. Amounts are atomic units, addresses lower case, times Unix seconds."""

    state: OutcomeState
    delivered: bool
    """Whether the response is what was paid for."""
    protocol: Protocol
    """What the server answered in the end: an authorization refused in one envelope may be taken in another."""
    payment_id: str
    url: str
    payer: str
    recipient: str
    amount: int
    asset: Asset
    valid_until: int
    """When the authorization can move no money any more."""
    receipt: Receipt | None = None
    problem: str | None = None
    """What the server gave as its reason, or what is odd about its receipt."""
    presented: int = 1
    """How often the credential was sent."""

    @property
    def transaction(self) -> str | None:
        """The transaction that the receipt names."""
        return self.receipt.transaction if self.receipt is not None else None


def outcome_of(response: httpx.Response) -> Outcome | None:
    """What was paid for `response`; None where nothing was."""
    outcome: Outcome | None = response.extensions.get(EXTENSION)
    return outcome


def read_receipt(response: httpx.Response, protocol: Protocol) -> Receipt | None:
    """The receipt for a payer of `protocol`, or None. Raises `MalformedError` for one that cannot be read."""
    if (value := response.headers.get(RECEIPT_HEADERS[protocol])) is None:
        return None
    match protocol:
        case Protocol.X402_V1:
            return _x402(protocol, x402_v1.decode_settlement_response(value))
        case Protocol.X402_V2:
            return _x402(protocol, x402_v2.decode_settlement_response(value))
        case Protocol.MPP:
            receipt = mpp.decode_receipt(value)
            return Receipt(
                protocol=protocol,
                success=receipt.status == "success",
                transaction=receipt.reference or None,
                network=f"eip155:{receipt.chain_id}" if receipt.chain_id is not None else None,
                payer=None,
                challenge_id=receipt.challenge_id,
                details=receipt,
            )


def _x402(protocol: Protocol, said: x402_v1.SettlementResponse | x402_v2.SettlementResponse) -> Receipt:
    return Receipt(protocol, said.success, said.transaction or None, said.network, said.payer, None, said)


def receipt_or_problem(response: httpx.Response, protocol: Protocol) -> tuple[Receipt | None, str | None]:
    """The receipt, or why there is none to be read."""
    try:
        return read_receipt(response, protocol), None
    except MalformedError as error:
        return None, f"the receipt cannot be read: {error.detail}"
