"""From each wire to the vocabulary and on to the others: what moves money is the same everywhere."""

import json
from dataclasses import dataclass

import msgspec
import pytest
from msgspec.structs import replace

from tests.translators.samples import (
    CHALLENGE_KEY,
    NOW,
    OFFER,
    PAYER,
    REALM,
    RECIPIENT,
    RESOURCE,
    ROUTE,
    SETTLEMENT,
    TRANSACTION,
    USDC,
    authorization,
    challenge,
    credential_header_mpp,
    credential_header_v1,
    credential_header_v2,
    payment_mpp,
    payment_v1,
    payment_v2,
)
from translators import mpp, x402
from translators.binding import challenge_hashes, check_challenge_id
from translators.errors import (
    InvalidChallenge,
    MalformedError,
    MethodUnsupported,
    PaymentError,
    PaymentInsufficient,
    VerificationFailed,
)
from translators.fields import checksum_address
from translators.networks import KNOWN_TOKENS
from translators.payment import Asset, ChallengeBinding, Protocol, Resource, ResourceBinding
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

ON_CELO = [token for token in KNOWN_TOKENS if token.chain_id == 42220]
UNNAMED = replace(OFFER, asset=replace(USDC, chain_id=10**9))
DOMAIN = {"name": "USDC", "version": "2"}


def test_offer_in_three_protocols() -> None:
    """One offer says the same amount, token, recipient and chain in each protocol's words."""
    v1 = x402.to_requirements_v1(OFFER, RESOURCE)
    v2 = x402.to_requirements_v2(OFFER)
    request = mpp.to_charge_request(OFFER)
    assert v1.max_amount_required == v2.amount == request.amount == "10000"
    assert v1.asset == v2.asset == request.currency == "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
    assert v1.pay_to == v2.pay_to == request.recipient == checksum_address(RECIPIENT)
    assert (v1.network, v2.network, request.method_details.chain_id) == ("base-sepolia", "eip155:84532", 84532)
    assert v1.extra == v2.extra == DOMAIN
    assert (v1.resource, v1.description, v1.mime_type) == (RESOURCE.url, "A report", "application/json")
    assert request.method_details.credential_types == ["authorization"]


def test_offer_comes_back() -> None:
    """From each protocol's words the offer is the same again, but for what that wire does not carry."""
    known = replace(OFFER, asset=replace(USDC, decimals=0, symbol=""))
    assert x402.from_requirements_v1(x402.to_requirements_v1(OFFER, RESOURCE)) == known
    assert x402.from_requirements_v2(x402.to_requirements_v2(OFFER)) == known
    from_mpp = mpp.from_charge_request(mpp.to_charge_request(OFFER), "USDC", "2")
    assert from_mpp == replace(OFFER, asset=replace(USDC, symbol=""), max_timeout_seconds=300)
    assert mpp_wire.decode_charge_request(mpp.encoded_request(OFFER)) == mpp.to_charge_request(OFFER)


def test_network_without_a_v1_name() -> None:
    """What v1 has no name for is left out of its challenge, and of nobody else's."""
    assert x402.to_requirements_v1(UNNAMED, RESOURCE) is None
    assert len(x402.to_payment_required_v1([UNNAMED, OFFER], RESOURCE, None).accepts) == 1
    assert len(x402.to_payment_required_v2([UNNAMED, OFFER], RESOURCE, None).accepts) == 2
    with pytest.raises(MethodUnsupported, match="no name"):
        x402.to_payload_v1(replace(payment_v1(), chain_id=10**9))


def test_challenges_of_x402() -> None:
    """The challenge carries error, resource and extensions where there are any, and no empty texts."""
    v2 = x402.to_payment_required_v2([OFFER], Resource("https://x/"), "why", {"bazaar": {}})
    assert (v2.error, v2.resource, v2.extensions) == ("why", {"url": "https://x/"}, {"bazaar": {}})
    v1 = x402.to_payment_required_v1([OFFER], Resource("https://x/"), "why")
    assert (v1.error, v1.accepts[0]["description"], v1.accepts[0]["mimeType"]) == ("why", "", "")


def read_v1(header: str | None = None) -> object:
    return x402.from_payload_v1(x402_v1.decode_payment_payload(header or credential_header_v1()), [OFFER])


def read_v2(header: str | None = None) -> object:
    return x402.from_payload_v2(x402_v2.decode_payment_payload(header or credential_header_v2()))


def read_mpp(header: str | None = None) -> object:
    return mpp.from_credential(mpp_wire.decode_credential(header or credential_header_mpp()))


