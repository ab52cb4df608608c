"""The field forms that all three wires share: addresses, 32-byte words, decimal integers, signatures."""

import re
from functools import lru_cache

from translators.errors import MalformedError
from translators.keccak import keccak256

__all__ = ["checksum_address", "parse_address", "parse_signature", "parse_uint256", "parse_word"]

_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{40}")
_WORD = re.compile(r"0[xX][0-9a-fA-F]{64}")
_UINT = re.compile(r"0|[1-9][0-9]{0,77}")
_UINT256_MAX = 2**256 - 1


@lru_cache(maxsize=4096)
def parse_address(text: str, what: str) -> str:
    """A 20-byte address in lower case: addresses are compared by value, so the checksum's case is dropped.

    Payers come again, and so do prices and times: what was read is remembered for a while, here and below.
    """
    if _ADDRESS.fullmatch(text) is None:
        raise MalformedError(f"{what} is not a 20-byte address")
    return text.lower()


def parse_word(text: str, what: str) -> str:
    """A 32-byte value as `0x` and lower-case hexadecimal."""
    if _WORD.fullmatch(text) is None:
        raise MalformedError(f"{what} is not 32 bytes of hexadecimal")
    return text.lower()


@lru_cache(maxsize=4096)
def parse_uint256(text: str, what: str) -> int:
    """A decimal integer without sign, leading zeros or white space, of at most 256 bits."""
    if _UINT.fullmatch(text) is None or (number := int(text)) > _UINT256_MAX:
        raise MalformedError(f"{what} is not a decimal integer of at most 256 bits")
    return number


def parse_signature(text: str) -> bytes:
    """A signature of any length: 65 bytes from a key, more from a contract wallet."""
    if text[:2] in ("0x", "0X"):
        try:
            signature = bytes.fromhex(text[2:])
        except ValueError:
            signature = b""
        # `fromhex` passes over white space: then there are fewer bytes than the text is long for.
        if signature and 2 * len(signature) == len(text) - 2:
            return signature
    raise MalformedError("signature is not hexadecimal")


@lru_cache(maxsize=4096)
def checksum_address(address: str) -> str:
    """The address in EIP-55 mixed case, as wallets like to see it."""
    bare = address[2:].lower()
    digest = keccak256(bare.encode()).hex()
    return "0x" + "".join(
        letter.upper() if digest[index] in "89abcdef" else letter for index, letter in enumerate(bare)
    )
