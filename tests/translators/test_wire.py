"""The three wires: each specification's own example is read to its members, and written back to its bytes."""

import base64
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.translators.public_vectors import BASIC, WWW_AUTHENTICATE
from translators.errors import MalformedError, PaymentError, UnsupportedVersion
from translators.wire import mpp, x402_v1, x402_v2

REQUIREMENTS_V1 = {
    "scheme": "exact",
    "network": "base-sepolia",
    "maxAmountRequired": "10000",
    "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
    "resource": "https://api.example.com/premium-data",
    "description": "Access to premium market data",
    "mimeType": "application/json",
    "outputSchema": None,
    "maxTimeoutSeconds": 60,
    "extra": {"name": "USDC", "version": "2"},
}
REQUIREMENTS_V2 = {
    "scheme": "exact",
    "network": "eip155:84532",
    "amount": "10000",
    "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
    "maxTimeoutSeconds": 60,
    "extra": {"name": "USDC", "version": "2"},
}
RESOURCE = {
    "url": "https://api.example.com/premium-data",
    "description": "Access to premium market data",
    "mimeType": "application/json",
}
EXACT = {
    "signature": "0x2d6a7588d6acca505cbf0d9a4a227e0c52c6c34008c8e8986a1283259764173608a2ce6496642e377d6da8dbbf5836e9"
    "bd15092f9ecab05ded3d6293af148b571c",
    "authorization": {
        "from": "0x857b06519E91e3A54538791bDbb0E22373e36b66",
        "to": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
        "value": "10000",
        "validAfter": "1740672089",
        "validBefore": "1740672154",
        "nonce": "0xf3746613c2d920b5fdabc0856f2aeb2d4f88ee6037b8cc5d04a71a4462f13480",
    },
}
PAYER = EXACT["authorization"]["from"]
HASH = "0x1234567890abcdef1234567890abcdef1234567890abcdef1234567890abcdef"
CHALLENGE = {
    "id": "x7Tg2pLqR9mKvNwY3hBcZa",
    "realm": "api.example.com",
    "method": "example",
    "intent": "charge",
    "request": "eyJhbW91bnQiOiIxMDAwIiwiY3VycmVuY3kiOiJVU0QiLCJyZWNpcGllbnQiOiJhY2N0XzEyMyJ9",
    "expires": "2025-01-15T12:05:00Z",
}
AUTHORIZATION = {"type": "authorization", **EXACT["authorization"], "signature": EXACT["signature"]}
CHARGE = {
    "amount": "1000000000000000000",
    "currency": "0xFAfDdbb3FC7688494971a79cc65DCa3EF82079E7",
    "methodDetails": {"chainId": 4326, "credentialTypes": ["permit2"]},
    "recipient": "0x742d35Cc6634C0532925a3b844Bc9e7595f8fE00",
}


def standard(value: object) -> str:
    return base64.b64encode(json.dumps(value, separators=(",", ":")).encode()).decode()


def unpadded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


class Wire(NamedTuple):
    """One message of one specification, and the codec that owns it."""

    decode: Callable[[Any], Any]
    encode: Callable[[Any], Any]
    pack: Callable[[object], Any]
    message: dict[str, Any]
    """As the specification's example has it, in the order that is written."""
    omitted: tuple[str, ...] = ()
    """Members of the example that are null, and that we leave out."""
    required: tuple[str, ...] = ()


