"""One request's way to its answer, paid for where it has to be: what to do, in which order, and nothing of how.

A generator of steps; `bridge.client.auth` does them, synchronously or not. The rule that everything here keeps: while
an authorization could still move money and its outcome is open, no other is signed for the same request.
"""

import secrets
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final

import httpx
from msgspec.structs import replace

from bridge.client.errors import Declined, LedgerFailed, OutcomeUnknown, PayError, SignerFailed
from bridge.client.headers import CredentialHeaders, carries_credential
from bridge.client.ledger import Open, State
from bridge.client.outcome import EXTENSION, Outcome, OutcomeState, receipt_or_problem
from bridge.client.policy import network_text
from bridge.client.wallet import Progress, Wallet, request_key
from translators.asks import Asked, Reading, envelope, in_envelope_of, read_asks, to_payment, to_sign
from translators.binding import check_digest, parse_time
from translators.checks import MIN_VALIDITY_SECONDS
from translators.eip3009 import is_signed_by_payer
from translators.errors import PaymentError
from translators.payment import Payment, Protocol

__all__ = ["PRESENTED", "Call", "Flow", "Keep", "Send", "Step", "Steps", "Wait"]

_AGAIN: Final = frozenset({409, 425, 429, 502, 503, 504})
"""Answers to a paid request that say: not now, the same again later."""

PRESENTED: Final = "x402_mpp.presented"
"""Stands among the extensions of a request once a credential went out for it."""

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_MOST_MOVES: Final = 10
"""How often the credential goes on to where a redirect led: a server could send it on for ever."""

_GRACE_SECONDS: Final = 60
"""How much later than its time an authorization is taken to be dead: clocks differ."""


@dataclass(frozen=True)
class Keep:
    """Make the body of the request one that can be sent again; gives the body."""

    request: httpx.Request


@dataclass(frozen=True)
class Send:
    """Send the request; gives the response, its body read if it is a 402."""

    request: httpx.Request


@dataclass(frozen=True)
class Wait:
    """Let this many seconds pass."""

    seconds: float


@dataclass(frozen=True)
class Call:
    """Run what may block; gives what it returns, and throws what it raises."""

    function: Callable[[], Any]


Step = Keep | Send | Wait | Call
Steps = Generator[Step, Any, Any]


