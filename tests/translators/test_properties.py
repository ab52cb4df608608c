"""What holds for every value: nothing is lost on the way out and in, nor from one protocol to the next."""

from typing import Any

import msgspec
import pytest
from coincurve import PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.translators.samples import CHALLENGE_KEY, NOW, REALM, ROUTE, address_of, sign
from translators import mpp, x402
from translators.binding import challenge_hashes, check_challenge_id
from translators.checks import check_payment
from translators.networks import V1_NETWORKS
from translators.payment import (
    Asset,
    Authorization,
    ChallengeBinding,
    Offer,
    Payment,
    Protocol,
    Resource,
    ResourceBinding,
)
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
maybe = st.none() | text
integers = st.integers(-(10**40), 10**40)
json_values = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(text, json_values, max_size=4)
raw = objects.map(lambda value: msgspec.Raw(msgspec.json.encode(value)))
# A header carries Latin-1 without control characters (RFC 9110, section 5.5).
printable = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=30)

addresses = st.binary(min_size=20, max_size=20).map(lambda value: "0x" + value.hex())
words = st.binary(min_size=32, max_size=32).map(lambda value: "0x" + value.hex())
amounts = st.integers(1, 2**256 - 1)
keys = st.integers(1, 2**255).map(PrivateKey.from_int)
offers = st.builds(
    Offer,
    asset=st.builds(Asset, st.sampled_from(sorted(V1_NETWORKS.values())), addresses, st.integers(0, 36), text, text),
    amount=amounts,
    recipient=addresses,
    max_timeout_seconds=st.integers(0, 2**31),
)

CODECS: dict[str, tuple[Any, Any, st.SearchStrategy[Any]]] = {
    "v1 challenge": (
        x402_v1.encode_payment_required,
        x402_v1.decode_payment_required,
        st.builds(
            x402_v1.PaymentRequirementsResponse,
            x402_version=st.just(1),
            error=maybe,
            accepts=st.lists(objects, max_size=3),
        ),
    ),
    "v1 credential": (
        x402_v1.encode_payment_payload,
        x402_v1.decode_payment_payload,
        st.builds(x402_v1.PaymentPayload, x402_version=st.just(1), scheme=text, network=text, payload=raw),
    ),
    "v1 receipt": (
        x402_v1.encode_settlement_response,
        x402_v1.decode_settlement_response,
        st.builds(
            x402_v1.SettlementResponse,
            success=st.booleans(),
            transaction=text,
            network=text,
            payer=maybe,
            error_reason=maybe,
        ),
    ),
    "v2 challenge": (
        x402_v2.encode_payment_required,
        x402_v2.decode_payment_required,
        st.builds(
            x402_v2.PaymentRequired,
            x402_version=st.just(2),
            error=maybe,
            resource=st.none() | objects,
            accepts=st.lists(objects, max_size=3),
            extensions=st.none() | objects,
        ),
    ),
    "v2 credential": (
        x402_v2.encode_payment_payload,
        x402_v2.decode_payment_payload,
        st.builds(
            x402_v2.PaymentPayload,
            x402_version=st.just(2),
            resource=st.none() | objects,
            accepted=objects,
            payload=raw,
            extensions=st.none() | objects,
        ),
    ),
    "v2 receipt": (
        x402_v2.encode_settlement_response,
        x402_v2.decode_settlement_response,
        st.builds(
            x402_v2.SettlementResponse,
            success=st.booleans(),
            transaction=text,
            network=text,
            payer=maybe,
            amount=maybe,
            error_reason=maybe,
            extensions=st.none() | objects,
        ),
    ),
    "mpp credential": (
        mpp_wire.encode_credential,
        mpp_wire.decode_credential,
        st.builds(
            mpp_wire.Credential,
            challenge=st.builds(
                mpp_wire.Challenge,
                id=text,
                realm=text,
                method=text,
                intent=text,
                request=text,
                expires=maybe,
                digest=maybe,
                description=maybe,
                opaque=maybe,
                header=maybe,
            ),
            payload=raw,
            source=maybe,
        ),
    ),
    "mpp challenge": (
        mpp_wire.encode_challenge,
        lambda line: mpp_wire.decode_challenges([line])[0],
        st.builds(
            mpp_wire.Challenge,
            id=printable.filter(bool),
            realm=printable,
            method=printable,
            intent=printable,
            request=printable,
            expires=st.none() | printable,
            digest=st.none() | printable,
            description=st.none() | printable,
            opaque=st.none() | printable,
            header=st.none() | printable,
        ),
    ),
    "mpp receipt": (
        mpp_wire.encode_receipt,
        mpp_wire.decode_receipt,
        st.builds(
            mpp_wire.Receipt,
            status=text,
            method=text,
            timestamp=text,
            reference=text,
            challenge_id=maybe,
            chain_id=st.none() | integers,
            external_id=maybe,
        ),
    ),
    "mpp evm charge": (
        mpp_wire.encode_charge_request,
        mpp_wire.decode_charge_request,
        st.builds(
            mpp_wire.ChargeRequest,
            amount=text,
            currency=text,
            recipient=text,
            method_details=st.builds(
                mpp_wire.EvmMethodDetails,
                chain_id=st.integers(1, 2**53),
                credential_types=st.none() | st.lists(text, max_size=3),
                decimals=st.none() | st.integers(0, 255),
                permit2_address=maybe,
                splits=st.none() | st.lists(st.dictionaries(text, text, max_size=2), max_size=2),
            ),
            description=maybe,
            external_id=maybe,
        ),
    ),
    "mpp opaque": (mpp_wire.encode_opaque, mpp_wire.decode_opaque, st.dictionaries(text, text, max_size=4)),
    "mpp payload": (
        mpp_wire.encode_payload,
        mpp_wire.decode_payload,
        st.builds(
            mpp_wire.AuthorizationPayload,
            from_=text,
            to=text,
            value=text,
            valid_after=text,
            valid_before=text,
            nonce=text,
            signature=text,
        ),
    ),
}


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.data())
def test_what_is_written_is_read(codec: str, data: st.DataObject) -> None:
    """decode(encode(x)) == x, and encoding what was decoded gives the same bytes, for every codec."""
    encode, decode, values = CODECS[codec]
    value = data.draw(values)
    encoded = encode(value)
    assert decode(encoded) == value
    assert encode(decode(encoded)) == encoded


