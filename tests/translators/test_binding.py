"""What ties a credential to server, request and moment: ids, hashes, times, digests."""

import base64
import hashlib
import hmac
import json

import pytest
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.translators.public_vectors import CHALLENGE_IDS
from tests.translators.samples import CHALLENGE_KEY, NOW, OLD_CHALLENGE_KEY, challenge
from translators.binding import (
    MIN_KEY_BYTES,
    body_digest,
    challenge_hash,
    challenge_hashes,
    challenge_id,
    check_challenge_id,
    check_digest,
    check_expiry,
    format_time,
    parse_time,
    sign_challenge,
)
from translators.encoding import b64url_encode, jcs_encode
from translators.errors import InvalidChallenge, MalformedError, PaymentExpired, VerificationFailed
from translators.wire.mpp import Challenge

BODY = b'{"hello": "world"}'
BODY_DIGEST = "X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="  # RFC 9530's drafts and mpp-tools


@pytest.mark.parametrize(("secret", "request_", "members", "expected"), CHALLENGE_IDS)
def test_public_challenge_ids(secret: str, request_: dict[str, object], members: dict[str, str], expected: str) -> None:
    """The id, and the JCS below it, are what every published implementation computes."""
    basic = {"id": "", "realm": "api.example.com", "method": "tempo", "intent": "charge"}
    issued = Challenge(**{**basic, "request": b64url_encode(jcs_encode(request_)), **members})
    assert challenge_id(secret.encode(), issued) == expected


def independent_id(key: bytes, issued: Challenge) -> str:
    """The draft's formula once more, from its text alone."""
    slots = [issued.realm, issued.method, issued.intent, issued.request, issued.expires, issued.digest, issued.opaque]
    if issued.header not in (None, "", "Authorization"):
        slots.insert(6, issued.header)
    mac = hmac.new(key, "|".join(slot or "" for slot in slots).encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(mac.digest()).decode().rstrip("=")


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="|"), max_size=12)
maybe = st.none() | words
challenges = st.builds(
    Challenge,
    id=words,
    realm=words,
    method=words,
    intent=words,
    request=words,
    expires=maybe,
    digest=maybe,
    description=maybe,
    opaque=maybe,
    header=maybe.filter(lambda name: name is None or name.lower() != "authorization"),
)


@given(st.binary(max_size=80), challenges)
def test_challenge_id_is_the_drafts(key: bytes, issued: Challenge) -> None:
    """Over any challenge and key, the id is that of a second, independent implementation."""
    assert challenge_id(key, issued) == independent_id(key, issued)


SIGNED = ["realm", "method", "intent", "request", "expires", "digest", "opaque", "header"]


@pytest.mark.parametrize("slot", SIGNED)
def test_every_signed_slot_counts(slot: str) -> None:
    """Changing, adding or dropping any signed parameter makes the id a forgery."""
    issued = challenge(digest="sha-256=:x:", header="Payment-Authorization", description="d")
    check_challenge_id([CHALLENGE_KEY], issued)
    for other in ("else", "", getattr(issued, slot) + "x"):
        with pytest.raises(InvalidChallenge):
            check_challenge_id([CHALLENGE_KEY], replace(issued, **{slot: other}))


def test_description_is_not_signed() -> None:
    """The description is for people, and the draft leaves it out of the id."""
    check_challenge_id([CHALLENGE_KEY], replace(challenge(description="a"), description="b"))


SHIFTED = [
    {"digest": "d|Payment-Authorization", "header": None},
    {"opaque": "Payment-Authorization|o", "header": None},
    {"expires": "2027-01-15T08:01:00Z|d", "digest": "Payment-Authorization", "header": None},
    {"realm": "r|evm", "method": "charge", "intent": "q", "request": "e", "header": None},
]


@pytest.mark.parametrize("shift", SHIFTED)
def test_no_border_between_slots_can_be_moved(shift: dict[str, str | None]) -> None:
    """An echo that spreads the same signed text over other slots is a forgery, though its HMAC fits."""
    issued = sign_challenge(
        [CHALLENGE_KEY],
        Challenge(
            id="",
            realm="r",
            method="evm",
            intent="charge",
            request="q",
            expires="2027-01-15T08:01:00Z",
            digest="d",
            opaque="o",
            header="Payment-Authorization",
        ),
    )
    with pytest.raises(InvalidChallenge):
        check_challenge_id([CHALLENGE_KEY], replace(issued, **shift))


def test_separator_is_never_signed() -> None:
    """A challenge that could be read in two ways is not issued."""
    with pytest.raises(ValueError, match="two ways"):
        challenge(realm="a|b")


def test_keys_rotate() -> None:
    """The first key issues, every key is accepted, no key means no challenge."""
    old = challenge(keys=[OLD_CHALLENGE_KEY])
    check_challenge_id([CHALLENGE_KEY, OLD_CHALLENGE_KEY], old)
    assert challenge(keys=[CHALLENGE_KEY, OLD_CHALLENGE_KEY]) == challenge(keys=[CHALLENGE_KEY])
    for keys in ([CHALLENGE_KEY], [], [b""]):
        with pytest.raises(InvalidChallenge):
            check_challenge_id(keys, old)
    assert min(len(CHALLENGE_KEY), len(OLD_CHALLENGE_KEY)) >= MIN_KEY_BYTES == hashlib.sha256().digest_size


@pytest.mark.parametrize("forged", ["", "x", "é", "\x00", "A" * 10_000])
def test_forged_id(forged: str) -> None:
    """Any other text is no id, whatever it is made of; a bit of padding is another text."""
    for text in (forged, challenge().id + "=", challenge().id[:-1]):
        with pytest.raises(InvalidChallenge):
            check_challenge_id([CHALLENGE_KEY], replace(challenge(), id=text))


