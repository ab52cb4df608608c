"""Payments that only a facilitator can settle: what it is asked, and what its answers are taken for."""

import asyncio
from typing import Any

import pytest

from bridge.settlers.base import SettlerConfigError
from bridge.settlers.chain_reader import ChainReader
from bridge.settlers.facilitator import FacilitatorSettler
from tests.translators import foreign_samples as foreign
from tests.translators.foreign_samples import ENTRIES
from translators.errors import (
    InsufficientFunds,
    OutcomeUnknown,
    PaymentError,
    PaymentExpired,
    SettlementFailed,
    Unavailable,
    VerificationFailed,
)
from translators.foreign import find_foreign_offer, from_foreign_payload
from translators.payment import Offer, Payment, Settlement

from .payments import OFFER, RESOURCE, Recorder, a_record
from .scripted import Request, reply, scripted
from .test_facilitator import answering

KINDS = [
    {"x402Version": 2, "scheme": "exact", "network": "eip155:84532"},
    {"x402Version": 2, "scheme": "upto", "network": "eip155:84532"},
    {"x402Version": 2, "scheme": "exact", "network": foreign.SOLANA},
    {"x402Version": 2, "scheme": "exact", "network": "sui:*"},
]
HASH = "0x" + "AB" * 32
SIGNATURE = "5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnbJLgp8uirBgmQpjKhoR4tjF3ZpRzrFmBV6UjKdiSZkQUW"

names = pytest.mark.parametrize("name", ENTRIES)


def good(name: str) -> dict[str, Any]:
    """A settlement as the network writes it."""
    network = ENTRIES[name]["network"]
    return {
        "success": True,
        "transaction": HASH if network.startswith("eip155:") else SIGNATURE,
        "network": network,
        "payer": "x",
    }


def payment_of(name: str) -> tuple[Payment, Offer]:
    message = foreign.wire(name)
    offer = find_foreign_offer(message, [foreign.offer(name)])
    assert offer is not None
    return from_foreign_payload(message, offer), offer


def ask(
    name: str, path: str, answer: Any, **options: Any
) -> tuple[Settlement | PaymentError | None, Recorder, list[Request]]:
    """Verify or settle against a server that answers so."""
    recorder = Recorder()
    payment, offer = payment_of(name)

    async def main() -> tuple[Settlement | PaymentError | None, list[Request]]:
        async with scripted(answering({path: answer}, {"kinds": KINDS})) as server:
            settler = FacilitatorSettler(server.url, timeout_seconds=0.5, **options)
            await settler.start([OFFER, offer])
            try:
                if path == "/verify":
                    await settler.verify(payment, offer, RESOURCE)
                    return None, server.requests
                return await settler.settle(payment, offer, RESOURCE, recorder), server.requests
            except PaymentError as error:
                return error, server.requests
            finally:
                await settler.close()

    outcome, requests = asyncio.run(main())
    return outcome, recorder, requests


@names
def test_it_is_asked_in_the_owner_s_words(name: str) -> None:
    """Version 2, the payload as it was checked, the entry as it was written."""
    _, recorder, requests = ask(name, "/settle", reply(200, good(name)))
    assert recorder.told == [""]
    assert requests[-1].json() == {
        "x402Version": 2,
        "paymentPayload": {"x402Version": 2, "accepted": ENTRIES[name], "payload": foreign.payload_of(name)},
        "paymentRequirements": ENTRIES[name],
    }


@names
def test_its_settlement_is_told_as_its_network_tells_it(name: str) -> None:
    """Transaction, network, and the offer's amount."""
    outcome, _, _ = ask(name, "/settle", reply(200, good(name)))
    assert isinstance(outcome, Settlement)
    assert outcome.transaction == good(name)["transaction"].replace("AB", "ab")
    assert (outcome.network, str(outcome.amount)) == (ENTRIES[name]["network"], ENTRIES[name]["amount"])


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("permit2", {**good("permit2"), "transaction": SIGNATURE}),
        ("permit2", {**good("permit2"), "network": "eip155:1"}),
        ("solana", {**good("solana"), "transaction": ""}),
        ("solana", {**good("solana"), "transaction": "a b c d e f g h i j"}),
        ("solana", {**good("solana"), "transaction": "x" * 200}),
        ("solana", {**good("solana"), "network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"}),
        ("solana", {**good("solana"), "network": "eip155:84532"}),
        ("sui", {**good("sui"), "transaction": None}),
    ],
)
def test_a_success_without_a_transaction_there_is_none(name: str, answer: Any) -> None:
    """Nobody knows."""
    outcome, _, _ = ask(name, "/settle", reply(200, answer))
    assert isinstance(outcome, OutcomeUnknown)


