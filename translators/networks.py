"""Networks and tokens that are known by name, as data.

x402 v1 writes a network's name (`base-sepolia`), x402 v2 a CAIP-2 id (`eip155:84532`), MPP's evm method an EIP-155
chain id (84532). Sources: x402 v1's published network list (npm `x402` 1.2.0, `types/shared/network`), CAIP-2, and for
the tokens their contracts' own `name()`, `version()` and `decimals()`.
"""

from translators.errors import MalformedError
from translators.payment import Asset

__all__ = ["KNOWN_TOKENS", "V1_NETWORKS", "caip2", "chain_id_from_network", "default_token", "v1_network"]

V1_NETWORKS: dict[str, int] = {
    "abstract": 2741,
    "abstract-testnet": 11124,
    "avalanche": 43114,
    "avalanche-fuji": 43113,
    "base": 8453,
    "base-sepolia": 84532,
    "educhain": 41923,
    "iotex": 4689,
    "peaq": 3338,
    "polygon": 137,
    "polygon-amoy": 80002,
    "sei": 1329,
    "sei-testnet": 1328,
    "skale-base-sepolia": 324705682,
    "story": 1514,
}
"""x402 v1's names of EVM networks, and their chain ids.

Only these: v1 clients parse every entry of `accepts` against this list, and one unknown name spoils the whole 402.
"""

_V1_NAMES = {chain_id: name for name, chain_id in V1_NETWORKS.items()}


def caip2(chain_id: int) -> str:
    """The CAIP-2 id of an EVM chain, as x402 v2 writes it."""
    return f"eip155:{chain_id}"


def v1_network(chain_id: int) -> str | None:
    """The name x402 v1 gives a chain, or None: such a chain cannot be offered to a v1 client."""
    return _V1_NAMES.get(chain_id)


def chain_id_from_network(network: str) -> int | None:
    """The chain id of an x402 network, by v1 name or CAIP-2 id; None for a network that is not EVM or not known.

    Raises `MalformedError` for an `eip155` reference that is not a decimal number.
    """
    namespace, colon, reference = network.partition(":")
    if not colon:
        return V1_NETWORKS.get(network)
    if namespace != "eip155":
        return None
    if not (reference.isascii() and reference.isdecimal()) or len(reference) > 20:
        raise MalformedError("network is not a CAIP-2 id")
    return int(reference)


KNOWN_TOKENS: tuple[Asset, ...] = (
    Asset(8453, "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913", 6, "USD Coin", "2", "USDC"),
    Asset(84532, "0x036cbd53842c5426634e7929541ec2318f3dcf7e", 6, "USDC", "2", "USDC"),
    Asset(42220, "0xceba9300f2b948710d2653dd7b07f33a8b32118c", 6, "USDC", "2", "USDC"),
    Asset(42220, "0x48065fbbe25f71c9282ddf5e1cd6d6a887483d5e", 6, "Tether USD", "1", "USDT"),
    Asset(43114, "0xb97ef9ef8734c71904d8002f8b6bc66dd9c48a6e", 6, "USD Coin", "2", "USDC"),
    Asset(43113, "0x5425890298aed601595a70ab815c96711a31bc65", 6, "USD Coin", "2", "USDC"),
    Asset(137, "0x3c499c542cef5e3811e1192ce70d8cc03d5c3359", 6, "USD Coin", "2", "USDC"),
    Asset(80002, "0x41e94eb019c0762f9bfcf9fb1e58725bfb0e7582", 6, "USDC", "2", "USDC"),
)
"""Tokens with EIP-3009 whose EIP-712 domain is known. A chain's first is its default, which prices in money use."""


def default_token(chain_id: int) -> Asset | None:
    """The token that a price in dollars means on a chain."""
    return next((token for token in KNOWN_TOKENS if token.chain_id == chain_id), None)
