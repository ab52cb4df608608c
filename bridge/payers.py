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

from bridge.client.outcome import RECEIPT_HEADERS, read_receipt
from bridge.client.signers import KeySigner
from translators.asks import Asked, envelope, read_asks, to_payment, to_sign
from translators.errors import MalformedError
from translators.keccak import keccak256
from translators.payment import Payment, Protocol

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
    """The first offer of a 402, as a client of `protocol` reads it. Raises `MalformedError` where it cannot."""
    reading = read_asks(response.headers.multi_items(), response.content)
    for asked in reading.asks:
        if asked.protocol is protocol and asked.offer.asset.name:
            return asked
    reasons = [one.reason for one in reading.passed if one.protocol is protocol]
    raise MalformedError(reasons[0] if reasons else f"the answer asks for nothing in {protocol.value}")


async def pay(client: httpx.AsyncClient, path: str, asked: Asked, payer: Account, method: str = "GET") -> Paid:
    """Sign what was asked, send it, and read the receipt."""
    header, value = credential(asked, payer)
    response = await client.request(method, path, headers={header: value})
    receipt_header, transaction = _receipt(response, asked.protocol)
    return Paid(header, response.status_code, response.text, receipt_header, transaction)


def credential(asked: Asked, payer: Account, now: float | None = None) -> tuple[str, str]:
    """The header and value that answer `asked`; `now` is in Unix seconds."""
    return envelope(asked, sign(asked, payer, time.time() if now is None else now))


def sign(asked: Asked, payer: Account, now: float) -> Payment:
    """An authorization of exactly what was asked, bound as the protocol binds it."""
    unsigned = to_sign(asked, payer.address, now=now, nonce=secrets.token_bytes(32))
    return to_payment(asked, unsigned, KeySigner(payer.private_key).sign(unsigned, asked.offer.asset))


def _receipt(response: httpx.Response, protocol: Protocol) -> tuple[str, str | None]:
    receipt = read_receipt(response, protocol)
    return RECEIPT_HEADERS[protocol], receipt.transaction if receipt is not None else None
