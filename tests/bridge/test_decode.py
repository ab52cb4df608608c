"""`x402-mpp decode` tells what any message of the three protocols says, and whether it holds."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bridge.cli import main
from bridge.payers import Asked, sign
from bridge.testing import FixedClock
from tests.bridge.harness import MPP, PAYER, PROTOCOLS, V1, V2, House, envelope, resign, token_json, with_token
from tests.translators import foreign_samples as foreign
from translators.binding import challenge_hashes
from translators.encoding import b64_encode
from translators.errors import MalformedError
from translators.explain.explain import explain
from translators.payment import Protocol
from translators.wire import x402_v2

NOW = 1_900_000_000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's clock stands where the house's does."""
    monkeypatch.setattr("bridge.clock.system_clock", FixedClock(NOW))


def decode(*arguments: str, stdin: str = "", code: int = 0) -> list[dict[str, Any]]:
    ran = CliRunner().invoke(main, ["decode", "--json", *arguments], input=stdin)
    assert ran.exit_code == code, ran.output
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found


def checks(one: dict[str, Any]) -> dict[str, bool | None]:
    return {check["name"]: check["ok"] for check in one["checks"]}


def facts(one: dict[str, Any]) -> dict[str, str]:
    return {fact["label"]: fact["text"] for fact in one["facts"]}


async def credential(protocol: Protocol, **changes: Any) -> tuple[str, str]:
    """A credential of our own payers, or one that says something else and is signed again."""
    house = House()
    asked = await house.ask(protocol)
    payment = sign(asked, PAYER, NOW)
    return envelope(resign(payment, asked.offer.asset, **changes) if changes else payment, asked)


def run(coroutine: Any) -> Any:
    import asyncio

    return asyncio.run(coroutine)


# All nine headers, and the body

