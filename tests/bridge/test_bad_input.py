"""The bad-input table: one for the three protocols.

Each row says, for each protocol, the status, the problem's type and the reason (the body's `error`, and x402 v2's in
its header), or why the row cannot exist there. Of every row it must hold that nothing is settled, that the handler does
not run, that a 402 carries fresh challenges which the client could pay, that nothing is cacheable, and that nothing of
the credential comes back in the answer, the events or the log.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import pytest

from bridge.payers import Asked, read_402, sign
from tests.bridge.harness import (
    KEY,
    MPP,
    PAYER,
    PROTOCOLS,
    STRANGER,
    V1,
    V2,
    Headers,
    House,
    envelope,
    resign,
    token_json,
    with_token,
)
from translators import mpp
from translators.errors import AlreadyUsed, InsufficientFunds
from translators.payment import Asset, Offer, Payment, Protocol
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

pytestmark = pytest.mark.anyio

MARK = "d0n0tech0me"
"""Stands in every credential that is no JSON of ours, so that an echo is found."""
USDC = Asset(84532, "0x036cbd53842c5426634e7929541ec2318f3dcf7e", 6, "USDC", "2", "USDC")
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
CREDENTIAL = {V1: "X-PAYMENT", V2: "PAYMENT-SIGNATURE", MPP: "Authorization"}


class Said(NamedTuple):
    """What a client must hear."""

    status: int
    problem: str
    reason: str


class Bench:
    """One house, and a client of one protocol about to do something wrong."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.house = House({"GET /report": "0.01", "GET /other": "0.01"})

    @property
    def now(self) -> float:
        return self.house.clock()

    async def asked(self, path: str = "/report") -> Asked:
        return await self.house.ask(self.protocol, path=path)

    async def payment(self) -> tuple[Payment, Asked]:
        asked = await self.asked()
        return sign(asked, PAYER, self.now), asked

    async def good(self) -> tuple[str, str]:
        payment, asked = await self.payment()
        return envelope(payment, asked)

    async def signed_with(self, **changes: Any) -> Headers:
        """Other terms in the authorization, well signed, in an honest envelope."""
        payment, asked = await self.payment()
        return [envelope(resign(payment, USDC, **changes), asked)]

    async def with_signature(self, change: Callable[[bytes], bytes]) -> Headers:
        payment, asked = await self.payment()
        signature = change(payment.authorization.signature)
        changed = msgspec.structs.replace(payment.authorization, signature=signature)
        return [envelope(msgspec.structs.replace(payment, authorization=changed), asked)]

    async def on_terms(self, asset: Asset) -> Headers:
        """A good payment in another asset, in an envelope that says so: MPP's challenge is one that this server issued
        before the price changed."""
        payment, asked = await self.payment()
        offer = msgspec.structs.replace(asked.offer, asset=asset)
        if self.protocol is MPP:
            return [self.answer(offer)]
        moved = msgspec.structs.replace(resign(payment, asset), chain_id=asset.chain_id, asset=asset.address)
        header = envelope(moved, asked)
        if self.protocol is V1:
            return [header]
        token = token_json(header)
        token["accepted"] |= {"network": f"eip155:{asset.chain_id}", "asset": asset.address}
        return [with_token(header, token)]

    def answer(self, offer: Offer, **changes: Any) -> tuple[str, str]:
        """A credential for a genuine challenge of another offer, or one made in another way."""
        terms: dict[str, Any] = {
            "keys": [KEY],
            "realm": "localhost",
            "route": "GET /report",
            "nonce": "n",
            "expires": self.now + 300,
        }
        challenge = mpp.to_challenge(mpp.encoded_request(offer), **(terms | changes))
        asked = Asked(MPP, "", offer, challenge=challenge)
        return envelope(sign(asked, PAYER, self.now), asked)

    async def changed(self, **members: Any) -> Headers:
        """The good token with other members at its top."""
        header = await self.good()
        return [with_token(header, token_json(header) | members)]


Spoil = Callable[[Bench], Awaitable[Headers]]


