"""Foreign proofs: which terms may be offered, what a payment is known by, and what is refused without a chain."""

import copy
import json
from typing import Any

import msgspec
import pytest

from tests.translators import foreign_samples as foreign
from tests.translators import samples
from tests.translators.foreign_samples import ENTRIES, NOW, offer, permit2, transaction, wire
from translators import mpp, x402
from translators.checks import check_terms, check_window
from translators.encoding import b64_encode, b64url_encode
from translators.errors import (
    MalformedError,
    MethodUnsupported,
    PaymentError,
    PaymentExpired,
    PaymentInsufficient,
    VerificationFailed,
)
from translators.foreign import (
    EXACT_PERMIT2_PROXY,
    NEVER,
    X402Only,
    find_foreign_offer,
    from_foreign_payload,
    requirements_of,
    to_foreign_offer,
)
from translators.payment import Payment, Protocol, Settlement, is_foreign, network_of
from translators.price import PriceError
from translators.solana import base58_encode

names = pytest.mark.parametrize("name", ENTRIES)


def changed(name: str, **changes: Any) -> dict[str, Any]:
    """An entry with other members; None takes one away, a dotted name reaches into `extra`."""
    entry = copy.deepcopy(ENTRIES[name])
    for path, value in changes.items():
        place, member = (entry.setdefault("extra", {}), path[6:]) if path.startswith("extra_") else (entry, path)
        if value is None:
            place.pop(member, None)
        else:
            place[member] = value
    return entry


def read(name: str, payload: Any = None, **more: Any) -> Payment:
    """A payload as a server reads it."""
    message = wire(name, payload, **more)
    found = find_foreign_offer(message, [samples.OFFER, *map(offer, ENTRIES)])
    assert found is not None
    return from_foreign_payload(message, found)


# What may be offered


@names
def test_an_entry_is_offered_as_it_is(name: str) -> None:
    """Every member of the owner's entry stands in v2's `accepts`, after the others, and nowhere else."""
    offers = [samples.OFFER, offer(name)]
    required = x402.to_payment_required_v2(offers, samples.RESOURCE, None)
    assert required.accepts[1] == ENTRIES[name] == requirements_of(offers[1].foreign)
    v1 = x402.to_payment_required_v1(offers, samples.RESOURCE, None)
    assert v1.accepts == x402.to_payment_required_v1(offers[:1], samples.RESOURCE, None).accepts
    with pytest.raises(AssertionError):
        mpp.to_charge_request(offers[1])


@names
def test_an_offer_has_the_neutral_fields(name: str) -> None:
    """What events and the journal say of it."""
    found, entry = offer(name), ENTRIES[name]
    assert (found.network, str(found.amount), found.recipient) == (entry["network"], entry["amount"], entry["payTo"])
    assert found.asset.chain_id == (84532 if name in ("permit2", "upto", "erc7710") else 0)
    assert hash(found)


BAD_ENTRIES: dict[str, tuple[dict[str, Any], str]] = {
    "EIP-3009": (changed("permit2", extra_assetTransferMethod="eip3009"), "every protocol"),
    "no transfer method": (changed("permit2", extra_assetTransferMethod=None), "every protocol"),
    "an unknown transfer method": (changed("permit2", extra_assetTransferMethod="magic"), "not known"),
    "an unknown scheme": (changed("permit2", scheme="batch-settlement"), "not known"),
    "upto off EVM": (changed("solana", scheme="upto"), "not known"),
    "upto by something else": (changed("upto", extra_assetTransferMethod="eip3009"), "not known"),
    "upto without a facilitator": (changed("upto", extra_facilitatorAddress=None), "facilitatorAddress"),
    "upto with half a facilitator": (changed("upto", extra_facilitatorAddress="0x12"), "facilitatorAddress"),
    "Solana without a fee payer": (changed("solana", extra_feePayer=None), "feePayer"),
    "a v1 name": (changed("permit2", network="base"), "CAIP-2"),
    "a chain id with a nought before it": (changed("permit2", network="eip155:084532"), "CAIP-2"),
    "a network with a slash": (changed("sui", network="sui:main/net"), "CAIP-2"),
    "an amount that is a number": (changed("permit2", amount=10000), "amount"),
    "an amount in dollars": (changed("permit2", amount="0.01"), "amount"),
    "nothing": (changed("permit2", amount="0"), "zero"),
    "no recipient": (changed("permit2", payTo=None), "payTo"),
    "a recipient with white space": (changed("solana", payTo="a b"), "payTo"),
    "an asset that is a name": (changed("permit2", asset="USDC"), "asset"),
    "no time": (changed("permit2", maxTimeoutSeconds=5), "maxTimeoutSeconds"),
    "too much time": (changed("permit2", maxTimeoutSeconds=2**31), "maxTimeoutSeconds"),
    "a page": (changed("permit2", extra_note="x" * 3000), "longer"),
    "what JSON cannot say": (changed("permit2", extra_note=float("nan")), "JSON"),
    "an integer beyond JSON": (changed("permit2", extra_note=2**60), "2\\*\\*53"),
}


