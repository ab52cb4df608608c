"""The vocabulary that no protocol owns: what a route asks for, what a client gave, and what came of it.

Amounts are integers in atomic units, times are Unix seconds, addresses and nonces are `0x` and lower-case hexadecimal,
networks are EIP-155 chain ids. Each type exists only after the step that earns it (see `docs/how-a-payment-flows.md`).
None of them can hold itself, so the garbage collector need not look at the thousands that wait in a store (`gc=False`).
What is asked for is looked up by value for each payment, so its hash is kept (`cache_hash`).
"""

from enum import StrEnum
from typing import Any

import msgspec


class Protocol(StrEnum):
    """The wire protocol that a client used, as it is named in events and reports."""

    X402_V1 = "x402-v1"
    X402_V2 = "x402-v2"
    MPP = "mpp"


class Asset(msgspec.Struct, frozen=True, cache_hash=True):
    """An EIP-3009 token on one chain, with the EIP-712 domain that its authorizations are signed under."""

    chain_id: int
    address: str
    decimals: int
    name: str
    """EIP-712 domain name (`extra.name` in x402): what the contract answers to `name()` at signing."""
    version: str
    """EIP-712 domain version (`extra.version` in x402)."""
    symbol: str = ""


class ForeignTerms(msgspec.Struct, frozen=True):
    """Terms that only x402 v2 can say: another scheme, transfer method or kind of network than EIP-3009 on EVM."""

    scheme: str
    network: str
    """CAIP-2 id."""
    transfer: str
    """What moves the money: `permit2`, `erc7710`, or `transaction` (one that the payer has signed, off EVM)."""
    entry: str
    """The whole entry of `accepts` as JSON, in canonical form."""


class Resource(msgspec.Struct, frozen=True):
    """What is being paid for, as x402 shows it to the client."""

    url: str
    description: str = ""
    mime_type: str = ""


class Offer(msgspec.Struct, frozen=True, cache_hash=True, gc=False):
    """One way to pay for a route: exactly `amount` atomic units of `asset` to `recipient`."""

    asset: Asset
    amount: int
    recipient: str
    max_timeout_seconds: int = 300
    """How long an authorization must stay valid for this payment to complete, in seconds."""
    foreign: ForeignTerms | None = None
    """Set where no EIP-3009 authorization can pay it: then `asset` has no domain, and off EVM no chain id either."""

    @property
    def network(self) -> str:
        """The CAIP-2 id of its network."""
        return self.foreign.network if self.foreign is not None else f"eip155:{self.asset.chain_id}"


class Authorization(msgspec.Struct, frozen=True, gc=False):
    """A signed EIP-3009 `TransferWithAuthorization`: the one thing that all three protocols carry."""

    payer: str
    recipient: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str
    signature: bytes

    def __repr__(self) -> str:
        """Leave the signature out: a repr ends up in logs."""
        return f"Authorization(payer={self.payer!r}, value={self.value}, nonce={self.nonce!r})"


class ForeignProof(msgspec.Struct, frozen=True):
    """A proof that only x402 v2 can carry: kept in memory for the facilitator, which alone can judge it."""

    scheme: str
    network: str
    """CAIP-2 id."""
    identity: str
    """What a claim goes by; it begins with the network and a slash."""
    moves_once: bool
    """Whether this identity can move money once only, whoever hands it over how often. Else that is for us to see to,
    and two identities may still turn out to be one payment."""
    payload: bytes
    """x402's `PaymentPayload` as JSON."""

    def __repr__(self) -> str:
        """Leave the payload out: a repr ends up in logs, and it holds signatures."""
        return f"ForeignProof(identity={self.identity!r})"


class ChallengeBinding(msgspec.Struct, frozen=True, tag=True, gc=False):
    """MPP: the nonce is the hash of a challenge that this server issued, so the signature covers the challenge."""

    challenge_id: str
    realm: str
    external_id: str | None = None
    correlation_id: str | None = None


class ResourceBinding(msgspec.Struct, frozen=True, tag=True, gc=False):
    """x402: the payer chose the nonce; terms and resource are an unsigned echo (absent in v1)."""

    resource_url: str | None = None
    extensions: dict[str, Any] | None = None

    def __repr__(self) -> str:
        """Leave the extensions out: a repr ends up in logs, and some of them are signed."""
        return f"ResourceBinding(resource_url={self.resource_url!r})"


Binding = ChallengeBinding | ResourceBinding


class Payment(msgspec.Struct, frozen=True, gc=False):
    """What a client gave: an authorization on a chain and token, the protocol it came in, and what it is bound to.

    Where the proof is `foreign`, `authorization` holds what can be read of it and no signature, `chain_id` is 0 off
    EVM, and `nonce` is the hash of the whole proof.
    """

    protocol: Protocol
    chain_id: int
    asset: str
    authorization: Authorization
    binding: Binding
    foreign: ForeignProof | None = None

    @property
    def id(self) -> str:
        """The identity that claims go by: the same authorization in another envelope is the same payment."""
        if self.foreign is not None:
            return self.foreign.identity
        authorization = self.authorization
        return f"eip155:{self.chain_id}/{self.asset}/{authorization.payer}/{authorization.nonce}"

    @property
    def network(self) -> str:
        """The CAIP-2 id of its network."""
        return network_of(self.id)


def network_of(payment_id: str) -> str:
    """The CAIP-2 id of the network that a payment with this id is on."""
    return payment_id.partition("/")[0]


def is_foreign(payment_id: str) -> bool:
    """Whether a payment with this id has a foreign proof, of which an EIP-3009 token knows nothing."""
    return not payment_id.partition("/")[2].startswith("0x")


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """Money that moved: `amount` of `asset` from `payer` to `recipient`, in `transaction`."""

    payment_id: str
    protocol: Protocol
    chain_id: int
    asset: str
    amount: int
    payer: str
    recipient: str
    transaction: str
    """The transaction hash, `0x` and 64 lower-case hexadecimal digits; empty where a settler settles nowhere. Off EVM
    as its network writes it."""
    settled_at: float
    """Unix seconds, by the settler's clock."""

    @property
    def network(self) -> str:
        """The CAIP-2 id of the network that it moved on."""
        return f"eip155:{self.chain_id}" if self.chain_id else network_of(self.payment_id)
