"""What only a facilitator can settle: refused by the others at start-up, and put to it in x402 v2's own words."""

from collections.abc import Iterable, Sequence

import msgspec

from bridge.settlers.base import SettlerConfigError
from bridge.settlers.facilitator_answers import Kind
from translators.foreign import requirements_of
from translators.payment import ForeignProof, ForeignTerms, Offer

__all__ = ["check_foreign_kinds", "foreign_body", "refuse_foreign"]


def refuse_foreign(offers: Iterable[Offer], settler: str) -> None:
    """Raise `SettlerConfigError` for an offer that only a facilitator can settle, and judge the proof of."""
    for offer in offers:
        if offer.foreign is not None:
            raise SettlerConfigError(f"{settler} cannot settle the x402-only offer {_named(offer.foreign)}")


def check_foreign_kinds(offers: Iterable[Offer], kinds: Sequence[Kind]) -> None:
    """Raise `SettlerConfigError` for an offer whose scheme and network are not among a facilitator's `kinds`.

    By which transfer a facilitator settles `exact` on EVM its answer does not say.
    """
    for offer in offers:
        if (terms := offer.foreign) is not None and not any(_settles(kind, terms) for kind in kinds):
            raise SettlerConfigError(f"the facilitator does not settle the x402-only offer {_named(terms)}")


def _settles(kind: Kind, terms: ForeignTerms) -> bool:
    namespace = terms.network.partition(":")[0]
    return kind.x402_version == 2 and kind.scheme == terms.scheme and kind.network in (terms.network, f"{namespace}:*")


def _named(terms: ForeignTerms) -> str:
    return f"{terms.scheme} by {terms.transfer} on {terms.network}"


def foreign_body(proof: ForeignProof, terms: ForeignTerms) -> bytes:
    """What `/verify` and `/settle` are asked: the payload as it was checked, and the owner's own requirements."""
    return msgspec.json.encode(
        {
            "x402Version": 2,
            "paymentPayload": msgspec.Raw(proof.payload),
            "paymentRequirements": requirements_of(terms),
        }
    )