@given(words, words)
def test_challenge_hashes(identifier: str, realm: str) -> None:
    """The draft's nonce comes first, then that of the JSON array, as eth-utils hashes them."""
    issued = replace(challenge(), id=identifier, realm=realm)
    packed = keccak(text=identifier + realm)
    array = keccak(text=json.dumps([identifier, realm], separators=(",", ":"), ensure_ascii=False))
    assert challenge_hash(issued) == packed
    assert challenge_hashes(issued) == (packed, array)


TIMES = {
    "1970-01-01T00:00:00Z": 0,
    "2025-01-15T12:05:00Z": 1736942700,
    "2025-01-15t12:05:00z": 1736942700,
    "2025-01-15T12:05:00.1Z": 1736942700,
    "2025-01-15T12:05:00.999Z": 1736942700,
    "2025-01-15T12:05:00.999999Z": 1736942700,
    "2025-01-15T12:05:00.999999999Z": 1736942700,
    "2025-01-15T13:05:00+01:00": 1736942700,
    "2025-01-15T13:05:00.500+01:00": 1736942700,
    "2025-01-15T06:35:00-05:30": 1736942700,
    "2025-01-15T12:05:00-00:00": 1736942700,
    "2024-02-29T00:00:00Z": 1709164800,
    "1969-12-31T23:59:59.5Z": -1,
    "9999-12-31T23:59:59Z": 253402300799,
}

NOT_TIMES = [
    "",
    "2025-01-15",
    "2025-01-15T12:05Z",
    "2025-01-15T12:05:00",
    "2025-01-15 12:05:00Z",
    "2025-01-15T12:05:00+0100",
    "2025-01-15T12:05:00.Z",
    "2025-01-15T12:05:00,5Z",
    "2025-02-30T00:00:00Z",
    "2025-13-01T00:00:00Z",
    " 2025-01-15T12:05:00Z",
    "2025-01-15T24:00:01Z",
    "2025-01-15T12:60:00Z",
    "2025-01-15T12:05:00Z\n",
    "2025-01-15T12:05:00+24:00",
    "0000-01-01T00:00:00Z",
    "20250115T120500Z",
    "1736942700",
    "2025-01-15T12:05:00.1234567890Z",
    "\u0662\u0660\u0662\u0665-01-15T12:05:00Z",
    "2025-W03-3T12:05:00Z",
    "12025-01-15T12:05:00Z",
]


@pytest.mark.parametrize("text", TIMES)
def test_times(text: str) -> None:
    """RFC 3339 is read with any fraction and offset, and cut to the second."""
    assert parse_time(text) == TIMES[text]


@pytest.mark.parametrize("text", NOT_TIMES)
def test_not_times(text: str) -> None:
    """ISO 8601 has more forms than RFC 3339, and none of those is read."""
    with pytest.raises(MalformedError, match="RFC 3339"):
        parse_time(text)


@given(st.integers(0, 253402300799), st.floats(0, 0.999))
def test_times_round_trip(seconds: int, fraction: float) -> None:
    """What is written is read back, in whole seconds."""
    assert parse_time(format_time(seconds)) == seconds
    assert parse_time(format_time(min(seconds, 2**40) + fraction)) == min(seconds, 2**40)


@pytest.mark.parametrize(
    ("expires", "now", "expired"),
    [
        ("2027-01-15T08:00:00Z", NOW - 1, False),
        ("2027-01-15T08:00:00Z", NOW, False),
        ("2027-01-15T08:00:00Z", NOW + 0.5, True),
        ("2027-01-15T08:00:00Z", NOW + 1, True),
        ("2027-01-15T08:00:00.900Z", NOW + 0.5, True),
        ("2027-01-15T09:00:00+01:00", NOW, False),
        (None, 2e12, False),
    ],
)
def test_expiry(expires: str | None, now: float, expired: bool) -> None:
    """A challenge is good up to its second and not a moment longer; without `expires` it does not end."""
    issued = replace(challenge(), expires=expires)
    if expired:
        with pytest.raises(PaymentExpired):
            check_expiry(issued, now)
    else:
        check_expiry(issued, now)


def test_digest_is_rfc_9530s() -> None:
    """The digest is written as RFC 9530 has it."""
    assert body_digest(BODY) == f"sha-256=:{BODY_DIGEST}:"


@pytest.mark.parametrize(
    "digest",
    [
        None,
        f"sha-256=:{BODY_DIGEST}:",
        f"sha-256={BODY_DIGEST}",
        f"sha-256={BODY_DIGEST[:-1]}",
        f"SHA-256=:{BODY_DIGEST}:",
    ],
)
def test_digest_read(digest: str | None) -> None:
    """With colons and without, padded and not; no digest binds no body."""
    check_digest(replace(challenge(), digest=digest), BODY)


@pytest.mark.parametrize(
    ("digest", "error"),
    [
        (body_digest(BODY + b" "), VerificationFailed),
        (body_digest(b""), VerificationFailed),
        ("sha-256=:YQ==:", VerificationFailed),
        ("sha-512=:YQ==:", VerificationFailed),
        ("", VerificationFailed),
        ("x", VerificationFailed),
        ("sha-256=", MalformedError),
        ("sha-256=:", MalformedError),
        ("sha-256=::", MalformedError),
        ("sha-256=:!:", MalformedError),
        (f"sha-256=:{BODY_DIGEST}:, sha-512=:YQ==:", MalformedError),
    ],
)
def test_digest_refused(digest: str, error: type[Exception]) -> None:
    """Another body, another algorithm or no digest at all is refused."""
    with pytest.raises(error):
        check_digest(replace(challenge(), digest=digest), BODY)