class Row(NamedTuple):
    """One way to be wrong. A text in place of a `Said` tells why the row cannot exist in that protocol."""

    name: str
    spoil: Spoil
    v1: Said | str
    v2: Said | str
    mpp: Said | str

    def said(self, protocol: Protocol) -> Said | str:
        return {V1: self.v1, V2: self.v2, MPP: self.mpp}[protocol]


def raw(value: str) -> Spoil:
    """The credential header with this value, after the scheme in MPP."""

    async def spoil(bench: Bench) -> Headers:
        return [(CREDENTIAL[bench.protocol], f"Payment {value}" if bench.protocol is MPP else value)]

    return spoil


def token(content: Any) -> Spoil:
    """This JSON or these bytes as the token."""

    async def spoil(bench: Bench) -> Headers:
        return [with_token((CREDENTIAL[bench.protocol], ""), content)]

    return spoil


def signed(**changes: Callable[[Bench], Any]) -> Spoil:
    """Other terms in the signed authorization."""

    async def spoil(bench: Bench) -> Headers:
        return await bench.signed_with(**{name: value(bench) for name, value in changes.items()})

    return spoil


async def nothing(bench: Bench) -> Headers:
    return []


async def wrong_version(bench: Bench) -> Headers:
    return await bench.changed(x402Version=99)


async def other_protocols_version(bench: Bench) -> Headers:
    return await bench.changed(x402Version=1 if bench.protocol is V2 else 2)


async def unknown_scheme(bench: Bench) -> Headers:
    header = await bench.good()
    content = token_json(header)
    if bench.protocol is MPP:
        content["challenge"]["method"] = "moonbeam"
    else:
        (content if bench.protocol is V1 else content["accepted"])["scheme"] = "moonbeam"
    return [with_token(header, content)]


async def unknown_intent(bench: Bench) -> Headers:
    header = await bench.good()
    content = token_json(header)
    content["challenge"]["intent"] = "subscription"
    return [with_token(header, content)]


async def other_payload_type(bench: Bench) -> Headers:
    header = await bench.good()
    content = token_json(header)
    content["payload"]["type"] = "permit2"
    return [with_token(header, content)]


async def other_transfer_method(bench: Bench) -> Headers:
    header = await bench.good()
    content = token_json(header)
    content["accepted"]["extra"]["assetTransferMethod"] = "permit2"
    return [with_token(header, content)]


async def wrong_network(bench: Bench) -> Headers:
    headers = await bench.on_terms(Asset(8453, "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913", 6, "USD Coin", "2"))
    if bench.protocol is V1:
        return [with_token(headers[0], token_json(headers[0]) | {"network": "base"})]
    return headers


async def unknown_network(bench: Bench) -> Headers:
    header = await bench.good()
    content = token_json(header)
    if bench.protocol is MPP:
        raise AssertionError("not a row")
    (content if bench.protocol is V1 else content["accepted"])["network"] = "atlantis"
    return [with_token(header, content)]


async def wrong_asset(bench: Bench) -> Headers:
    return await bench.on_terms(Asset(84532, "0x" + "ab" * 20, 6, "Coin", "1"))


async def changed_terms(bench: Bench) -> Headers:
    header = await bench.good()
    content = token_json(header)
    content["accepted"]["maxTimeoutSeconds"] = 3600
    return [with_token(header, content)]


async def expired_challenge(bench: Bench) -> Headers:
    payment, asked = await bench.payment()
    longer = resign(payment, USDC, valid_before=int(bench.now) + 100_000)
    bench.house.clock.advance(bench.house.config.challenge_seconds + 1)
    return [envelope(longer, asked)]


async def forged_id(bench: Bench) -> Headers:
    asked = await bench.asked()
    assert asked.challenge is not None
    forged = msgspec.structs.replace(asked.challenge, id="A" * len(asked.challenge.id))
    asked = msgspec.structs.replace(asked, challenge=forged)
    return [envelope(sign(asked, PAYER, bench.now), asked)]


async def cheaper_challenge(bench: Bench) -> Headers:
    """The client writes itself a challenge of a lower price, under the id of a real one."""
    asked = await bench.asked()
    assert asked.challenge is not None
    cheap = msgspec.structs.replace(asked.offer, amount=1)
    forged = msgspec.structs.replace(asked.challenge, request=mpp.encoded_request(cheap))
    asked = msgspec.structs.replace(asked, challenge=forged, offer=cheap)
    return [envelope(sign(asked, PAYER, bench.now), asked)]