class Flow:
    """Pays one request from `wallet`."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet
        self._presented = 0

    def run(self, request: httpx.Request) -> Steps:
        """The steps; the last response that was given is the answer. Raises a `PayError`."""
        self._request = request
        body = yield Keep(request)
        if carries_credential(request):
            yield Send(request)
            return
        wallet = self._wallet
        key = request_key(request, body, wallet.signer.address)
        for entry in (yield Call(lambda: wallet.ledger.left_open(key, wallet.clock() - _GRACE_SECONDS))):
            with wallet.working_on(entry.payment_id) as is_ours:
                if is_ours:
                    goes_on = yield from self._again(request, entry)
                    if not goes_on:
                        return
        identifier = _identify(request)
        response = yield Send(request)
        if response.status_code == 402:
            yield from self._pay(response.request, response, key, body, identifier)

    # A new payment

    def _pay(self, request: httpx.Request, response: httpx.Response, key: str, body: bytes, identifier: str) -> Steps:
        wallet = self._wallet
        reading = self._read(response)
        if reading.asks and all(self._is_stale(asked) for asked in reading.asks):
            # A cache's, or one that was long on its way: another is asked for, once.
            response = yield Send(request)
            if response.status_code != 402:
                return
            reading = self._read(response)
        if not reading.asks and not reading.passed:
            # A 402 in nobody's protocol is the caller's to read.
            return
        own = "authorization" in request.headers
        asked = wallet.policy.choose(reading, request.url, wallet.clock(), has_authorization=own)
        _check_body(asked, body)
        asked = yield from self._with_domain(asked)
        if wallet.approve is not None and not (yield Call(lambda: wallet.approve(asked, request.url))):  # type: ignore[misc]
            raise Declined("the payment was not approved")
        now = wallet.clock()
        unsigned = to_sign(
            asked,
            wallet.signer.address,
            now=now,
            nonce=secrets.token_bytes(32),
            longest=wallet.policy.longest_seconds,
        )
        asset = asked.offer.asset
        entry = Open(
            asked=asked,
            authorization=unsigned,
            identifier=identifier,
            url=_without_query(request.url),
            decimals=asset.decimals if wallet.policy.is_dollar(asset) else None,
        )
        with wallet.working_on(entry.payment_id):
            yield Call(
                lambda: wallet.ledger.reserve(key, entry, now, lambda spent: wallet.policy.check_day(asked, spent))
            )
            try:
                payment = yield from self._sign(entry)
                if wallet.clock() + MIN_VALIDITY_SECONDS > unsigned.valid_before:
                    raise SignerFailed("signing took so long that nobody could settle the payment in time")
            except PayError:
                yield Call(lambda: wallet.ledger.mark(entry.payment_id, State.VOID))
                raise
            wallet.tell(Progress("paying", asked, request.url))
            response, _ = yield from self._present(request, entry, payment)
            if response.status_code == 402:
                yield from self._after_refusal(response, entry)

    def _read(self, response: httpx.Response) -> Reading:
        return read_asks(response.headers.multi_items(), response.content, self._wallet.policy.tokens)

    def _is_stale(self, asked: Asked) -> bool:
        challenge = asked.challenge
        if challenge is None or challenge.expires is None:
            return False
        return parse_time(challenge.expires) <= self._wallet.clock() + MIN_VALIDITY_SECONDS

    def _with_domain(self, asked: Asked) -> Steps:
        """The ask with a domain that its token really has, as far as anybody here can know."""
        wallet, asset = self._wallet, asked.offer.asset
        if wallet.policy.is_dollar(asset):
            return asked
        if wallet.chain is None:
            if not asset.name:
                raise Declined(
                    f"the token {asset.address} on {network_text(asset.chain_id)} is not known, and MPP does not say"
                    " what it signs as: give a node to ask, or the token"
                )
            return asked
        found = yield Call(lambda: wallet.chain.asset(asset))  # type: ignore[union-attr]
        return replace(asked, offer=replace(asked.offer, asset=found))

    def _sign(self, entry: Open) -> Steps:
        """The entry's authorization, signed; every time the same one, so every time the same payment."""
        wallet, asked, asset = self._wallet, entry.asked, entry.asked.offer.asset
        signature = yield Call(lambda: wallet.signer.sign(entry.authorization, asset))
        payment = to_payment(asked, entry.authorization, signature)
        if not is_signed_by_payer(payment.authorization, asset):
            raise SignerFailed(f"the signature is not that of {wallet.signer.address}")
        return payment

    # A payment that was signed before

    def _again(self, request: httpx.Request, entry: Open) -> Steps:
        """Present what is open. Whether the request may be paid anew; if not, it has its answer."""
        wallet = self._wallet
        wallet.policy.check_host(request.url)
        wallet.tell(Progress("again", entry.asked, request.url))
        payment = yield from self._sign(entry)
        if request.method not in _SAFE_METHODS:
            request.headers["Idempotency-Key"] = entry.identifier
        response, is_doubtful = yield from self._present(request, entry, payment)
        if response.status_code != 402:
            return False
        if (yield from self._after_refusal(response, entry)):
            return True
        outcome: Outcome = response.extensions[EXTENSION]
        is_alive = wallet.clock() <= entry.authorization.valid_before + _GRACE_SECONDS
        if is_alive or outcome.state is OutcomeState.PAID:
            return False
        if is_doubtful:
            raise OutcomeUnknown(
                f"an earlier payment for {entry.url} may have been taken: its answer was lost, and the server does not"
                " know it now. A node can tell; without one, decide whether to pay again",
                entry.payment_id,
            )
        yield Call(lambda: wallet.ledger.mark(entry.payment_id, State.LEFT))
        return True

    # Presenting

    def _present(self, request: httpx.Request, entry: Open, payment: Payment) -> Steps:
        """Send the credential until there is an answer that tells; the response, and whether doubt remains.

        A refused authorization is sent again in the envelope of another ask that it fits: that is no second payment.
        """
        wallet, asked = self._wallet, entry.asked
        doubtful = entry.doubtful
        tried = {asked.protocol}
        waited, pause, moves = 0.0, 1.0, 0
        while True:
            name, value = envelope(asked, payment, entry.identifier)
            # Before it leaves: who dies now must not think tomorrow that nothing was sent.
            yield Call(lambda: wallet.ledger.mark(entry.payment_id, State.OPEN, doubtful=True))
            self._request.extensions[PRESENTED] = True
            response = yield Send(_with_credential(request, name, value))
            self._presented += 1
            status = response.status_code
            receipt, problem = receipt_or_problem(response, asked.protocol)
            if _has_moved(response, request):
                if status == 402 and _same_origin(response.request.url, request.url) and moves < _MOST_MOVES:
                    request, moves = response.request, moves + 1
                    continue
                doubtful = doubtful or status >= 400
            if status < 400 or (receipt is not None and receipt.success):
                transaction = receipt.transaction if receipt is not None else None
                yield from self._note(entry, State.PAID, transaction=transaction)
                problem = problem or _oddity(receipt, asked, payment)
                self._conclude(response, entry, asked, OutcomeState.PAID, receipt, problem, delivered=status < 400)
                return response, False
            if status == 402:
                other = self._other_envelope(self._read(response), payment, tried)
                if other is not None:
                    asked, payment = other
                    tried.add(asked.protocol)
                    wallet.tell(Progress("other envelope", asked, request.url))
                    continue
                yield from self._leave_open(entry, doubtful)
                self._conclude(response, entry, asked, OutcomeState.REFUSED, receipt, _problem_of(response))
                return response, doubtful
            if status in _AGAIN:
                doubtful = True
                pause = max(_retry_after(response, wallet.clock()), pause)
                if waited + pause <= wallet.patience:
                    wallet.tell(Progress("waiting", asked, request.url, pause))
                    yield Wait(pause)
                    waited, pause = waited + pause, pause * 2
                    continue
            # Any other refusal of the handler's is an answer, except where the server itself broke down.
            doubtful = doubtful or status >= 500
            yield from self._leave_open(entry, doubtful)
            self._conclude(response, entry, asked, OutcomeState.UNKNOWN, receipt, _problem_of(response))
            return response, doubtful

    def _leave_open(self, entry: Open, doubtful: bool) -> Steps:
        """Write down that the answers have told, or that one of them is still missing."""
        yield from self._note(entry, State.OPEN, doubtful=doubtful)

    def _note(self, entry: Open, state: State, **more: Any) -> Steps:
        """Write down what an answer said. A ledger that fails now does not cost the answer: it stays in doubt there."""
        with suppress(LedgerFailed):
            yield Call(partial(self._wallet.ledger.mark, entry.payment_id, state, **more))

    def _other_envelope(self, reading: Reading, payment: Payment, tried: set[Protocol]) -> tuple[Asked, Payment] | None:
        for asked in reading.asks:
            if asked.protocol in tried or asked.protocol not in self._wallet.policy.protocols:
                continue
            fitting = in_envelope_of(payment, asked)
            if fitting is not None:
                return asked, fitting
        return None

    def _after_refusal(self, response: httpx.Response, entry: Open) -> Steps:
        """Ask the node, where there is one, what became of a refused payment. True when it never can be any."""
        wallet = self._wallet
        chain, signed, asset = wallet.chain, entry.authorization, entry.asked.offer.asset
        if chain is None:
            return False
        try:
            # The time first: once it has passed, nothing that comes later can use the authorization.
            is_over = (yield Call(chain.now)) >= signed.valid_before
            is_used = yield Call(lambda: chain.is_used(asset, signed.payer, signed.nonce))
        except PayError:
            # The money is where it is; the next request asks again.
            return False
        if is_used:
            yield from self._note(entry, State.PAID)
            outcome: Outcome = response.extensions[EXTENSION]
            problem = "the payment is on the chain, and the server does not take it"
            response.extensions[EXTENSION] = replace(outcome, state=OutcomeState.PAID, problem=problem)
        elif is_over:
            yield from self._note(entry, State.VOID)
        return is_over and not is_used

    def _conclude(
        self,
        response: httpx.Response,
        entry: Open,
        asked: Asked,
        state: OutcomeState,
        receipt: Any,
        problem: str | None,
        *,
        delivered: bool = False,
    ) -> None:
        signed = entry.authorization
        outcome = Outcome(
            state=state,
            delivered=delivered,
            protocol=asked.protocol,
            payment_id=entry.payment_id,
            url=entry.url,
            payer=signed.payer,
            recipient=signed.recipient,
            amount=signed.value,
            asset=entry.asked.offer.asset,
            valid_until=signed.valid_before,
            receipt=receipt,
            problem=problem,
            presented=self._presented,
        )
        response.extensions[EXTENSION] = outcome
        self._wallet.tell(Progress(state.value, asked, response.request.url, outcome=outcome))