def test_payments_are_read() -> None:
    """Each protocol's credential becomes the payment it was made from, bound to what it echoes."""
    assert read_v1() == payment_v1()
    assert read_v2() == payment_v2()
    issued = mpp_wire.decode_credential(credential_header_mpp()).challenge
    assert read_mpp() == payment_mpp(issued)
    assert read_mpp().binding == ChallengeBinding(issued.id, REALM, None, "n-1")
    assert (read_v1().protocol, read_v2().protocol, read_mpp().protocol) == tuple(Protocol)


def test_one_signature_fits_every_envelope() -> None:
    """x402 v1 to v2 to MPP and back: same authorization, same id, whatever it travels in."""
    first = read_v1()
    as_v2 = x402_v2.encode_payment_payload(
        x402.to_payload_v2(first, msgspec.to_builtins(x402.to_requirements_v2(OFFER)), {"url": RESOURCE.url})
    )
    second = read_v2(as_v2)
    credential = mpp_wire.decode_credential(mpp_wire.encode_credential(mpp.to_credential(second, challenge())))
    carried = mpp_wire.decode_payload(credential.payload)
    assert second.authorization == first.authorization
    assert (carried.from_.lower(), carried.nonce) == (PAYER, first.authorization.nonce)
    assert carried.signature == "0x" + first.authorization.signature.hex()
    assert credential.source == f"did:pkh:eip155:84532:{checksum_address(PAYER)}"
    native = read_mpp()
    assert read_v1(x402_v1.encode_payment_payload(x402.to_payload_v1(native))).authorization == native.authorization
    assert first.id == second.id == f"eip155:84532/{USDC.address}/{PAYER}/{first.authorization.nonce}"
    assert read_v1(x402_v1.encode_payment_payload(x402.to_payload_v1(native))).id == native.id != first.id


def test_id_is_canonical() -> None:
    """Case of addresses and nonce, name or CAIP-2, and the amount make no difference to the id."""
    payload = x402_v1.decode_payment_payload(credential_header_v1())
    shouting = json.loads(bytes(payload.payload))
    for member in ("from", "to", "nonce"):
        shouting["authorization"][member] = "0x" + shouting["authorization"][member][2:].upper()
    other = msgspec.structs.replace(payload, network="eip155:84532", payload=msgspec.Raw(json.dumps(shouting).encode()))
    assert x402.from_payload_v1(other, [OFFER]) == read_v1()


def test_x402_payment_is_no_native_mpp_payment() -> None:
    """A translated payment's nonce is the payer's own, and a verifier of challenges refuses it."""
    with pytest.raises(VerificationFailed, match="nonce"):
        mpp.from_credential(mpp.to_credential(payment_v1(), challenge()))


def test_mpp_payment_is_bound_to_its_challenge() -> None:
    """It cannot be written as the answer to another challenge."""
    with pytest.raises(ValueError, match="another challenge"):
        mpp.to_credential(payment_mpp(), challenge(nonce="n-2"))


@pytest.mark.parametrize("form", [0, 1])
def test_both_forms_of_the_nonce(form: int) -> None:
    """The draft's hash and that of the JSON array are accepted alike."""
    issued = challenge()
    payment = replace(
        payment_mpp(issued), authorization=authorization(nonce="0x" + challenge_hashes(issued)[form].hex())
    )
    assert mpp.from_credential(mpp.to_credential(payment, issued)).authorization == payment.authorization


@dataclass
class Bad:
    error: type[PaymentError]
    reason: str
    says: str = ".+"


REFUSED_V1 = {
    "scheme": ({"scheme": "upto"}, Bad(MethodUnsupported, "unsupported_scheme")),
    "unknown network": ({"network": "solana"}, Bad(MethodUnsupported, "invalid_network")),
    "network not offered": ({"network": "base"}, Bad(MethodUnsupported, "invalid_network")),
    "network of no form": ({"network": "eip155:base"}, Bad(MalformedError, "invalid_payload")),
    "payload": ({"payload": msgspec.Raw(b"[]")}, Bad(MalformedError, "invalid_payload")),
}


@pytest.mark.parametrize("case", REFUSED_V1)
def test_refused_v1(case: str) -> None:
    """A v1 payload for what the route does not offer is told so in x402's words."""
    changes, bad = REFUSED_V1[case]
    payload = msgspec.structs.replace(x402_v1.decode_payment_payload(credential_header_v1()), **changes)
    with pytest.raises(bad.error) as caught:
        x402.from_payload_v1(payload, [OFFER])
    assert caught.value.reason == bad.reason