async def other_keys_challenge(bench: Bench) -> Headers:
    return [bench.answer((await bench.asked()).offer, keys=[b"another secret of at least 32 bytes"])]


async def other_realm(bench: Bench) -> Headers:
    return [bench.answer((await bench.asked()).offer, realm="elsewhere.example")]


async def other_routes(bench: Bench) -> Headers:
    asked = await bench.asked("/other")
    return [envelope(sign(asked, PAYER, bench.now), asked)]


async def other_nonce(bench: Bench) -> Headers:
    payment, asked = await bench.payment()
    header = envelope(payment, asked)
    content = token_json(header)
    other = resign(payment, USDC, nonce="0x" + "77" * 32)
    content["payload"] |= {
        "nonce": other.authorization.nonce,
        "signature": "0x" + other.authorization.signature.hex(),
    }
    return [with_token(header, content)]


async def other_source(bench: Bench) -> Headers:
    return await bench.changed(source=f"did:pkh:eip155:84532:{STRANGER.address}")


async def tampered(bench: Bench) -> Headers:
    return await bench.with_signature(lambda s: s[:10] + bytes((s[10] ^ 1,)) + s[11:])


async def high_s(bench: Bench) -> Headers:
    def twin(s: bytes) -> bytes:
        return s[:32] + (ORDER - int.from_bytes(s[32:64], "big")).to_bytes(32, "big") + bytes((55 - s[64],))

    return await bench.with_signature(twin)


async def strange_v(bench: Bench) -> Headers:
    return await bench.with_signature(lambda s: s[:64] + b"\x1d")


async def another_signer(bench: Bench) -> Headers:
    payment, asked = await bench.payment()
    return [envelope(resign(payment, USDC, signer=STRANGER), asked)]


def chain_says(error: Exception) -> Spoil:
    async def spoil(bench: Bench) -> Headers:
        def refuse(_: Payment) -> None:
            raise error

        bench.house.settler.on_verify = refuse
        return [await bench.good()]

    return spoil


def used_in(first: Protocol) -> Spoil:
    """The authorization was sent in `first` before; it is signed for an MPP challenge, so that it fits everywhere."""

    async def spoil(bench: Bench) -> Headers:
        house = bench.house
        mpp_asked, v2_asked = await house.ask(MPP), await house.ask(V2)
        payment = sign(mpp_asked, PAYER, bench.now)

        def sent(protocol: Protocol) -> tuple[str, str]:
            return envelope(payment, mpp_asked if protocol is MPP else v2_asked, protocol)

        paid = await house.visit(headers=[sent(first)])
        assert paid.status_code == 200
        return [sent(bench.protocol)]

    return spoil


async def v2_beside_v1(bench: Bench) -> Headers:
    """A good v1 header beside a v2 header that cannot be read: v2 is the one that is read."""
    good = envelope(sign(await bench.house.ask(V1), PAYER, bench.now), await bench.house.ask(V1))
    return [good, (CREDENTIAL[V2], MARK)]


def beside(*others: Protocol) -> Spoil:
    """Good credentials of several protocols in one request."""

    async def spoil(bench: Bench) -> Headers:
        return [await bench.house.credential(protocol) for protocol in (bench.protocol, *others)]

    return spoil


async def twice(bench: Bench) -> Headers:
    """Two good credentials of one protocol that differ."""
    return [await bench.good(), await bench.good()]


async def in_both_mpp_headers(bench: Bench) -> Headers:
    good = await bench.good()
    return [good, ("Payment-Authorization", good[1])]


