"""A seeded mutation fuzzer over valid messages of all three protocols, through everything that the core does with them.

    python -m tests.translators.fuzz --count 1000000

Nothing but a `PaymentError` may come out, and its text may hold no part of a signature. Prints counts and the rate;
exits 1 on anything else, with the message that did it.
"""

import argparse
import base64
import copy
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from tests.translators import foreign_samples, samples
from translators import mpp, x402
from translators.binding import challenge_hashes, check_challenge_id, check_digest, check_expiry, parse_time
from translators.checks import check_payment, check_window
from translators.eip3009 import authorization_digest, domain_separator
from translators.errors import MethodUnsupported, PaymentError
from translators.foreign import find_foreign_offer, from_foreign_payload
from translators.payment import Offer, Payment
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

Message = str | bytes

OFFERS = [
    samples.OFFER,
    msgspec.structs.replace(samples.OFFER, asset=msgspec.structs.replace(samples.USDC, version="1")),
]
FOREIGN_OFFERS = [foreign_samples.offer(name) for name in foreign_samples.ENTRIES]
NOW = samples.NOW
SECRETS = (samples.payment_v1().authorization.signature.hex()[8:24], "5ignature", "5e5e5e5e")

ENTRY_V1 = msgspec.to_builtins(x402.to_requirements_v1(samples.OFFER, samples.RESOURCE))
ENTRY_V2 = msgspec.to_builtins(x402.to_requirements_v2(samples.OFFER))


def as_text(message: Message) -> str:
    return message if isinstance(message, str) else message.decode("latin-1")


def check_and_forward(payment: Payment) -> None:
    """What a server does with a payment: check it, name it, and hand it on in either version's words."""
    check_payment(payment, OFFERS, NOW)
    assert payment.id.startswith("eip155:")
    x402_v1.encode_payment_payload(x402.to_payload_v1(payment))
    x402_v2.encode_payment_payload(x402.to_payload_v2(payment, ENTRY_V2, None))


def offer_is_payable(offer: Offer) -> None:
    """What a client does with an offer before it signs."""
    domain_separator(offer.asset)
    authorization_digest(
        samples.authorization(value=offer.amount, valid_before=NOW + offer.max_timeout_seconds), offer.asset
    )


def each(*steps: Callable[[], object]) -> None:
    """Run every step, whatever the ones before said; raise the first `PaymentError` afterwards."""
    first: PaymentError | None = None
    for step in steps:
        try:
            step()
        except PaymentError as error:
            first = first or error
    if first is not None:
        raise first


def run_v1_credential(message: Message) -> None:
    check_and_forward(x402.from_payload_v1(x402_v1.decode_payment_payload(message), OFFERS))


def run_v2_credential(message: Message) -> None:
    payload = x402_v2.decode_payment_payload(message)
    each(
        lambda: x402.check_accepted(payload, samples.OFFER),
        lambda: check_and_forward(x402.from_payload_v2(payload)),
        lambda: x402_v2.encode_payment_payload(payload),
    )


def run_foreign_credential(message: Message) -> None:
    payload = x402_v2.decode_payment_payload(message)
    offer = find_foreign_offer(payload, FOREIGN_OFFERS)
    if offer is None:
        raise MethodUnsupported("no foreign offer is meant")
    payment = from_foreign_payload(payload, offer)
    assert payment.foreign is not None
    # What is handed on is the same payment when it is read again.
    handed_on = x402_v2.decode_payment_payload(base64.b64encode(payment.foreign.payload)[: 16 * 1024])
    assert from_foreign_payload(handed_on, offer).id == payment.id
    check_window(payment, NOW)


def run_mpp_credential(message: Message) -> None:
    credential = mpp_wire.decode_credential(message)
    challenge = credential.challenge
    each(
        lambda: check_challenge_id([samples.CHALLENGE_KEY, samples.OLD_CHALLENGE_KEY], challenge),
        lambda: mpp.check_route(challenge, samples.REALM, samples.ROUTE),
        lambda: check_expiry(challenge, NOW),
        lambda: check_digest(challenge, samples.BODY),
        lambda: check_and_forward(mpp.from_credential(credential)),
        lambda: mpp_wire.encode_credential(credential),
    )


def run_v1_challenge(message: Message) -> None:
    body = message.encode("utf-8", "surrogatepass") if isinstance(message, str) else message
    required = x402_v1.decode_payment_required(body)
    each(
        *(
            lambda e=entry: offer_is_payable(x402.from_requirements_v1(x402_v1.decode_requirements(e, "it")))
            for entry in required.accepts
        )
    )
    x402_v1.encode_payment_required(required)