WIRES = {
    "v1 challenge": Wire(
        x402_v1.decode_payment_required,
        x402_v1.encode_payment_required,
        lambda value: json.dumps(value, separators=(",", ":")).encode(),
        {"x402Version": 1, "error": "Payment required to access this resource", "accepts": [REQUIREMENTS_V1]},
        required=("x402Version", "accepts"),
    ),
    "v1 credential": Wire(
        x402_v1.decode_payment_payload,
        x402_v1.encode_payment_payload,
        standard,
        {"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": EXACT},
        required=("x402Version", "scheme", "network", "payload"),
    ),
    "v1 receipt": Wire(
        x402_v1.decode_settlement_response,
        x402_v1.encode_settlement_response,
        standard,
        {"success": True, "transaction": HASH, "network": "base-sepolia", "payer": PAYER},
        required=("success", "transaction", "network"),
    ),
    "v1 receipt of a failure": Wire(
        x402_v1.decode_settlement_response,
        x402_v1.encode_settlement_response,
        standard,
        {
            "success": False,
            "transaction": "",
            "network": "base-sepolia",
            "payer": PAYER,
            "errorReason": "insufficient_funds",
        },
    ),
    "v2 challenge": Wire(
        x402_v2.decode_payment_required,
        x402_v2.encode_payment_required,
        standard,
        {
            "x402Version": 2,
            "error": "PAYMENT-SIGNATURE header is required",
            "resource": RESOURCE,
            "accepts": [REQUIREMENTS_V2],
        },
        required=("x402Version", "accepts"),
    ),
    "v2 credential": Wire(
        x402_v2.decode_payment_payload,
        x402_v2.encode_payment_payload,
        standard,
        {"x402Version": 2, "resource": RESOURCE, "accepted": REQUIREMENTS_V2, "payload": EXACT},
        required=("x402Version", "accepted", "payload"),
    ),
    "v2 credential with extensions": Wire(
        x402_v2.decode_payment_payload,
        x402_v2.encode_payment_payload,
        standard,
        {
            "x402Version": 2,
            "accepted": REQUIREMENTS_V2,
            "payload": EXACT,
            "extensions": {"bazaar": {"info": {}, "schema": {}}},
        },
    ),
    "v2 receipt": Wire(
        x402_v2.decode_settlement_response,
        x402_v2.encode_settlement_response,
        standard,
        {"success": True, "transaction": HASH, "network": "eip155:84532", "payer": PAYER},
        required=("success", "transaction", "network"),
    ),
    "v2 receipt of a failure": Wire(
        x402_v2.decode_settlement_response,
        x402_v2.encode_settlement_response,
        standard,
        {
            "success": False,
            "transaction": "",
            "network": "eip155:84532",
            "payer": PAYER,
            "errorReason": "insufficient_funds",
        },
    ),
    "mpp credential": Wire(
        mpp.decode_credential,
        mpp.encode_credential,
        unpadded,
        {"challenge": CHALLENGE, "payload": {"proof": "0xabc123..."}},
        required=("challenge", "payload"),
    ),
    "mpp credential with source": Wire(
        mpp.decode_credential,
        mpp.encode_credential,
        unpadded,
        {"challenge": CHALLENGE, "payload": AUTHORIZATION, "source": f"did:pkh:eip155:84532:{PAYER}"},
    ),
    "mpp credential in another header": Wire(
        mpp.decode_credential,
        mpp.encode_credential,
        unpadded,
        {"challenge": {**CHALLENGE, "opaque": "e30", "header": "Payment-Authorization"}, "payload": {}},
    ),
    "mpp receipt": Wire(
        mpp.decode_receipt,
        mpp.encode_receipt,
        unpadded,
        {
            "status": "success",
            "method": "evm",
            "timestamp": "2026-04-01T12:04:00Z",
            "reference": HASH,
            "challengeId": "aB3cDeF4gHiJkLmN",
            "chainId": 4326,
            "externalId": "order-1",
        },
        required=("status", "method", "timestamp", "reference"),
    ),
    "mpp evm charge": Wire(
        mpp.decode_charge_request,
        mpp.encode_charge_request,
        unpadded,
        CHARGE,
        required=("amount", "currency", "recipient", "methodDetails"),
    ),
    "mpp opaque": Wire(mpp.decode_opaque, mpp.encode_opaque, unpadded, {"n": "1", "route": "/api/premium"}),
}

