"""What must be so before a chain settler takes payments: the chain, each token, the relayer's account."""

import asyncio
from collections.abc import Sequence
from typing import Final

from eth_account import Account
from eth_account.signers.local import LocalAccount

from bridge.settlers.base import SettlerConfigError
from bridge.settlers.eip3009_calls import (
    DOMAIN_SEPARATOR_CALL,
    NAME_CALL,
    VERSION_CALL,
    authorization_state_call,
    read_string,
)
from bridge.settlers.node import Node
from bridge.settlers.node_errors import NodeError, NodeUnreachable
from bridge.settlers.relayer import Relayer
from translators.eip3009 import domain_separator
from translators.payment import Asset, Offer

__all__ = ["check_node", "check_relayer", "check_token", "relayer_account"]

_TRIES: Final = 3
_PAUSE_SECONDS: Final = 1.0
_NOBODY: Final = "0x" + "00" * 20
_NO_NONCE: Final = "0x" + "00" * 32


def relayer_account(private_key: str) -> LocalAccount:
    """The account of a private key; raises `SettlerConfigError`, which does not repeat the key."""
    try:
        account: LocalAccount = Account.from_key(private_key.strip())
    except Exception:  # eth-account and eth-keys raise several kinds, some of which quote the key
        raise SettlerConfigError("the relayer's private key is not 32 bytes of hexadecimal, or not a key") from None
    return account


async def check_node(node: Node, expected: int | None, offers: Sequence[Offer]) -> int:
    """The node's chain id, which must be `expected` (where given) and every offer's; raises `SettlerConfigError`."""
    chain_id = await _chain_id(node)
    wanted = {offer.asset.chain_id for offer in offers} | ({expected} if expected is not None else set())
    if strange := sorted(wanted - {chain_id}):
        raise SettlerConfigError(f"the chain's node is on chain {chain_id}, and payments are asked for on {strange}")
    return chain_id


async def _chain_id(node: Node) -> int:
    # A node that is started together with the server may be a moment later.
    for tries_left in reversed(range(_TRIES)):
        try:
            return await node.quantity("eth_chainId")
        except NodeError as error:
            raise SettlerConfigError(f"the chain's node refuses eth_chainId: {error}") from None
        except NodeUnreachable as error:
            if not tries_left:
                raise SettlerConfigError(f"the chain's node does not answer: {error}") from None
            await asyncio.sleep(_PAUSE_SECONDS)
    raise AssertionError("the last try returns or raises")


async def check_token(node: Node, asset: Asset) -> None:
    """The token exists, knows EIP-3009, and signs under the configured domain; raises `SettlerConfigError`."""
    try:
        if not await _code(node, asset.address):
            raise SettlerConfigError(f"there is no contract at the token's address {asset.address}")
        if len(await _read(node, asset, authorization_state_call(_NOBODY, _NO_NONCE))) != 32:
            raise SettlerConfigError(f"the token {asset.address} does not know EIP-3009 authorizations")
        separator = await _read(node, asset, DOMAIN_SEPARATOR_CALL)
        # EIP-3009 does not demand that a token tells its separator.
        if len(separator) == 32 and separator != domain_separator(asset):
            name, version = [read_string(await _read(node, asset, call)) for call in (NAME_CALL, VERSION_CALL)]
            raise SettlerConfigError(
                f"the token {asset.address} signs under another EIP-712 domain: "
                f"configured are name {asset.name!r} and version {asset.version!r}, "
                f"it calls itself {name!r}, version {version!r}"
            )
    except (NodeError, NodeUnreachable) as error:
        raise SettlerConfigError(f"the chain's node does not answer for {asset.address}: {error}") from None


async def check_relayer(node: Node, relayer: Relayer) -> None:
    """The relayer has something to pay gas with, on a chain with EIP-1559; raises `SettlerConfigError`."""
    try:
        if not await node.quantity("eth_getBalance", relayer.address, "latest"):
            raise SettlerConfigError(f"the relayer {relayer.address} has nothing to pay for gas with")
        await relayer.fees()
    except (NodeError, NodeUnreachable) as error:
        raise SettlerConfigError(f"the chain's node tells no balance or no fees: {error}") from None


async def _code(node: Node, address: str) -> str:
    return str(await node.ask("eth_getCode", address, "latest")).removeprefix("0x")


async def _read(node: Node, asset: Asset, data: bytes) -> bytes:
    """What a call returns, empty when the token does not know it."""
    try:
        return await node.call(asset.address, data)
    except NodeError as error:
        if error.code_failed:
            return b""
        raise
