"""What a payer asks a node: under which domain a token signs, and whether an authorization was used."""

from typing import Any

import httpx
import msgspec

from bridge.client.errors import Declined, PayError
from translators.eip3009 import domain_separator
from translators.keccak import keccak256
from translators.payment import Asset

__all__ = ["NodeFailed", "TokenReader"]


class NodeFailed(PayError):
    """The node did not answer, or answered for another chain; nothing was charged."""


class TokenReader:
    """Reads tokens at a node's JSON-RPC `url`; `timeout` is in seconds. Its calls block."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        self._url = url
        self._timeout = timeout
        self._chain_id: int | None = None
        self._assets: dict[tuple[int, str], Asset] = {}

    def asset(self, wanted: Asset) -> Asset:
        """The token as its contract tells it, checked against the contract's own domain separator.

        An empty `name` in `wanted` is read from the contract. Raises `Declined` where `wanted` and the contract
        disagree, `NodeFailed`.
        """
        key = (wanted.chain_id, wanted.address)
        if (found := self._assets.get(key)) is None:
            found = self._assets[key] = self._read(wanted)
        if wanted.name and (wanted.name, wanted.version) != (found.name, found.version):
            raise Declined(
                f"the token at {wanted.address} signs as {found.name!r}, version {found.version!r},"
                f" and the server says {wanted.name!r}, version {wanted.version!r}"
            )
        return found

    def _read(self, wanted: Asset) -> Asset:
        self._check_chain(wanted.chain_id)
        name = _text(self._view(wanted.address, "name()"))
        try:
            version = _text(self._view(wanted.address, "version()"))
        except NodeFailed:
            # Tokens without version() sign as version 1, by custom; the domain separator tells.
            version = "1"
        decimals = int.from_bytes(self._view(wanted.address, "decimals()")[:32], "big")
        separator = self._view(wanted.address, "DOMAIN_SEPARATOR()")[:32]
        candidates = [Asset(wanted.chain_id, wanted.address, min(decimals, 255), name, version)]
        if wanted.name:
            candidates.append(msgspec.structs.replace(candidates[0], name=wanted.name, version=wanted.version))
        for asset in candidates:
            if domain_separator(asset) == separator:
                return asset
        raise Declined(f"the token at {wanted.address} signs under a domain that it does not tell")

    def is_used(self, asset: Asset, payer: str, nonce: str) -> bool:
        """Whether this authorization has moved its money (or was cancelled). Raises `NodeFailed`."""
        self._check_chain(asset.chain_id)
        arguments = bytes(12) + bytes.fromhex(payer[2:]) + bytes.fromhex(nonce[2:])
        return any(self._view(asset.address, "authorizationState(address,bytes32)", arguments))

    def now(self) -> int:
        """The latest block's time, in Unix seconds. Raises `NodeFailed`."""
        block = self._call("eth_getBlockByNumber", ["latest", False])
        try:
            return int(block["timestamp"], 16)
        except (TypeError, KeyError, ValueError):
            raise NodeFailed("the node's latest block has no time") from None

    def _check_chain(self, chain_id: int) -> None:
        if self._chain_id is None:
            try:
                self._chain_id = int(self._call("eth_chainId", []), 16)
            except (TypeError, ValueError):
                raise NodeFailed("the node does not say which chain it is of") from None
        if self._chain_id != chain_id:
            raise NodeFailed(f"the node is of chain {self._chain_id}, and the token is on chain {chain_id}")

    def _view(self, address: str, function: str, arguments: bytes = b"") -> bytes:
        data = "0x" + (keccak256(function.encode())[:4] + arguments).hex()
        answer = self._call("eth_call", [{"to": address, "data": data}, "latest"])
        try:
            read = bytes.fromhex(answer.removeprefix("0x"))
        except (AttributeError, ValueError):
            read = b""
        if len(read) < 32:
            raise NodeFailed(f"there is no token with {function} at {address}")
        return read

    def _call(self, method: str, params: list[Any]) -> Any:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            answer = httpx.post(self._url, json=call, timeout=self._timeout).json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # The URL may hold a secret.
            raise NodeFailed(f"the node did not answer: {type(error).__name__}") from None
        if not isinstance(answer, dict) or "result" not in answer:
            raise NodeFailed(f"the node refused {method}")
        return answer["result"]


def _text(answer: bytes) -> str:
    """An ABI-encoded string."""
    try:
        length = int.from_bytes(answer[32:64], "big")
        return answer[64 : 64 + length].decode()
    except UnicodeDecodeError:
        raise NodeFailed("the token's name is not text") from None