LITERAL = {
    # The encoded text of the specifications' examples, where the text and its decoded form agree.
    "v1 receipt": ""
    "eyJzdWNjZXNzIjp0cnVlLCJ0cmFuc2FjdGlvbiI6IjB4MTIzNDU2Nzg5MGFiY2RlZjEyMzQ1Njc4OTBhYmNkZWYxMjM0NTY3ODkwYW"
    "JjZGVmMTIzNDU2Nzg5MGFiY2RlZiIsIm5ldHdvcmsiOiJiYXNlLXNlcG9saWEiLCJwYXllciI6IjB4ODU3YjA2NTE5RTkxZTNBNTQ1Mzg3OTFiRGJi"
    "MEUyMjM3M2UzNmI2NiJ9",
    "mpp credential": ""
    "eyJjaGFsbGVuZ2UiOnsiaWQiOiJ4N1RnMnBMcVI5bUt2TndZM2hCY1phIiwicmVhbG0iOiJhcGkuZXhhbXBsZS5jb20iLCJtZXR"
    "ob2QiOiJleGFtcGxlIiwiaW50ZW50IjoiY2hhcmdlIiwicmVxdWVzdCI6ImV5SmhiVzkxYm5RaU9pSXhNREF3SWl3aVkzVnljbVZ1WTNraU9pSlZVM"
    "FFpTENKeVpXTnBjR2xsYm5RaU9pSmhZMk4wWHpFeU15SjkiLCJleHBpcmVzIjoiMjAyNS0wMS0xNVQxMjowNTowMFoifSwicGF5bG9hZCI6eyJwcm9"
    "vZiI6IjB4YWJjMTIzLi4uIn19",
    "mpp evm charge": ""
    "eyJhbW91bnQiOiIxMDAwMDAwMDAwMDAwMDAwMDAwIiwiY3VycmVuY3kiOiIweEZBZkRkYmIzRkM3Njg4NDk0OTcxYTc5Y2M2NUR"
    "DYTNFRjgyMDc5RTciLCJtZXRob2REZXRhaWxzIjp7ImNoYWluSWQiOjQzMjYsImNyZWRlbnRpYWxUeXBlcyI6WyJwZXJtaXQyIl19LCJyZWNpcGllb"
    "nQiOiIweDc0MmQzNUNjNjYzNEMwNTMyOTI1YTNiODQ0QmM5ZTc1OTVmOGZFMDAifQ",
}


@pytest.mark.parametrize("case", WIRES)
def test_written_as_it_was_read(case: str) -> None:
    """A message is decoded and encoded to the very bytes of its example."""
    wire = WIRES[case]
    packed = wire.pack(wire.message)
    assert wire.encode(wire.decode(packed)) == packed
    assert wire.decode(wire.encode(wire.decode(packed))) == wire.decode(packed)


@pytest.mark.parametrize("case", LITERAL)
def test_literal_text_of_the_specification(case: str) -> None:
    """Where a specification prints the encoded text, that text is what we write."""
    assert WIRES[case].encode(WIRES[case].decode(LITERAL[case])) == LITERAL[case]


@pytest.mark.parametrize("case", [case for case in WIRES if case != "mpp opaque"])
def test_unknown_members_do_no_harm(case: str) -> None:
    """Implementations add members (a top-level `asset`, for one): they change nothing of what is read."""
    wire = WIRES[case]
    assert wire.decode(wire.pack({**wire.message, "asset": {"x": [1]}, "zz": None})) == wire.decode(
        wire.pack(wire.message)
    )


@pytest.mark.parametrize("case", WIRES)
def test_null_is_absent(case: str) -> None:
    """An optional member that is null reads as if it were not there."""
    wire = WIRES[case]
    optional = [
        name
        for name in ("error", "resource", "extensions", "payer", "errorReason", "source", "amount", "externalId")
        if name not in wire.message and case != "mpp opaque"
    ]
    assert wire.decode(wire.pack({**wire.message, **dict.fromkeys(optional)})) == wire.decode(wire.pack(wire.message))


@pytest.mark.parametrize(("case", "member"), [(case, member) for case in WIRES for member in WIRES[case].required])
def test_required_members(case: str, member: str) -> None:
    """Without a required member, or with null or a wrong type in its place, the message is malformed."""
    wire = WIRES[case]
    without = {name: value for name, value in wire.message.items() if name != member}
    with pytest.raises(MalformedError, match=member):
        wire.decode(wire.pack(without))
    for wrong in (None, [[]], 1.5):
        # A payload's shape belongs to its scheme, and is read by its own decoder.
        if member != "payload":
            with pytest.raises(MalformedError):
                wire.decode(wire.pack({**wire.message, member: wrong}))


@pytest.mark.parametrize("case", WIRES)
@pytest.mark.parametrize("value", [None, [], 1, "x", True, [{}]])
def test_no_object(case: str, value: object) -> None:
    """A message is an object."""
    with pytest.raises(MalformedError):
        WIRES[case].decode(WIRES[case].pack(value))


VERSIONED = [
    (case, version)
    for case in WIRES
    for version in (0, 1, 2, 3, 99, -1, 10**30)
    if WIRES[case].message.get("x402Version", version) != version
]


