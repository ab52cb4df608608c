"""The challenge-list grammar: what it produces is read, anything else is refused, and nothing takes long."""

import contextlib
import time

import pytest

from translators.auth_params import AuthChallenge, format_challenge, parse_challenges
from translators.errors import MalformedError

C = AuthChallenge

READ = {
    # RFC 9110, section 11.6.1
    "two schemes": (
        'Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""',
        [C("Basic", {"realm": "simple"}), C("Newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'})],
    ),
    "the other way round": (
        'Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"',
        [C("Newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}), C("Basic", {"realm": "simple"})],
    ),
    "nothing": ("", []),
    "only separators": (" , ,\t", []),
    "bare scheme": ("Negotiate", [C("Negotiate", {})]),
    "bare schemes": ("Negotiate, NTLM", [C("Negotiate", {}), C("NTLM", {})]),
    "bare scheme before one with parameters": (
        'Negotiate,Payment id="a"',
        [C("Negotiate", {}), C("Payment", {"id": "a"})],
    ),
    "folded challenges of one scheme": (
        'Payment id="a", realm="r", Payment id="b", realm="r"',
        [C("Payment", {"id": "a", "realm": "r"}), C("Payment", {"id": "b", "realm": "r"})],
    ),
    "comma in quotes": (
        'Payment id="a,b", realm="x, Basic y=z"',
        [C("Payment", {"id": "a,b", "realm": "x, Basic y=z"})],
    ),
    "scheme's name in quotes": (
        'Payment realm="contact Payment support"',
        [C("Payment", {"realm": "contact Payment support"})],
    ),
    "escaped quote and backslash": (r'Payment id="a\"b\\c\d"', [C("Payment", {"id": r'a"b\cd'})]),
    "empty quotes": ('Payment id=""', [C("Payment", {"id": ""})]),
    "tokens": ("Payment id=abc, realm=api.example.com", [C("Payment", {"id": "abc", "realm": "api.example.com"})]),
    "bad white space around =": ('Payment id = "a" ,\trealm\t=\tb', [C("Payment", {"id": "a", "realm": "b"})]),
    "several spaces": ('Payment   id="a"', [C("Payment", {"id": "a"})]),
    "tab in quotes": ('Payment id="a\tb"', [C("Payment", {"id": "a\tb"})]),
    "latin-1 in quotes": ('Payment realm="caf\xe9"', [C("Payment", {"realm": "caf\xe9"})]),
    "case of scheme is kept, of names is not": ('pAYMENT ID="A", Realm="R"', [C("pAYMENT", {"id": "A", "realm": "R"})]),
    "token68": ("Negotiate YIIB/+a-._~==", [C("Negotiate", {}, "YIIB/+a-._~==")]),
    "token68 with one =": ("Negotiate YII=", [C("Negotiate", {}, "YII=")]),
    "token68 that looks like a name": ("Negotiate YIIB", [C("Negotiate", {}, "YIIB")]),
    "token68 in a list": ('Negotiate YII== , Payment id="a"', [C("Negotiate", {}, "YII=="), C("Payment", {"id": "a"})]),
    "token68 after parameters": (
        'Payment id="a", Negotiate YII=',
        [C("Payment", {"id": "a"}), C("Negotiate", {}, "YII=")],
    ),
    "empty elements between": ('Payment id="a",, ,realm="b",', [C("Payment", {"id": "a", "realm": "b"})]),
    "empty elements first": (',, Payment id="a"', [C("Payment", {"id": "a"})]),
    "empty elements before parameters": ('Payment , ,id="a"', [C("Payment", {"id": "a"})]),
    "empty elements between challenges": (
        'Payment id="a", , Basic realm=b',
        [C("Payment", {"id": "a"}), C("Basic", {"realm": "b"})],
    ),
    "same parameter in two challenges": ("A x=1, B x=2", [C("A", {"x": "1"}), C("B", {"x": "2"})]),
    "every token character": ("!#$%&'*+-.^_`|~09Az x=1", [C("!#$%&'*+-.^_`|~09Az", {"x": "1"})]),
}

REFUSED = {
    "unterminated quote": 'Payment id="a',
    "unterminated quote before a comma": 'Payment id="a, realm="b"',
    "unterminated after escape": 'Payment id="a\\"',
    "text after a quote": 'Payment id="a"b',
    "unescaped quote inside": 'Payment description="for "Premium" use"',
    "no comma between parameters": 'Payment id="a" realm="b"',
    "no comma between challenges": 'Basic realm="a" Payment id="b"',
    "duplicate": 'Payment id="a", id="b"',
    "duplicate in another case": 'Payment id="a", ID="a"',
    "parameter without a value": 'Payment id=, realm="b"',
    "parameter without a scheme": 'id="a"',
    "parameter after a bare scheme without a space": 'Payment,id="a"',
    "semicolon": 'Payment id="a"; realm="b"',
    "control character in quotes": 'Payment id="a\x00b"',
    "line break in quotes": 'Payment id="a\r\nb"',
    "line break after": 'Payment id="a"\r\n',
    "line break after token68": "Negotiate abc\n",
    "delete in quotes": 'Payment id="a\x7fb"',
    "escaped control character": 'Payment id="a\\\x01b"',
    "vertical tab as space": 'Payment\x0bid="a"',
    "no-break space": 'Payment id=\xa0"a"',
    "tab after the scheme's end": "Payment\x0c",
    "starts with =": '="a"',
    "starts with a quote": '"Payment" id="a"',
    "scheme beyond ASCII": 'P\xe4yment id="a"',
    "lone surrogate": 'Payment id="\udc80"',
    "too long": 'Payment id="' + "a" * 16384 + '"',
    "too many challenges": ", ".join(["A"] * 65),
    "too many parameters": "A " + ", ".join(f"p{number}=1" for number in range(65)),
    "two token68": "Negotiate abc= def=",
    "token68 and a parameter": 'Negotiate abc==, realm="x"',
}

SLOW = {
    "escapes": 'Payment id="e30", fuzz="' + "\\" * 12001,
    "unclosed": 'Payment x="' + "a" * 16000,
    "commas": "," * 16384,
    "blanks": "A" + " " * 16000 + '"',
    "equals": "A " + "=" * 16000,
    "token": "A " + "a" * 16000 + '"',
    "token and equals": "A " + "a" * 8000 + "=" * 8000 + '"',
    "names and blanks": "A " + "a \t" * 5000,
    "quotes": "A x=" + '"' * 16000,
}


@pytest.mark.parametrize("case", READ)
def test_read(case: str) -> None:
    """What RFC 9110's grammar produces is read as it means."""
    header, challenges = READ[case]
    assert parse_challenges(header) == challenges


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """What the grammar does not produce is refused, and the message repeats nothing of it."""
    with pytest.raises(MalformedError) as caught:
        parse_challenges(REFUSED[case])
    assert caught.value.detail.startswith("WWW-Authenticate")


@pytest.mark.parametrize("case", SLOW)
def test_no_input_is_slow(case: str) -> None:
    """The longest adversarial value is done with in well under a tenth of a second."""
    before = time.perf_counter()
    with contextlib.suppress(MalformedError):
        parse_challenges(SLOW[case])
    assert time.perf_counter() - before < 0.1


@pytest.mark.parametrize(
    "value", ["", "plain", 'with "quotes"', "back\\slash", '\\"', "comma, semicolon; =", "caf\xe9 \xff"]
)
def test_format_parses_back(value: str) -> None:
    """What is written is read back as it was."""
    assert parse_challenges(format_challenge("Payment", {"id": value})) == [C("Payment", {"id": value})]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "\x00", "\x7f", "\t", "☕", "\ud800"])
def test_format_refuses_what_no_header_can_carry(value: str) -> None:
    """Neither a control character, which would end the header, nor text beyond Latin-1 is ever written."""
    with pytest.raises(ValueError, match="header parameter"):
        format_challenge("Payment", {"description": value})
