"""Payers for the demo and for tests: each speaks one protocol, through the same codecs that the server reads it with.

They make a demo and an in-process test possible without anybody else's client; what other people's clients do is tested
with those clients.
"""

import hashlib
import secrets
import time

import httpx
import msgspec
from coincurve import PrivateKey

from translators import mpp, x402
from translators.binding import challenge_hash, parse_time
from translators.eip3009 import authorization_digest
from translators.keccak import keccak256
from translators.networks import KNOWN_TOKENS
from translators.payment import (
    Asset,
    Authorization,
    Binding,
    ChallengeBinding,
    Offer,
    Payment,
    Protocol,
    ResourceBinding,
)
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

__all__ = ["Account", "Asked", "Paid", "account", "ask", "credential", "pay", "read_402", "sign"]


class Account(msgspec.Struct, frozen=True):
    """An address and the key that owns it, both as `0x` and lower-case hexadecimal."""

    address: str
    private_key: str

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"Account({self.address})"


def account(words: str) -> Account:
    """The account of a test: its key is made from public words, so it must never hold anything of value."""
    secret = hashlib.sha256(b"x402-mpp test account: " + words.encode()).digest()
    public = PrivateKey(secret).public_key.format(compressed=False)
    return Account("0x" + keccak256(public[1:])[12:].hex(), "0x" + secret.hex())


class Asked(msgspec.Struct, frozen=True):
    """What a 402 asked of a client of one protocol, and where it said so."""

    protocol: Protocol
    where: str
    offer: Offer
    challenge: mpp_wire.Challenge | None = None
    required: x402_v2.PaymentRequired | None = None


class Paid(msgspec.Struct, frozen=True):
    """What the payer got: `transaction` is what its own receipt says."""

    header: str
    status: int
    body: str
    receipt_header: str
    transaction: str | None


async def ask(client: httpx.AsyncClient, path: str, protocol: Protocol, method: str = "GET") -> Asked:
    """Ask for `path` without paying, and read the 402 as a client of `protocol` does."""
    return read_402(await client.request(method, path), protocol)


def read_402(response: httpx.Response, protocol: Protocol) -> Asked:
    """The first offer of a 402, as a client of `protocol` reads it. Raises `PaymentError` where it cannot."""
    match protocol:
        case Protocol.X402_V1:
            body = x402_v1.decode_payment_required(response.content)
            entry = msgspec.convert(body.accepts[0], x402_v1.PaymentRequirements)
            return Asked(protocol, "JSON body", x402.from_requirements_v1(entry))
        case Protocol.X402_V2:
            required = x402_v2.decode_payment_required(response.headers[x402_v2.CHALLENGE_HEADER])
            requirements = x402_v2.decode_requirements(required.accepts[0], x402_v2.CHALLENGE_HEADER)
            offer = x402.from_requirements_v2(requirements)
            return Asked(protocol, x402_v2.CHALLENGE_HEADER, offer, required=required)
        case Protocol.MPP:
            challenge = mpp_wire.decode_challenges(response.headers.get_list(mpp_wire.CHALLENGE_HEADER))[0]
            request = mpp_wire.decode_charge_request(challenge.request)
            domain = _known_domain(request.currency, request.method_details.chain_id)
            offer = mpp.from_charge_request(request, domain.name, domain.version)
            return Asked(protocol, mpp_wire.CHALLENGE_HEADER, offer, challenge=challenge)


def _known_domain(currency: str, chain_id: int) -> Asset:
    """An MPP challenge names the token only; its EIP-712 domain is the client's to know."""
    return next(known for known in KNOWN_TOKENS if (known.chain_id, known.address) == (chain_id, currency.lower()))


async def pay(client: httpx.AsyncClient, path: str, asked: Asked, payer: Account, method: str = "GET") -> Paid:
    """Sign what was asked, send it, and read the receipt."""
    header, value = credential(asked, payer)
    response = await client.request(method, path, headers={header: value})
    receipt_header, transaction = _receipt(response, asked.protocol)
    return Paid(header, response.status_code, response.text, receipt_header, transaction)


def credential(asked: Asked, payer: Account, now: float | None = None) -> tuple[str, str]:
    """The header and value that answer `asked`; `now` is in Unix seconds."""
    payment = sign(asked, payer, time.time() if now is None else now)
    match asked.protocol:
        case Protocol.X402_V1:
            return x402_v1.CREDENTIAL_HEADER, x402_v1.encode_payment_payload(x402.to_payload_v1(payment))
        case Protocol.X402_V2:
            assert asked.required is not None
            payload = x402.to_payload_v2(payment, asked.required.accepts[0], asked.required.resource)
            return x402_v2.CREDENTIAL_HEADER, x402_v2.encode_payment_payload(payload)
        case Protocol.MPP:
            assert asked.challenge is not None
            wire = mpp_wire.encode_credential(mpp.to_credential(payment, asked.challenge))
            return mpp_wire.CREDENTIAL_HEADER, f"{mpp_wire.SCHEME} {wire}"


def sign(asked: Asked, payer: Account, now: float) -> Payment:
    """An authorization of exactly what was asked, bound as the protocol binds it."""
    offer = asked.offer
    binding: Binding
    if asked.challenge is not None:
        binding = ChallengeBinding(asked.challenge.id, asked.challenge.realm)
        nonce = challenge_hash(asked.challenge)
        valid_after = 0
        valid_before = parse_time(asked.challenge.expires) if asked.challenge.expires else int(now) + 300
    else:
        # x402 v2, section 5.1.2: what the server said among its extensions is echoed.
        binding = ResourceBinding(extensions=asked.required.extensions if asked.required is not None else None)
        nonce = secrets.token_bytes(32)
        valid_after, valid_before = int(now) - 600, int(now) + offer.max_timeout_seconds
    unsigned = Authorization(
        payer=payer.address,
        recipient=offer.recipient,
        value=offer.amount,
        valid_after=valid_after,
        valid_before=valid_before,
        nonce="0x" + nonce.hex(),
        signature=b"",
    )
    digest = authorization_digest(unsigned, offer.asset)
    compact = PrivateKey(bytes.fromhex(payer.private_key[2:])).sign_recoverable(digest, hasher=None)
    signature = compact[:64] + bytes((compact[64] + 27,))
    authorization = msgspec.structs.replace(unsigned, signature=signature)
    return Payment(asked.protocol, offer.asset.chain_id, offer.asset.address, authorization, binding)


def _receipt(response: httpx.Response, protocol: Protocol) -> tuple[str, str | None]:
    match protocol:
        case Protocol.X402_V1:
            name = x402_v1.RECEIPT_HEADER
            value = response.headers.get(name)
            return name, x402_v1.decode_settlement_response(value).transaction if value else None
        case Protocol.X402_V2:
            name = x402_v2.RECEIPT_HEADER
            value = response.headers.get(name)
            return name, x402_v2.decode_settlement_response(value).transaction if value else None
        case Protocol.MPP:
            name = mpp_wire.RECEIPT_HEADER
            value = response.headers.get(name)
            return name, mpp_wire.decode_receipt(value).reference if value else None
