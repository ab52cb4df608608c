"""Offers that x402 v2 alone can carry: shown to its clients, paid once, and nobody else's 402 is the worse for it."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import structlog

from bridge.asgi import PaymentMiddleware
from bridge.config import PaymentConfig
from bridge.pricing import Paid
from bridge.settlers.base import SettlerConfigError
from bridge.settlers.chain import ChainSettler
from bridge.settlers.null import NullSettler
from bridge.stores import MemoryStore
from bridge.testing import FakeSettler
from tests.bridge.harness import KEY, PROTOCOLS, RECIPIENT, V1, V2, Answer, House
from tests.translators import foreign_samples as foreign
from tests.translators.foreign_samples import ENTRIES, permit2, transaction
from translators.encoding import b64_decode, b64_encode
from translators.errors import AlreadyUsed, OutcomeUnknown, SettlementFailed, Unavailable, VerificationFailed
from translators.foreign import X402Only
from translators.lifecycle import State
from translators.payment import Payment
from translators.price import PriceError
from translators.wire import x402_v1, x402_v2

pytestmark = pytest.mark.anyio

names = pytest.mark.parametrize("name", ENTRIES)

PRICES: list[Any] = [*map(X402Only, ENTRIES.values()), "0.01"]


def house(*prices: Any, handler: Any = None, **settings: Any) -> House:
    """An application that takes every foreign payment beside the usual ones, at the time of the samples."""
    made = House({"GET /report": list(prices or PRICES)}, handler=handler, **settings)
    made.clock.now = float(foreign.NOW)
    return made


def header(name: str, payload: Any = None, **more: Any) -> tuple[str, str]:
    """A foreign credential as a client sends it."""
    return x402_v2.CREDENTIAL_HEADER, x402_v2.encode_payment_payload(foreign.wire(name, payload, **more))


def receipt(answer: Answer) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(b64_decode(answer.headers[x402_v2.RECEIPT_HEADER], "receipt"))
    return decoded


def raising(error: Exception) -> Callable[[Payment], None]:
    def raise_it(_: Payment) -> None:
        raise error

    return raise_it


# The 402


async def test_other_clients_see_what_they_saw() -> None:
    """The v1 body, its header and the MPP challenges are those of the same route without the x402-only offers."""
    both, plain = await house().visit(), await house("0.01").visit()
    assert both.json()["accepts"] == plain.json()["accepts"]
    assert both.headers[x402_v1.CHALLENGE_HEADER] == plain.headers[x402_v1.CHALLENGE_HEADER]
    assert len(both.headers.get_list("www-authenticate")) == len(plain.headers.get_list("www-authenticate")) == 1


async def test_v2_clients_see_all_the_common_first() -> None:
    """Whatever order they were written in; each as its owner wrote it."""
    required = x402_v2.decode_payment_required((await house().visit()).headers[x402_v2.CHALLENGE_HEADER])
    assert required.accepts[0]["extra"] == {"name": "USDC", "version": "2"}
    assert required.accepts[1:] == list(ENTRIES.values())


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_common_offer_is_paid_as_ever(protocol: Any) -> None:
    """In all three protocols, on a route that has the others as well."""
    made = house()
    assert (await made.pay(protocol)).status_code == 200
    assert "x402_only" not in made.event("payment.settled")


async def test_a_route_may_have_nothing_else() -> None:
    """Then MPP is offered nothing, v1 an empty list, and a v2 client pays."""
    made = house(X402Only(ENTRIES["upto"]))
    answer = await made.visit()
    assert answer.status_code == 402
    assert "www-authenticate" not in answer.headers
    assert answer.json()["accepts"] == []
    assert made.event("payment.challenged")["network"] == "eip155:84532"
    assert (await made.visit(headers=[header("upto")])).status_code == 200


# Paying


@names
async def test_it_is_paid(name: str) -> None:
    """Verified, settled once, delivered, and told in x402's words."""
    made = house()
    answer = await made.visit(headers=[header(name)])
    assert (answer.status_code, answer.text) == (200, "the report")
    said = receipt(answer)
    assert (said["success"], said["network"]) == (True, ENTRIES[name]["network"])
    assert said["amount"] == ENTRIES[name]["amount"]
    assert ("payer" in said) == (name != "sui")
    assert len(made.settler.settlements) == 1
    row = await made.record()
    assert row.state is State.DELIVERED
    assert row.id == made.settler.settlements[0].payment_id
    assert row.chain_id == (84532 if ENTRIES[name]["network"].startswith("eip155:") else 0)
    assert await made.store.get(row.id) == row