@pytest.mark.parametrize("what", BAD_ENTRIES)
def test_an_entry_that_nobody_could_pay_is_refused(what: str) -> None:
    """When the application starts, by a `PriceError` that says why."""
    entry, said = BAD_ENTRIES[what]
    with pytest.raises(PriceError, match=said):
        to_foreign_offer(X402Only(entry))


# What a payment is


@names
def test_a_good_payload_is_a_payment(name: str) -> None:
    """Protocol, terms, identity and payer; nothing of the proof is shown."""
    signed = {"eip2612GasSponsoring": {"info": {"signature": foreign.SIGNATURE}}}
    payment = read(name, resource={"url": samples.RESOURCE.url}, extensions=signed)
    found = offer(name)
    assert payment.protocol is Protocol.X402_V2
    assert (payment.authorization.value, payment.authorization.recipient) == (found.amount, found.recipient)
    payers = {"solana": base58_encode(foreign.key("payer")), "sui": ""}
    assert payment.authorization.payer == payers.get(name, samples.PAYER)
    assert payment.network == network_of(payment.id) == found.network
    assert is_foreign(payment.id)
    assert not is_foreign(samples.payment_v2().id)
    assert payment.foreign is not None
    assert payment.foreign.moves_once == (name in ("permit2", "upto", "solana"))
    assert "5e5e5e" not in repr(payment)
    assert b64_encode(b"\x5e" * 30) not in repr(payment)


@names
def test_the_facilitator_gets_what_was_read(name: str) -> None:
    """The owner's own terms, the payload, and the client's resource and extensions."""
    payment = read(name, resource={"url": samples.RESOURCE.url}, extensions={"x": {"y": 1}})
    assert payment.foreign is not None
    assert json.loads(payment.foreign.payload) == {
        "x402Version": 2,
        "resource": {"url": samples.RESOURCE.url},
        "accepted": ENTRIES[name],
        "payload": foreign.payload_of(name),
        "extensions": {"x": {"y": 1}},
    }


IDENTITY = {
    "permit2": f"eip155:84532/permit2/{samples.PAYER}/0x{255:064x}",
    "upto": f"eip155:84532/permit2/{samples.PAYER}/0x{255:064x}",
}


@pytest.mark.parametrize("name", IDENTITY)
def test_a_permit_is_known_by_owner_and_nonce(name: str) -> None:
    """One nonce is one payment, for both schemes: Permit2 takes it once, whatever it was signed for."""
    assert read(name).id == IDENTITY[name]


SAME: dict[str, tuple[str, Any]] = {
    "permit2, nonce in hexadecimal": ("permit2", permit2(nonce="0xfF")),
    "permit2, longer hexadecimal": ("permit2", permit2(nonce="0x00fF")),
    "permit2, owner in another case": ("permit2", permit2(**{"from": "0X" + samples.PAYER[2:].upper()})),
    "permit2, another signature": ("permit2", permit2(signature="0x" + "01" * 64)),
    "permit2, another deadline": ("permit2", permit2(deadline=str(NOW + 600))),
    "permit2, more members": ("permit2", {**permit2(), "x": 1}),
    "upto, another validAfter": ("upto", permit2("upto", validAfter="7")),
    "erc7710, in another case": (
        "erc7710",
        {
            "delegationManager": "0x" + "D0" * 20,
            "permissionContext": "0X" + "5E" * 200,
            "delegator": samples.PAYER.upper().replace("X", "x"),
        },
    ),
    "solana, unpadded": ("solana", {"transaction": b64_encode(transaction()).rstrip("=")}),
    "solana, url-safe": ("solana", {"transaction": b64url_encode(transaction())}),
    "solana, signed by the facilitator": (
        "solana",
        {"transaction": b64_encode(transaction(signatures=[b"\x09" * 64, b"\x01" * 64]))},
    ),
    "solana, another signature": (
        "solana",
        {"transaction": b64_encode(transaction(signatures=[bytes(64), b"\x02" * 64]))},
    ),
    "solana, more members": ("solana", {"transaction": b64_encode(transaction()), "Transaction": "AAAA"}),
    "sui, another signature": ("sui", {**foreign.payload_of("sui"), "signature": "AA=="}),
    "sui, unpadded": ("sui", {"transaction": b64_encode(b"\x5e" * 300).rstrip("=")}),
}