def run_v2_challenge(message: Message) -> None:
    required = x402_v2.decode_payment_required(message)
    each(
        *(
            lambda e=entry: offer_is_payable(x402.from_requirements_v2(x402_v2.decode_requirements(e, "it")))
            for entry in required.accepts
        )
    )
    x402_v2.encode_payment_required(required)


def answer(challenge: mpp_wire.Challenge) -> None:
    challenge_hashes(challenge)
    offer_is_payable(mpp.from_charge_request(mpp_wire.decode_charge_request(challenge.request), "USDC", "2"))


def run_mpp_challenge(message: Message) -> None:
    for challenge in mpp_wire.decode_challenges([as_text(message)]):
        each(
            lambda c=challenge: answer(c),
            lambda c=challenge: check_expiry(c, NOW),
            lambda c=challenge: mpp_wire.decode_opaque(c.opaque or ""),
        )


def run_mpp_receipt(message: Message) -> None:
    parse_time(mpp_wire.decode_receipt(message).timestamp)


class Target(NamedTuple):
    """A message that a stranger sends, what is done with it, and how it is packed."""

    run: Callable[[Message], None]
    seed: bytes
    packed: bool = True
    """Base64 of JSON; otherwise the text itself is mutated."""


def unpack(encoded: str) -> bytes:
    return base64.urlsafe_b64decode(encoded.replace("+", "-").replace("/", "_") + "==")


def _targets() -> dict[str, Target]:
    v1_required = x402.to_payment_required_v1(OFFERS, samples.RESOURCE, "X-PAYMENT header is required")
    v2_required = x402.to_payment_required_v2(OFFERS, samples.RESOURCE, "needed", {"bazaar": {"info": {"a": 1.5}}})
    binding = samples.payment_mpp().binding
    issued = mpp_wire.encode_challenge(samples.challenge(description='a "report"', header="Payment-Authorization"))
    folded = f'Bearer realm="x", {issued}, Negotiate YII=, {mpp_wire.encode_challenge(samples.challenge())}'
    v1_settled = x402_v1.encode_settlement_response(x402.to_settlement_response_v1(samples.SETTLEMENT))
    v2_settled = x402_v2.encode_settlement_response(x402.to_settlement_response_v2(samples.SETTLEMENT))
    mpp_settled = mpp_wire.encode_receipt(mpp.to_receipt(samples.SETTLEMENT, binding))
    return {
        "v1 challenge": Target(run_v1_challenge, x402_v1.encode_payment_required(v1_required), packed=False),
        "v1 credential": Target(run_v1_credential, unpack(samples.credential_header_v1())),
        "v1 receipt": Target(x402_v1.decode_settlement_response, unpack(v1_settled)),
        "v2 challenge": Target(run_v2_challenge, unpack(x402_v2.encode_payment_required(v2_required))),
        "v2 credential": Target(run_v2_credential, unpack(samples.credential_header_v2())),
        **{
            f"v2 {name} credential": Target(run_foreign_credential, msgspec.json.encode(foreign_samples.wire(name)))
            for name in foreign_samples.ENTRIES
        },
        "v2 receipt": Target(x402_v2.decode_settlement_response, unpack(v2_settled)),
        "mpp challenge": Target(run_mpp_challenge, folded.encode(), packed=False),
        "mpp credential": Target(run_mpp_credential, unpack(samples.credential_header_mpp())),
        "mpp receipt": Target(run_mpp_receipt, unpack(mpp_settled)),
    }


TARGETS = _targets()

