"""Where a Solana transaction's message begins and ends, and who must sign it: as much as its identity takes.

A transaction is its signatures and then the message that they sign. Two that differ in their signatures alone are one
payment, and some decoders let bytes follow the message: so a payment is known by its message, and exactly by that.
"""

import msgspec

from translators.errors import MalformedError

__all__ = ["MAX_TRANSACTION_BYTES", "SolanaTransaction", "base58_encode", "read_transaction"]

MAX_TRANSACTION_BYTES = 1232
"""The longest transaction that Solana's network takes: what is left of IPv6's smallest MTU."""

_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class SolanaTransaction(msgspec.Struct, frozen=True):
    """What a payment needs to know of a transaction."""

    message: bytes
    signers: tuple[str, ...]
    """The accounts that must sign, the fee payer first, in base58."""


class _Reader:
    """Reads forward, and never beyond the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise MalformedError("the Solana transaction ends too soon")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def length(self) -> int:
        """A compact-u16: seven bits a byte, the lowest first, in as few bytes as it takes."""
        value = 0
        for index in range(3):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * index)
            if not byte & 0x80:
                if (index and not byte) or value > 0xFFFF:
                    break
                return value
        raise MalformedError("the Solana transaction has a length that is not canonical")


def read_transaction(data: bytes) -> SolanaTransaction:
    """Read a legacy or version 0 transaction, all of it. Raises `MalformedError`."""
    if len(data) > MAX_TRANSACTION_BYTES:
        raise MalformedError(f"the Solana transaction is longer than {MAX_TRANSACTION_BYTES} bytes")
    reader = _Reader(data)
    signatures = reader.length()
    reader.take(signatures * _SIGNATURE_BYTES)
    begin = reader.at
    required = reader.byte()
    is_versioned = bool(required & 0x80)
    if is_versioned:
        if required != 0x80:
            raise MalformedError("the Solana transaction's version is not known")
        required = reader.byte()
    reader.take(2)
    keys = [reader.take(_KEY_BYTES) for _ in range(reader.length())]
    if not 0 < required == signatures <= len(keys):
        raise MalformedError("the Solana transaction's signatures are not those that its message asks for")
    reader.take(_KEY_BYTES)
    for _ in range(reader.length()):
        reader.byte()
        reader.take(reader.length())
        reader.take(reader.length())
    if is_versioned:
        for _ in range(reader.length()):
            reader.take(_KEY_BYTES)
            reader.take(reader.length())
            reader.take(reader.length())
    if reader.at != len(data):
        raise MalformedError("the Solana transaction is followed by other bytes")
    return SolanaTransaction(data[begin:], tuple(base58_encode(key) for key in keys[:required]))


def base58_encode(data: bytes) -> str:
    """Base58 as Solana writes keys."""
    number = int.from_bytes(data, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + digits