@pytest.mark.parametrize("what", SAME)
def test_another_encoding_is_the_same_payment(what: str) -> None:
    """However it is written, whoever else has signed: one identity."""
    name, payload = SAME[what]
    assert read(name, payload).id == read(name).id


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("permit2", permit2(nonce="256")),
        ("permit2", permit2(**{"from": "0x" + "ab" * 20})),
        ("erc7710", {**foreign.payload_of("erc7710"), "permissionContext": "0x" + "5f" * 200}),
        ("erc7710", {**foreign.payload_of("erc7710"), "delegator": "0x" + "ab" * 20}),
        ("erc7710", {**foreign.payload_of("erc7710"), "delegationManager": "0x" + "ab" * 20}),
        ("solana", {"transaction": b64_encode(transaction(memo=b"another"))}),
        ("sui", {"transaction": b64_encode(b"\x5f" * 300)}),
    ],
)
def test_another_payment_has_another_identity(name: str, payload: Any) -> None:
    """What its chain would take beside the first one."""
    assert read(name, payload).id != read(name).id


def test_members_that_nobody_knows_are_not_handed_on() -> None:
    """What was checked is what is settled: no member, in whatever case, can mean something else to a facilitator."""
    payload = {**permit2(), "Permit2Authorization": permit2(nonce="1"), "transaction": "AAAA"}
    handed_on = read("permit2", payload).foreign
    assert handed_on is not None
    assert json.loads(handed_on.payload)["payload"] == permit2()


def test_a_proof_without_a_window_is_never_forgotten() -> None:
    """Its claim has to outlive every transaction that could carry it."""
    for name in ("erc7710", "solana", "sui"):
        assert read(name).authorization.valid_before == NEVER
    check_window(read("solana"), NOW)


def test_the_nonce_tells_one_proof_from_another() -> None:
    """It is the hash of the proof as it is handed on: the same for another encoding, another for another signature."""
    nonce = read("permit2").authorization.nonce
    assert read("permit2", permit2(nonce="0xff")).authorization.nonce == nonce
    assert read("permit2", permit2(signature="0x" + "01" * 65)).authorization.nonce != nonce


# What is refused


