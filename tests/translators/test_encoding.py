"""Base64, JSON and JCS: both alphabets are read, one form is written, and everything else is refused."""

import base64
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from translators.encoding import (
    MAX_DEPTH,
    MAX_HEADER_BYTES,
    b64_decode,
    b64_encode,
    b64url_encode,
    jcs_encode,
    json_decode,
)
from translators.errors import MalformedError

BASE64 = {
    # mpp-tools, conformance/vectors/base64url.json; RFC 4648, section 10
    b"Hello, World!": "SGVsbG8sIFdvcmxkIQ",
    b'{"key":"value"}': "eyJrZXkiOiJ2YWx1ZSJ9",
    b"https://example.com?foo=bar&baz=qux": "aHR0cHM6Ly9leGFtcGxlLmNvbT9mb289YmFyJmJhej1xdXg",
    b"a": "YQ",
    b"ab": "YWI",
    b"abc": "YWJj",
    b">>>???": "Pj4-Pz8_",
    b"!@#$%^&*()[]{}|;:,.<>?": "IUAjJCVeJiooKVtde318OzosLjw-Pw",
    b"tabs\tand\nnewlines": "dGFicwlhbmQKbmV3bGluZXM",
    b"\xff": "_w",
    b"f": "Zg",
    b"foobar": "Zm9vYmFy",
}

NOT_BASE64 = {
    "empty": "",
    "other characters": "not-valid!!!",
    "leading space": " YWJj",
    "trailing space": "YWJj ",
    "line break": "YWJj\n",
    "folded": "YWJj\r\nYWJj",
    "both alphabets": "Pj4+Pz8_",
    "impossible length": "YWJjY",
    "one character": "Y",
    "half the padding": "YQ=",
    "too much padding": "YWI==",
    "padding without need": "YWJj=",
    "padding without data": "====",
    "one padding": "=",
    "padding in the middle": "YQ==YQ==",
    "padding first": "=YWJj",
    "bits that would be dropped": "YR",
    "bits that would be dropped, padded": "YR==",
    "bits that would be dropped, two bytes": "YWJ",
    "NUL": "YW\x00Jj",
    "beyond ASCII": "YW\xe9j",
    "lone surrogate": "YW\udc80j",
    "too long": "A" * (MAX_HEADER_BYTES + 4),
    "a megabyte": "A" * 2**20,
}


@pytest.mark.parametrize("decoded", BASE64)
def test_base64(decoded: bytes) -> None:
    """Four spellings are read; one is written for x402 and one for MPP."""
    unpadded = BASE64[decoded]
    padded = unpadded + "=" * (-len(unpadded) % 4)
    standard = padded.replace("-", "+").replace("_", "/")
    for spelling in (unpadded, padded, standard, standard.rstrip("=")):
        assert b64_decode(spelling, "it") == decoded
        assert b64_decode(spelling.encode(), "it") == decoded
    assert b64url_encode(decoded) == unpadded
    assert b64_encode(decoded) == standard


@pytest.mark.parametrize("case", NOT_BASE64)
def test_not_base64(case: str) -> None:
    """Nothing is skipped, dropped or guessed, and the message names the field and not its content."""
    with pytest.raises(MalformedError, match=r"^it ") as caught:
        b64_decode(NOT_BASE64[case], "it")
    assert len(caught.value.detail) < 60


@given(st.binary(min_size=1, max_size=200))
def test_base64_agrees_with_the_standard_library(data: bytes) -> None:
    """Writing is the standard library's, reading its inverse."""
    assert b64_encode(data) == base64.b64encode(data).decode()
    assert b64url_encode(data) == base64.urlsafe_b64encode(data).decode().rstrip("=")
    assert b64_decode(b64_encode(data), "it") == b64_decode(b64url_encode(data), "it") == data


@given(st.text("ABYZabyz0189+/-_=", max_size=12))
def test_one_text_for_one_value(text: str) -> None:
    """Two texts that decode alike differ in alphabet and padding only: there is no third spelling."""
    try:
        decoded = b64_decode(text, "it")
    except MalformedError:
        return
    assert text.rstrip("=").replace("+", "-").replace("/", "_") == b64url_encode(decoded)


_ANY = msgspec.json.Decoder()
_TYPED = msgspec.json.Decoder(dict[str, int])


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_depth() -> None:
    """Nesting is read to the limit and refused one deeper; brackets in strings do not count."""
    assert json_decode(nested(MAX_DEPTH), _ANY, "it")
    with pytest.raises(MalformedError, match="deeply"):
        json_decode(nested(MAX_DEPTH + 1), _ANY, "it")
    assert json_decode(b'["' + b"[" * 1000 + b'"]', _ANY, "it") == ["[" * 1000]
    assert json_decode(b'["\\"' + b"{" * 1000 + b'"]', _ANY, "it") == ['"' + "{" * 1000]
    assert json_decode(b"[" + b",".join([b"[]"] * 1000) + b"]", _ANY, "it") == [[]] * 1000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nope",
        b"{'a':1}",
        b'{"a":1}x',
        b"\xff",
        b'{"a":"\xff"}',
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        b"1e999",
        b"NaN",
        b"Infinity",
        b'{"a":1,}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"\\',
        b'"\x00"',
        b"9" * 5000,
        b"-",
        b"01",
    ],
)
def test_not_json(data: bytes) -> None:
    """Whatever is not JSON, or is deeper or bigger than JSON has to be, is one error."""
    with pytest.raises(MalformedError, match=r"^it"):
        json_decode(data, _ANY, "it")