@pytest.mark.parametrize(("case", "version"), VERSIONED)
def test_another_version(case: str, version: int) -> None:
    """Each header stands for one version, and refuses every other."""
    wire = WIRES[case]
    with pytest.raises(UnsupportedVersion) as caught:
        wire.decode(wire.pack({**wire.message, "x402Version": version}))
    assert caught.value.reason == "invalid_x402_version"


def test_echoed_members_survive() -> None:
    """What a client must echo passes through with members that nobody here knows."""
    entry = {**REQUIREMENTS_V2, "future": {"x": [1, None]}, "extra": {"name": "USDC", "version": "2", "fee": 1.5}}
    message = {
        "x402Version": 2,
        "resource": {**RESOURCE, "lang": "de"},
        "accepts": [entry],
        "extensions": {"e": {"info": {"k": None}}},
    }
    assert (
        json.loads(
            base64.b64decode(x402_v2.encode_payment_required(x402_v2.decode_payment_required(standard(message))))
        )
        == message
    )
    echo = {
        "x402Version": 2,
        "resource": message["resource"],
        "accepted": entry,
        "payload": {"any": 1},
        "extensions": message["extensions"],
    }
    assert (
        json.loads(base64.b64decode(x402_v2.encode_payment_payload(x402_v2.decode_payment_payload(standard(echo)))))
        == echo
    )
    body = {"x402Version": 1, "accepts": [{**REQUIREMENTS_V1, "future": 1}]}
    assert (
        json.loads(x402_v1.encode_payment_required(x402_v1.decode_payment_required(json.dumps(body).encode()))) == body
    )


def test_entries_of_accepts() -> None:
    """An entry is read by its version's own names; v1's mimeType may be missing, nothing else."""
    v1 = x402_v1.decode_requirements(REQUIREMENTS_V1, "it")
    assert (v1.max_amount_required, v1.mime_type, v1.max_timeout_seconds, v1.output_schema) == (
        "10000",
        "application/json",
        60,
        None,
    )
    assert (
        x402_v1.decode_requirements({k: v for k, v in REQUIREMENTS_V1.items() if k != "mimeType"}, "it").mime_type
        is None
    )
    v2 = x402_v2.decode_requirements(REQUIREMENTS_V2, "it")
    assert (v2.amount, v2.pay_to, v2.extra) == ("10000", REQUIREMENTS_V2["payTo"], {"name": "USDC", "version": "2"})
    for decode, entry, member in (
        (x402_v1.decode_requirements, REQUIREMENTS_V1, "payTo"),
        (x402_v2.decode_requirements, REQUIREMENTS_V2, "amount"),
    ):
        with pytest.raises(MalformedError, match=f"^it: .*{member}"):
            decode({**entry, member: 10000}, "it")


def test_no_null_error_in_v1() -> None:
    """v1's own client takes a missing error and no null one."""
    assert b"error" not in x402_v1.encode_payment_required(
        x402_v1.PaymentRequirementsResponse(x402_version=1, accepts=[])
    )


def test_body_is_bounded() -> None:
    """A v1 challenge of up to 256 KiB is read, because it is a body and no header."""
    body = x402_v1.encode_payment_required(
        x402_v1.PaymentRequirementsResponse(x402_version=1, error="x" * 200_000, accepts=[])
    )
    assert len(x402_v1.decode_payment_required(body).error) == 200_000
    with pytest.raises(MalformedError, match="longer than"):
        x402_v1.decode_payment_required(body + b" " * 100_000)


BAD_EXACT = [
    {},
    [],
    None,
    "x",
    {"signature": "0x"},
    {**EXACT, "signature": 1},
    {**EXACT, "authorization": []},
    *[
        {**EXACT, "authorization": {k: v for k, v in EXACT["authorization"].items() if k != name}}
        for name in EXACT["authorization"]
    ],
    *[{**EXACT, "authorization": {**EXACT["authorization"], name: 10000}} for name in EXACT["authorization"]],
]