SCALARS: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 2**31, 2**53, 2**53 + 1, 2**63, 2**64, 2**256, 10**77, 10**400, -(10**30)),
    *(0.5, -0.0, 1e22, 1e308, [], {}, [[]], {"": None}, [None] * 40),
    *(
        "",
        "0",
        "1",
        "-1",
        "01",
        "1e3",
        str(2**256 - 1),
        str(2**256),
        "9" * 5000,
        "0x",
        "0x" + "0" * 40,
        "0x" + "f" * 64,
    ),
    *("0x" + "zz" * 20, "\x00", "\u2028", "é☕", "\U0001f600", "|", '"', "\\", "a" * 3000, "exact", "upto", "permit2"),
    *(
        "eip155:1",
        "eip155:84532",
        "eip155:" + "9" * 30,
        "eip155:\u0661",
        "solana:x",
        "base",
        "base-sepolia",
        "evm",
        "charge",
    ),
    *("2025-01-15T12:05:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2025-13-01T00:00:00Z"),
    *("authorization", "did:pkh:eip155:1:0x", "sha-256=:AA==:", "sha-256=", "e30", "bnVsbA", "====", "W10"),
]
BYTES = [
    *(
        b"",
        b"\x00",
        b"\xff",
        b"\xed\xa0\x80",
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"=",
        b"-",
        b"_",
        b"+",
        b"/",
    ),
    *(
        b"null",
        b"1e999",
        b"NaN",
        b'"\\ud800"',
        b"\\u0000",
        b"9" * 400,
        b"[" * 64,
        b'{"a":' * 40,
        b"[" * 9000,
        b" ",
        b"\r\n",
    ),
    *(b'Payment id="', b"Basic a=b, ", b"\xc3\xa9", b"\xef\xbb\xbf", b'"x402Version":1,', b'"x402Version":2,'),
]


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """One to four edits anywhere."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data = data[:at] + bytes((rng.randrange(256),)) + data[at + 1 :]
            case 1:
                data = data[:at] + rng.choice(BYTES) + data[at:]
            case 2:
                data = data[:at] + data[at + rng.randrange(1, 20) :]
            case 3:
                data = data[:at]
            case 4:
                end = at + rng.randrange(1, 60)
                data = data[:end] + data[at:end] + data[end:]
            case _:
                data = data[:at] + rng.choice(BYTES) + data[at + rng.randrange(1, 8) :]
    return data


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key in it."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in members:
        yield value, key
        yield from places(item)


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """One or two members replaced, removed, added, or renamed; JSON inside `request` and `opaque` likewise."""
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 2))):
        found = list(places(value))
        if not found:
            break
        container, key = rng.choice(found)
        old = container[key]
        match rng.randrange(8):
            case 0 if isinstance(container, dict):
                del container[key]
            case 1 if isinstance(container, dict):
                container[rng.choice(("", "x", "type", "\x00", key.upper()))] = copy.deepcopy(rng.choice(SCALARS))
            case 2 if isinstance(old, str) and old:
                container[key] = mutate_bytes(old.encode(), rng).decode("utf-8", "replace")
            case 3 | 4 if key in ("request", "opaque") and isinstance(old, str):
                inner = rng.choice((mutate_json, mutate_bytes))
                try:
                    container[key] = base64.urlsafe_b64encode(inner(unpack(old), rng)).decode().rstrip("=")
                except (ValueError, RecursionError):
                    container[key] = copy.deepcopy(rng.choice(SCALARS))
            case _:
                container[key] = copy.deepcopy(rng.choice(SCALARS))
    return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")


def mutate(target: Target, rng: random.Random) -> Message:
    """A message near a valid one: edited as JSON, as bytes, or as the text on the wire."""
    data = target.seed
    kind = rng.randrange(10)
    if kind < 6 and data.startswith(b"{"):
        data = mutate_json(data, rng)
    elif kind < 9:
        data = mutate_bytes(data, rng)
    if target.packed:
        encode = rng.choice((base64.b64encode, base64.urlsafe_b64encode))
        data = encode(data)
        if rng.random() < 0.3:
            data = data.rstrip(b"=")
        if kind == 9:
            data = mutate_bytes(data, rng)
    if rng.random() < 0.5:
        return data
    return data.decode("utf-8", rng.choice(("replace", "surrogateescape")))


def attempt(target: Target, message: Message) -> str:
    """The outcome of one message: `accepted`, or the error's class. Raises what is neither."""
    try:
        target.run(message)
    except PaymentError as error:
        if any(secret in error.detail for secret in SECRETS) or len(error.detail) > 300:
            raise AssertionError(f"the error repeats the message: {error.detail[:300]}") from None
        return type(error).__name__
    return "accepted"


def fuzz(count: int, seed: int) -> Counter[tuple[str, str]]:
    """Run `count` messages; raises `SystemExit` at the first that comes out otherwise."""
    rng = random.Random(seed)
    names = list(TARGETS)
    outcomes: Counter[tuple[str, str]] = Counter()
    for number in range(count):
        name = names[number % len(names)]
        message = mutate(TARGETS[name], rng)
        try:
            outcomes[name, attempt(TARGETS[name], message)] += 1
        except Exception as error:
            print(f"message {number} of seed {seed}: {name} raised {error!r}\n{message!r}", file=sys.stderr)
            raise SystemExit(1) from error
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=402)
    options = parser.parse_args()
    for name, target in TARGETS.items():
        valid = target.seed if not target.packed else base64.b64encode(target.seed)
        if attempt(target, valid) != "accepted":
            raise SystemExit(f"the unchanged {name} is not accepted")
    before = time.perf_counter()
    outcomes = fuzz(options.count, options.seed)
    elapsed = time.perf_counter() - before
    for name in TARGETS:
        per_outcome = sorted(((n, what) for (target, what), n in outcomes.items() if target == name), reverse=True)
        print(f"{name:16}", ", ".join(f"{what} {n:,}" for n, what in per_outcome))
    rate = outcomes.total() / elapsed
    print(f"{outcomes.total():,} messages in {elapsed:.1f} s, {rate:,.0f} a second, seed {options.seed}")
    print("nothing but PaymentError came out")


if __name__ == "__main__":
    main()
