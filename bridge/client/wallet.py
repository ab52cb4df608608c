"""Everything that a client pays with: who signs, by which rules, and what was signed before."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from bridge.client.chain import TokenReader
from bridge.client.ledger import Ledger
from bridge.client.outcome import Outcome
from bridge.client.policy import Policy
from bridge.client.signers import Signer
from translators.asks import Asked

__all__ = ["Progress", "Wallet", "request_key"]


@dataclass(frozen=True)
class Progress:
    """Something that a person who waits may want to read.

    `step` is one of `paying`, `again` (a credential of before), `other envelope`, `waiting` (for `seconds`), and an
    `OutcomeState`'s, with the `outcome`.
    """

    step: str
    asked: Asked
    url: httpx.URL
    seconds: float = 0.0
    outcome: Outcome | None = None


def _say_nothing(_: Progress) -> None:
    pass


@dataclass
class Wallet:
    """A signer and its rules.

    `ledger` remembers what was signed (None: for as long as this object lives); `rpc_url` is a node, asked about tokens
    that are not known and about payments whose outcome is not; `approve` is asked before anything is signed, with the
    ask and the URL; `on_progress` is told what happens; `patience` is how many seconds a request waits in all for
    a server that says "later"; `max_body_bytes` bounds what is kept of a body that could not be sent twice.
    """

    signer: Signer
    policy: Policy
    ledger: Ledger = field(default_factory=Ledger)
    rpc_url: str | None = field(default=None, repr=False)
    approve: Callable[[Asked, httpx.URL], bool] | None = None
    on_progress: Callable[[Progress], None] = _say_nothing
    patience: float = 60.0
    max_body_bytes: int = 1024 * 1024
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.chain = TokenReader(self.rpc_url) if self.rpc_url is not None else None
        self._at_work: set[str] = set()
        self._lock = threading.Lock()

    def tell(self, progress: Progress) -> None:
        """Tell whoever waits."""
        self.on_progress(progress)

    @contextmanager
    def working_on(self, payment_id: str) -> Iterator[bool]:
        """Hold a payment while its request is under way here; False for one that another request holds."""
        with self._lock:
            is_ours = payment_id not in self._at_work
            self._at_work.add(payment_id)
        try:
            yield is_ours
        finally:
            if is_ours:
                with self._lock:
                    self._at_work.discard(payment_id)


def request_key(request: httpx.Request, body: bytes, payer: str) -> str:
    """What makes two requests the same one to pay for: payer, method, URL, body and its type."""
    parts = (payer, request.method, str(request.url), request.headers.get("content-type", ""))
    digest = hashlib.sha256()
    for part in (*(part.encode() for part in parts), body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
