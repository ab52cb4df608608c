"""Which credential a request carries: at most one, in one protocol."""

from collections.abc import Iterable
from typing import NamedTuple

from translators.encoding import MAX_HEADER_BYTES
from translators.errors import AmbiguousCredentials, MalformedError, PaymentError
from translators.payment import Protocol
from translators.wire.mpp import Credential

__all__ = ["PresentedCredential", "read_credential"]

_MPP_PREFIX = b"payment "
_HEADERS = frozenset((b"authorization", b"payment-authorization", b"payment-signature", b"x-payment"))


class PresentedCredential(NamedTuple):
    """The encoded credential as it stands in the header, without the scheme's name."""

    protocol: Protocol
    token: bytes
    genuine: Credential | None = None
    """MPP's, decoded, where its challenge is known to be one of ours: `check_challenge_id` has passed."""


class UnreadableCredential(Exception):
    """A credential was presented that cannot be taken; `protocol` is the one to answer in, `error` the answer."""

    def __init__(self, protocol: Protocol, error: PaymentError) -> None:
        super().__init__(error.detail)
        self.protocol = protocol
        self.error = error


def read_credential(headers: Iterable[tuple[bytes, bytes]]) -> PresentedCredential | None:
    """The one credential of a request, or None where there is none.

    x402 v1 and v2 headers together are one client hedging, and v2 is read. Raises `UnreadableCredential`: several
    credentials of MPP, or of MPP and x402, or of one x402 version that differ (400, draft-httpauth-payment-00,
    section "Multiple Payment Options"); or one longer than 16 KiB.
    """
    v1: list[bytes] = []
    v2: list[bytes] = []
    mpp: list[bytes] = []
    for name, value in headers:
        lower = name.lower()
        if lower not in _HEADERS:
            continue
        match lower:
            case b"authorization":
                # Other schemes are the application's own affair.
                if value[:8].lower() == _MPP_PREFIX or value.lower() == b"payment":
                    mpp.append(value[8:].strip())
            case b"payment-authorization":
                mpp.append(value[8:].strip() if value[:8].lower() == _MPP_PREFIX else value.strip())
            case b"payment-signature":
                v2.append(value.strip())
            case b"x-payment":
                v1.append(value.strip())
    if not (v1 or v2 or mpp):
        return None
    if mpp:
        if len(mpp) > 1 or v1 or v2:
            raise UnreadableCredential(Protocol.MPP, AmbiguousCredentials("send one payment credential, not several"))
        presented = PresentedCredential(Protocol.MPP, mpp[0])
    else:
        protocol, tokens = (Protocol.X402_V2, v2) if v2 else (Protocol.X402_V1, v1)
        if len(tokens) > 1 and len(set(tokens)) > 1:
            raise UnreadableCredential(protocol, AmbiguousCredentials("send one payment credential, not several"))
        presented = PresentedCredential(protocol, tokens[0])
    if len(presented.token) > MAX_HEADER_BYTES:
        error = MalformedError(f"the credential is longer than {MAX_HEADER_BYTES} bytes")
        raise UnreadableCredential(presented.protocol, error)
    return presented
