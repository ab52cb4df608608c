"""EIP-3009 authorizations: the EIP-712 digest that is signed, and who signed it.

One struct is ever hashed here, so its encoding is written out: six words after the type hash. Tests hold it against
eth-account's generic encoder.
"""

from functools import lru_cache
from typing import Final

from coincurve import PublicKey

from translators.errors import VerificationFailed
from translators.keccak import keccak256
from translators.payment import Asset, Authorization

__all__ = [
    "EOA_SIGNATURE_BYTES",
    "authorization_digest",
    "check_signature",
    "domain_separator",
    "is_signed_by_payer",
    "recover_signer",
]

EOA_SIGNATURE_BYTES: Final = 65
"""r, s and v of an externally owned account; a contract wallet's signature has another length, or another meaning."""

_DOMAIN_TYPE: Final = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_AUTHORIZATION_TYPE: Final = keccak256(
    b"TransferWithAuthorization(address from,address to,uint256 value,"
    b"uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HALF_ORDER: Final = (_ORDER // 2).to_bytes(32, "big")


@lru_cache(maxsize=256)
def domain_separator(asset: Asset) -> bytes:
    """The token's EIP-712 domain separator (EIP-712, "Definition of domainSeparator")."""
    return keccak256(
        _DOMAIN_TYPE
        + keccak256(asset.name.encode())
        + keccak256(asset.version.encode())
        + asset.chain_id.to_bytes(32, "big")
        + _word(asset.address)
    )


def authorization_digest(authorization: Authorization, asset: Asset) -> bytes:
    """The 32 bytes that the payer signed."""
    # Written as hexadecimal first: one conversion costs less than six.
    words = (
        f"{authorization.payer[2:]:0>64}{authorization.recipient[2:]:0>64}{authorization.value:064x}"
        f"{authorization.valid_after:064x}{authorization.valid_before:064x}{authorization.nonce[2:]}"
    )
    struct_hash = keccak256(_AUTHORIZATION_TYPE + bytes.fromhex(words))
    return keccak256(b"\x19\x01" + domain_separator(asset) + struct_hash)


def recover_signer(digest: bytes, signature: bytes) -> str:
    """The address whose key made this 65-byte signature.

    Raises `VerificationFailed` for a signature that tokens refuse as well: another length, `v` not 27 or 28 (0 and 1
    are read as these), `s` in the upper half of the order (EIP-2, which EIP-3009 tokens follow to keep a signature
    from having a twin), or one that no key can have made.
    """
    if len(signature) != EOA_SIGNATURE_BYTES:
        raise VerificationFailed("the signature is not 65 bytes long")
    v = signature[64]
    recovery_id = v - 27 if v >= 27 else v
    if recovery_id not in (0, 1):
        raise VerificationFailed("the signature's v is neither 27 nor 28")
    if signature[32:64] > _HALF_ORDER:
        raise VerificationFailed("the signature's s is in the upper half of the order")
    try:
        key = PublicKey.from_signature_and_message(signature[:64] + bytes((recovery_id,)), digest, hasher=None)
    except Exception:  # coincurve raises bare Exception
        raise VerificationFailed("the signature is not valid") from None
    return "0x" + keccak256(key.format(compressed=False)[1:])[12:].hex()


def check_signature(authorization: Authorization, asset: Asset) -> None:
    """Raise `VerificationFailed` unless the payer's own key signed `authorization` under `asset`'s domain."""
    if recover_signer(authorization_digest(authorization, asset), authorization.signature) != authorization.payer:
        raise VerificationFailed("the signature is not the payer's")


def is_signed_by_payer(authorization: Authorization, asset: Asset) -> bool:
    """Whether `check_signature` passes: tells tokens apart where the wire does not name one."""
    try:
        check_signature(authorization, asset)
    except VerificationFailed:
        return False
    return True


def _word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])