FORMS = {V1: "x402 v1 payment", V2: "x402 v2 payment", MPP: "MPP credential"}
RECEIPTS = {V1: "x402 v1 receipt", V2: "x402 v2 receipt", MPP: "MPP receipt"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("named", [True, False])
def test_a_credential_is_read_and_verified(protocol: Protocol, named: bool) -> None:
    """By its header's name or by itself: who pays whom how much, that he signed it, and that it is good now."""
    name, value = run(credential(protocol))
    (one,) = decode(f"{name}: {value}" if named else value)
    assert one["form"] == FORMS[protocol]
    assert one["where"] == name
    told = facts(one)
    assert told["amount"] == "10000 (0.01 USDC)"
    assert told["from"].lower() == PAYER.address
    assert "in 5 min" in told["valid until"] or "in 4 min" in told["valid until"]
    assert "base-sepolia" in told["network"]
    held = checks(one)
    assert held.pop("terms") is (None if protocol is V1 else True)
    assert held.keys() >= {"signature", "window"}
    assert set(held.values()) == {True}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_receipt_is_read(protocol: Protocol) -> None:
    """The transaction, and that the server says it was a success."""
    answer = run(House().pay(protocol))
    name = {V1: "X-PAYMENT-RESPONSE", V2: "PAYMENT-RESPONSE", MPP: "Payment-Receipt"}[protocol]
    for paste in (f"{name}: {answer.headers[name]}", answer.headers[name]):
        (one,) = decode(paste)
        assert one["form"] == RECEIPTS[protocol]
        assert checks(one) == {"settled": True, "transaction": True}
        assert facts(one)["reference" if protocol is MPP else "transaction"].startswith("0x")


def test_a_whole_dump_is_read() -> None:
    """`curl -i`, piped: three challenges and the body, each with its price; of other headers nothing."""
    answer = run(House().visit())
    lines = [f"{name}: {value}" for name, value in answer.headers.multi_items()]
    dump = "\r\n".join(["HTTP/1.1 402 Payment Required", "Server: x", *lines, "", answer.text])
    found = decode(stdin=dump)
    assert [(one["where"], one["form"]) for one in found] == [
        ("WWW-Authenticate", "MPP challenge"),
        ("PAYMENT-REQUIRED", "x402 v2 challenge"),
        ("X-PAYMENT-REQUIRED", "x402 v1 challenge"),
        ("body", "x402 v1 challenge"),
    ]
    assert all(facts(one)["amount"] == "10000 (0.01 USDC)" for one in found)
    assert all(check is True for one in found for check in checks(one).values())
    # The body alone, and what was folded into the challenge.
    assert decode("-", stdin=answer.text)[0]["form"] == "x402 v1 challenge"
    assert found[0]["decoded"]["request"]["methodDetails"]["chainId"] == 84532


def test_terms_are_compared_with_a_402_beside_them() -> None:
    """`curl -v` shows what was asked and what was sent; v1 echoes nothing, so only that tells."""
    house = House()
    answer = run(house.visit())
    name, value = run(credential(V1))
    dump = f"> GET /report HTTP/1.1\n> {name}: {value}\n>\n< HTTP/1.1 402\n<\n{answer.text}"
    paid, asked = decode(stdin=dump)
    assert checks(paid)["terms"] is True
    assert asked["where"] == "body"
    other = answer.text.replace('"10000"', '"10001"')
    paid, _ = decode(stdin=dump.replace(answer.text, other), code=5)
    assert checks(paid)["terms"] is False


# What does not hold


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_changed_credential_is_found_out(protocol: Protocol) -> None:
    """One digit of the amount, and the signature is nobody's."""
    header = run(credential(protocol))
    content = token_json(header)
    payload = content["payload"]
    (payload if protocol is MPP else payload["authorization"])["value"] = "10001"
    (one,) = decode(with_token(header, content)[1], code=5)
    assert checks(one)["signature"] is False
    assert checks(one)["terms"] is (None if protocol is V1 else False)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_expired_credential_is_said_to_be(protocol: Protocol) -> None:
    """With how long ago."""
    _, value = run(credential(protocol, valid_before=int(NOW) - 180))
    (one,) = decode(value, code=5)
    (window,) = [check for check in one["checks"] if check["name"] == "window"]
    assert window == {"name": "window", "ok": False, "detail": "expired 3 min ago"}


def test_both_derivations_of_an_mpp_nonce_are_told_apart() -> None:
    """The draft's, pympp's, and none."""

    async def asked() -> Asked:
        return await House().ask(MPP)

    ask = run(asked())
    assert ask.challenge is not None
    drafts, pympps = challenge_hashes(ask.challenge)
    payment = sign(ask, PAYER, NOW)
    for nonce, said in ((drafts, "by the draft"), (pympps, "as pympp makes it")):
        signed = resign(payment, ask.offer.asset, nonce="0x" + nonce.hex())
        (one,) = decode(envelope(signed, ask)[1])
        (check,) = [check for check in one["checks"] if check["name"] == "nonce"]
        assert check["ok"] is True
        assert said in check["detail"]
    header = envelope(payment, ask)
    content = token_json(header)
    content["payload"]["nonce"] = "0x" + "11" * 32
    (one,) = decode(with_token(header, content)[1], code=5)
    assert checks(one)["nonce"] is False


def test_a_digest_is_held_against_the_body(tmp_path: Path) -> None:
    """Where it is given, as text or as a file; else it is left open."""
    house = House({"POST /report": "0.01"})
    body = b'{"city":"Oslo"}'
    answer = run(house.visit("POST", "/report", [("Content-Type", "application/json")], body))
    challenge = answer.headers["WWW-Authenticate"]
    file = tmp_path / "body.json"
    file.write_bytes(body)
    assert checks(decode(challenge)[0])["digest"] is None
    assert checks(decode(challenge, "--body", body.decode())[0])["digest"] is True
    assert checks(decode(challenge, "--body", f"@{file}")[0])["digest"] is True
    assert checks(decode(challenge, "--body", "{}", code=5)[0])["digest"] is False


def test_a_challenge_out_of_form_is_said_to_be() -> None:
    """Not canonical, expired, and without its parameters."""
    request = b64_encode(b'{"currency": "usd", "amount": "1"}').rstrip("=")
    challenge = (
        f'Payment id="x", realm="r", method="m", intent="charge", request="{request}", expires="2020-01-01T00:00:00Z"'
    )
    (one,) = decode(challenge, code=5)
    assert checks(one) == {"id": None, "expires": False, "request": False}
    (one,) = decode('Payment realm="r"', code=5)
    assert checks(one)["parameters"] is False


def test_a_token_with_another_domain_is_said_to_be() -> None:
    """Of the tokens that are known: a signature under another domain is void."""
    answer = run(House().visit())
    required = json.loads(answer.text)
    required["accepts"][0]["extra"]["name"] = "USD Coin"
    (one,) = decode(json.dumps(required), code=5)
    assert checks(one) == {"token": False}


# Secrets and garbage


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_signatures_are_hidden_unless_asked_for(protocol: Protocol) -> None:
    """In the table and in JSON."""
    header = run(credential(protocol))
    payload = token_json(header)["payload"]
    signature = payload["signature"]
    for more in ([], ["--json"]):
        hidden = CliRunner().invoke(main, ["decode", *more, header[1]])
        assert signature not in hidden.output
        assert signature[2:] not in hidden.output
        shown = CliRunner().invoke(main, ["decode", "--show-signatures", *more, header[1]])
        assert signature in shown.output
        assert hidden.exit_code == shown.exit_code == 0


def test_a_signed_transaction_is_hidden_too() -> None:
    """Solana's payload is one; a receipt's transaction is not."""
    payload = {"x402Version": 2, "accepted": {"network": "solana:x"}, "payload": {"transaction": "c2VjcmV0"}}
    (one,) = decode(json.dumps(payload))
    assert "c2VjcmV0" not in json.dumps(one)
    assert checks(one) == {"form": None}


@pytest.mark.parametrize("name", foreign.ENTRIES)
def test_what_only_v2_can_carry_is_read(name: str) -> None:
    """As far as it goes, and left to its facilitator to judge; what could be spent is hidden."""
    value = x402_v2.encode_payment_payload(foreign.wire(name))
    (one,) = decode(value)
    assert checks(one) == {"form": None}
    assert "5e5e5e5e" not in json.dumps(one)
    if name in ("permit2", "upto"):
        assert facts(one)["from"].lower() == foreign.samples.PAYER.lower()
        assert facts(one)["amount"] == "10000 (0.01 USDC)"
    if name == "solana":
        assert foreign.payload_of(name)["transaction"] not in json.dumps(one)


@pytest.mark.parametrize(
    ("paste", "said"),
    [
        ("", "nothing was given"),
        ("hello", "no header, JSON or base64"),
        ('{"a":1}', "no message of a payment protocol"),
        ("eyJhIjoxfQ==", "no message of a payment protocol"),
        ('{"x402Version":', "begins like JSON"),
        ("X-PAYMENT: !!!", "X-PAYMENT is not base64"),
        ("PAYMENT-REQUIRED: e30x", "PAYMENT-REQUIRED is not base64 of a JSON object"),
        ("Authorization: Bearer abc", "none of these headers"),
        ("WWW-Authenticate: Basic realm=x", "none of these headers"),
        ('Payment id="x', "does not end"),
        ("HTTP/1.1 200 OK\n\n{}", "none of these headers"),
        ("\x1b[31mred", "no header, JSON or base64"),
    ],
)
def test_garbage_is_refused_with_its_reason(paste: str, said: str) -> None:
    """In one line, without a traceback and without repeating what was pasted."""
    ran = CliRunner().invoke(main, ["decode", "-"], input=paste)
    assert ran.exit_code == 1
    assert said in ran.output
    assert ran.output.startswith("Error: cannot be read: ")
    assert "\x1b" not in ran.output


def test_what_somebody_wrote_cannot_write_to_the_terminal() -> None:
    """Control characters are shown as question marks."""
    required = {"x402Version": 1, "error": "\x1b]0;owned\x07", "accepts": []}
    ran = CliRunner().invoke(main, ["decode", json.dumps(required)])
    assert "\x1b" not in ran.output
    assert "\x07" not in ran.output


def test_one_bad_header_spoils_no_other() -> None:
    """In a dump each is shown, with what is wrong with it."""
    answer = run(House().visit())
    dump = f"HTTP/1.1 402\nPAYMENT-REQUIRED: ???\nX-PAYMENT-REQUIRED: {answer.headers['X-PAYMENT-REQUIRED']}\n"
    bad, good = decode(stdin=dump, code=5)
    assert checks(bad) == {"form": False}
    assert facts(good)["amount"] == "10000 (0.01 USDC)"


def test_nothing_but_a_refusal_comes_of_anything() -> None:
    """Three thousand broken pastes: each is explained or refused."""
    answer = run(House().visit())
    good = [f"{name}: {value}" for name, value in answer.headers.multi_items()] + [answer.text]
    good += [f"{name}: {value}" for name, value in (run(credential(protocol)) for protocol in PROTOCOLS)]
    good += [json.dumps(token_json(run(credential(protocol)))) for protocol in PROTOCOLS]
    chance = random.Random(7)
    for _ in range(3_000):
        text = chance.choice(good)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(text) + 1)
            match chance.randrange(4):
                case 0:
                    text = text[:at] + chance.choice('{}[]",:=\\\x00é0-\n') + text[at:]
                case 1:
                    text = text[:at] + text[at + chance.randrange(1, 9) :]
                case 2:
                    text = text[:at] + chance.choice(["null", "-1", "1e999", "[[[[", '"x":{}', "NaN"]) + text[at + 4 :]
                case _:
                    text = text[:at] + text[:at][-40:] + text[at:]
        try:
            explain(text, NOW)
        except MalformedError:
            continue


def test_a_table_fits_into_80_columns() -> None:
    """But for hashes, URLs and the like, which are left whole to be copied."""
    answer = run(House().visit())
    ran = CliRunner().invoke(main, ["decode", "-"], input=answer.text)
    long = [line for line in ran.stdout.splitlines() if len(line) > 80 and " " in line.strip().partition(": ")[2]]
    assert long == []


def test_a_failed_settlement_is_told_with_its_reason() -> None:
    """The example of x402's own HTTP text (transports-v2/http)."""
    value = (
        "eyJzdWNjZXNzIjpmYWxzZSwiZXJyb3JSZWFzb24iOiJpbnN1ZmZpY2llbnRfZnVuZHMiLCJ0cmFuc2FjdGlvbiI6IiIsIm5ldHdvcmsiOiJl"
        "aXAxNTU6ODQ1MzIiLCJwYXllciI6IjB4ODU3YjA2NTE5RTkxZTNBNTQ1Mzg3OTFiRGJiMEUyMjM3M2UzNmI2NiJ9"
    )
    (one,) = decode(value, code=5)
    assert one["form"] == "x402 v2 receipt"
    assert [check["detail"] for check in one["checks"]] == ["insufficient_funds"]
