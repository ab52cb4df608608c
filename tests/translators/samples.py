"""One valid payment in every envelope, signed with keys that are for tests only and hold nothing anywhere."""

from coincurve import PrivateKey

from translators import mpp, x402
from translators.binding import body_digest, challenge_hash
from translators.eip3009 import authorization_digest
from translators.keccak import keccak256
from translators.networks import default_token
from translators.payment import (
    Asset,
    Authorization,
    ChallengeBinding,
    Offer,
    Payment,
    Protocol,
    Resource,
    ResourceBinding,
    Settlement,
)
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1, x402_v2

TEST_KEY = PrivateKey(b"\x11" * 32)
OTHER_TEST_KEY = PrivateKey(b"\x22" * 32)
CHALLENGE_KEY = b"a test secret of 32 bytes, public"
OLD_CHALLENGE_KEY = b"an older test secret of 32 bytes."
NOW = 1_800_000_000

USDC: Asset = default_token(84532) or Asset(0, "", 0, "", "")
RECIPIENT = "0x209693bc6afc0c5328ba36faf03c514ef312287c"
OFFER = Offer(asset=USDC, amount=10_000, recipient=RECIPIENT, max_timeout_seconds=60)
RESOURCE = Resource("https://api.example.com/report", "A report", "application/json")
REALM = "api.example.com"
ROUTE = "GET /report"
TRANSACTION = "0x" + "ab" * 32
BODY = b'{"hello": "world"}'


def address_of(key: PrivateKey) -> str:
    return "0x" + keccak256(key.public_key.format(compressed=False)[1:])[12:].hex()


PAYER = address_of(TEST_KEY)


def sign(authorization: Authorization, asset: Asset = USDC, key: PrivateKey = TEST_KEY) -> Authorization:
    """`authorization` with the signature that `key` makes: deterministic (RFC 6979), v 27 or 28, low s."""
    raw = key.sign_recoverable(authorization_digest(authorization, asset), hasher=None)
    fields = {name: getattr(authorization, name) for name in authorization.__struct_fields__}
    return Authorization(**{**fields, "signature": raw[:64] + bytes((27 + raw[64],))})


def authorization(*, asset: Asset = USDC, key: PrivateKey = TEST_KEY, **changes: object) -> Authorization:
    """A signed authorization for `OFFER`; `changes` are applied before it is signed."""
    fields = {
        "payer": address_of(key),
        "recipient": RECIPIENT,
        "value": 10_000,
        "valid_after": NOW - 600,
        "valid_before": NOW + 60,
        "nonce": "0x" + "5e" * 32,
        "signature": b"",
    }
    return sign(Authorization(**{**fields, **changes}), asset, key)


def challenge(**changes: object) -> mpp_wire.Challenge:
    terms = {"keys": [CHALLENGE_KEY], "realm": REALM, "route": ROUTE, "nonce": "n-1", "expires": NOW + 60}
    return mpp.to_challenge(mpp.encoded_request(OFFER), **{**terms, **changes})


def payment_v1(signed: Authorization | None = None) -> Payment:
    return Payment(Protocol.X402_V1, 84532, USDC.address, signed or authorization(), ResourceBinding())


def payment_v2(signed: Authorization | None = None) -> Payment:
    binding = ResourceBinding(RESOURCE.url, {"bazaar": {"info": {"x": 1}}})
    return Payment(Protocol.X402_V2, 84532, USDC.address, signed or authorization(), binding)


def payment_mpp(issued: mpp_wire.Challenge | None = None) -> Payment:
    issued = issued or challenge()
    signed = authorization(nonce="0x" + challenge_hash(issued).hex(), valid_after=0)
    return Payment(Protocol.MPP, 84532, USDC.address, signed, ChallengeBinding(issued.id, issued.realm, None, "n-1"))


def credential_header_v1() -> str:
    return x402_v1.encode_payment_payload(x402.to_payload_v1(payment_v1()))


def credential_header_v2() -> str:
    required = x402.to_payment_required_v2([OFFER], RESOURCE, None)
    return x402_v2.encode_payment_payload(x402.to_payload_v2(payment_v2(), required.accepts[0], required.resource))


def credential_header_mpp() -> str:
    issued = challenge(digest=body_digest(BODY))
    return mpp_wire.encode_credential(mpp.to_credential(payment_mpp(issued), issued))


SETTLEMENT = Settlement(
    payment_id=payment_v1().id,
    protocol=Protocol.X402_V1,
    chain_id=84532,
    asset=USDC.address,
    amount=10_000,
    payer=PAYER,
    recipient=RECIPIENT,
    transaction=TRANSACTION,
    settled_at=NOW + 0.75,
)