ACCEPTED = msgspec.to_builtins(x402.to_requirements_v2(OFFER))
REFUSED_V2 = {
    "scheme": ({"scheme": "upto"}, Bad(MethodUnsupported, "unsupported_scheme")),
    "network": ({"network": "solana:x"}, Bad(MethodUnsupported, "invalid_network")),
    "asset": ({"asset": "USD"}, Bad(MalformedError, "invalid_payload")),
    "permit2": ({"extra": {"assetTransferMethod": "permit2"}}, Bad(MethodUnsupported, "unsupported_scheme")),
    "erc7710": ({"extra": {"assetTransferMethod": "erc7710"}}, Bad(MethodUnsupported, "unsupported_scheme")),
    "amount as a number": ({"amount": 10000}, Bad(MalformedError, "invalid_payload")),
}


@pytest.mark.parametrize("case", REFUSED_V2)
def test_refused_v2(case: str) -> None:
    """So is a v2 payload."""
    changes, bad = REFUSED_V2[case]
    payload = x402.to_payload_v2(payment_v2(), {**ACCEPTED, **changes}, None)
    with pytest.raises(bad.error) as caught:
        x402.from_payload_v2(payload)
    assert caught.value.reason == bad.reason


def test_resource_of_no_form() -> None:
    """An echoed resource has a URL that is a string, or none."""
    for resource, url in (({"url": "u"}, "u"), ({}, None), ({"url": None}, None), (None, None)):
        assert x402.from_payload_v2(x402.to_payload_v2(payment_v2(), ACCEPTED, resource)).binding.resource_url == url
    with pytest.raises(MalformedError, match="resource"):
        x402.from_payload_v2(x402.to_payload_v2(payment_v2(), ACCEPTED, {"url": 1}))


ECHOES = {
    "as offered": ({}, True),
    "addresses in lower case": ({"asset": USDC.address, "payTo": RECIPIENT}, True),
    "members added": ({"x": 1, "extra": {**DOMAIN, "y": [1]}}, True),
    "extra left out": ({"extra": None}, True),
    "null in extra": ({"extra": {"name": None, "version": "2", "assetTransferMethod": None}}, True),
    "eip3009 named": ({"extra": {**DOMAIN, "assetTransferMethod": "eip3009"}}, True),
    "network by name": ({"network": "base-sepolia"}, True),
    "scheme": ({"scheme": "upto"}, False),
    "network": ({"network": "eip155:8453"}, False),
    "unknown network": ({"network": "solana:x"}, False),
    "less": ({"amount": "9999"}, False),
    "more": ({"amount": "10001"}, False),
    "leading zero": ({"amount": "010000"}, False),
    "recipient": ({"payTo": "0x" + "01" * 20}, False),
    "asset": ({"asset": "0x" + "01" * 20}, False),
    "time": ({"maxTimeoutSeconds": 61}, False),
    "domain name": ({"extra": {"name": "USD Coin", "version": "2"}}, False),
    "domain version": ({"extra": {"name": "USDC", "version": 2}}, False),
}


@pytest.mark.parametrize("case", ECHOES)
def test_echo(case: str) -> None:
    """An echoed entry may be spelled otherwise or say more; no term may change."""
    changes, same = ECHOES[case]
    payload = x402.to_payload_v2(payment_v2(), {**ACCEPTED, **changes}, None)
    if same:
        x402.check_accepted(payload, OFFER)
    else:
        with pytest.raises(VerificationFailed) as caught:
            x402.check_accepted(payload, OFFER)
        assert caught.value.reason == "invalid_payment_requirements"


@pytest.mark.parametrize("token", ON_CELO)
def test_two_tokens_at_one_price(token: Asset) -> None:
    """v1 names no token: of two that cost the same, the one that the payer signed for is found."""
    offers = [replace(OFFER, asset=each) for each in ON_CELO]
    payload = x402_v1.PaymentPayload(
        x402_version=1,
        scheme="exact",
        network="eip155:42220",
        payload=x402.to_payload_v2(payment_v1(authorization(asset=token)), {}, None).payload,
    )
    assert x402.from_payload_v1(payload, offers).asset == token.address
    assert x402.from_payload_v1(payload, offers[::-1]).asset == token.address


BAD_ENTRIES = {
    "scheme": ({"scheme": "upto"}, MethodUnsupported),
    "network": ({"network": "solana"}, MethodUnsupported),
    "amount": ({"amount": "-1"}, MalformedError),
    "asset": ({"asset": "EUR"}, MalformedError),
    "recipient": ({"payTo": "merchant"}, MalformedError),
    "no domain": ({"extra": None}, MalformedError),
    "no version": ({"extra": {"name": "USDC"}}, MalformedError),
    "version as a number": ({"extra": {"name": "USDC", "version": 2}}, MalformedError),
    "permit2": ({"extra": {**DOMAIN, "assetTransferMethod": "permit2"}}, MethodUnsupported),
    "negative time": ({"maxTimeoutSeconds": -1}, MalformedError),
    "endless time": ({"maxTimeoutSeconds": 10**30}, MalformedError),
}


