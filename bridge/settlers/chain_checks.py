"""What must be so before a chain settler takes payments: each token, the relayer's account."""

from contextlib import suppress
from typing import Final

from bridge.settlers.base import SettlerConfigError, SettlerUnreachable
from bridge.settlers.eip3009_calls import (
    DOMAIN_SEPARATOR_CALL,
    NAME_CALL,
    VERSION_CALL,
    authorization_state_call,
    read_string,
)
from bridge.settlers.ethereum import Account, LocalAccount
from bridge.settlers.node_errors import NodeError, NodeUnreachable
from bridge.settlers.nodes import Nodes
from bridge.settlers.relayer import Relayer
from translators.eip3009 import domain_separator
from translators.errors import Unavailable
from translators.payment import Asset

__all__ = ["check_relayer", "check_token", "relayer_account"]

_NOBODY: Final = "0x" + "00" * 20
_NO_NONCE: Final = "0x" + "00" * 32


def relayer_account(private_key: str) -> LocalAccount:
    """The account of a private key; raises `SettlerConfigError`, which does not repeat the key."""
    try:
        account: LocalAccount = Account.from_key(private_key.strip())
    except Exception:  # eth-account and eth-keys raise several kinds, some of which quote the key
        raise SettlerConfigError("the relayer's private key is not 32 bytes of hexadecimal, or not a key") from None
    return account


async def check_token(nodes: Nodes, asset: Asset) -> None:
    """The token exists, knows EIP-3009, and signs under the configured domain; raises `SettlerConfigError`."""
    try:
        if not await _code(nodes, asset.address):
            raise SettlerConfigError(f"there is no contract at the token's address {asset.address}")
        if len(await _read(nodes, asset, authorization_state_call(_NOBODY, _NO_NONCE))) != 32:
            raise SettlerConfigError(f"the token {asset.address} does not know EIP-3009 authorizations")
        separator = await _read(nodes, asset, DOMAIN_SEPARATOR_CALL)
        # EIP-3009 does not demand that a token tells its separator.
        if len(separator) == 32 and separator != domain_separator(asset):
            name, version = [read_string(await _read(nodes, asset, call)) for call in (NAME_CALL, VERSION_CALL)]
            raise SettlerConfigError(
                f"the token {asset.address} signs under another EIP-712 domain: "
                f"configured are name {asset.name!r} and version {asset.version!r}, "
                f"it calls itself {name!r}, version {version!r}"
            )
    except (NodeError, NodeUnreachable) as error:
        raise SettlerUnreachable(f"the chain's node does not answer for {asset.address}: {error}") from None


async def check_relayer(nodes: Nodes, relayer: Relayer) -> None:
    """The relayer has something to pay gas with, on a chain with EIP-1559; raises `SettlerConfigError`."""
    try:
        if not await nodes.quantity("eth_getBalance", relayer.address, "latest"):
            raise SettlerConfigError(f"the relayer {relayer.address} has nothing to pay for gas with")
        # Gas that is dearer than the ceiling now may be cheaper later, and payments are refused until then.
        with suppress(Unavailable):
            await relayer.fees()
    except (NodeError, NodeUnreachable) as error:
        raise SettlerUnreachable(f"the chain's node tells no balance or no fees: {error}") from None


async def _code(nodes: Nodes, address: str) -> str:
    return str(await nodes.ask("eth_getCode", address, "latest")).removeprefix("0x")


async def _read(nodes: Nodes, asset: Asset, data: bytes) -> bytes:
    """What a call returns, empty when the token does not know it."""
    try:
        return await nodes.call(asset.address, data)
    except NodeError as error:
        if error.code_failed:
            return b""
        raise