@st.composite
def paid_offers(draw: st.DrawFn) -> tuple[Offer, Authorization]:
    offer = draw(offers)
    key = draw(keys)
    unsigned = Authorization(
        address_of(key),
        offer.recipient,
        offer.amount,
        draw(st.integers(0, NOW - 1)),
        draw(st.integers(NOW + 6, 2**256 - 1)),
        draw(words),
        b"",
    )
    return offer, sign(unsigned, offer.asset, key)


@given(paid_offers(), text)
def test_an_authorization_survives_every_envelope(paid: tuple[Offer, Authorization], url: str) -> None:
    """x402 v1 to Payment to v2 to Payment to MPP: the same authorization, one id, accepted at each step."""
    offer, authorization = paid
    accepted = msgspec.to_builtins(x402.to_requirements_v2(offer))
    origin = Payment(Protocol.X402_V1, offer.asset.chain_id, offer.asset.address, authorization, ResourceBinding())
    v1_header = x402_v1.encode_payment_payload(x402.to_payload_v1(origin))
    first = x402.from_payload_v1(x402_v1.decode_payment_payload(v1_header), [offer])
    v2_header = x402_v2.encode_payment_payload(x402.to_payload_v2(first, accepted, {"url": url}))
    v2_payload = x402_v2.decode_payment_payload(v2_header)
    second = x402.from_payload_v2(v2_payload)
    x402.check_accepted(v2_payload, offer)
    challenge = mpp.to_challenge(
        mpp.encoded_request(offer), keys=[CHALLENGE_KEY], realm=REALM, route=ROUTE, nonce="n", expires=NOW + 60
    )
    token = mpp_wire.encode_credential(mpp.to_credential(second, challenge))
    carried = mpp_wire.decode_payload(mpp_wire.decode_credential(token).payload)
    third = x402.from_payload_v2(x402_v2.PaymentPayload(x402_version=2, accepted=accepted, payload=as_x402(carried)))
    assert first == origin
    assert second.binding == ResourceBinding(url)
    assert first.authorization == second.authorization == third.authorization == authorization
    assert first.id == second.id == third.id
    for payment in (first, second, third):
        assert check_payment(payment, [offer], NOW) == offer


def as_x402(payload: mpp_wire.AuthorizationPayload) -> msgspec.Raw:
    members = msgspec.to_builtins(payload)
    del members["type"]
    return msgspec.Raw(msgspec.json.encode({"signature": members.pop("signature"), "authorization": members}))


@given(offers, keys, st.integers(0, 1), text.filter(lambda route: "\x00" not in route), printable)
def test_an_mpp_payment_moves_to_x402(offer: Offer, key: PrivateKey, form: int, route: str, description: str) -> None:
    """A challenge is issued, sent, answered in either form of the nonce, recognised, and moved to x402."""
    issued = mpp.to_challenge(
        mpp.encoded_request(offer),
        keys=[CHALLENGE_KEY],
        realm=REALM,
        route=route,
        nonce="n",
        expires=NOW + 60,
        description=description,
    )
    (received,) = mpp_wire.decode_challenges([mpp_wire.encode_challenge(issued)])
    terms = mpp.from_charge_request(
        mpp_wire.decode_charge_request(received.request), offer.asset.name, offer.asset.version
    )
    assert replace(terms.asset, symbol=offer.asset.symbol) == offer.asset
    nonce = "0x" + challenge_hashes(received)[form].hex()
    unsigned = Authorization(address_of(key), terms.recipient, terms.amount, 0, NOW + 60, nonce, b"")
    signed = sign(unsigned, terms.asset, key)
    sent = Payment(
        Protocol.MPP,
        offer.asset.chain_id,
        offer.asset.address,
        signed,
        ChallengeBinding(received.id, received.realm, None, "n"),
    )
    credential = mpp_wire.decode_credential(mpp_wire.encode_credential(mpp.to_credential(sent, received)))
    check_challenge_id([CHALLENGE_KEY], credential.challenge)
    mpp.check_route(credential.challenge, REALM, route)
    payment = mpp.from_credential(credential)
    assert payment == sent
    assert check_payment(payment, [offer], NOW) == offer
    moved = x402.from_payload_v1(x402.to_payload_v1(payment), [offer])
    assert (moved.authorization, moved.id) == (payment.authorization, payment.id)


@given(offers, text)
def test_offers_come_back_from_requirements(offer: Offer, url: str) -> None:
    """What x402 says of an offer is the offer, but for decimals and symbol, which are not on its wire."""
    known = replace(offer, asset=replace(offer.asset, decimals=0, symbol=""))
    v1 = msgspec.to_builtins(x402.to_requirements_v1(offer, Resource(url)))
    v2 = msgspec.to_builtins(x402.to_requirements_v2(offer))
    assert x402.from_requirements_v1(x402_v1.decode_requirements(v1, "it")) == known
    assert x402.from_requirements_v2(x402_v2.decode_requirements(v2, "it")) == known
