"""`Accept-Payment`: the draft's examples filter and order; what is malformed is ignored."""

import pytest

from translators.accept_payment import PaymentRange, parse_accept_payment, rank

OFFERED = ["tempo/charge", "tempo/session", "stripe/charge", "solana/charge", "evm/charge"]

RANKED = {
    None: OFFERED,
    "": OFFERED,
    # draft-httpauth-payment-00, section "Client Payment Preferences"
    "tempo/charge, tempo/session, stripe/charge;q=0.5, solana/charge;q=0.3": [
        "tempo/charge",
        "tempo/session",
        "stripe/charge",
        "solana/charge",
    ],
    "tempo/*, solana/*;q=0.6, */session;q=0.3": ["tempo/charge", "tempo/session", "solana/charge"],
    "tempo/charge, tempo/session;q=0, solana/charge": ["tempo/charge", "solana/charge"],
    "evm/charge": ["evm/charge"],
    "stripe/*;q=0.5, evm/charge": ["evm/charge", "stripe/charge"],
    "*/*": OFFERED,
    "*/*;q=0.1, evm/*": ["evm/charge", "tempo/charge", "tempo/session", "stripe/charge", "solana/charge"],
    "*/charge;q=0.2, evm/*;q=0.9": ["evm/charge", "tempo/charge", "stripe/charge", "solana/charge"],
    " evm/charge ; q=1.000 ,, stripe/charge;Q=0.001,": ["evm/charge", "stripe/charge"],
    # Nothing would be left, or the header makes no sense: the server's own order.
    "card/charge": OFFERED,
    "*/*;q=0": OFFERED,
    "evm": OFFERED,
    "evm/charge;q=2": OFFERED,
    "evm/charge;q=0.0001": OFFERED,
    "evm/charge;q=-1": OFFERED,
    "evm/charge q=1": OFFERED,
    "EVM/charge": OFFERED,
    "evm/charge, \x00": OFFERED,
    "evm/charge\n": OFFERED,
    "evm/charge," * 1000: OFFERED,
}


@pytest.mark.parametrize("header", RANKED)
def test_rank(header: str | None) -> None:
    """Filtered by q above 0, ordered by q, the most specific range first, the server's order among equals."""
    assert list(rank(OFFERED, header, lambda offer: tuple(offer.split("/")))) == RANKED[header]


def test_parse() -> None:
    """A weight left out is 1."""
    assert parse_accept_payment("evm/charge, */x;q=0.5") == [
        PaymentRange("evm", "charge", 1),
        PaymentRange("*", "x", 0.5),
    ]
