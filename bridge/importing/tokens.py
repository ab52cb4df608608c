"""The tokens that a price in dollars means to the x402 SDKs, on networks where we have none of our own.

They are what the SDKs' servers say today, and are spelled out in what is imported: no price of ours means one of these
by default. Sources: the default assets of x402 (Python) 2.25.0, and npm `x402` 1.2.0 for v1's networks. Nobody here has
asked the contracts.
"""

from translators.networks import KNOWN_TOKENS
from translators.payment import Asset

__all__ = ["EIP3009_TOKENS", "PERMIT2_TOKENS", "sdk_token", "token_at"]

EIP3009_TOKENS: tuple[Asset, ...] = (
    Asset(1, "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48", 6, "USD Coin", "2", "USDC"),
    Asset(143, "0x754704bc059f8c67012fed69bc8a327a5aafb603", 6, "USDC", "2", "USDC"),
    Asset(10143, "0x534b2f3a21130d7a60830c2df862319e593943a3", 6, "USDC", "2", "USDC"),
    Asset(988, "0x779ded0c9e1022225f8e0630b35a9b54be713736", 6, "USDT0", "1", "USDT0"),
    Asset(2201, "0x78cf24370174180738c5b8e352b6d14c83a6c9a9", 6, "USDT0", "1", "USDT0"),
    Asset(42161, "0xaf88d065e77c8cc2239327c5edb3a432268e5831", 6, "USD Coin", "2", "USDC"),
    Asset(421614, "0x75faf114eafb1bdbe2f0316df893fd58ce46aa4d", 6, "USD Coin", "2", "USDC"),
    Asset(36900, "0x9cb8142aebbcdc60af7c97af897a67a8f3ca71c2", 6, "USDC.e", "2", "USDC.e"),
    Asset(190415, "0x401ecb1d350407f13ba348573e5630b83638e30d", 6, "Bridged USDC", "2", "USDC.e"),
    Asset(181228, "0x401ecb1d350407f13ba348573e5630b83638e30d", 6, "Bridged USDC", "2", "USDC.e"),
    Asset(50, "0xfa2958cb79b0491cc627c1557f441ef849ca8eb1", 6, "USDC", "2", "USDC"),
    Asset(51, "0xb5ab69f7bbada22b28e79c8ffaece55ef1c771d4", 6, "USDC", "2", "USDC"),
    Asset(14, "0xe7cd86e13ac4309349f30b3435a9d337750fc82d", 6, "USD₮0", "1", "USDT0"),
    Asset(42220, "0xd2ab3c9a02dbbab236bfec45d1d755df4267f771", 6, "Tether America USD", "1", "USAT"),
    Asset(11142220, "0x01c5c0122039549ad1493b8220cabedd739bc44e", 6, "USDC", "2", "USDC"),
    Asset(1329, "0xe15fc38f6d8c56af07bbcbe3baf5708a2bf42392", 6, "USDC", "2", "USDC"),
    Asset(1328, "0x4fcf1784b31630811181f670aea7a7bef803eaed", 6, "USDC", "2", "USDC"),
    Asset(5042, "0x3600000000000000000000000000000000000000", 6, "USDC", "2", "USDC"),
    Asset(5042002, "0x3600000000000000000000000000000000000000", 6, "USDC", "2", "USDC"),
    Asset(4689, "0xcdf79194c6c285077a58da47641d4dbe51f63542", 6, "Bridged USDC", "2", "USDC"),
    Asset(3338, "0xbba60da06c2c5424f03f7434542280fcad453d10", 6, "USDC", "2", "USDC"),
    Asset(2741, "0x84a71ccd554cc1b02749b35d22f684cc8ec987e1", 6, "Bridged USDC", "2", "USDC"),
    Asset(11124, "0xe4c7fbb0a626ed208021ccaba6be1566905e2dfc", 6, "Bridged USDC", "2", "USDC"),
    Asset(1514, "0xf1815bd50389c46847f0bda824ec8da914045d14", 6, "Bridged USDC", "2", "USDC"),
    Asset(41923, "0x12a272a581fee5577a5dfa371afeb4b2f3a8c2f8", 6, "Bridged USDC (Stargate)", "2", "USDC"),
    Asset(324705682, "0x2e08028e3c4c2356572e096d8ef835cd5c6030bd", 6, "Bridged USDC (SKALE Bridge)", "2", "USDC"),
)

PERMIT2_TOKENS: dict[Asset, bool] = {
    Asset(4326, "0xfafddbb3fc7688494971a79cc65dca3ef82079e7", 18, "MegaUSD", "1", "MegaUSD"): True,
    Asset(31612, "0xdd468a1ddc392dcdbef6db6e34e89aa338f9f186", 18, "Mezo USD", "1", "mUSD"): True,
    Asset(31611, "0x118917a40faf1cd7a13db0ef56c86de7973ac503", 18, "Mezo USD", "1", "mUSD"): True,
    Asset(723487, "0x33ad9e4bd16b69b5bfded37d8b5d9ff9aba014fb", 6, "Stable Coin", "1", "SBC"): True,
    Asset(72344, "0x33ad9e4bd16b69b5bfded37d8b5d9ff9aba014fb", 6, "Stable Coin", "1", "SBC"): True,
    Asset(38833, "0xa5b8bf902b2844da17d4506cc827f7f1681735e7", 6, "USDC", "1", "USDC"): False,
}
"""Tokens that the SDKs charge by Permit2, and whether their challenges name the token's EIP-712 domain all the same."""


def sdk_token(chain_id: int, symbol: str | None = None) -> Asset | None:
    """The token that an SDK charges for a price in dollars, or in the token of this symbol; None where it knows none.

    A chain's first is its dollar.
    """
    for token in (*KNOWN_TOKENS, *EIP3009_TOKENS, *PERMIT2_TOKENS):
        if token.chain_id == chain_id and symbol in (None, token.symbol.upper()):
            return token
    return None


def token_at(chain_id: int, address: str) -> Asset | None:
    """The token at an address, in lower case, where it is one that we or the SDKs know."""
    for token in (*KNOWN_TOKENS, *EIP3009_TOKENS, *PERMIT2_TOKENS):
        if (token.chain_id, token.address) == (chain_id, address):
            return token
    return None
