"""Signatures of contract wallets: EIP-1271's question, and ERC-6492's envelope for a wallet that does not exist yet.

The envelope names a factory and what to call it with, and the payer chose both. That call is never made from an account
of ours, whose rights it would have (a "factory" can be a token that is told to transfer what we own): it is made from
the constructor of a contract that exists for one call or one transaction only and owns nothing. So the worst that it
can do is to burn the gas that it is given. Pure.
"""

from typing import Final, NamedTuple

from translators.errors import VerificationFailed
from translators.keccak import keccak256

__all__ = ["Wrapped", "deploy_and_ask", "deploy_and_call", "is_valid", "is_wrapped", "signature_question", "unwrap"]

_MAGIC: Final = bytes.fromhex("6492" * 16)
"""The end of a signature that brings along the deployment of its wallet (ERC-6492, section "Signer side")."""

_IS_VALID_SIGNATURE: Final = keccak256(b"isValidSignature(bytes32,bytes)")[:4]
_VALID: Final = _IS_VALID_SIGNATURE + bytes(28)


class Wrapped(NamedTuple):
    """What an envelope holds: `factory`, called with `deployment`, makes the wallet whose `signature` this is."""

    factory: str
    deployment: bytes
    signature: bytes


def is_wrapped(signature: bytes) -> bool:
    """Whether a signature is an ERC-6492 envelope."""
    return signature.endswith(_MAGIC)


def unwrap(signature: bytes) -> Wrapped:
    """The content of an envelope, ABI-encoded as (address, bytes, bytes); raises `VerificationFailed`."""
    body = signature.removesuffix(_MAGIC)
    factory, inner = body[12:32], _bytes_at(body, 2)
    if body[:12] != bytes(12) or is_wrapped(inner):
        raise _malformed()
    return Wrapped("0x" + factory.hex(), _bytes_at(body, 1), inner)


def signature_question(digest: bytes, signature: bytes) -> bytes:
    """Calldata of EIP-1271's `isValidSignature(digest, signature)`."""
    length = len(signature).to_bytes(32, "big")
    return _IS_VALID_SIGNATURE + digest + _word(64) + length + signature + bytes(-len(signature) % 32)


def is_valid(answer: bytes) -> bool:
    """Whether a wallet's answer is yes, as tokens read it."""
    return answer[:32] == _VALID


def deploy_and_ask(wrapped: Wrapped, wallet: str, question: bytes) -> bytes:
    """Code that makes the wallet, asks it without letting it change anything, and returns the answer's first 32 bytes.

    To be run by `eth_call` as when a contract is created. Returns nothing when the wallet does not answer that much.
    """
    return _program(
        wrapped,
        wallet,
        question,
        _push(0) + _push(0) + _push(len(question)) + _push(0) + _address(wallet) + _GAS + _STATICCALL
        # only a success with 32 bytes or more is an answer
        + _push(31) + _RETURNDATASIZE + _GT + _AND,
        _push(32) + _push(0) + _push(0) + _RETURNDATACOPY + _push(32) + _push(0) + _RETURN,
        _STOP,
    )  # fmt: skip


def deploy_and_call(wrapped: Wrapped, wallet: str, target: str, data: bytes) -> bytes:
    """Code that makes the wallet and calls `target` with `data`; where that reverts, all does, in its words.

    To be sent as a transaction that creates a contract; the contract has no code.
    """
    return _program(
        wrapped,
        wallet,
        data,
        _push(0) + _push(0) + _push(len(data)) + _push(0) + _push(0) + _address(target) + _GAS + _CALL,
        _STOP,
        _RETURNDATASIZE + _push(0) + _push(0) + _RETURNDATACOPY + _RETURNDATASIZE + _push(0) + _REVERT,
    )


_STOP, _GT, _AND, _CODECOPY, _EXTCODESIZE, _RETURNDATASIZE, _RETURNDATACOPY, _POP, _JUMPI, _GAS, _JUMPDEST = (
    bytes((opcode,)) for opcode in (0x00, 0x11, 0x16, 0x39, 0x3B, 0x3D, 0x3E, 0x50, 0x57, 0x5A, 0x5B)
)
_CALL, _RETURN, _STATICCALL, _REVERT = (bytes((opcode,)) for opcode in (0xF1, 0xF3, 0xFA, 0xFD))


def _program(wrapped: Wrapped, wallet: str, data: bytes, act: bytes, then: bytes, otherwise: bytes) -> bytes:
    """Call the factory, put `data` at 0, `act` (leaves one word), and go on with `then` if that is not zero."""
    length = len(wrapped.deployment)

    def assemble(end: int) -> bytes:
        call = _copy(end, length) + _push(0) + _push(0) + _push(length) + _push(0) + _push(0)
        call += _address(wrapped.factory) + _GAS + _CALL + _POP
        # Somebody else may have made the wallet a moment ago, and making it twice burns all gas.
        code = _branch(_address(wallet) + _EXTCODESIZE, call)
        code += _copy(end + length, len(data))
        return _branch(code + act, otherwise) + then

    # Every number is pushed in four bytes, so the code's length does not depend on them.
    return assemble(len(assemble(0))) + wrapped.deployment + data


def _branch(code: bytes, unless: bytes) -> bytes:
    """`code`, which leaves one word and begins the program; then `unless`, where that word is zero."""
    return code + _push(len(code) + len(_push(0)) + 1 + len(unless)) + _JUMPI + unless + _JUMPDEST


def _copy(offset: int, length: int) -> bytes:
    return _push(length) + _push(offset) + _push(0) + _CODECOPY


def _push(number: int) -> bytes:
    return b"\x63" + number.to_bytes(4, "big")


def _address(address: str) -> bytes:
    return b"\x73" + bytes.fromhex(address[2:])


def _bytes_at(body: bytes, index: int) -> bytes:
    """The ABI's dynamic `bytes` at a place in the head."""
    offset = int.from_bytes(body[32 * index : 32 * index + 32], "big")
    length = int.from_bytes(body[offset : offset + 32], "big")
    if len(body) < 96 or offset + 32 > len(body) or offset + 32 + length > len(body):
        raise _malformed()
    return body[offset + 32 : offset + 32 + length]


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _malformed() -> VerificationFailed:
    return VerificationFailed("the signature's ERC-6492 envelope cannot be read")