REQUIRED = {
    V1: Said(402, "payment-required", "X-PAYMENT header is required"),
    V2: Said(402, "payment-required", "PAYMENT-SIGNATURE header is required"),
}
X402_MALFORMED = Said(400, "malformed-credential", "invalid_payload")
MPP_MALFORMED = Said(402, "malformed-credential", "invalid_payload")
MALFORMED = (X402_MALFORMED, X402_MALFORMED, MPP_MALFORMED)
SEVERAL = (Said(400, "malformed-credential", "invalid_payload"),) * 3
VERSION = Said(400, "malformed-credential", "invalid_x402_version")
SIGNATURE = (Said(402, "verification-failed", "invalid_exact_evm_payload_signature"),) * 3
RECIPIENT_MISMATCH = (Said(402, "verification-failed", "invalid_exact_evm_payload_recipient_mismatch"),) * 3
VALUE = "invalid_exact_evm_payload_authorization_value_mismatch"
EXPIRED = Said(402, "payment-expired", "invalid_exact_evm_payload_authorization_valid_before")
EARLY = Said(402, "verification-failed", "invalid_exact_evm_payload_authorization_valid_after")
SCHEME = Said(402, "method-unsupported", "unsupported_scheme")
NETWORK = Said(402, "method-unsupported", "invalid_network")
TERMS = Said(402, "verification-failed", "invalid_payment_requirements")
CHALLENGE = Said(402, "invalid-challenge", "invalid_payload")
USED = (Said(402, "invalid-challenge", "invalid_exact_evm_nonce_already_used"),) * 3

NO_CHALLENGE = "x402 has no challenge: its terms are the offer itself"
NO_ECHO = "v1 echoes nothing that could differ"
NO_VERSION = "an MPP credential has no version"
ONLY_MPP = "an envelope of MPP's own"
AGAIN = "the same envelope again is the same request, and gets the same answer: see test_gate"

