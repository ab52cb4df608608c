"""What tests of a paid application need, yours and ours: doubles, payers, and a check that all protocols do the same.

`bridge.testing.plugin` is the last as a pytest fixture.
"""

from bridge.payers import Account, account, ask, credential, pay, read_402
from bridge.testing.doubles import FakeSettler, FixedClock
from bridge.testing.parity import Effects, Fakes, NotAlike, Parity

__all__ = [
    "Account",
    "Effects",
    "FakeSettler",
    "Fakes",
    "FixedClock",
    "NotAlike",
    "Parity",
    "account",
    "ask",
    "credential",
    "pay",
    "read_402",
]
