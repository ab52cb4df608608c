"""Contract wallets that cost the relayer gas for nothing: held off after a few times.

A wallet can say yes to every simulation and no when its money should move. Each time that costs the relayer a
transaction that reverts, and the wallet's owner nothing: without a bound one such wallet could empty the account that
everybody's settlements are paid from.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final
from weakref import WeakValueDictionary

import structlog

from bridge.settlers.erc6492 import is_wrapped, unwrap
from translators.checks import is_proven
from translators.errors import Unavailable
from translators.payment import Offer, Payment

__all__ = ["Wallets"]

_REVERTS: Final = 3
"""After how many reverts a wallet is held off: an honest one may have spent its money meanwhile."""

_SECONDS: Final = 600.0
"""For how long that is remembered."""

_AT_ONCE: Final = 16
"""How many settlements of one wallet are under way at once: what it can cost before the first revert is seen."""


class Wallets:
    """Counts reverted settlements by payer, and by the factory that an envelope (ERC-6492) names.

    `clock` is in seconds, from whenever.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reverts: dict[str, list[float]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def check(self, payment: Payment) -> None:
        """Raise `Unavailable` while too many settlements of this wallet, or out of this factory, have reverted."""
        if not self._reverts:
            return
        since = self._clock() - _SECONDS
        for name in _names(payment):
            if sum(then > since for then in self._reverts.get(name, ())) >= _REVERTS:
                raise Unavailable(
                    "settlements of this wallet were reverted a moment ago; nothing was sent", retry_after=int(_SECONDS)
                )

    def turn(self, payment: Payment, offer: Offer) -> AbstractAsyncContextManager[Any]:
        """Held while a settlement is sent and waited for; a key's payment waits for nobody."""
        if is_proven(payment, offer):
            return nullcontext()
        return self._turns.setdefault(payment.authorization.payer, asyncio.Semaphore(_AT_ONCE))

    def note(self, payment: Payment) -> None:
        """Its settlement was reverted, though a simulation had gone well."""
        now = self._clock()
        self._reverts = {
            name: [then for then in times if then > now - _SECONDS]
            for name, times in self._reverts.items()
            if times[-1] > now - _SECONDS
        }
        for name in _names(payment):
            self._reverts.setdefault(name, []).append(now)
            if len(self._reverts[name]) == _REVERTS:
                structlog.get_logger("x402_mpp").warning("settler.wallet_held_off", wallet=name, seconds=int(_SECONDS))


def _names(payment: Payment) -> list[str]:
    authorization = payment.authorization
    wrapped = [unwrap(authorization.signature).factory] if is_wrapped(authorization.signature) else []
    return [authorization.payer, *wrapped]