@pytest.mark.parametrize("case", BAD_ENTRIES)
def test_entry_that_cannot_be_paid(case: str) -> None:
    """A client is told which entries it cannot pay, instead of paying something else."""
    changes, error = BAD_ENTRIES[case]
    with pytest.raises(error):
        x402.from_requirements_v2(x402_v2.decode_requirements({**ACCEPTED, **changes}, "it"))


BAD_CHARGES = {
    "permit2 only": ({"credentialTypes": ["permit2"]}, MethodUnsupported),
    "no types": ({"credentialTypes": None}, MethodUnsupported),
    "splits": ({"splits": [{"recipient": RECIPIENT, "amount": "1"}]}, MethodUnsupported),
}


@pytest.mark.parametrize("case", BAD_CHARGES)
def test_charge_that_takes_no_authorization(case: str) -> None:
    """So is a client of MPP."""
    changes, error = BAD_CHARGES[case]
    request = msgspec.to_builtins(mpp.to_charge_request(OFFER))
    request["methodDetails"] |= changes
    with pytest.raises(error):
        mpp.from_charge_request(msgspec.convert(request, mpp_wire.ChargeRequest), "USDC", "2")


def test_challenge() -> None:
    """A challenge is recognised again, names its route in `opaque`, and is unlike the next one."""
    issued = challenge(description="", digest="sha-256=:x:")
    check_challenge_id([CHALLENGE_KEY], issued)
    mpp.check_route(issued, REALM, ROUTE)
    assert (issued.method, issued.intent, issued.description) == ("evm", "charge", None)
    assert issued.expires == "2027-01-15T08:01:00Z"
    assert mpp_wire.decode_opaque(issued.opaque) == {"n": "n-1", "r": ROUTE}
    assert challenge(nonce="n-2").id != challenge().id
    for realm, route in ((REALM, "POST /report"), ("other", ROUTE), (REALM, "")):
        with pytest.raises(InvalidChallenge, match="another route"):
            mpp.check_route(issued, realm, route)
    with pytest.raises(InvalidChallenge, match="another route"):
        mpp.check_route(replace(issued, opaque=None), REALM, ROUTE)


def credential(
    changes: dict[str, object] | None = None,
    request: dict[str, object] | None = None,
    source: str | None = None,
    **envelope: object,
) -> mpp_wire.Credential:
    """A credential whose payload differs by `changes`, whose terms by `request`, whose challenge by `envelope`."""
    request = request or {}
    terms = msgspec.to_builtins(mpp.to_charge_request(OFFER))
    details = {**terms["methodDetails"], **request.get("methodDetails", {})}
    encoded = mpp_wire.encode_charge_request(
        msgspec.convert({**terms, **request, "methodDetails": details}, mpp_wire.ChargeRequest)
    )
    issued = replace(challenge(), request=encoded, **envelope)
    signed = authorization(nonce="0x" + challenge_hashes(issued)[0].hex())
    made = mpp.to_credential(replace(payment_mpp(), authorization=signed), issued)
    payload = {**json.loads(bytes(made.payload)), **(changes or {})}
    return mpp_wire.Credential(challenge=issued, payload=msgspec.Raw(json.dumps(payload).encode()), source=source)


