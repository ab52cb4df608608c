"""What can go wrong between us and a chain's node. Apart from `node`, which imports web3, and that takes a second."""

from typing import Any, Final

__all__ = ["NodeError", "NodeUnreachable", "as_bytes", "as_int"]

_TROUBLE_CODES: Final = frozenset({-32603, -32005, -32002, -32001, -32601, -32097})
_TROUBLE: Final = (
    *("rate limit", "too many requests", "limit exceeded", "header not found", "missing trie node", "unknown block"),
    *("timeout", "timed out", "temporarily", "unavailable", "internal error"),
)
"""Codes and words of a node that is in trouble itself, whatever it was asked."""

_CODE_FAILED: Final = (
    *("revert", "out of gas", "outofgas", "invalid opcode", "gas required exceeds", "evm error", "invalid jump"),
    *("stack underflow", "stack limit", "write protection", "return data out of bounds", "code size", "invalid code"),
)


class NodeError(Exception):
    """The node's own answer: it refuses, or the called code failed."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.data = data

    @property
    def code_failed(self) -> bool:
        """Whether it was the called code that refused or ran out of gas: geth's code 3, or the words of the others."""
        return self.code == 3 or any(words in self.message.lower() for words in _CODE_FAILED)

    @property
    def is_the_nodes_own(self) -> bool:
        """Whether another node of the same chain may well answer what this one refuses."""
        if self.code_failed:
            return False
        return self.code in _TROUBLE_CODES or any(words in self.message.lower() for words in _TROUBLE)


class NodeUnreachable(Exception):
    """No answer, or none that can be understood; `maybe_sent` says whether the request can have reached the node."""

    def __init__(self, what: str, *, maybe_sent: bool) -> None:
        super().__init__(what)
        self.maybe_sent = maybe_sent


def as_int(value: Any) -> int:
    """A JSON-RPC quantity. Raises `NodeUnreachable` for anything else."""
    try:
        return int(value, 16)
    except (TypeError, ValueError):
        raise NodeUnreachable("not a quantity", maybe_sent=True) from None


def as_bytes(value: Any) -> bytes:
    """JSON-RPC data. Raises `NodeUnreachable` for anything else."""
    try:
        return bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, TypeError, ValueError):
        raise NodeUnreachable("not data", maybe_sent=True) from None