@names
async def test_every_event_says_that_it_was_x402_only(name: str) -> None:
    """With protocol, scheme and network, so that a report can list it; no field of the proof."""
    made = house()
    await made.visit(headers=[header(name)])
    assert made.events == ["payment.verified", "payment.settled", "payment.delivered"]
    for _, fields in made.told:
        assert (fields["protocol"], fields["x402_only"]) == ("x402-v2", True)
        assert (fields["scheme"], fields["network"]) == (ENTRIES[name]["scheme"], ENTRIES[name]["network"])
        assert ("payer" in fields) == (name != "sui")
    everything = json.dumps([*made.told, msgspec.to_builtins(await made.record())])
    assert foreign.SIGNATURE[2:20] not in everything
    assert b64_encode(b"\x5e" * 30)[:20] not in everything


@names
async def test_the_same_payment_again_gets_the_same_answer_once(name: str) -> None:
    """Settled once; its client gets the kept answer, another client nothing."""
    made = house()
    first = await made.visit(headers=[header(name)])
    again = await made.visit(headers=[header(name)])
    assert (again.status_code, again.text, receipt(again)) == (200, first.text, receipt(first))
    other = await made.visit(headers=[header(name)], client=("192.0.2.1", 1))
    assert (other.status_code, other.problem) == (402, "invalid-challenge")
    assert (made.runs, len(made.settler.settlements)) == (1, 1)


async def test_both_receipts_are_one_here() -> None:
    """MPP has no word for it."""
    answer = await house(both_receipts=True).visit(headers=[header("solana")])
    assert "payment-receipt" not in answer.headers


async def test_a_failing_handler_costs_nothing() -> None:
    """And the same payload may be presented again."""
    made = house()
    good, made.messages = (
        made.messages,
        [
            {"type": "http.response.start", "status": 500, "headers": []},
            {"type": "http.response.body", "body": b""},
        ],
    )
    assert (await made.visit(headers=[header("permit2")])).status_code == 500
    assert made.settler.settlements == []
    made.messages = good
    assert (await made.visit(headers=[header("permit2")])).status_code == 200


async def test_settled_first_it_is_settled_before_the_handler() -> None:
    """The policy is the route's, as for everything else."""
    made = House({"GET /report": Paid(X402Only(ENTRIES["permit2"]), settle="first")})
    made.clock.now = float(foreign.NOW)
    made.settler.on_settle = raising(SettlementFailed("no", reason="insufficient_funds"))
    answer = await made.visit(headers=[header("permit2")])
    assert (answer.status_code, made.runs) == (402, 0)
    assert receipt(answer) == {
        "success": False,
        "transaction": "",
        "network": "eip155:84532",
        "payer": receipt(answer)["payer"],
        "errorReason": "insufficient_funds",
    }


# Refusing


async def test_a_changed_echo_is_refused() -> None:
    """Nothing is asked, claimed or settled."""
    made = house()
    answer = await made.visit(headers=[header("permit2", accepted={**ENTRIES["permit2"], "amount": "1"})])
    assert (answer.status_code, answer.problem) == (402, "verification-failed")
    assert answer.json()["error"] == "invalid_payment_requirements"
    assert made.settler.verified == []


async def test_another_resource_is_refused() -> None:
    """As for every x402 v2 payment."""
    answer = await house().visit(headers=[header("solana", resource={"url": "http://localhost/other"})])
    assert answer.json()["error"] == "invalid_payment_requirements"


async def test_an_unknown_scheme_is_refused_as_ever() -> None:
    """What no offer of the route says."""
    answer = await house("0.01").visit(headers=[header("upto")])
    assert (answer.status_code, answer.json()["error"]) == (402, "unsupported_scheme")