REFUSED_MPP = {
    "method": (lambda: credential(method="tempo"), Bad(MethodUnsupported, "unsupported_scheme", "evm charges")),
    "intent": (lambda: credential(intent="session"), Bad(MethodUnsupported, "unsupported_scheme", "evm charges")),
    "permit2": (
        lambda: credential({"type": "permit2"}),
        Bad(MethodUnsupported, "unsupported_scheme", "type authorization"),
    ),
    "splits": (
        lambda: credential(request={"methodDetails": {"splits": [{"recipient": RECIPIENT, "amount": "1"}]}}),
        Bad(MethodUnsupported, "unsupported_scheme", "splits"),
    ),
    "no type": (lambda: credential({"type": None}), Bad(MalformedError, "invalid_payload")),
    "nonce": (
        lambda: credential({"nonce": "0x" + "00" * 32}),
        Bad(VerificationFailed, "invalid_exact_evm_payload_signature", "nonce"),
    ),
    "nonce of no form": (lambda: credential({"nonce": "0x00"}), Bad(MalformedError, "invalid_payload")),
    "recipient": (
        lambda: credential({"to": "0x" + "01" * 20}),
        Bad(VerificationFailed, "invalid_exact_evm_payload_recipient_mismatch"),
    ),
    "less": (
        lambda: credential({"value": "9999"}),
        Bad(PaymentInsufficient, "invalid_exact_evm_payload_authorization_value_mismatch"),
    ),
    "more": (
        lambda: credential({"value": "10001"}),
        Bad(VerificationFailed, "invalid_exact_evm_payload_authorization_value_mismatch"),
    ),
    "source of another": (
        lambda: credential(source="did:pkh:eip155:84532:0x" + "01" * 20),
        Bad(VerificationFailed, "invalid_exact_evm_payload_signature", "source"),
    ),
    "source on another chain": (
        lambda: credential(source=f"did:pkh:eip155:1:{PAYER}"),
        Bad(VerificationFailed, "invalid_exact_evm_payload_signature", "source"),
    ),
}


@pytest.mark.parametrize("case", REFUSED_MPP)
def test_refused_mpp(case: str) -> None:
    """A credential that contradicts its own challenge is refused for what it contradicts."""
    make, bad = REFUSED_MPP[case]
    with pytest.raises(bad.error, match=bad.says) as caught:
        mpp.from_credential(make())
    assert caught.value.reason == bad.reason


@pytest.mark.parametrize(
    "source",
    [
        None,
        f"did:pkh:eip155:84532:{PAYER}",
        f"did:pkh:eip155:84532:{checksum_address(PAYER)}",
        "did:key:z6Mk",
        "anyone",
    ],
)
def test_source(source: str | None) -> None:
    """The payer's own DID in any case, none, or one of another method."""
    assert mpp.from_credential(credential(source=source)).authorization.payer == PAYER


def test_external_id_reaches_binding_and_receipt() -> None:
    """The merchant's reference in the challenge comes back in the receipt."""
    payment = mpp.from_credential(credential(request={"externalId": "order-1"}))
    assert mpp.to_receipt(SETTLEMENT, payment.binding).external_id == "order-1"


def test_receipts() -> None:
    """One settlement, three receipts, each in its specification's members and no others."""
    payer = checksum_address(PAYER)
    binding = ChallengeBinding("id-1", REALM)
    assert msgspec.to_builtins(x402.to_settlement_response_v1(SETTLEMENT)) == {
        "success": True,
        "transaction": TRANSACTION,
        "network": "base-sepolia",
        "payer": payer,
    }
    assert msgspec.to_builtins(x402.to_settlement_response_v2(SETTLEMENT)) == {
        "success": True,
        "transaction": TRANSACTION,
        "network": "eip155:84532",
        "payer": payer,
        "amount": "10000",
    }
    assert msgspec.to_builtins(mpp.to_receipt(SETTLEMENT, binding)) == {
        "status": "success",
        "method": "evm",
        "timestamp": "2027-01-15T08:00:00Z",
        "reference": TRANSACTION,
        "challengeId": "id-1",
        "chainId": 84532,
    }
    assert mpp.to_receipt(SETTLEMENT, None).challenge_id is None
    assert NOW == 1_800_000_000


def test_receipts_of_a_failure() -> None:
    """A failed settlement has no transaction and a reason."""
    payer = checksum_address(PAYER)
    assert msgspec.to_builtins(x402.to_failed_settlement_v1(payment_v1(), "insufficient_funds")) == {
        "success": False,
        "transaction": "",
        "network": "base-sepolia",
        "payer": payer,
        "errorReason": "insufficient_funds",
    }
    assert msgspec.to_builtins(x402.to_failed_settlement_v2(payment_v2(), "insufficient_funds")) == {
        "success": False,
        "transaction": "",
        "network": "eip155:84532",
        "payer": payer,
        "errorReason": "insufficient_funds",
    }
    unnamed = replace(payment_v1(), chain_id=10**9)
    assert x402.to_failed_settlement_v1(unnamed, "x").network == f"eip155:{10**9}"


def test_extensions_are_echoed() -> None:
    """What a client echoed in `extensions` goes on to a facilitator as it came."""
    assert read_v2().binding == ResourceBinding(RESOURCE.url, {"bazaar": {"info": {"x": 1}}})
    assert x402.to_payload_v2(read_v2(), ACCEPTED, None).extensions == {"bazaar": {"info": {"x": 1}}}
    assert x402.to_payload_v2(payment_mpp(), ACCEPTED, None).extensions is None
