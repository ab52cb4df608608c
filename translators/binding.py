"""What ties an MPP credential to this server, this request and this moment.

The challenge id is an HMAC over the challenge (draft-httpauth-payment-00, "Recommended: HMAC-SHA256 Binding"), so the
server keeps no challenge. The evm authorization's nonce is a hash of the challenge, so the payer's signature covers it.
"""

import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from math import floor

import msgspec

from translators.encoding import b64_decode, b64_encode
from translators.errors import InvalidChallenge, MalformedError, PaymentExpired, VerificationFailed
from translators.keccak import keccak256
from translators.wire.mpp import CREDENTIAL_HEADER, Challenge

__all__ = [
    "MIN_KEY_BYTES",
    "body_digest",
    "challenge_hash",
    "challenge_hashes",
    "challenge_id",
    "check_challenge_id",
    "check_digest",
    "check_expiry",
    "format_time",
    "is_challenge_hash",
    "issue_id",
    "parse_time",
    "sign_challenge",
    "signed_slots",
]

MIN_KEY_BYTES = 32
"""The shortest challenge secret that is accepted, in bytes: as long as the HMAC's output (RFC 2104, section 3)."""

_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_DEFAULT_HEADER = CREDENTIAL_HEADER.lower()
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


def challenge_id(key: bytes, challenge: Challenge) -> str:
    """The id that `key` gives this challenge: base64url of HMAC-SHA256 over its slots.

    Seven slots, an absent one empty. A challenge that names another credential header than `Authorization` has that
    name before `opaque`: no draft says so, but implementations agree on it.
    """
    return _id_of(key, "|".join(_slots(challenge))).decode()


def _id_of(key: bytes, slots: str) -> bytes:
    """base64url of the HMAC, of whose 44 characters the last is padding."""
    keyed = _keyed(key).copy()
    keyed.update(slots.encode())
    return binascii.b2a_base64(keyed.digest(), newline=False).translate(_URL_SAFE)[:43]


@lru_cache(maxsize=16)
def _keyed(key: bytes) -> hmac.HMAC:
    """The HMAC as far as the key goes, to be gone on with in a copy: looking the algorithm up costs more than it."""
    return hmac.new(key, digestmod="sha256")


def signed_slots(challenge: Challenge) -> tuple[str, str]:
    """What the id of `challenge` is made of before and after `expires` and `digest`, for `issue_id`.

    Raises `ValueError` for a `|` in a signed slot.
    """
    slots = _slots(challenge)
    if any("|" in slot for slot in slots):
        raise ValueError("a challenge with a | in a signed slot could be read in two ways")
    return "|".join(slots[:4]), "|".join(slots[6:])


def issue_id(keys: Sequence[bytes], before: str, expires: str, digest: str, after: str) -> str:
    """The id of a challenge whose other slots are `before` and `after` (`signed_slots`)."""
    return _id_of(keys[0], f"{before}|{expires}|{digest}|{after}").decode()


def _slots(challenge: Challenge) -> list[str]:
    slots = [
        challenge.realm,
        challenge.method,
        challenge.intent,
        challenge.request,
        challenge.expires or "",
        challenge.digest or "",
    ]
    if challenge.header and challenge.header.lower() != _DEFAULT_HEADER:
        slots.append(challenge.header)
    slots.append(challenge.opaque or "")
    return slots


def _joined(challenge: Challenge) -> str | None:
    """The slots between pipes; None where a slot holds the separator.

    Slots are seven or eight, so without this `digest="d|Payment-Authorization"` would pass for `digest="d"` with
    `header="Payment-Authorization"`.
    """
    slots = _slots(challenge)
    joined = "|".join(slots)
    return joined if joined.count("|") == len(slots) - 1 else None


def sign_challenge(keys: Sequence[bytes], challenge: Challenge) -> Challenge:
    """The same challenge with the id that the first key gives it. Raises `ValueError` for a `|` in a signed slot."""
    joined = _joined(challenge)
    if joined is None:
        raise ValueError("a challenge with a | in a signed slot could be read in two ways")
    return msgspec.structs.replace(challenge, id=_id_of(keys[0], joined).decode())


def check_challenge_id(keys: Sequence[bytes], challenge: Challenge) -> None:
    """Raise `InvalidChallenge` unless one of `keys` made this challenge: keys rotate, and old ones are read on."""
    joined = _joined(challenge)
    given = challenge.id.encode("utf-8", "replace")
    matches = joined is not None and [hmac.compare_digest(_id_of(key, joined), given) for key in keys]
    if not matches or not any(matches):
        raise InvalidChallenge("the challenge was not issued by this server, or was changed")


def challenge_hash(challenge: Challenge) -> bytes:
    """The evm authorization's nonce: keccak256 of id and realm, packed (draft-evm-charge-00, "Challenge Binding")."""
    return keccak256((challenge.id + challenge.realm).encode())


def challenge_hashes(challenge: Challenge) -> tuple[bytes, ...]:
    """Every nonce that stands for this challenge: the draft's, and the JSON array's that pympp signs."""
    return challenge_hash(challenge), _array_hash(challenge)


def is_challenge_hash(nonce: str, challenge: Challenge) -> bool:
    """Whether `nonce`, as `0x` and hexadecimal, is one of `challenge_hashes`; the second is made where it must be."""
    return nonce[2:] == challenge_hash(challenge).hex() or nonce[2:] == _array_hash(challenge).hex()


def _array_hash(challenge: Challenge) -> bytes:
    return keccak256(msgspec.json.encode([challenge.id, challenge.realm]))


def format_time(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC, whole seconds."""
    return _format_second(floor(seconds))


@lru_cache(maxsize=64)
def _format_second(second: int) -> str:
    """All the challenges of one second expire in the same one."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=256)
def parse_time(text: str) -> int:
    """RFC 3339 as whole Unix seconds, a fraction cut off. Raises `MalformedError`."""
    if _RFC3339.fullmatch(text) is None:
        raise MalformedError("expires is not an RFC 3339 time")
    try:
        # Python reads at most six digits of a fraction, and the fraction is cut off anyway.
        return floor(datetime.fromisoformat(re.sub(r"\.\d+", "", text.upper())).timestamp())
    except (ValueError, OverflowError):
        raise MalformedError("expires is not an RFC 3339 time") from None


def check_expiry(challenge: Challenge, now: float) -> None:
    """Raise `PaymentExpired` once `expires` has passed, compared in whole seconds and never late."""
    if challenge.expires is not None and now > parse_time(challenge.expires):
        raise PaymentExpired("the challenge has expired")


def body_digest(body: bytes) -> str:
    """The `digest` parameter for a request body (RFC 9530, section 2)."""
    return f"sha-256=:{b64_encode(hashlib.sha256(body).digest())}:"


def check_digest(challenge: Challenge, body: bytes) -> None:
    """Raise `VerificationFailed` unless `body` is the one the challenge was issued for, `MalformedError` for no base64.

    Both spellings are read, `sha-256=:...:` as RFC 9530 has it and without the colons, as some clients write it.
    """
    if challenge.digest is None:
        return
    algorithm, _, value = challenge.digest.partition("=")
    if algorithm.lower() != "sha-256":
        raise VerificationFailed("the digest is not sha-256")
    given = b64_decode(value[1:-1] if value.startswith(":") and value.endswith(":") else value, "digest")
    if not hmac.compare_digest(given, hashlib.sha256(body).digest()):
        raise VerificationFailed("the body is not the one that the challenge was issued for")
