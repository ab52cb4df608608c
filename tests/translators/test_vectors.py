"""The published vectors are what the code computes, and what others compute too."""

import base64
import hashlib
import hmac
import json

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak

from tests.translators import samples
from tests.translators.make_vectors import FILES, FOLDER, render
from translators import mpp, x402
from translators.checks import check_terms
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v1


def vectors(name: str) -> list[dict]:
    return json.loads((FOLDER / name).read_text("ascii"))["vectors"]


@pytest.mark.parametrize("name", FILES)
def test_published_is_computed(name: str) -> None:
    """Making the file again gives the file: run `python -m tests.translators.make_vectors` after a wanted change."""
    assert (FOLDER / name).read_text("ascii") == render(name)


def test_no_other_files() -> None:
    """Every file in the folder is made by the script."""
    assert {path.name for path in FOLDER.glob("*.json")} == set(FILES)


@pytest.mark.parametrize("vector", vectors("eip3009.json"), ids=lambda vector: vector["name"])
def test_eip3009_by_eth_account(vector: dict) -> None:
    """eth-account signs the same bytes with the same key."""
    types = [("from", "address"), ("to", "address"), ("value", "uint256"), ("validAfter", "uint256")]
    types += [("validBefore", "uint256"), ("nonce", "bytes32")]
    numbers = {name: int(vector["message"][name]) for name in ("value", "validAfter", "validBefore")}
    signable = encode_typed_data(
        domain_data=vector["domain"],
        message_types={"TransferWithAuthorization": [{"name": name, "type": kind} for name, kind in types]},
        message_data={**vector["message"], **numbers, "nonce": bytes.fromhex(vector["message"]["nonce"][2:])},
    )
    signed = Account.sign_message(signable, vector["privateKey"])
    assert "0x" + signable.header.hex() == vector["domainSeparator"]
    assert "0x" + bytes(signed.message_hash).hex() == vector["digest"]
    assert "0x" + bytes(signed.signature).hex() == vector["signature"]


@pytest.mark.parametrize("vector", vectors("challenge-ids.json"), ids=lambda vector: vector["name"])
def test_challenge_ids_by_hand(vector: dict) -> None:
    """The id is the HMAC of the joined slots, and the header is read back to the challenge."""
    given = vector["challenge"]
    header = [given["header"]] if given.get("header", "Authorization") != "Authorization" else []
    slots = [given[name] for name in ("realm", "method", "intent", "request")]
    slots += [given.get("expires", ""), given.get("digest", ""), *header, given.get("opaque", "")]
    mac = hmac.new(vector["secret"].encode(), "|".join(slots).encode(), hashlib.sha256).digest()
    assert given["id"] == base64.urlsafe_b64encode(mac).decode().rstrip("=")
    assert mpp_wire.decode_challenges([vector["wwwAuthenticate"]]) == [mpp_wire.Challenge(**given)]


@pytest.mark.parametrize("vector", vectors("evm-challenge-hash.json"), ids=lambda vector: repr(vector["id"]))
def test_challenge_hashes_by_eth_utils(vector: dict) -> None:
    """Both forms, from eth-utils' hash and the standard library's JSON."""
    array = json.dumps([vector["id"], vector["realm"]], separators=(",", ":"), ensure_ascii=False)
    assert vector["packed"] == "0x" + keccak(text=vector["id"] + vector["realm"]).hex()
    assert vector["jsonArray"] == "0x" + keccak(text=array).hex()


@pytest.mark.parametrize("vector", vectors("evm-receipts.json"), ids=lambda vector: vector["name"])
def test_receipts_by_hand(vector: dict) -> None:
    """The header is unpadded base64url of the receipt's JSON."""
    text = vector["paymentReceipt"]
    assert "=" not in text
    assert json.loads(base64.urlsafe_b64decode(text + "==")) == vector["receipt"]


@pytest.mark.parametrize("vector", vectors("x402-v1-x-payment.json"), ids=lambda vector: vector["name"])
def test_x_payment_by_hand(vector: dict) -> None:
    """The header is padded standard base64 of the payload, and the payment has the published id."""
    assert json.loads(base64.b64decode(vector["xPayment"], validate=True)) == vector["payload"]
    payment = x402.from_payload_v1(x402_v1.decode_payment_payload(vector["xPayment"]), [samples.OFFER])
    assert payment.id == vector["paymentId"]
    assert check_terms(payment, [samples.OFFER]) == samples.OFFER


def test_ambiguity_of_the_packed_hash_is_known() -> None:
    """Packing has no border: (a, bc) and (ab, c) hash alike. The id's fixed length is what keeps realms apart."""
    packed = {(v["id"], v["realm"]): v["packed"] for v in vectors("evm-challenge-hash.json")}
    assert packed["a", "bc"] == packed["ab", "c"]
    assert {len(v["challenge"]["id"]) for v in vectors("challenge-ids.json")} == {43}
    assert mpp.METHOD == "evm"
