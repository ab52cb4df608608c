"""What an upstream asked, out of the challenge of ours that a payment answers."""

from collections.abc import Sequence

from translators import mpp
from translators.binding import check_challenge_id
from translators.errors import PaymentError
from translators.upstream import Terms, unseal_terms
from translators.wire import mpp as mpp_wire

__all__ = ["read_sealed"]


def read_sealed(token: bytes, keys: Sequence[bytes]) -> tuple[mpp_wire.Credential, Terms] | None:
    """A credential whose challenge is ours, and the terms in that; None for any other."""
    try:
        credential = mpp_wire.decode_credential(token)
        check_challenge_id(keys, credential.challenge)
        sealed = mpp.carried_terms(credential.challenge)
        return (credential, unseal_terms(sealed)) if sealed is not None else None
    except PaymentError:
        return None
