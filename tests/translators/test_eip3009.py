"""EIP-3009 digests and signers, held against eth-account's generic EIP-712 encoder and published values."""

import contextlib

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.translators.public_vectors import EIP3009, EIP3009_RECIPIENT
from tests.translators.samples import OTHER_TEST_KEY, PAYER, TEST_KEY, USDC, address_of, authorization, sign
from translators.eip3009 import (
    EOA_SIGNATURE_BYTES,
    authorization_digest,
    check_signature,
    domain_separator,
    is_signed_by_payer,
    recover_signer,
)
from translators.errors import VerificationFailed
from translators.networks import KNOWN_TOKENS
from translators.payment import Asset, Authorization

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

TYPES = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ]
}


def signable(signed: Authorization, asset: Asset):
    return encode_typed_data(
        domain_data={
            "name": asset.name,
            "version": asset.version,
            "chainId": asset.chain_id,
            "verifyingContract": asset.address,
        },
        message_types=TYPES,
        message_data={
            "from": signed.payer,
            "to": signed.recipient,
            "value": signed.value,
            "validAfter": signed.valid_after,
            "validBefore": signed.valid_before,
            "nonce": bytes.fromhex(signed.nonce[2:]),
        },
    )


uint256 = st.integers(0, 2**256 - 1)
addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
keys = st.integers(1, ORDER - 1).map(PrivateKey.from_int)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
assets = st.builds(Asset, st.integers(1, 2**53), addresses, st.just(6), texts, texts) | st.sampled_from(KNOWN_TOKENS)
authorizations = st.builds(
    Authorization,
    payer=addresses,
    recipient=addresses,
    value=uint256,
    valid_after=uint256,
    valid_before=uint256,
    nonce=st.binary(min_size=32, max_size=32).map(lambda raw: "0x" + raw.hex()),
    signature=st.just(b""),
)


@given(authorizations, assets)
def test_digest_is_that_of_the_generic_encoder(unsigned: Authorization, asset: Asset) -> None:
    """Our six words hash to what eth-account's EIP-712 encoder makes of the same message, on any token."""
    message = signable(unsigned, asset)
    assert domain_separator(asset) == message.header
    assert authorization_digest(unsigned, asset) == _hash_eip191_message(message)


@given(authorizations, assets, keys)
def test_any_key_is_recovered(unsigned: Authorization, asset: Asset, key: PrivateKey) -> None:
    """The signer that is recovered is the one who signed, in eth-account's opinion too, and nobody else."""
    digest = authorization_digest(unsigned, asset)
    signature = bytes(Account.unsafe_sign_hash(digest, key.secret).signature)
    assert recover_signer(digest, signature) == address_of(key)
    signed = sign(unsigned, asset, key)
    assert signed.signature == signature
    assert Account.recover_message(signable(unsigned, asset), signature=signature).lower() == address_of(key)
    assert is_signed_by_payer(signed, asset) == (unsigned.payer == address_of(key))


@pytest.mark.parametrize(("key_byte", "payer", "value", "digest", "signature"), EIP3009)
def test_published_signatures(key_byte: int, payer: str, value: int, digest: str, signature: str) -> None:
    """Published digests and RFC 6979 signatures come out byte for byte."""
    key = PrivateKey(bytes([key_byte]) * 32)
    nonce = f"0x{EIP3009.index((key_byte, payer, value, digest, signature)) + 1:064x}"
    unsigned = Authorization(payer, EIP3009_RECIPIENT, value, 0, 9_999_999_999, nonce, b"")
    assert address_of(key) == payer
    assert authorization_digest(unsigned, KNOWN_TOKENS[0]).hex() == digest
    signed = sign(unsigned, KNOWN_TOKENS[0], key)
    assert signed.signature.hex() == signature
    check_signature(signed, KNOWN_TOKENS[0])


SIGNED = authorization()
R, S, V = SIGNED.signature[:32], SIGNED.signature[32:64], SIGNED.signature[64]
HIGH_S = (ORDER - int.from_bytes(S, "big")).to_bytes(32, "big")