@pytest.mark.parametrize("payload", BAD_EXACT)
def test_payload_of_another_shape(payload: object) -> None:
    """A payload that is not EIP-3009's is malformed when it is read as one, and its error quotes nothing."""
    raw = msgspec.Raw(json.dumps(payload).encode())
    for message in (
        x402_v1.PaymentPayload(x402_version=1, scheme="exact", network="base", payload=raw),
        x402_v2.PaymentPayload(x402_version=2, accepted={}, payload=raw),
    ):
        with pytest.raises(MalformedError) as caught:
            message.exact_evm()
        assert EXACT["signature"] not in caught.value.detail


def test_payload_types() -> None:
    """A payload is known by its type; only `authorization` is read further."""
    raw = msgspec.Raw(json.dumps(AUTHORIZATION).encode())
    assert mpp.decode_payload_type(raw) == "authorization"
    assert mpp.decode_payload(raw).valid_before == "1740672154"
    assert json.loads(bytes(mpp.encode_payload(mpp.decode_payload(raw)))) == AUTHORIZATION
    for other in ({"type": "permit2"}, {"type": 1}, {}, [], {**AUTHORIZATION, "nonce": None}):
        with pytest.raises(MalformedError):
            mpp.decode_payload(msgspec.Raw(json.dumps(other).encode()))


@pytest.mark.parametrize("chain_id", [0, -1, 2**53 + 1, 2**64, 10**30, 1.5, "1", None, True])
def test_chain_id_is_bounded(chain_id: object) -> None:
    """A chain id that no other JSON implementation would read alike is no chain id."""
    with pytest.raises(MalformedError, match="chainId"):
        mpp.decode_charge_request(unpadded({**CHARGE, "methodDetails": {"chainId": chain_id}}))


@pytest.mark.parametrize("opaque", [{"a": 1}, {"a": None}, {"a": {"b": "c"}}, ["a"]])
def test_opaque_is_flat(opaque: object) -> None:
    """`opaque` maps strings to strings."""
    with pytest.raises(MalformedError):
        mpp.decode_opaque(unpadded(opaque))


def test_challenges_in_headers() -> None:
    """Payment challenges are found among other schemes, in several lines or folded into one, in order."""
    first, second = ({**BASIC, "id": name} for name in "ab")
    lines = [mpp.encode_challenge(mpp.Challenge(**members)) for members in (first, second)]
    expected = [mpp.Challenge(**first), mpp.Challenge(**second)]
    assert mpp.decode_challenges(lines) == expected
    assert mpp.decode_challenges([", ".join(lines)]) == expected
    assert (
        mpp.decode_challenges([f'Bearer realm="x", {lines[0]}, Negotiate YII=, {lines[1]}', 'Basic realm="y"'])
        == expected
    )
    assert mpp.decode_challenges([]) == mpp.decode_challenges(["", 'Basic realm="x"']) == []


def test_challenge_is_written_scheme_first() -> None:
    """Every known parameter is written, quoted; some parsers look for `Payment ` in this case."""
    members = {
        **CHALLENGE,
        "digest": "sha-256=:x:",
        "description": 'a "b"',
        "opaque": "e30",
        "header": "Payment-Authorization",
    }
    text = mpp.encode_challenge(mpp.Challenge(**members))
    assert text.startswith('Payment id="x7Tg2pLqR9mKvNwY3hBcZa", realm="api.example.com", method="example", ')
    assert text.endswith(r'description="a \"b\"", opaque="e30", header="Payment-Authorization"')
    assert mpp.decode_challenges([text]) == [mpp.Challenge(**members)]


@pytest.mark.parametrize("case", WWW_AUTHENTICATE)
def test_published_challenges(case: str) -> None:
    """Published `WWW-Authenticate` values are read to their members, or refused."""
    text, changes = WWW_AUTHENTICATE[case]
    if changes is None:
        with pytest.raises(PaymentError):
            mpp.decode_challenges([text])
    else:
        assert mpp.decode_challenges([text]) == [mpp.Challenge(**{**BASIC, **changes})]


@pytest.mark.parametrize(
    "message",
    [WIRES[case].decode(WIRES[case].pack(WIRES[case].message)) for case in WIRES if "credential" in case]
    + [
        mpp.decode_payload(msgspec.Raw(json.dumps(AUTHORIZATION).encode())),
        WIRES["v1 credential"].decode(standard(WIRES["v1 credential"].message)).exact_evm(),
    ],
)
def test_no_signature_in_a_repr(message: object) -> None:
    """A repr ends up in logs, and shows no signature."""
    assert EXACT["signature"][2:20] not in repr(message)
