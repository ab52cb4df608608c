"""What a token's contract says of itself, asked of the chain's node."""

from typing import Any, Final

from bridge.check.network import CheckError, Network, NodeRefused
from translators.lint.probe import TokenFacts
from translators.lint.reading import Reading

__all__ = ["TRANSFER_TOPIC", "balance_of", "chain_id_of", "moved_money", "token_facts"]

_CODE: Final = {
    "name": "0x06fdde03",
    "version": "0x54fd4d50",
    "decimals": "0x313ce567",
    "DOMAIN_SEPARATOR": "0x3644e515",
    "authorizationState": "0xe94a0102",
    "balanceOf": "0x70a08231",
}
"""Selectors: the first four bytes of keccak256 of each function's signature."""

TRANSFER_TOPIC: Final = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak256 of `Transfer(address,address,uint256)`."""

_TOKENS: Final = 8
"""The most tokens of one 402 that are asked about."""


async def chain_id_of(network: Network, node: str) -> int:
    """The chain that a node is on. Raises `CheckError`."""
    try:
        return int(await network.rpc(node, "eth_chainId"), 16)
    except (NodeRefused, ValueError, TypeError):
        raise CheckError("the chain's node does not say which chain it is on") from None


async def token_facts(network: Network, node: str, reading: Reading) -> tuple[tuple[TokenFacts, ...], list[str]]:
    """The facts about each token that is offered on the node's chain, and what could not be asked."""
    chain_id = await chain_id_of(network, node)
    wanted = sorted(
        {(t.chain_id, t.asset.lower()) for t in reading.terms if t.chain_id is not None and _plain(t.asset)}
    )
    here = [address for chain, address in wanted if chain == chain_id]
    notes = [f"not asked about {a} on chain {c}: the node is of {chain_id}" for c, a in wanted if c != chain_id]
    return tuple([await _facts(network, node, chain_id, address) for address in here[:_TOKENS]]), notes


def _plain(address: str) -> bool:
    return (
        len(address) == 42
        and address.lower().startswith("0x")
        and all(c in "0123456789abcdef" for c in address[2:].lower())
    )


async def _facts(network: Network, node: str, chain_id: int, address: str) -> TokenFacts:
    async def call(function: str, arguments: str = "") -> bytes | None:
        try:
            answer = await network.rpc(node, "eth_call", {"to": address, "data": _CODE[function] + arguments}, "latest")
            data = bytes.fromhex(str(answer).removeprefix("0x"))
        except (NodeRefused, ValueError):
            return None
        return data or None

    code = await network.rpc(node, "eth_getCode", address, "latest")
    if code in ("0x", None):
        return TokenFacts(chain_id, address, has_code=False)
    decimals = await call("decimals")
    separator = await call("DOMAIN_SEPARATOR")
    state = await call("authorizationState", "00" * 64)
    return TokenFacts(
        chain_id,
        address,
        has_code=True,
        name=_string(await call("name")),
        version=_string(await call("version")),
        decimals=int.from_bytes(decimals, "big") if decimals and len(decimals) == 32 else None,
        domain_separator=separator if separator and len(separator) == 32 else None,
        takes_authorizations=state is not None and len(state) == 32,
    )


def _string(data: bytes | None) -> str | None:
    """A string as the ABI returns it: offset, length, bytes."""
    if data is None or len(data) < 64:
        return None
    start = int.from_bytes(data[:32], "big")
    if start + 32 > len(data):
        return None
    length = int.from_bytes(data[start : start + 32], "big")
    return data[start + 32 : start + 32 + length].decode("utf-8", "replace") if length <= len(data) else None


async def balance_of(network: Network, node: str, token: str, owner: str) -> int:
    """How much of a token an address has, in atomic units. Raises `CheckError`."""
    data = _CODE["balanceOf"] + owner.lower().removeprefix("0x").rjust(64, "0")
    try:
        return int(await network.rpc(node, "eth_call", {"to": token, "data": data}, "latest"), 16)
    except (NodeRefused, ValueError, TypeError):
        raise CheckError(f"the token {token} does not tell its balances") from None


async def moved_money(
    network: Network, node: str, transaction: str, *, token: str, payer: str, recipient: str, amount: int
) -> bool:
    """Whether a transaction succeeded and moved exactly this. Raises `CheckError`."""
    try:
        receipt: Any = await network.rpc(node, "eth_getTransactionReceipt", transaction)
    except NodeRefused:
        return False
    if not isinstance(receipt, dict) or receipt.get("status") != "0x1":
        return False
    wanted = [
        TRANSFER_TOPIC,
        *("0x" + address.lower().removeprefix("0x").rjust(64, "0") for address in (payer, recipient)),
    ]
    logs = receipt.get("logs")
    return any(
        str(log.get("address")).lower() == token.lower()
        and [str(topic).lower() for topic in log.get("topics", [])] == wanted
        and int(str(log.get("data")), 16) == amount
        for log in (logs if isinstance(logs, list) else [])
    )