TABLE = [
    Row("absent", nothing, REQUIRED[V1], REQUIRED[V2], Said(402, "payment-required", "X-PAYMENT header is required")),
    Row("empty", raw(""), *MALFORMED),
    Row("scheme alone", raw("  "), *MALFORMED),
    Row("1 MiB long", raw(MARK * (2**20 // len(MARK))), *MALFORMED),
    Row("not base64", raw(f"!{MARK}!"), *MALFORMED),
    Row("both base64 alphabets", raw(f"{MARK}+_"), *MALFORMED),
    Row("not JSON", token(b"not JSON: " + MARK.encode()), *MALFORMED),
    Row("not UTF-8", token(b'{"x402Version": "\xff' + MARK.encode() + b'"}'), *MALFORMED),
    Row("JSON nested too deeply", token(b"[" * 5000), *MALFORMED),
    Row("another JSON type", token([MARK]), *MALFORMED),
    Row("an empty object", token({}), *MALFORMED),
    Row(
        "wrong types",
        token({"x402Version": MARK, "scheme": 7, "accepted": MARK, "challenge": [MARK], "payload": MARK}),
        *MALFORMED,
    ),
    Row("payload is null", lambda b: b.changed(payload=None), *MALFORMED),
    Row("payload is empty", lambda b: b.changed(payload={}), X402_MALFORMED, X402_MALFORMED, MPP_MALFORMED),
    Row("wrong version", wrong_version, VERSION, VERSION, NO_VERSION),
    Row("the other x402 version", other_protocols_version, VERSION, VERSION, NO_VERSION),
    Row("unknown scheme or method", unknown_scheme, SCHEME, SCHEME, SCHEME._replace(status=400)),
    Row("unknown intent", unknown_intent, ONLY_MPP, ONLY_MPP, SCHEME._replace(status=400)),
    # The id covers method and intent, so what is changed is refused before the id is looked at; the payload's type is
    # outside of it.
    Row("another payload type", other_payload_type, ONLY_MPP, ONLY_MPP, SCHEME._replace(status=400)),
    Row("another transfer method", other_transfer_method, NO_ECHO, SCHEME, "MPP names no transfer method"),
    Row("wrong network", wrong_network, NETWORK, NETWORK, NETWORK._replace(status=400)),
    Row("unknown network", unknown_network, NETWORK, NETWORK, "a challenge of ours names no unknown network"),
    Row(
        "wrong asset",
        wrong_asset,
        # v1 does not say which token it means: the signature does, and it is another token's.
        SIGNATURE[0],
        TERMS,
        TERMS,
    ),
    Row("changed terms in the echo", changed_terms, NO_ECHO, TERMS, "covered by the challenge's id"),
    Row("wrong recipient", signed(recipient=lambda b: STRANGER.address), *RECIPIENT_MISMATCH),
    Row("amount one less", signed(value=lambda b: 9_999), *(Said(402, "payment-insufficient", VALUE),) * 3),
    Row("amount one more", signed(value=lambda b: 10_001), *(Said(402, "verification-failed", VALUE),) * 3),
    Row("amount zero", signed(value=lambda b: 0), *(Said(402, "payment-insufficient", VALUE),) * 3),
    Row("not yet valid", signed(valid_after=lambda b: int(b.now) + 60), EARLY, EARLY, EARLY),
    Row("expired", signed(valid_before=lambda b: int(b.now) - 1), EXPIRED, EXPIRED, EXPIRED),
    Row("about to expire", signed(valid_before=lambda b: int(b.now) + 5), EXPIRED, EXPIRED, EXPIRED),
    Row("expired challenge", expired_challenge, NO_CHALLENGE, NO_CHALLENGE, EXPIRED),
    Row("forged challenge id", forged_id, NO_CHALLENGE, NO_CHALLENGE, CHALLENGE),
    Row("cheaper challenge under a real id", cheaper_challenge, NO_CHALLENGE, NO_CHALLENGE, CHALLENGE),
    Row("a stranger's challenge", other_keys_challenge, NO_CHALLENGE, NO_CHALLENGE, CHALLENGE),
    Row("another realm's challenge", other_realm, NO_CHALLENGE, NO_CHALLENGE, CHALLENGE),
    Row("another route's challenge", other_routes, NO_ECHO, TERMS, CHALLENGE),
    Row("a nonce that is not the challenge's hash", other_nonce, NO_CHALLENGE, NO_CHALLENGE, SIGNATURE[0]),
    Row("a source that is not the payer", other_source, ONLY_MPP, ONLY_MPP, SIGNATURE[0]),
    Row("tampered signature", tampered, *SIGNATURE),
    Row("high-s signature", high_s, *SIGNATURE),
    Row("signature with a strange v", strange_v, *SIGNATURE),
    Row("another signer", another_signer, *SIGNATURE),
    Row("nonce used on the chain", chain_says(AlreadyUsed("used")), *USED),
    Row(
        "payer without funds",
        chain_says(InsufficientFunds("the payer does not hold the amount")),
        *(Said(402, "verification-failed", "insufficient_funds"),) * 3,
    ),
    Row("used before in x402 v1", used_in(V1), AGAIN, USED[1], USED[2]),
    Row("used before in x402 v2", used_in(V2), USED[0], AGAIN, USED[2]),
    Row("used before in MPP", used_in(MPP), USED[0], USED[1], AGAIN),
    Row("a good v1 beside a bad v2", v2_beside_v1, "v2 is the one that is read", X402_MALFORMED, "no MPP credential"),
    Row("two of one protocol", twice, *SEVERAL),
    Row("Authorization and Payment-Authorization", in_both_mpp_headers, ONLY_MPP, ONLY_MPP, SEVERAL[0]),
    Row("beside MPP", beside(MPP), SEVERAL[0], SEVERAL[0], "that is the row 'two of one protocol'"),
    Row("beside x402 v2", beside(V2), "that is one client hedging: see test_gate", "as before", SEVERAL[0]),
    Row("beside x402 v1", beside(V1), "as before", "that is one client hedging: see test_gate", SEVERAL[0]),
    Row("all three", beside(V2, MPP), SEVERAL[0], "as before", "as before"),
]

CASES = [
    pytest.param(row, protocol, said, id=f"{row.name} - {protocol}")
    for row in TABLE
    for protocol in PROTOCOLS
    if isinstance(said := row.said(protocol), Said)
]


@pytest.mark.parametrize(("row", "protocol", "said"), CASES)
async def test_bad_input(row: Row, protocol: Protocol, said: Said, logged: list[Any]) -> None:
    """Refused as the table says, at no cost to anybody, with a way to do better, and without an echo."""
    bench = Bench(protocol)
    house = bench.house
    headers = await row.spoil(bench)
    before = (house.runs, len(house.settler.settlements))
    answer = await house.visit(headers=headers)

    assert (answer.status_code, answer.problem) == (said.status, said.problem)
    assert reason_for(answer, protocol) == said.reason
    assert (house.runs, len(house.settler.settlements)) == before
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/problem+json"
    assert "the report" not in answer.text
    assert answer.json()["status"] == said.status
    assert answer.json()["title"]
    assert answer.json()["detail"]
    if said.status == 402:
        await check_fresh_challenges(house, answer, bench)
    else:
        for name in ("www-authenticate", "payment-required", "x-payment-required"):
            assert name not in answer.headers
    for name in ("payment-response", "x-payment-response", "payment-receipt"):
        assert name not in answer.headers

    told = str(house.told) + str(logged)
    if headers:
        rejected = house.told[-1][1]
        assert house.events[-1] == "payment.rejected"
        assert (rejected["reason"], rejected["status"]) == (said.reason, said.status)
        assert rejected["problem"] == said.problem
    for secret in secrets_of(headers):
        assert secret not in answer.text_of_everything
        assert secret not in told


@pytest.mark.parametrize(("row", "protocol", "said"), CASES)
async def test_bad_input_in_first(row: Row, protocol: Protocol, said: Said) -> None:
    """Where the money moves before the handler, the same holds."""
    bench = Bench(protocol)
    bench.house.app = House(
        {"GET /report": "0.01", "GET /other": "0.01"},
        settle="first",
        settler=bench.house.settler,
        store=bench.house.store,
        clock=bench.house.clock,
    ).app
    headers = await row.spoil(bench)
    before = len(bench.house.settler.settlements)
    answer = await bench.house.visit(headers=headers)
    assert (answer.status_code, answer.problem) == (said.status, said.problem)
    assert len(bench.house.settler.settlements) == before


def reason_for(answer: Any, protocol: Protocol) -> str:
    """The reason where a client of `protocol` looks for it."""
    if protocol is V2 and "payment-required" in answer.headers:
        required = x402_v2.decode_payment_required(answer.headers["payment-required"])
        assert required.error is not None
        return required.error
    return str(answer.json()["error"])


async def check_fresh_challenges(house: House, answer: Any, bench: Bench) -> None:
    """The answer holds challenges for everybody, and a payment of any of them would be taken."""
    ids = [challenge.id for challenge in mpp_wire.decode_challenges(answer.headers.get_list("www-authenticate"))]
    assert len(set(ids)) == 1
    assert x402_v1.decode_payment_required(answer.content).accepts
    house.settler.on_verify = None
    for protocol in PROTOCOLS:
        asked = read_402(answer, protocol)
        paid = await house.visit(headers=[envelope(sign(asked, PAYER, house.clock()), asked)])
        assert paid.status_code == 200
        house.told = house.told[:-3]


def secrets_of(headers: Headers) -> list[str]:
    """What must not come back: the tokens, signatures as they stand in them, and the mark."""
    found = [MARK]
    for name, value in headers:
        bare = value.removeprefix("Payment ").strip()
        if len(bare) < 16:
            continue
        # Half a token would tell as much.
        found += [bare[:64], bare[-64:]]
        try:
            content = token_json((name, value))
            signature = content["payload"]["signature"]
        except Exception:
            continue
        found += [signature[2:], signature[2:66], signature[66:130]]
    return found


WANTED = {
    *("absent", "empty", "1 MiB long", "not base64", "not JSON", "wrong types", "wrong version"),
    *("unknown scheme or method", "wrong network", "wrong asset", "wrong recipient", "amount one less"),
    *("amount one more", "not yet valid", "expired", "expired challenge", "forged challenge id"),
    *("another route's challenge", "tampered signature", "high-s signature", "another signer"),
    *("nonce used on the chain", "payer without funds", "used before in x402 v1", "used before in x402 v2"),
    *("used before in MPP", "a good v1 beside a bad v2", "beside MPP", "beside x402 v1", "beside x402 v2"),
}


def test_table_has_every_row_of_its_list() -> None:
    """The rows that were asked for are there, and a row exists in at least one protocol."""
    names = [row.name for row in TABLE]
    assert not WANTED - set(names)
    assert len(set(names)) == len(names)
    for row in TABLE:
        assert any(isinstance(row.said(protocol), Said) for protocol in PROTOCOLS)