@names
def test_it_is_verified_even_where_others_are_not(name: str) -> None:
    """Of a foreign proof nothing is known before."""
    outcome, _, requests = ask(name, "/verify", reply(200, {"isValid": True}), verify=False)
    assert outcome is None
    assert requests[-1].path == "/verify"


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("permit2_allowance_required", VerificationFailed),
        ("permit2_insufficient_balance", InsufficientFunds),
        ("permit2_deadline_expired", PaymentExpired),
        ("permit2_not_yet_valid", VerificationFailed),
        ("invalid_permit2_signature", VerificationFailed),
        ("upto_facilitator_mismatch", VerificationFailed),
        ("invalid_exact_svm_payload_transaction_simulation_failed", VerificationFailed),
        ("unexpected_verify_error", Unavailable),
    ],
)
def test_its_verdicts(reason: str, error: type[PaymentError]) -> None:
    """The words of the official SDKs."""
    outcome, _, _ = ask("permit2", "/verify", reply(200, {"isValid": False, "invalidReason": reason}))
    assert type(outcome) is error


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("permit2_allowance_required", SettlementFailed),
        ("permit2_payment_too_early", SettlementFailed),
        ("invalid_permit2_signature", SettlementFailed),
        ("upto_unauthorized_facilitator", SettlementFailed),
        # Perhaps because of what we asked for ourselves, a moment ago.
        ("permit2_invalid_nonce", OutcomeUnknown),
        ("duplicate_settlement", OutcomeUnknown),
        ("invalid_upto_evm_transaction_failed", OutcomeUnknown),
    ],
)
def test_its_refusals(reason: str, error: type[PaymentError]) -> None:
    """Certain only where nothing can have been sent."""
    answer = {"success": False, "errorReason": reason, "transaction": "", "network": ""}
    outcome, _, _ = ask("permit2", "/settle", reply(200, answer))
    assert type(outcome) is error


@pytest.mark.parametrize(("name", "times"), [("permit2", 2), ("solana", 2), ("erc7710", 1), ("sui", 1)])
def test_what_is_pending_is_asked_again_where_that_moves_nothing_twice(name: str, times: int) -> None:
    """A delegation could be redeemed a second time."""
    pending = {**good(name), "success": False, "errorReason": "settlement_pending"}
    outcome, _, requests = ask(name, "/settle", [reply(200, pending), reply(200, good(name))])
    assert len([request for request in requests if request.path == "/settle"]) == times
    assert isinstance(outcome, Settlement if times == 2 else OutcomeUnknown)


@pytest.mark.parametrize(("name", "without"), [("permit2", 0), ("upto", 1), ("erc7710", 0), ("solana", 2), ("sui", 3)])
def test_it_must_support_each(name: str, without: int) -> None:
    """At start-up, by scheme and network, in version 2."""

    async def start(kinds: Any) -> None:
        async with scripted(answering({}, {"kinds": kinds})) as server:
            settler = FacilitatorSettler(server.url, timeout_seconds=0.5)
            try:
                await settler.start([foreign.offer(name)])
            finally:
                await settler.close()

    asyncio.run(start(KINDS))
    older = [{**kind, "x402Version": 1} for kind in KINDS]
    for kinds in (KINDS[:without] + KINDS[without + 1 :], older):
        with pytest.raises(SettlerConfigError, match=f"x402-only offer {ENTRIES[name]['scheme']}"):
            asyncio.run(start(kinds))


@names
def test_nothing_is_found_of_it(name: str) -> None:
    """A token's word about its own authorizations would be none about this."""
    record = a_record(payment_of(name)[0])
    assert asyncio.run(FacilitatorSettler("http://127.0.0.1:1").find(record)) is None
    # No node is asked, though there is one.
    assert asyncio.run(ChainReader("http://127.0.0.1:1", chain_id=84532).find(record)) is None
