"""A price is exact decimal money or atomic units, and anything else stops the program."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translators.price import PriceError, atomic_units

EXACT = [
    ("0.01", 6, 10_000),
    ("$0.01", 6, 10_000),
    (" 0.01 ", 6, 10_000),
    ("1", 6, 1_000_000),
    ("1.0", 0, 1),
    ("0.000001", 6, 1),
    ("0.0000010", 6, 1),
    ("1.5", 18, 1_500_000_000_000_000_000),
    (1, 6, 1),
    (2**256 - 1, 6, 2**256 - 1),
]

REFUSED = [
    *(
        ("0", 6),
        ("0.0", 6),
        ("0.0000001", 6),
        ("0.1", 0),
        ("-1", 6),
        ("+1", 6),
        ("1e3", 6),
        ("1,5", 6),
        ("1,000.00", 6),
    ),
    *((".5", 6), ("1.", 6), ("01", 6), ("", 6), ("$", 6), ("free", 6), ("NaN", 6), ("€1", 6), ("$ 1", 6), ("1\x00", 6)),
    *(("\u0661", 6), ("1_000", 6), (0, 6), (-1, 6), (2**256, 6), (True, 6), (0.01, 6), (None, 6), (Decimal(1), 6)),
    *(("9" * 60, 36), ("9" * 5000, 6)),
]


@pytest.mark.parametrize(("amount", "decimals", "units"), EXACT)
def test_exact(amount: str | int, decimals: int, units: int) -> None:
    """The number of atomic units is exact, to the last digit."""
    assert atomic_units(amount, decimals) == units


@pytest.mark.parametrize(("amount", "decimals"), REFUSED)
def test_refused(amount: object, decimals: int) -> None:
    """Floats, signs, other notations, nothing, and what the token cannot divide are no prices."""
    with pytest.raises(PriceError):
        atomic_units(amount, decimals)


@given(st.integers(1, 2**256 - 1), st.integers(0, 36))
def test_agrees_with_decimal(units: int, decimals: int) -> None:
    """Written out in full, any amount comes back."""
    digits = str(units).rjust(decimals + 1, "0")
    text = f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits
    if len(digits) - decimals <= 60:
        assert atomic_units(text, decimals) == units
