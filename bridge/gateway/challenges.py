"""The 402 that everybody can read: the upstream's own, and what it lacks."""

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from bridge.clock import Clock
from bridge.gateway.demands import Asked
from bridge.gateway.headers import Headers
from bridge.responses import EXPOSED_HEADERS, header_text, problem_of
from translators import mpp
from translators.accept_payment import rank
from translators.completion import Place, complete, description_of
from translators.errors import PaymentError, PaymentRequired
from translators.payment import Offer, Protocol
from translators.upstream import Demand, seal_terms
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
    ) -> tuple[Headers, bytes | None]:
        """Headers and body of the whole 402; None for a body that stays.

        `error` is why a payment was not taken; with `is_native`, the upstream has said so to its client itself.
        """
        demand = asked.demand
        return complete(
            asked.headers,
            asked.body,
            demand,
            place,
            adds=self._adds,
            challenges=[] if demand.has_evm or Protocol.MPP not in self._adds else self._challenges(demand, moment),
            problem=problem_of(error or PaymentRequired("this resource is paid for by request"), 402),
            refused=error.reason if error is not None and not is_native else None,
            exposed=_EXPOSED,
        )

    def _challenges(self, demand: Demand, moment: Moment) -> list[bytes]:
        expires = self._clock() + self._challenge_seconds
        description = header_text(description_of(demand))
        lines = []
        terms_of = {terms.offer: terms for terms in demand.terms}
        for index, offer in enumerate(rank(tuple(terms_of), moment.accept_payment, lambda _: (mpp.METHOD, mpp.INTENT))):
            sealed = seal_terms(terms_of[offer])
            if sealed is None:
                # Too long for a header: x402 clients can still pay it.
                continue
            template = mpp.challenge_template(
                _request(offer),
                realm=moment.realm,
                route=moment.route,
                description=description,
                header=self._credential_header,
                terms=sealed,
            )
            line = mpp.issue_challenge(
                template,
                self._keys,
                nonce=moment.correlation_id if index == 0 else f"{moment.correlation_id}.{index}",
                expires=expires,
                digest=moment.digest,
            )
            lines.append(line.encode("latin-1"))
        return lines


@lru_cache(maxsize=1024)
def _request(offer: Offer) -> str:
    request = mpp.to_charge_request(offer)
    # x402 does not say how many decimals a token has, and no decimals is not the same as not known.
    request.method_details.decimals = offer.asset.decimals or None
    return mpp_wire.encode_charge_request(request)
