"""What an owner writes as a price, and the exact number of atomic units that it means.

Money is decimal text (`"0.01"`, `"$0.01"`), never a float: 0.1 + 0.2 is not 0.3, and a price is a promise.
"""

import re

import msgspec

from translators.fields import parse_address
from translators.payment import Asset

__all__ = ["Price", "PriceError", "atomic_units"]

_MONEY = re.compile(r"\$?(0|[1-9][0-9]{0,59})(?:\.([0-9]{1,60}))?")


class PriceError(ValueError):
    """A price that cannot be charged: found when the application starts, and named with its route."""


class Price(msgspec.Struct, frozen=True):
    """One way to pay for a route.

    `amount` is money as text, in the unit of the token (`"0.01"` is a cent in a dollar token), or an integer in atomic
    units, which needs its `asset` beside it. What is None comes from the configuration.
    """

    amount: str | int
    asset: Asset | str | None = None
    """The token: an `Asset`, or the address of a known one."""
    network: str | int | None = None
    """x402 v1's name, a CAIP-2 id, or a chain id."""
    recipient: str | None = None
    max_timeout_seconds: int | None = None
    """x402's `maxTimeoutSeconds` for this way to pay, in seconds."""


def atomic_units(amount: str | int, decimals: int) -> int:
    """The amount in atomic units of a token with `decimals` decimals.

    Raises `PriceError` for what is not an exact, positive amount of that token: a float, a sign, digits beyond the
    token's last, nothing.
    """
    if isinstance(amount, bool) or not isinstance(amount, str | int):
        raise PriceError(f'a price is text such as "0.01", not {type(amount).__name__}')
    if isinstance(amount, int):
        units = amount
    else:
        match = _MONEY.fullmatch(amount.strip())
        if match is None:
            raise PriceError(f'{amount!r} is not a price: write "0.01" or "$0.01"')
        fraction = (match[2] or "").rstrip("0")
        if len(fraction) > decimals:
            raise PriceError(f"{amount!r} is finer than the token, which has {decimals} decimals")
        units = int(match[1] + fraction.ljust(decimals, "0"))
    if not 0 < units < 2**256:
        raise PriceError(f"{amount!r} is not a positive amount of at most 256 bits")
    return units


def checked_address(address: str, what: str) -> str:
    """An address from a configuration in lower case; raises `PriceError` where it is not one."""
    try:
        return parse_address(address, what)
    except Exception as error:
        raise PriceError(str(error)) from None
