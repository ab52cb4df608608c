"""The shadow: MPP tried out on payments that came in x402, while clients are not offered MPP yet. It only tells."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import perf_counter
from traceback import format_tb
from typing import Any

import structlog

from bridge.clock import Clock
from bridge.credentials import PresentedCredential
from bridge.responses import ChallengeContext
from translators.errors import PaymentError
from translators.payment import Offer, Payment
from translators.shadow import Disagreement, compare, compare_refusal, nearest_offer, read_x402

__all__ = ["Shadow"]

Tell = Callable[..., None]


class Shadow:
    """Compares what MPP would have made of a payment; `keys` and `clock_skew` are those of the real verifier.

    `challenges` makes those of a 402, one for each offer that MPP can carry; it raises `ValueError` where it cannot.
    """

    def __init__(
        self,
        challenges: Callable[[ChallengeContext], Iterable[bytes]],
        *,
        keys: Sequence[bytes],
        clock: Clock,
        clock_skew: float,
    ) -> None:
        self._challenges = challenges
        self._keys = tuple(keys)
        self._clock = clock
        self._clock_skew = clock_skew

    def begin(self, payment: Payment, offer: Offer, context: ChallengeContext, tell: Tell) -> None:
        """Compare when the event loop has nothing more urgent: the request does not wait for it.

        `tell` is called with `shadow.compared` or `shadow.disagreed`, and its fields.
        """
        asyncio.get_running_loop().call_soon(self._run, partial(self._compare, payment, offer, context), tell)

    def begin_refused(
        self, presented: PresentedCredential, refusal: PaymentError, context: ChallengeContext, tell: Tell
    ) -> None:
        """The same for a credential that x402 has refused, as far as it can be read."""
        work = partial(self._compare_refused, presented, refusal, context)
        asyncio.get_running_loop().call_soon(self._run, work, tell)

    def _compare(self, payment: Payment, offer: Offer, context: ChallengeContext) -> bool:
        compare(payment, offer, self._challenge(offer, context), self._clock(), **self._terms(context))
        return True

    def _compare_refused(
        self, presented: PresentedCredential, refusal: PaymentError, context: ChallengeContext
    ) -> bool:
        payment = read_x402(presented.protocol, presented.token, context.offers)
        offer = nearest_offer(payment, context.offers) if payment is not None else None
        if payment is None or offer is None:
            return False
        challenge = self._challenge(offer, context)
        compare_refusal(payment, offer, refusal, challenge, self._clock(), **self._terms(context))
        return True

    def _terms(self, context: ChallengeContext) -> dict[str, Any]:
        return {
            "keys": self._keys,
            "realm": context.realm,
            "bound_to": context.bound_to,
            "clock_skew": self._clock_skew,
        }

    def _run(self, work: Callable[[], bool], tell: Tell) -> None:
        """Compare now, and tell if there was anything to compare. Nothing is raised, whatever goes wrong."""
        began = perf_counter()
        try:
            is_compared = work()
        except Disagreement as disagreement:
            tell("shadow.disagreed", where=disagreement.where, problem=disagreement.detail)
        except Exception as error:
            # A defect of ours, in what nobody uses yet. Its message may hold a signature: only the place is told.
            stack = "".join(format_tb(error.__traceback__))
            structlog.get_logger("x402_mpp").error("shadow.failed", error_type=type(error).__name__, stack=stack)
        else:
            if is_compared:
                tell("shadow.compared", shadow_ms=round((perf_counter() - began) * 1000, 3))

    def _challenge(self, offer: Offer, context: ChallengeContext) -> str:
        """The challenge for `offer`, made as every 402 makes it; empty for one that MPP cannot carry."""
        carried = [candidate for candidate in context.offers if candidate.foreign is None]
        if offer not in carried:
            return ""
        try:
            return list(self._challenges(context))[carried.index(offer)].decode("latin-1")
        except ValueError as error:
            raise Disagreement("challenge", str(error)) from None
