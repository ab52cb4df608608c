"""Writes the public test vectors in `docs/vectors/`, from keys that are for tests only.

    python -m tests.translators.make_vectors

Every value is recomputed by a test, so what is published is what the code does.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
from coincurve import PrivateKey
from msgspec.structs import replace

from tests.translators import samples
from translators import mpp, x402
from translators.binding import body_digest, challenge_hashes, challenge_id
from translators.eip3009 import authorization_digest, domain_separator
from translators.fields import checksum_address
from translators.networks import KNOWN_TOKENS
from translators.payment import Asset, Authorization, ChallengeBinding, Payment
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "vectors"
NOTICE = "Private keys and secrets here are test values: public, and holding nothing on any network."

KEYS = [PrivateKey(bytes([byte]) * 32) for byte in (0x11, 0x22, 0x33)]
NONCES = ["0x" + f"{number:064x}" for number in (1, 2, 3)]


def domain(asset: Asset) -> dict[str, Any]:
    return {
        "name": asset.name,
        "version": asset.version,
        "chainId": asset.chain_id,
        "verifyingContract": checksum_address(asset.address),
    }


def message(signed: Authorization) -> dict[str, str]:
    return {
        "from": checksum_address(signed.payer),
        "to": checksum_address(signed.recipient),
        "value": str(signed.value),
        "validAfter": str(signed.valid_after),
        "validBefore": str(signed.valid_before),
        "nonce": signed.nonce,
    }


def envelope(description: str, reference: str, vectors: list[dict[str, Any]]) -> dict[str, Any]:
    return {"description": description, "reference": reference, "notice": NOTICE, "vectors": vectors}


def eip3009() -> dict[str, Any]:
    """One authorization for each known token, and the borders of its integers."""
    cases = [(f"{token.symbol} on {token.chain_id}", token, {}) for token in KNOWN_TOKENS]
    cases += [
        ("largest value", samples.USDC, {"value": 2**256 - 1}),
        ("valid for ever", samples.USDC, {"valid_after": 0, "valid_before": 2**256 - 1}),
        ("name beyond ASCII", replace(samples.USDC, name="Café ☕"), {}),
    ]
    vectors = []
    for index, (name, asset, changes) in enumerate(cases):
        key = KEYS[index % len(KEYS)]
        signed = samples.authorization(asset=asset, key=key, nonce=NONCES[index % len(NONCES)], **changes)
        vectors.append(
            {
                "name": name,
                "privateKey": "0x" + key.secret.hex(),
                "domain": domain(asset),
                "message": message(signed),
                "domainSeparator": "0x" + domain_separator(asset).hex(),
                "digest": "0x" + authorization_digest(signed, asset).hex(),
                "signature": "0x" + signed.signature.hex(),
            }
        )
    return envelope(
        "EIP-712 digests and RFC 6979 signatures of EIP-3009 TransferWithAuthorization.", "EIP-3009, EIP-712", vectors
    )


def challenges() -> dict[str, mpp_wire.Challenge]:
    return {
        "required and expiry": samples.challenge(),
        "with digest": samples.challenge(digest=body_digest(samples.BODY)),
        "with description, which is not signed": samples.challenge(description='A "report"'),
        "with header": samples.challenge(header="Payment-Authorization"),
        "with header and digest": samples.challenge(header="Payment-Authorization", digest=body_digest(samples.BODY)),
        "with the default header spelled out": samples.challenge(header="Authorization"),
        "without optional parameters": unadorned(),
        "realm beyond ASCII": samples.challenge(realm="caf\xe9.example"),
    }


def unadorned() -> mpp_wire.Challenge:
    bare = replace(samples.challenge(), expires=None, opaque=None)
    return replace(bare, id=challenge_id(samples.CHALLENGE_KEY, bare))


def challenge_ids() -> dict[str, Any]:
    vectors = [
        {
            "name": name,
            "secret": samples.CHALLENGE_KEY.decode(),
            "challenge": msgspec.to_builtins(issued),
            "wwwAuthenticate": mpp_wire.encode_challenge(issued),
        }
        for name, issued in challenges().items()
    ]
    return envelope(
        "Challenge ids: base64url(HMAC-SHA256(secret, slots joined by |)). Seven slots, and an eighth before opaque "
        "where the challenge names another credential header than Authorization.",
        "draft-httpauth-payment-00, section Challenge Binding",
        vectors,
    )


def evm_challenge_hash() -> dict[str, Any]:
    pairs = [(issued.id, issued.realm) for issued in challenges().values()]
    pairs += [
        ("aB3cDeF4gHiJkLmN", "api.example.com"),
        ("", ""),
        ("a", "bc"),
        ("ab", "c"),
        ("id", 'a "quoted" \\ realm'),
        ("id", "line\nbreak\x00\x1f\x7f"),
        ("☕", "\U0001f600"),
    ]
    vectors = []
    for identifier, realm in pairs:
        packed, array = challenge_hashes(replace(samples.challenge(), id=identifier, realm=realm))
        vectors.append(
            {"id": identifier, "realm": realm, "packed": "0x" + packed.hex(), "jsonArray": "0x" + array.hex()}
        )
    return envelope(
        "The nonce of an MPP evm authorization. packed: keccak256 of UTF-8 id and realm, one after the other, as the "
        "draft has it. jsonArray: keccak256 of the JSON array [id,realm] without white space, as some clients sign.",
        "draft-evm-charge-00, section Challenge Binding",
        vectors,
    )


def evm_receipts() -> dict[str, Any]:
    settled = {
        "with challenge": (samples.SETTLEMENT, ChallengeBinding(samples.challenge().id, samples.REALM)),
        "with externalId": (samples.SETTLEMENT, ChallengeBinding(samples.challenge().id, samples.REALM, "order-1")),
        "for an x402 payer": (samples.SETTLEMENT, None),
        "on Base": (replace(samples.SETTLEMENT, chain_id=8453, settled_at=0.0), None),
    }
    vectors = []
    for name, (settlement, binding) in settled.items():
        receipt = mpp.to_receipt(settlement, binding)
        header = mpp_wire.encode_receipt(receipt)
        vectors.append({"name": name, "receipt": msgspec.to_builtins(receipt), "paymentReceipt": header})
    return envelope(
        "Receipts of the evm method, and the Payment-Receipt header that carries them.",
        "draft-evm-charge-00, section Receipt Generation",
        vectors,
    )


def x_payment() -> dict[str, Any]:
    payments: dict[str, Payment] = {
        "nonce of the payer": samples.payment_v1(),
        "nonce of an MPP challenge": samples.payment_mpp(),
        "signature of a contract wallet": samples.payment_v1(
            replace(samples.authorization(), signature=b"\x01\x02" * 48)
        ),
    }
    vectors = []
    for name, payment in payments.items():
        payload = x402.to_payload_v1(payment)
        vectors.append(
            {
                "name": name,
                "payload": json.loads(msgspec.json.encode(payload)),
                "xPayment": x402_v1.encode_payment_payload(payload),
                "paymentId": payment.id,
            }
        )
    return envelope(
        "x402 v1 payloads, the X-PAYMENT header that carries them, and the protocol-free id of the payment.",
        "x402 v1, section 5.2; transports-v1/http",
        vectors,
    )


FILES = {
    "challenge-ids.json": challenge_ids,
    "eip3009.json": eip3009,
    "evm-challenge-hash.json": evm_challenge_hash,
    "evm-receipts.json": evm_receipts,
    "x402-v1-x-payment.json": x_payment,
}


def render(name: str) -> str:
    return json.dumps(FILES[name](), indent=2, ensure_ascii=True) + "\n"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (FOLDER / name).write_text(render(name), "ascii")
        print(FOLDER / name)


if __name__ == "__main__":
    main()