REFUSED: dict[str, tuple[str, Any, type[PaymentError], str | None]] = {
    "another recipient": (
        "permit2",
        permit2(to="0x" + "ab" * 20),
        VerificationFailed,
        "invalid_permit2_recipient_mismatch",
    ),
    "another token": ("permit2", permit2(token="0x" + "ab" * 20), VerificationFailed, "permit2_token_mismatch"),
    "too little": ("permit2", permit2(amount="9999"), PaymentInsufficient, "permit2_amount_mismatch"),
    "too much": ("permit2", permit2(amount="10001"), VerificationFailed, "permit2_amount_mismatch"),
    "more than upto says": ("upto", permit2("upto", amount="10001"), VerificationFailed, "permit2_amount_mismatch"),
    "another spender": ("permit2", permit2(spender="0x" + "ab" * 20), VerificationFailed, "invalid_permit2_spender"),
    "the other scheme's spender": (
        "upto",
        permit2("upto", spender=EXACT_PERMIT2_PROXY),
        VerificationFailed,
        "invalid_permit2_spender",
    ),
    "another facilitator": (
        "upto",
        permit2("upto", facilitator="0x" + "ab" * 20),
        VerificationFailed,
        "upto_facilitator_mismatch",
    ),
    "no facilitator": ("upto", permit2("upto", facilitator=None), MalformedError, None),
    "a nonce beyond 256 bits": ("permit2", permit2(nonce=str(2**256)), MalformedError, None),
    "a hexadecimal nonce beyond 256 bits": ("permit2", permit2(nonce="0x1" + "0" * 64), MalformedError, None),
    "a nonce that is a number": ("permit2", permit2(nonce=255), MalformedError, None),
    "no signature": ("permit2", {**permit2(), "signature": "0x"}, MalformedError, None),
    "an EIP-3009 payload": ("permit2", {"signature": "0x00", "authorization": {}}, MalformedError, None),
    "nothing": ("permit2", {}, MalformedError, None),
    "no context": ("erc7710", {**foreign.payload_of("erc7710"), "permissionContext": "0x"}, MalformedError, None),
    "half a byte": ("erc7710", {**foreign.payload_of("erc7710"), "permissionContext": "0x5"}, MalformedError, None),
    "bytes after a transaction": (
        "solana",
        {"transaction": b64_encode(transaction(after=b"\0"))},
        MalformedError,
        None,
    ),
    "half a transaction": ("solana", {"transaction": b64_encode(transaction()[:-1])}, MalformedError, None),
    "a signature too few": (
        "solana",
        {"transaction": b64_encode(transaction(signatures=[bytes(64)]))},
        MalformedError,
        None,
    ),
    "a count in too many bytes": (
        "solana",
        {"transaction": b64_encode(transaction(count=b"\x82\x00"))},
        MalformedError,
        None,
    ),
    "a count beyond any": (
        "solana",
        {"transaction": b64_encode(transaction(count=b"\xff\xff\xff"))},
        MalformedError,
        None,
    ),
    "a transaction of a page": (
        "solana",
        {"transaction": b64_encode(transaction(memo=b"x" * 127, signatures=[bytes(64)] * 16))},
        MalformedError,
        None,
    ),
    "no base64": ("solana", {"transaction": "*"}, MalformedError, None),
    "another type": ("sui", [1], MalformedError, None),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_payload_for_something_else_is_refused(what: str) -> None:
    """Without a chain, and with x402's word for it."""
    name, payload, error, reason = REFUSED[what]
    with pytest.raises(error) as caught:
        read(name, payload)
    assert reason is None or caught.value.reason == reason


@pytest.mark.parametrize(
    "accepted",
    [
        changed("permit2", amount="9999"),
        changed("permit2", payTo="0x" + "ab" * 20),
        changed("permit2", asset="0x" + "ab" * 20),
        changed("permit2", maxTimeoutSeconds=61),
        changed("permit2", extra_version="1"),
        changed("upto", extra_facilitatorAddress="0x" + "ab" * 20),
        changed("solana", payTo="Another"),
        changed("solana", payTo=ENTRIES["solana"]["payTo"].lower()),
    ],
)
def test_a_changed_echo_is_refused(accepted: dict[str, Any]) -> None:
    """x402 v2, section 5.2: the client takes the terms as they are."""
    with pytest.raises(VerificationFailed) as caught:
        find_foreign_offer(wire("permit2", accepted=accepted), [*map(offer, ENTRIES)])
    assert caught.value.reason == "invalid_payment_requirements"


@pytest.mark.parametrize(
    "accepted",
    [
        changed("permit2", payTo="0x" + samples.RECIPIENT[2:].upper()),
        changed("permit2", extra_more=1),
        changed("permit2", extra_name=None),
        {**ENTRIES["permit2"], "unknown": None},
    ],
)
def test_an_echo_may_be_written_otherwise(accepted: dict[str, Any]) -> None:
    """Case of addresses, members of `extra` added or left out, as for every other offer."""
    assert find_foreign_offer(wire("permit2", accepted=accepted), [offer("permit2")]) == offer("permit2")


@pytest.mark.parametrize(
    "accepted",
    [
        changed("permit2", extra_assetTransferMethod="eip3009"),
        changed("permit2", extra_assetTransferMethod=["permit2"]),
        changed("permit2", scheme="upto"),
        changed("permit2", network="eip155:1"),
        x402.to_requirements_v2(samples.OFFER),
    ],
)
def test_another_echo_is_not_taken_for_it(accepted: Any) -> None:
    """It is for the other offers to say what is wrong."""
    echo = msgspec.to_builtins(accepted)
    assert find_foreign_offer(wire("permit2", accepted=echo), [samples.OFFER, offer("permit2")]) is None


def test_an_authorization_does_not_take_up_foreign_terms() -> None:
    """In no protocol: an offer of Permit2 is not paid by EIP-3009, even where everything else agrees."""
    with pytest.raises(MethodUnsupported):
        check_terms(samples.payment_v2(), [offer("permit2")])
    with pytest.raises(MethodUnsupported):
        x402.from_payload_v1(x402.to_payload_v1(samples.payment_v1()), [offer("permit2")])


def test_the_window_is_the_permits() -> None:
    """From `validAfter` to the deadline."""
    check_window(read("permit2"), NOW)
    with pytest.raises(PaymentExpired):
        check_window(read("permit2"), NOW + 60)
    with pytest.raises(VerificationFailed):
        check_window(read("permit2", permit2(validAfter=str(NOW + 30))), NOW)


# What comes of it


@names
def test_receipts_are_in_x402s_words(name: str) -> None:
    """Network and payer as the client knows them; no payer where none could be read."""
    payment = read(name)
    settlement = Settlement(
        payment_id=payment.id,
        protocol=payment.protocol,
        chain_id=payment.chain_id,
        asset=payment.asset,
        amount=payment.authorization.value,
        payer=payment.authorization.payer,
        recipient=payment.authorization.recipient,
        transaction="5" * 88,
        settled_at=1.0,
    )
    settled = x402.to_settlement_response_v2(settlement)
    failed = x402.to_failed_settlement_v2(payment, "insufficient_funds")
    assert settled.network == failed.network == ENTRIES[name]["network"]
    assert settled.payer == failed.payer
    assert (settled.payer or "").lower() == payment.authorization.payer.lower()
    assert (settled.payer is None) == (name == "sui")