def _identify(request: httpx.Request) -> str:
    """The client's own id of this request; an unsafe one carries it (draft-httpauth-payment-00, "Idempotency")."""
    given = request.headers.get("Idempotency-Key")
    identifier: str = given or secrets.token_urlsafe(18)
    if given is None and request.method not in _SAFE_METHODS:
        request.headers["Idempotency-Key"] = identifier
    return identifier


def _check_body(asked: Asked, body: bytes) -> None:
    """Raise `Declined` for a challenge that was made for another body than ours."""
    try:
        if asked.challenge is not None:
            check_digest(asked.challenge, body)
    except PaymentError as error:
        raise Declined(f"the challenge is not for this body: {error.detail}") from None


def _with_credential(request: httpx.Request, name: str, value: str) -> httpx.Request:
    paid = httpx.Request(request.method, request.url, stream=request.stream, extensions=dict(request.extensions))
    paid.headers = CredentialHeaders(request.headers, name, value)
    return paid


def _has_moved(response: httpx.Response, request: httpx.Request) -> bool:
    """Whether a redirect was followed on the way to this answer."""
    return response.request.url != request.url


def _same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def _without_query(url: httpx.URL) -> str:
    """The URL as it is kept: its query and user may be secrets."""
    return str(url.copy_with(query=None, fragment=None, userinfo=b""))


def _retry_after(response: httpx.Response, now: float) -> float:
    """Seconds to wait, as the server asks; 0 where it does not say, or not in the form of RFC 9110."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdecimal() and len(value) < 7:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _problem_of(response: httpx.Response) -> str | None:
    """What the server says went wrong: an RFC 9457 problem, or x402's `error`."""
    if not response.is_stream_consumed:
        return None
    try:
        said = response.json()
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    parts = [said.get(name) for name in ("title", "detail", "error")]
    texts = dict.fromkeys(part[:300] for part in parts if isinstance(part, str) and part)
    return ": ".join(texts) or None


def _oddity(receipt: Any, asked: Asked, payment: Payment) -> str | None:
    """What in a receipt does not fit the payment."""
    if receipt is None:
        return "the server gave no receipt"
    if receipt.payer is not None and receipt.payer.lower() != payment.authorization.payer:
        return "the receipt names another payer"
    if asked.challenge is not None and receipt.challenge_id not in (None, asked.challenge.id):
        return "the receipt is for another challenge"
    return None
