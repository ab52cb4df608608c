"""Keccak-256, the hash of Ethereum (not NIST's SHA3-256), from the fastest implementation that is installed."""

try:
    from sha3 import keccak_256 as _keccak_256

    def keccak256(data: bytes) -> bytes:
        """The 32-byte Keccak-256 digest of `data`."""
        digest: bytes = _keccak_256(data).digest()
        return digest

except ImportError:
    from Crypto.Hash import keccak as _keccak

    def keccak256(data: bytes) -> bytes:
        """The 32-byte Keccak-256 digest of `data`."""
        return _keccak.new(digest_bits=256, data=data).digest()


__all__ = ["keccak256"]
