"""Reading another server's 402 and receipt, carrying its terms, and completing what it says."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.translators.samples import OFFER, RESOURCE, TRANSACTION
from translators import x402
from translators.completion import Place, complete, naming, restored_url
from translators.encoding import b64_decode, b64_encode
from translators.errors import MalformedError
from translators.payment import Protocol
from translators.upstream import MAX_SEALED, Terms, read_demand, read_outcome, seal_terms, unseal_terms
from translators.wire import x402_v1, x402_v2

V1_ENTRY: dict[str, Any] = msgspec.to_builtins(x402.to_requirements_v1(OFFER, RESOURCE))
V2_ENTRY: dict[str, Any] = msgspec.to_builtins(x402.to_requirements_v2(OFFER))
PLACE = Place("http://127.0.0.1:4021/base", "https://api.example.com/shop", "https://api.example.com/shop/report")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def v2_header(entry: dict[str, Any] = V2_ENTRY, **more: Any) -> tuple[bytes, bytes]:
    content = {"x402Version": 2, "resource": {"url": PLACE.own + "/report"}, "accepts": [entry], **more}
    return b"PAYMENT-REQUIRED", b64_encode(json.dumps(content).encode()).encode()


def v1_body(entry: dict[str, Any] = V1_ENTRY, **more: Any) -> bytes:
    return json.dumps({"x402Version": 1, "error": "pay", "accepts": [entry], **more}).encode()


@pytest.mark.parametrize(
    ("headers", "body", "versions", "terms"),
    [
        ([v2_header()], b"{}", {2}, [2]),
        ([v2_header()], None, {2}, [2]),
        ([], v1_body(), {1}, [1]),
        ([(b"x-payment-required", b64_encode(v1_body()).encode())], b"", {1}, [1]),
        ([v2_header()], v1_body(), {1, 2}, [2]),
        ([], json.dumps({"x402Version": 2, "accepts": [V2_ENTRY]}).encode(), {2}, [2]),
        ([v2_header(V2_ENTRY | {"scheme": "upto"})], b"", {2}, []),
        ([v2_header(V2_ENTRY | {"network": "solana:x"})], b"", {2}, []),
        ([v2_header(V2_ENTRY | {"extra": None})], b"", {2}, []),
        ([v2_header(V2_ENTRY | {"amount": "0"})], b"", {2}, []),
        ([v2_header(V2_ENTRY | {"extra": V2_ENTRY["extra"] | {"assetTransferMethod": "permit2"}})], b"", {2}, []),
        ([v2_header(V2_ENTRY | {"extra": V2_ENTRY["extra"] | {"assetTransferMethod": "eip3009"}})], b"", {2}, [2]),
    ],
)
def test_a_402_is_read(
    headers: list[tuple[bytes, bytes]], body: bytes | None, versions: set[int], terms: list[int]
) -> None:
    """Its versions, and what of it every protocol can pay; v2 before v1."""
    demand = read_demand(headers, body)
    assert demand is not None
    assert demand.versions == versions
    assert [found.version for found in demand.terms] == terms
    for found in demand.terms:
        assert (found.offer.amount, found.offer.recipient) == (OFFER.amount, OFFER.recipient)
        assert found.offer.asset.decimals == 6


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([], b""),
        ([], b"pay me"),
        ([], b'{"x402Version":3,"accepts":[]}'),
        ([], b'{"x402Version":1}'),
        ([], b"[" * 100_000),
        ([(b"payment-required", b"%%%")], b"{}"),
        ([(b"www-authenticate", b"Payment broken")], None),
    ],
)
def test_what_is_no_402_of_x402_is_none(headers: list[tuple[bytes, bytes]], body: bytes | None) -> None:
    """And raises nothing."""
    assert read_demand(headers, body) is None


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_nothing_that_an_upstream_says_raises(value: bytes, body: bytes) -> None:
    """Whatever the bytes."""
    for name in (b"payment-required", b"x-payment-required", b"www-authenticate"):
        read_demand([(name, value)], body)
    read_outcome([(b"payment-response", value), (b"x-payment-response", value)])
    restored_url(value, PLACE, PLACE.own)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=3), st.none() | st.dictionaries(st.text(max_size=8), JSON))
def test_terms_come_back_as_they_were(more: dict[str, Any], extensions: dict[str, Any] | None) -> None:
    """Unknown members and extensions included, in a text of bounded length."""
    terms = Terms(2, {**more, **V2_ENTRY}, OFFER, {"url": "http://a", **more}, extensions)
    sealed = seal_terms(terms)
    assert sealed is not None
    assert len(sealed) <= MAX_SEALED
    back = unseal_terms(sealed)
    assert (back.version, back.entry) == (2, terms.entry)
    assert back.resource in (terms.resource, None)
    assert back.extensions in (extensions, None)


@pytest.mark.parametrize("sealed", ["", "AAAA", "%%%", "eJw"])
def test_terms_that_cannot_be_read_are_malformed(sealed: str) -> None:
    """And nothing else is raised."""
    with pytest.raises(MalformedError):
        unseal_terms(sealed)


def test_a_receipt_is_read() -> None:
    """Of both versions, of a success and of a failure."""
    ok = {"success": True, "transaction": TRANSACTION, "network": "eip155:84532"}
    no = {"success": False, "transaction": "", "network": "base-sepolia", "errorReason": "insufficient_funds"}
    for name in (b"Payment-Response", b"X-PAYMENT-RESPONSE"):
        good = read_outcome([(name, b64_encode(json.dumps(ok).encode()).encode())])
        assert good is not None
        assert (good.success, good.transaction) == (True, TRANSACTION)
        bad = read_outcome([(name, b64_encode(json.dumps(no).encode()).encode())])
        assert bad is not None
        assert (bad.success, bad.reason) == (False, "insufficient_funds")
    assert read_outcome([(b"payment-response", b"nothing"), (b"date", b"now")]) is None


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("http://127.0.0.1:4021/base/report?a=1", "https://api.example.com/shop/report?a=1"),
        ("https://127.0.0.1:4021/base", "https://api.example.com/shop"),
        ("http://api.example.com/base/report", "https://api.example.com/shop/report"),
        ("http://api.example.com/shop/report", "https://api.example.com/shop/report"),
        ("https://api.example.com/shop/report", "https://api.example.com/shop/report"),
        ("http://127.0.0.1:4021/baseless", "http://127.0.0.1:4021/baseless"),
        ("https://other.example/base/report", "https://other.example/base/report"),
        ("mcp://tool/x", "mcp://tool/x"),
        ("http://[", "http://["),
        ("", ""),
    ],
)
def test_an_upstreams_own_urls_become_public(url: str, public: str) -> None:
    """Whether it knows its own address or the one that it is called by; nobody else's change."""
    assert PLACE.to_public(url) == public