@pytest.mark.parametrize(
    ("data", "decoder", "says"),
    [
        (b'{"a":"SECRET"}', _TYPED, "Expected `int`, got `str`"),
        (b'{"a":1.5}', _TYPED, "Expected `int`, got `float`"),
        (b'{"a":true}', _TYPED, "Expected `int`, got `bool`"),
        (b'["SECRET"]', _TYPED, "Expected `object`, got `array`"),
        (b'"SECRET"', _TYPED, "Expected `object`, got `str`"),
    ],
)
def test_wrong_type(data: bytes, decoder: "msgspec.json.Decoder[object]", says: str) -> None:
    """A wrong type is told by what was expected and never by what was found."""
    with pytest.raises(MalformedError) as caught:
        json_decode(data, decoder, "it")
    assert says in caught.value.detail
    assert "SECRET" not in caught.value.detail


class _Tagged(msgspec.Struct, tag_field="type", tag="authorization"):
    pass


@pytest.mark.parametrize("value", ["SECRET", "SECRET\nSECRET", "SECRET - at SECRET", "'SECRET'"])
def test_enumerations_are_not_quoted(value: str) -> None:
    """msgspec quotes a value that no enumeration has; the error leaves it out, whatever it holds."""
    with pytest.raises(MalformedError) as caught:
        json_decode(msgspec.json.encode({"type": value}), msgspec.json.Decoder(_Tagged), "it")
    assert "SECRET" not in caught.value.detail


# RFC 8785, appendix B
NUMBERS = {
    0x0000000000000000: "0",
    0x8000000000000000: "0",
    0x0000000000000001: "5e-324",
    0x8000000000000001: "-5e-324",
    0x7FEFFFFFFFFFFFFF: "1.7976931348623157e+308",
    0xFFEFFFFFFFFFFFFF: "-1.7976931348623157e+308",
    0x4340000000000000: "9007199254740992",
    0xC340000000000000: "-9007199254740992",
    0x4430000000000000: "295147905179352830000",
    0x44B52D02C7E14AF5: "9.999999999999997e+22",
    0x44B52D02C7E14AF6: "1e+23",
    0x44B52D02C7E14AF7: "1.0000000000000001e+23",
    0x444B1AE4D6E2EF4E: "999999999999999700000",
    0x444B1AE4D6E2EF4F: "999999999999999900000",
    0x444B1AE4D6E2EF50: "1e+21",
    0x3EB0C6F7A0B5ED8C: "9.999999999999997e-7",
    0x3EB0C6F7A0B5ED8D: "0.000001",
    0x41B3DE4355555553: "333333333.3333332",
    0x41B3DE4355555554: "333333333.33333325",
    0x41B3DE4355555555: "333333333.3333333",
    0x41B3DE4355555556: "333333333.3333334",
    0x41B3DE4355555557: "333333333.33333343",
    0xBECBF647612F3696: "-0.0000033333333333333333",
    0x43143FF3C1CB0959: "1424953923781206.2",
}


@pytest.mark.parametrize("bits", NUMBERS)
def test_jcs_numbers(bits: int) -> None:
    """Every double of RFC 8785's table is written as ECMAScript writes it."""
    (number,) = struct.unpack(">d", bits.to_bytes(8, "big"))
    assert jcs_encode(number).decode() == NUMBERS[bits]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_jcs_numbers_round_trip(number: float) -> None:
    """No double loses a bit."""
    assert float(jcs_encode(number)) == number


JCS = [
    # RFC 8785, section 3.2.2
    (
        {
            "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 1e-27],
            "string": '\u20ac$\x0f\nA\'B"\\\\"/',
            "literals": [None, True, False],
        },
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    ),
    # RFC 8785, section 3.2.3: UTF-16 code units, in which U+1F600 comes before U+FB33
    (
        {"€": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "ö": 7},
        '{"\\r":2,"1":4,"\x80":6,"ö":7,"€":1,"\U0001f600":5,"\ufb33":3}',
    ),
    ({"b": {"z": 1, "a": 2}, "a": []}, '{"a":[],"b":{"a":2,"z":1}}'),
    ({}, "{}"),
    ("\b\t\n\f\r\x00\x1f\x7f\u2028/", '"\\b\\t\\n\\f\\r\\u0000\\u001f\x7f\u2028/"'),
    (2**53, "9007199254740992"),
    (-(2**53), "-9007199254740992"),
    ((1, "a"), '[1,"a"]'),
]


@pytest.mark.parametrize(("value", "text"), JCS)
def test_jcs(value: object, text: str) -> None:
    """The examples of RFC 8785, and what its rules say of the rest."""
    assert jcs_encode(value).decode() == text


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        "\ud800",
        {"\udc00": 1},
        {1: 2},
        {"a": 1, 2: 3},
        {b"a": 1},
        2**53 + 1,
        -(2**53) - 1,
        b"bytes",
        {1, 2},
        object(),
    ],
)
def test_jcs_refuses(value: object) -> None:
    """What JSON cannot say, or other implementations would say otherwise, is a ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        jcs_encode(value)
