"""What an SDK's price means in atomic units of which token, as its server would say it in `accepts`."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from bridge.importing.tokens import PERMIT2_TOKENS, sdk_token
from translators.networks import chain_id_from_network
from translators.payment import Asset

__all__ = ["PriceUnknown", "TokenAmount", "amount_of", "as_mapping", "extra_of", "money_amount"]

_MONEY = re.compile(r"\$?\s*([0-9]+(?:\.[0-9]+)?)(?:\s+([A-Za-z][A-Za-z0-9.]*))?")


class PriceUnknown(ValueError):
    """A price that nobody here can turn into an amount of a token."""


TokenAmount = tuple[int, str, dict[str, Any]]
"""Atomic units, the token's address, and what `extra` says of it."""


def as_mapping(value: Any) -> dict[str, Any]:
    """An object or a mapping of an SDK as a plain mapping; empty for neither."""
    if isinstance(value, Mapping):
        return dict(value)
    fields = getattr(value, "__dict__", None)
    return dict(fields) if isinstance(fields, dict) else {}


def amount_of(price: Any, network: str) -> TokenAmount:
    """An SDK's price on a network: money (`"$0.01"`, `0.01`, `"1 USDT"`), or an amount with its asset, of v2
    (`{amount, asset, extra}`) or v1 (`{amount, asset: {address, decimals, eip712}}`).

    Raises `PriceUnknown`.
    """
    if isinstance(price, str | int | float) and not isinstance(price, bool):
        return money_amount(price, network)
    said = as_mapping(price)
    if "amount" not in said:
        raise PriceUnknown(f"{price!r} is not a price")
    asset = said.get("asset")
    extra = dict(as_mapping(said.get("extra")))
    if asset is not None and not isinstance(asset, str):
        token = as_mapping(asset)
        domain = as_mapping(token.get("eip712"))
        extra = {**{name: domain[name] for name in ("name", "version") if name in domain}, **extra}
        asset = token.get("address")
    if not isinstance(asset, str) or not asset:
        raise PriceUnknown("an amount needs its asset")
    text = str(said["amount"])
    if not (text.isascii() and text.isdecimal()):
        raise PriceUnknown(f"{text!r} is not a whole number of atomic units")
    return int(text), asset, extra


def money_amount(price: str | int | float, network: str) -> TokenAmount:
    """Money as the SDKs read it: cut off, not rounded, where it is finer than the token. Raises `PriceUnknown`."""
    text = price if isinstance(price, str) else format(Decimal(repr(price)), "f")
    match = _MONEY.fullmatch(text.strip())
    if match is None:
        raise PriceUnknown(f"{price!r} is not money")
    symbol = (match[2] or "USD").upper()
    chain_id = chain_id_from_network(network)
    token = sdk_token(chain_id, None if symbol == "USD" else symbol) if chain_id else None
    if token is None:
        raise PriceUnknown(f"no token is known that {price!r} means on {network}: give it as an amount with its asset")
    units = int(Decimal(match[1]).scaleb(token.decimals))
    return units, token.address, extra_of(token)


def extra_of(token: Asset) -> dict[str, Any]:
    """What an SDK's server says of a token that it knows."""
    domain = {"name": token.name, "version": token.version}
    if token not in PERMIT2_TOKENS:
        return domain
    return {**(domain if PERMIT2_TOKENS[token] else {}), "assetTransferMethod": "permit2"}
