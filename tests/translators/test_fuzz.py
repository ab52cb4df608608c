"""No message, however made, gets anything out of the core but a value or a `PaymentError`."""

import contextlib
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.translators.fuzz import TARGETS, Target, attempt, fuzz, mutate
from translators.accept_payment import parse_accept_payment
from translators.auth_params import parse_challenges
from translators.binding import parse_time
from translators.encoding import b64_encode, b64url_encode
from translators.errors import PaymentError
from translators.fields import parse_address, parse_signature, parse_uint256, parse_word
from translators.networks import chain_id_from_network

any_text = st.text(st.characters(), max_size=300)  # lone surrogates and NUL among them
names = pytest.mark.parametrize("name", TARGETS)


def pack(target: Target, data: bytes) -> bytes:
    return b64_encode(data).encode() if target.packed else data


@names
def test_the_seed_is_valid(name: str) -> None:
    """What the fuzzer starts from is accepted, so that it reaches the end of each path."""
    assert attempt(TARGETS[name], pack(TARGETS[name], TARGETS[name].seed)) == "accepted"


@names
@given(message=st.binary(max_size=300) | any_text)
def test_anything(name: str, message: bytes | str) -> None:
    """Random bytes and text."""
    attempt(TARGETS[name], message)


@names
@given(data=st.binary(max_size=300))
def test_anything_well_packed(name: str, data: bytes) -> None:
    """Random bytes inside good base64, in both alphabets."""
    attempt(TARGETS[name], b64_encode(data))
    attempt(TARGETS[name], b64url_encode(data))


@names
@settings(max_examples=250)
@given(rng=st.randoms(use_true_random=False))
def test_near_a_valid_message(name: str, rng: random.Random) -> None:
    """Mutations of a valid message."""
    attempt(TARGETS[name], mutate(TARGETS[name], rng))


MONSTERS = {
    "nothing": b"",
    "one NUL": b"\x00",
    "a MiB of nothing": b"\x00" * 2**20,
    "a MiB of A": b"A" * 2**20,
    "a MiB of quotes": b'"' * 2**20,
    "a MiB of commas": b"," * 2**20,
    "a MiB of arrays": b"[" * 2**20,
    "arrays to the header's limit": b"[" * 12_000,
    "objects to the header's limit": b'{"a":' * 2_400,
    "closed arrays": b"[" * 6_000 + b"]" * 6_000,
    "33 deep": b"[" * 33 + b"]" * 33,
    "brackets in a string": b'{"x402Version":"' + b"[{" * 5_000 + b'"}',
    "an endless string": b'{"x402Version":"' + b"a" * 12_000,
    "huge integer": b'{"x402Version":' + b"9" * 10_000 + b"}",
    "huge exponent": b'{"x402Version":1e999999999}',
    "lone surrogate, escaped": b'{"x402Version":"\\ud800"}',
    "lone surrogate, raw": b'{"x402Version":"\xed\xa0\x80"}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"x402Version":1}'.encode("utf-16"),
    "many members": json.dumps({str(number): number for number in range(1_000)}).encode(),
    "one member many times": b"{" + b'"x402Version":1,' * 700 + b'"x402Version":1}',
}


@names
@pytest.mark.parametrize("monster", MONSTERS)
def test_monsters(name: str, monster: str) -> None:
    """Depth, size, numbers and encodings beyond any use, packed and as they are."""
    target, data = TARGETS[name], MONSTERS[monster]
    for message in (data, b64_encode(data), data.decode("utf-8", "surrogateescape")):
        assert attempt(target, message) != "accepted" or name in ("mpp challenge",)


@names
@pytest.mark.parametrize(
    "monster", [b"[" * 40 + b"]" * 40, b"9" * 6_000, b'"\\ud800"', b'"\xed\xa0\x80"', b'"\\u0000"', b"1e999"]
)
def test_monsters_inside(name: str, monster: bytes) -> None:
    """The same in the place of each value of a valid message."""
    target = TARGETS[name]
    if not target.seed.startswith(b"{"):
        return
    for start in [index + 1 for index, byte in enumerate(target.seed) if byte == ord(":")]:
        end = min(index for index in (target.seed.find(b",", start), target.seed.find(b"}", start)) if index > 0)
        attempt(target, pack(target, target.seed[:start] + monster + target.seed[end:]))


@given(any_text)
def test_small_parsers(text: str) -> None:
    """The parsers below the messages hold by themselves."""
    for parse in (
        parse_challenges,
        parse_time,
        parse_signature,
        parse_accept_payment,
        chain_id_from_network,
        lambda value: parse_address(value, "it"),
        lambda value: parse_word(value, "it"),
        lambda value: parse_uint256(value, "it"),
        lambda value: chain_id_from_network(f"eip155:{value}"),
        lambda value: parse_challenges(f'Payment id="{value}"'),
    ):
        with contextlib.suppress(PaymentError):
            parse(text)


def test_the_fuzzer_is_repeatable() -> None:
    """One seed gives one run."""
    assert fuzz(3_000, 7) == fuzz(3_000, 7) != fuzz(3_000, 8)


def test_the_fuzzer_bites(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of another class ends the run with status 1 and the message that did it."""

    def defective(message: object) -> None:
        raise KeyError("defect")

    monkeypatch.setitem(TARGETS, "v1 receipt", TARGETS["v1 receipt"]._replace(run=defective))
    with pytest.raises(SystemExit) as caught:
        fuzz(100, 1)
    assert caught.value.code == 1
    assert "v1 receipt raised KeyError('defect')" in capsys.readouterr().err