def test_a_url_that_was_made_public_goes_back() -> None:
    """To what the upstream wrote, and nothing else of the credential changes."""
    demand = read_demand([v2_header()], b"")
    assert demand is not None
    named = naming(demand, PLACE)
    assert named == PLACE.own
    payload = {"x402Version": 2, "resource": {"url": PLACE.url, "more": 1}, "accepted": V2_ENTRY, "payload": {"a": 1}}
    token = b64_encode(json.dumps(payload).encode()).encode()
    restored = json.loads(b64_decode(restored_url(token, PLACE, named), "token"))
    assert restored == payload | {"resource": {"url": PLACE.own + "/report", "more": 1}}
    other = b64_encode(json.dumps(payload | {"resource": {"url": "https://other"}}).encode()).encode()
    assert restored_url(other, PLACE, named) == other


@pytest.mark.parametrize("adds", [frozenset(Protocol), frozenset({Protocol.MPP}), frozenset[Protocol]()])
@pytest.mark.parametrize("version", [1, 2])
def test_a_completed_402_says_what_it_said_and_what_it_lacked(adds: frozenset[Protocol], version: int) -> None:
    """It can be read again by both versions' codecs, with the same terms, and only what may be added is."""
    headers = (
        [v2_header()] if version == 2 else [(b"Content-Type", b"application/json"), (b"Cache-Control", b"max-age=9")]
    )
    body = b"{}" if version == 2 else v1_body(more=1)
    demand = read_demand(headers, body)
    assert demand is not None
    told, merged = complete(
        headers,
        body,
        demand,
        PLACE,
        adds=adds,
        challenges=[b"Payment x"],
        problem={"type": "t", "title": "T", "status": 402},
        refused=None,
        exposed=b"X",
    )
    names = [name.lower() for name, _ in told]
    assert names[0] == b"www-authenticate"
    assert names.count(b"cache-control") == 1
    assert (b"cache-control", b"no-store") in told
    assert names.count(b"content-type") == 1
    again = read_demand(told, merged)
    assert again is not None
    expected = {version, *({1} if Protocol.X402_V1 in adds else ()), *({2} if Protocol.X402_V2 in adds else ())}
    assert again.versions == expected
    if again.v1 is not None:
        assert x402_v1.decode_requirements(again.v1.accepts[0], "").max_amount_required == str(OFFER.amount)
    if again.v2 is not None:
        assert x402_v2.decode_requirements(again.v2.accepts[0], "").amount == str(OFFER.amount)
        assert (again.v2.resource or {})["url"] == PLACE.url
    assert (again.body or {})["title"] == "T"
    assert version == 2 or (again.body or {})["more"] == 1