def test_v_is_read_in_both_forms() -> None:
    """27 and 28 are what tokens take; 0 and 1 mean the same."""
    digest = authorization_digest(SIGNED, USDC)
    assert recover_signer(digest, R + S + bytes([V])) == recover_signer(digest, R + S + bytes([V - 27])) == PAYER


@pytest.mark.parametrize(
    ("signature", "says"),
    [
        (b"", "65 bytes"),
        (R + S, "65 bytes"),
        (R + S + bytes([V, V]), "65 bytes"),
        (bytes(64), "65 bytes"),
        *[(R + S + bytes([v]), "neither 27 nor 28") for v in (2, 3, 26, 29, 30, 31, 35, 36, 255)],
        (R + HIGH_S + bytes([55 - V]), "upper half"),
        (R + HIGH_S + bytes([V]), "upper half"),
        (R + b"\xff" * 32 + bytes([V]), "upper half"),
        (R + (ORDER // 2 + 1).to_bytes(32, "big") + bytes([V]), "upper half"),
        (bytes(32) + S + bytes([V]), "not valid"),
        (R + bytes(32) + bytes([V]), "not valid"),
        (bytes(64) + b"\x1b", "not valid"),
        (ORDER.to_bytes(32, "big") + S + bytes([V]), "not valid"),
        (b"\xff" * 32 + S + bytes([V]), "not valid"),
    ],
)
def test_refused_signatures(signature: bytes, says: str) -> None:
    """A signature that a token refuses is refused here, the twin with a high s among them."""
    with pytest.raises(VerificationFailed, match=says) as caught:
        recover_signer(authorization_digest(SIGNED, USDC), signature)
    assert caught.value.reason == "invalid_exact_evm_payload_signature"


def test_the_highest_low_s_is_not_refused_for_its_height() -> None:
    """EIP-2's bound is inclusive."""
    signature = R + (ORDER // 2).to_bytes(32, "big") + bytes([V])
    assert recover_signer(authorization_digest(SIGNED, USDC), signature) != PAYER


CHANGES = {
    "payer": address_of(OTHER_TEST_KEY),
    "recipient": "0x" + "01" * 20,
    "value": 10_001,
    "valid_after": 0,
    "valid_before": 1,
    "nonce": "0x" + "00" * 32,
}


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_is_signed(field: str) -> None:
    """Changing anything after signing breaks the signature."""
    fields = {name: getattr(SIGNED, name) for name in SIGNED.__struct_fields__}
    with pytest.raises(VerificationFailed):
        check_signature(Authorization(**{**fields, field: CHANGES[field]}), USDC)


@pytest.mark.parametrize(
    "changes", [{"chain_id": 8453}, {"address": "0x" + "01" * 20}, {"name": "USD Coin"}, {"version": "1"}]
)
def test_every_part_of_the_domain_is_signed(changes: dict[str, object]) -> None:
    """An authorization for one token, chain or version is none for another; decimals and symbol do not matter."""
    fields = {name: getattr(USDC, name) for name in USDC.__struct_fields__}
    assert not is_signed_by_payer(SIGNED, Asset(**{**fields, **changes}))
    assert is_signed_by_payer(SIGNED, Asset(**{**fields, "decimals": 18, "symbol": "X"}))


@settings(max_examples=300)
@given(st.binary(min_size=EOA_SIGNATURE_BYTES, max_size=EOA_SIGNATURE_BYTES))
def test_random_signatures_raise_our_error_only(signature: bytes) -> None:
    """No 65 bytes do anything but name an address or raise `VerificationFailed`."""
    with contextlib.suppress(VerificationFailed):
        assert recover_signer(authorization_digest(SIGNED, USDC), signature) != PAYER


def test_signature_is_not_in_any_repr() -> None:
    """A repr ends up in logs; no type of the vocabulary shows a signature in it."""
    assert TEST_KEY.secret.hex() not in repr(SIGNED)
    assert SIGNED.signature.hex() not in repr(SIGNED)
    assert repr(SIGNED.signature) not in repr(SIGNED)
