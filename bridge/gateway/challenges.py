"""The 402 that everybody can read: the upstream's own, and what it lacks."""

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from bridge.clock import Clock
from bridge.gateway.demands import Asked
from bridge.gateway.headers import Headers
from bridge.levers.entrance import Entrance
from bridge.responses import EXPOSED_HEADERS, header_text, lever_members, problem_of
from translators import mpp
from translators.accept_payment import rank
from translators.completion import Place, complete, description_of
from translators.errors import PaymentError, PaymentRequired
from translators.payment import Offer, Protocol
from translators.upstream import Demand, Terms, seal_terms
from translators.wire import mpp as mpp_wire

__all__ = ["Challenger", "Moment"]

_EXPOSED = EXPOSED_HEADERS.encode()


class Moment(msgspec.Struct, frozen=True):
    """What a challenge is bound to besides its terms."""

    realm: str
    route: str
    """Method and path, such as `GET /report`."""
    correlation_id: str
    digest: str | None
    accept_payment: str | None


class Challenger:
    """Completes an upstream's 402 by what it `adds`. See `bridge.responses.Responder` for the settings."""

    def __init__(
        self,
        *,
        keys: Sequence[bytes],
        clock: Clock,
        challenge_seconds: int,
        credential_header: str | None,
        adds: frozenset[Protocol],
    ) -> None:
        self._adds = adds
        self._keys = tuple(keys)
        self._clock = clock
        self._challenge_seconds = challenge_seconds
        self._credential_header = credential_header

    def complete(
        self,
        asked: Asked,
        place: Place,
        moment: Moment,
        error: PaymentError | None = None,
        *,
        is_native: bool = False,
        entrance: Entrance | None = None,
        protocol: Protocol | None = None,
    ) -> tuple[Headers, bytes | None]:
        """Headers and body of the whole 402; None for a body that stays.

        `error` is why a payment was not taken; with `is_native`, the upstream has said so to its client itself.
        `entrance` is what the levers say about the client, whose payment came in `protocol`; None where no lever was
        moved.
        """
        demand = asked.demand
        unpaid = error or PaymentRequired("this resource is paid for by request")
        problem = problem_of(unpaid, 402)
        if entrance is not None:
            problem |= lever_members(unpaid, entrance.doors, entrance.migration, protocol)
        return complete(
            asked.headers,
            asked.body,
            demand,
            place,
            adds=self._adds,
            challenges=[] if demand.has_evm or Protocol.MPP not in self._adds else self._challenges(demand, moment),
            problem=problem,
            refused=error.reason if error is not None and not is_native else None,
            exposed=_EXPOSED,
            doors=None if entrance is None else entrance.doors,
        )

    def _challenges(self, demand: Demand, moment: Moment) -> list[bytes]:
        terms_of = {terms.offer: terms for terms in demand.terms}
        offers = rank(tuple(terms_of), moment.accept_payment, lambda _: (mpp.METHOD, mpp.INTENT))
        lines = (self.challenge(demand, terms_of[offer], moment, index) for index, offer in enumerate(offers))
        # Too long for a header: x402 clients can still pay it.
        return [line for line in lines if line is not None]

    def challenge(self, demand: Demand, terms: Terms, moment: Moment, index: int = 0) -> bytes | None:
        """MPP's challenge for the `index`th terms of a 402; None where they are too long for a header."""
        sealed = seal_terms(terms)
        if sealed is None:
            return None
        template = mpp.challenge_template(
            _request(terms.offer),
            realm=moment.realm,
            route=moment.route,
            description=header_text(description_of(demand)),
            header=self._credential_header,
            terms=sealed,
        )
        line = mpp.issue_challenge(
            template,
            self._keys,
            nonce=moment.correlation_id if index == 0 else f"{moment.correlation_id}.{index}",
            expires=self._clock() + self._challenge_seconds,
            digest=moment.digest,
        )
        return line.encode("latin-1")


@lru_cache(maxsize=1024)
def _request(offer: Offer) -> str:
    request = mpp.to_charge_request(offer)
    # x402 does not say how many decimals a token has, and no decimals is not the same as not known.
    request.method_details.decimals = offer.asset.decimals or None
    return mpp_wire.encode_charge_request(request)
