"""Who pays from where: clients that have paid, known again when they ask without a credential.

An unpaid request does not name its payer. One that looks like the client of an earlier payment (the same `User-Agent`
and address) is taken for that payer's.
"""

import hmac
from collections import OrderedDict
from typing import NamedTuple

from msgspec.structs import replace

from translators.levers import Asking
from translators.payment import Protocol

__all__ = ["Acquaintances"]

MOST = 10_000
"""Clients that are remembered; the one that was not seen for the longest time gives way."""


class _Known(NamedTuple):
    payer: str
    """Empty where several were seen: a proxy, say, or a client with many wallets. Such a client names nobody."""
    speaks: frozenset[Protocol]


class Acquaintances:
    """What this process remembers, until it ends. `key` hashes what clients look like: no address is kept."""

    def __init__(self, key: bytes, most: int = MOST) -> None:
        self._key = key
        self._most = most
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def recognise(self, asking: Asking) -> Asking:
        """`asking`, with the payer that it is known for and the protocols that he has paid in."""
        if not self._known:
            return asking
        mark = self._mark(asking)
        known = self._known.get(mark)
        if known is None:
            return asking
        self._known.move_to_end(mark)
        return replace(asking, payer=known.payer, speaks=known.speaks)

    def remember(self, asking: Asking, payer: str, protocol: Protocol) -> None:
        """A payment of `payer` that was verified came from there."""
        mark = self._mark(asking)
        known = self._known.get(mark, _Known(payer, frozenset()))
        is_same = known.payer == payer
        self._known[mark] = _Known(payer, known.speaks | {protocol}) if is_same else _Known("", frozenset())
        self._known.move_to_end(mark)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def forget(self) -> None:
        """Know nobody any more."""
        self._known.clear()

    def _mark(self, asking: Asking) -> bytes:
        look = f"acquaintance {asking.header('user-agent') or ''} {asking.address}"
        return hmac.digest(self._key, look.encode("utf-8", "surrogatepass"), "sha256")[:16]
