"""When the same paid request comes again: what makes it the same, and the answer that it got.

An answer is kept for a while, so that a client whose connection broke gets what it paid for without paying again. Only
for the same request (method, URL, body) by the same payer, and never for somebody who merely saw the payment: once
settled, an authorization and its signature stand on the chain for everybody to read, so an x402 credential proves
nothing any more. What proves it then is what never leaves the client and this server: MPP's challenge, an idempotency
key, or else that it is the same client (address and user agent) with the same credential, byte for byte.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from bridge.request import PaidRequest
from bridge.responses import Headers
from bridge.stores.base import StoredResponse
from translators.errors import MalformedError
from translators.payment import ChallengeBinding, Payment, ResourceBinding
from translators.payment_identifier import identifier_of

__all__ = ["Capture", "Recognition", "idempotency_key"]

_MAX_KEY = 255
_HOP_BY_HOP = (b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"date")
_NOT_KEPT = frozenset((*_HOP_BY_HOP, b"set-cookie"))
"""Cookies belong to one visit, and may be another one's by the next."""
_NO_BODY = hashlib.sha256().hexdigest()


def idempotency_key(request: PaidRequest, payment: Payment) -> str | None:
    """The client's own key for this request: `Idempotency-Key`, or x402's `payment-identifier`; hashed, with the payer.

    Raises `MalformedError` for a key that is too long, or an identifier outside its form.
    """
    key = request.header(b"idempotency-key")
    if key is None and isinstance(payment.binding, ResourceBinding):
        key = identifier_of(payment.binding.extensions)
    if key is None:
        return None
    if not 0 < len(key) <= _MAX_KEY:
        raise MalformedError(f"an idempotency key has 1 to {_MAX_KEY} characters")
    # With the payer in it, nobody can occupy or probe another client's keys; a payer who is not known has no others.
    return _hash("key", payment.authorization.payer or payment.id, key)


class Recognition:
    """What a paid request and its client are known by when they come again; hashed when that is first asked for.

    Taken down as they came: an application may write into the request's scope, and has run by the time of hashing.
    `body` is the request's, None for one that is too long to hold up: then not all of the request is in here.
    """

    __slots__ = ("_body", "_client", "_fingerprint", "_key", "_payment", "_proof", "_query", "_request", "_token")

    def __init__(
        self, request: PaidRequest, payment: Payment, token: bytes, key: str | None, body: bytes | None
    ) -> None:
        self._request = request
        self._payment = payment
        self._token = token
        self._key = key
        self._body = body
        self._query: bytes = request.scope.get("query_string", b"")
        self._client: str = str((request.scope.get("client") or ("",))[0])
        self._fingerprint: str | None = None
        self._proof: str | None = None

    @property
    def fingerprint(self) -> str:
        """What makes two requests the same."""
        if self._fingerprint is None:
            request, body = self._request, self._body
            digest = "unread" if body is None else hashlib.sha256(body).hexdigest() if body else _NO_BODY
            self._fingerprint = _fingerprint(request.method, request.url, self._query.decode("latin-1"), digest)
        return self._fingerprint

    @property
    def proof(self) -> str:
        """What the client of a kept answer must show again, besides its payment."""
        if self._proof is None:
            self._proof = self._prove()
        return self._proof

    def _prove(self) -> str:
        if self._key is not None:
            return _hash("by-key", self._key)
        if isinstance(self._payment.binding, ChallengeBinding):
            return _hash("by-challenge", self._payment.binding.challenge_id)
        agent = self._request.header(b"user-agent") or ""
        return _hash("by-client", self._client, agent, hashlib.sha256(self._token).hexdigest())

    def make(self) -> None:
        """Hash both now."""
        _ = self.fingerprint, self.proof


@lru_cache(maxsize=256)
def _fingerprint(method: str, url: str, query: str, digest: str) -> str:
    """Many clients send the same request."""
    return _hash("request", method, url, query, digest)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Capture:
    """Keeps an answer while it is sent, as long as it stays within `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._status: int | None = None
        self._headers: Headers | None = None
        self._parts: list[bytes] = []
        self._trailers: Headers | None = None
        self._size = 0
        self._fits = limit > 0

    @property
    def fits(self) -> bool:
        """Whether all of it so far is kept."""
        return self._fits

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The answer begins."""
        self._status = status
        kept, size = [], 0
        for key, value in headers:
            if key.lower() not in _NOT_KEPT:
                kept.append((key, value))
                size += len(key) + len(value)
        self._headers, self._size = kept, size

    def body(self, part: bytes) -> None:
        """More of it; what no longer fits is let go at once."""
        self._size += len(part)
        if self._size > self._limit:
            self._fits = False
            self._parts.clear()
        elif self._fits:
            self._parts.append(part)

    def trailers(self, fields: Headers) -> None:
        """What comes behind the body."""
        self._trailers = [*(self._trailers or ()), *fields]
        self._size += sum(len(key) + len(value) for key, value in fields)
        self.body(b"")

    def miss(self) -> None:
        """A part of it went by unseen, such as a file that the server sends itself."""
        self._fits = False

    def response(self, *, fingerprint: str, proof: str, expires_at: float) -> StoredResponse | None:
        """The whole answer, or None where it was not kept."""
        if not self._fits or self._status is None:
            return None
        return StoredResponse(
            status=self._status,
            headers=self._headers or [],
            body=b"".join(self._parts),
            fingerprint=fingerprint,
            proof=proof,
            expires_at=expires_at,
            trailers=self._trailers or [],
        )