async def test_a_late_permit_is_refused() -> None:
    """Before anybody is asked."""
    made = house()
    made.clock.advance(60)
    answer = await made.visit(headers=[header("permit2")])
    assert (answer.status_code, answer.problem) == (402, "payment-expired")
    assert made.settler.verified == []


async def test_what_the_facilitator_refuses_is_not_claimed() -> None:
    """Its verdict comes before the claim, so nobody can occupy another's nonce."""
    made = house()
    made.settler.on_verify = raising(VerificationFailed("no"))
    answer = await made.visit(headers=[header("permit2")])
    assert (answer.status_code, made.runs) == (402, 0)
    assert made.store._rows == {}  # type: ignore[attr-defined]


# The same again, when something went wrong between


def _once() -> Any:
    """An application whose first answer breaks off after its money has moved."""
    runs = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        runs.append(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if len(runs) == 1:
            raise OSError("gone")
        await send({"type": "http.response.body", "body": b"the report"})

    return app


@names
async def test_paid_and_not_delivered_it_is_delivered(name: str) -> None:
    """The facilitator says "used", and this very proof was judged before: its payer gets what he paid for."""
    made = house(handler=_once())
    with pytest.raises(OSError, match="gone"):
        await made.visit(headers=[header(name)])
    assert (await made.record()).state is State.SETTLED
    answer = await made.visit(headers=[header(name)])
    assert (answer.status_code, answer.text) == (200, "the report")
    assert len(made.settler.settlements) == 1


FORGED = {
    "permit2": permit2(signature="0x" + "01" * 65),
    "upto": permit2("upto", deadline=str(foreign.NOW + 59)),
    "solana": {"transaction": b64_encode(transaction(signatures=[bytes(64), b"\x07" * 64]))},
}


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("state", ["settled", "delivered"])
async def test_a_forged_proof_gets_nothing_of_another_s(name: str, state: str) -> None:
    """Whoever knows owner and nonce from the chain can write a payload of the same identity: its proof is refused."""
    made = house(handler=_once() if state == "settled" else None)
    if state == "settled":
        with pytest.raises(OSError, match="gone"):
            await made.visit(headers=[header(name)])
    else:
        await made.visit(headers=[header(name)])
    runs = made.runs
    answer = await made.visit(headers=[header(name, FORGED[name])])
    assert (answer.status_code, answer.problem) == (402, "invalid-challenge")
    assert made.runs == runs
    made.clock.advance(60)
    assert (await made.visit(headers=[header(name, FORGED[name])])).status_code == 402
    assert made.runs == runs


async def test_one_nonce_is_one_payment_for_both_schemes() -> None:
    """A facilitator that looks at signatures only would take it for both."""
    made = house()
    assert (await made.visit(headers=[header("permit2")])).status_code == 200
    made.settler.settlements.clear()
    answer = await made.visit(headers=[header("upto")])
    assert (answer.status_code, answer.problem) == (402, "invalid-challenge")
    assert made.settler.settlements == []


@pytest.mark.parametrize(("name", "again"), [("permit2", True), ("solana", True), ("erc7710", False), ("sui", False)])
async def test_an_unknown_outcome_is_handed_over_again_only_where_that_is_safe(name: str, again: bool) -> None:
    """A nonce and a message move money once; a delegation may move it twice, so it stays unknown."""
    made = house()
    made.settler.can_tell = False
    made.settler.on_settle = raising(OutcomeUnknown("who knows"))
    assert (await made.visit(headers=[header(name)])).status_code == 503
    made.settler.on_settle = None
    answer = await made.visit(headers=[header(name)])
    assert (answer.status_code, len(made.settler.settlements)) == ((200, 1) if again else (503, 0))
    reconciled = made.event("payment.reconciled")
    assert (reconciled["x402_only"], reconciled["network"]) == (True, ENTRIES[name]["network"])


class OneTransaction(FakeSettler):
    """A facilitator that calls everything a success that went in one and the same transaction."""

    async def settle(self, *args: Any) -> Any:
        return msgspec.structs.replace(await super().settle(*args), transaction="5" * 64)


async def test_one_transaction_is_one_payment() -> None:
    """Two encodings of one proof, which nobody here could tell to be the same: the second is served nothing."""
    made = house(settler=OneTransaction())
    assert (await made.visit(headers=[header("sui")])).status_code == 200
    other = {**foreign.payload_of("sui"), "transaction": b64_encode(b"\x5e" * 301)}
    answer = await made.visit(headers=[header("sui", other)])
    assert (answer.status_code, answer.json()["error"]) == (402, "duplicate_settlement")


async def test_clients_without_a_readable_payer_do_not_share_keys() -> None:
    """One cannot have another's answer by the same idempotency key."""
    made = house()
    key = ("Idempotency-Key", "a key of somebody")
    other = {"transaction": b64_encode(b"\x5f" * 300)}
    for payload in (None, other):
        assert (await made.visit(headers=[header("sui", payload), key])).status_code == 200
    assert len(made.settler.settlements) == 2


# Starting


async def test_the_settler_is_asked_about_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one of them is among the offers that it has to be able to settle."""
    made = house()
    await made.app._start()
    assert [offer.foreign is not None for offer in made.settler.offers] == [False, True, True, True, True, True]
    await made.app._stop()


@pytest.mark.parametrize("settler", [ChainSettler("http://127.0.0.1:1", "0x" + "11" * 32), NullSettler()])
async def test_only_a_facilitator_can_settle_it(settler: Any) -> None:
    """The others refuse to start, and name it."""
    config = PaymentConfig(
        recipient=RECIPIENT,
        settler=settler,
        network="base-sepolia",
        store=MemoryStore(),
        secret_keys=[KEY],
        event_store=None,
    )
    app = PaymentMiddleware(house().handler, config=config, routes={"GET /report": PRICES})  # type: ignore[arg-type]
    with pytest.raises(SettlerConfigError, match="x402-only offer exact by permit2 on eip155:84532"):
        await app._start()


def test_start_up_lists_them() -> None:
    """One line each: route, scheme, network, and what moves the money."""
    with structlog.testing.capture_logs() as lines:
        house()
    assert [
        (line["route"], line["scheme"], line["network"], line["transfer"])
        for line in lines
        if line["event"] == "config.x402_only"
    ] == [
        ("GET /report", "exact", "eip155:84532", "permit2"),
        ("GET /report", "upto", "eip155:84532", "permit2"),
        ("GET /report", "exact", "eip155:84532", "erc7710"),
        ("GET /report", "exact", foreign.SOLANA, "transaction"),
        ("GET /report", "exact", "sui:mainnet", "transaction"),
    ]


@pytest.mark.parametrize(
    ("price", "said"),
    [
        (X402Only({**ENTRIES["permit2"], "amount": "0.01"}), "GET /report: amount"),
        (X402Only({}), "GET /report: X402Only"),
        ([X402Only(ENTRIES["upto"]), X402Only(dict(reversed(ENTRIES["upto"].items())))], "twice"),
        (Paid([X402Only(ENTRIES["upto"]), "0.01"], protocols=[V1]), "x402-v2"),
    ],
)
def test_a_bad_one_stops_the_program(price: Any, said: str) -> None:
    """With the route's name."""
    with pytest.raises(PriceError, match=said):
        House({"GET /report": price})


async def test_a_function_of_the_request_cannot_make_one() -> None:
    """Nobody would have asked whether it can be settled."""
    made = House({"GET /report": lambda request: X402Only(ENTRIES["upto"])})
    with pytest.raises(PriceError, match="start-up"):
        await made.visit()


def test_it_is_an_offer_of_v2_alone() -> None:
    """A route that takes v2 only may have it."""
    House({"GET /report": Paid([X402Only(ENTRIES["upto"]), "0.01"], protocols=[V2])})


async def test_a_facilitator_that_is_away_is_said_so() -> None:
    """503 and no challenge: nothing was claimed."""
    made = house()
    made.settler.on_verify = raising(Unavailable("away"))
    answer = await made.visit(headers=[header("solana")])
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


async def test_used_elsewhere_it_is_refused() -> None:
    """A nonce that somebody used on the chain."""
    made = house()
    made.settler.on_verify = raising(AlreadyUsed("used"))
    assert (await made.visit(headers=[header("permit2")])).problem == "invalid-challenge"
