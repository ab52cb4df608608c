"""What a facilitator may answer, and what we make of it: money is never called safe when it may have moved."""

import asyncio
import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.settlers.base import SettlerConfigError
from bridge.settlers.facilitator import FacilitatorSettler
from translators.errors import (
    AlreadyUsed,
    InsufficientFunds,
    OutcomeUnknown,
    PaymentError,
    PaymentExpired,
    SettlementFailed,
    Unavailable,
    VerificationFailed,
)
from translators.payment import Asset, Offer, Payment, Protocol, Settlement

from .payments import OFFER, RECIPIENT, RESOURCE, USDC, Recorder, a_payment
from .scripted import Handler, Request, reply, scripted

TRANSACTION = "0x" + "AB" * 32
V2 = {"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"}]}
V1 = {"kinds": [{"x402Version": 1, "scheme": "exact", "network": "base-sepolia"}]}
SETTLED = {"success": True, "transaction": TRANSACTION, "network": "eip155:84532", "payer": "0x"}

# What stands for an answer: bytes are written as they are, then the connection is closed if they end in CLOSE.
CLOSE = b"\0close"


def answering(answers: dict[str, Any], supported: Any = V2) -> Handler:
    """Answers each path with its next (or only) answer; /supported with `supported`."""
    left = {path: list(answer) if isinstance(answer, list) else answer for path, answer in answers.items()}

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        answer = reply(200, supported) if request.path == "/supported" else left[request.path]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if callable(answer):
            await answer(writer)
            return
        writer.write(answer.removesuffix(CLOSE))
        if answer.endswith(CLOSE):
            await writer.drain()
            writer.close()

    return handler


GOOD = json.dumps(SETTLED | {"isValid": True}).encode()


async def _drip(writer: asyncio.StreamWriter) -> None:
    """A good answer, each byte in time, and all of them too late."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (60 + len(GOOD)))
    for _ in range(60):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)
    writer.write(GOOD)


async def _silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


async def _flood(writer: asyncio.StreamWriter) -> None:
    """A good answer behind two megabytes of blanks."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(64):
        writer.write(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        await writer.drain()
    writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD))


def settle(
    answer: Any, *, payment: Payment | None = None, supported: Any = V2, **options: Any
) -> tuple[Settlement | PaymentError, Recorder, list[Request]]:
    """Settle against a server that answers so; the outcome, what was recorded before, and the requests."""
    recorder = Recorder()

    async def main() -> tuple[Settlement | PaymentError, list[Request]]:
        async with scripted(answering({"/settle": answer}, supported)) as server:
            settler = FacilitatorSettler(server.url, **{"timeout_seconds": 0.5, **options})
            await settler.start([OFFER])
            try:
                return await settler.settle(payment or a_payment(), OFFER, RESOURCE, recorder), server.requests
            except PaymentError as error:
                return error, server.requests
            finally:
                await settler.close()

    outcome, requests = asyncio.run(main())
    return outcome, recorder, requests


def failed(reason: Any, status: int = 200, **members: Any) -> bytes:
    return reply(status, {"success": False, "errorReason": reason, "transaction": "", "network": "", **members})


UNKNOWN = {
    "500 without a body": reply(500, b""),
    "500 with HTML": reply(500, b"<html>Internal Server Error</html>", "Content-Type: text/html"),
    "502 with HTML": reply(502, b"<html>Bad Gateway</html>"),
    "504 with other JSON": reply(504, {"message": "Endpoint request timed out"}),
    "200 with HTML": reply(200, b"<html>hello</html>"),
    "200 with other JSON": reply(200, {"ok": True}),
    "200 with JSON that is no object": reply(200, [SETTLED]),
    "200 and empty": reply(200, b""),
    "400 with other JSON": reply(400, {"error": "Invalid request"}),
    "success as a string": reply(200, SETTLED | {"success": "true"}),
    "success without a transaction": reply(200, {"success": True, "network": "eip155:84532"}),
    "success with an empty transaction": reply(200, SETTLED | {"transaction": ""}),
    "success with a null transaction": reply(200, SETTLED | {"transaction": None}),
    "success with half a transaction": reply(200, SETTLED | {"transaction": TRANSACTION[:20]}),
    "success with a number for a transaction": reply(200, SETTLED | {"transaction": 7}),
    "success on another network": reply(200, SETTLED | {"network": "eip155:8453"}),
    "success with a status of 500": reply(500, SETTLED),
    "too deep": reply(200, b"[" * 100 + b"]" * 100),
    "half an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{" + CLOSE,
    "a connection that is closed": CLOSE,
    "something that is not HTTP": b"SSH-2.0-OpenSSH\r\n\r\n" + CLOSE,
    "nothing at all": _silence,
    "one byte now and then": _drip,
    "no end": _flood,
    "see other": reply(303, b"", "Location: /elsewhere"),
    "a transaction that was not confirmed in time": failed("settle_exact_node_failure", 500, transaction=TRANSACTION),
    "a transaction that failed": failed("transaction_failed", transaction=TRANSACTION),
    "a refusal that names a transaction": failed("insufficient_funds", transaction=TRANSACTION),
    "an unconfirmed transaction": failed("settlement_pending"),
    "a time-out": failed("transaction_timeout"),
    "a confirmation that timed out": failed("settle_exact_svm_transaction_confirmation_timed_out"),
    "whatever went wrong in sending": failed("transaction_failed"),
    "whatever went wrong": failed("unexpected_settle_error", 500),
    "a state": failed("invalid_transaction_state"),
    "a mismatch that was seen in a receipt": failed("invalid_exact_evm_transfer_event_mismatch"),
    "a reason that nobody knows": failed("computer_says_no"),
    "no reason": failed(None),
    "a reason that is no word": failed("<script>insufficient_funds</script>"),
    "a nonce that was used since it was verified": failed("invalid_exact_evm_nonce_already_used"),
}


@pytest.mark.parametrize("answer", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_outcomes(answer: Any) -> None:
    """What leaves open whether money moved is `OutcomeUnknown`, and the settlement was recorded as begun."""
    outcome, recorder, _ = settle(answer)
    assert isinstance(outcome, OutcomeUnknown)
    assert recorder.told[0] == ""


REFUSED: dict[str, tuple[bytes, type[PaymentError], str]] = {
    "no funds": (failed("insufficient_funds"), InsufficientFunds, "insufficient_funds"),
    "no funds, in the SDK's words": (
        failed("invalid_exact_evm_insufficient_balance", 400),
        InsufficientFunds,
        "insufficient_funds",
    ),
    "expired": (
        failed("invalid_exact_evm_payload_authorization_valid_before", 402),
        PaymentExpired,
        "invalid_exact_evm_payload_authorization_valid_before",
    ),
    "signature": (
        failed("invalid_exact_evm_payload_signature"),
        SettlementFailed,
        "invalid_exact_evm_payload_signature",
    ),
    "a 500 with a verdict": (failed("insufficient_funds", 500), InsufficientFunds, "insufficient_funds"),
    "a simulated transaction": (
        failed("invalid_exact_evm_transaction_simulation_failed"),
        SettlementFailed,
        "invalid_exact_evm_transaction_simulation_failed",
    ),
}


@pytest.mark.parametrize(("answer", "kind", "reason"), REFUSED.values(), ids=REFUSED)
def test_refusals(answer: bytes, kind: type[PaymentError], reason: str) -> None:
    """A refusal from before anything was sent is one, whatever its status."""
    outcome, recorder, _ = settle(answer)
    assert type(outcome) is kind
    assert outcome.reason == reason
    assert recorder.told == [""]


NOT_PROCESSED = {
    "unauthorized": reply(401, {"error": "no key"}),
    "forbidden": reply(403, b"<html>"),
    "not there": reply(404, b""),
    "a redirect": reply(307, b"", "Location: http://127.0.0.1:1/settle"),
    "moved": reply(301, b"", "Location: http://127.0.0.1:1/settle"),
    "forbidden, as a failure": failed("", 403),
}


@pytest.mark.parametrize("answer", NOT_PROCESSED.values(), ids=NOT_PROCESSED)
def test_not_processed(answer: bytes) -> None:
    """Where the server says that it did nothing, nothing was charged; and a redirect is not followed."""
    outcome, recorder, requests = settle(answer)
    assert type(outcome) is Unavailable
    assert recorder.told == [""]
    assert [request.path for request in requests] == ["/supported", "/settle"]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0", 1),
        ("99999999", 300),
        ("-1", 5),
        ("soon", 5),
        ("", 5),
        ("Wed, 21 Oct 2026 07:28:40 GMT", 41),
        ("Wednesday, 21-Oct-26 07:28:40 GMT", 41),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 300),
    ],
)
def test_too_many_requests(header: str, seconds: int) -> None:
    """The facilitator's own waiting time is passed on, as a number or as a date, within reason."""
    now = datetime(2026, 10, 21, 7, 28, tzinfo=UTC).timestamp()
    outcome, _, _ = settle(reply(429, b"", f"Retry-After: {header}"), clock=lambda: now)
    assert type(outcome) is Unavailable
    assert outcome.retry_after == seconds


def test_nobody_listens() -> None:
    """A refused connection sent nothing, so nothing was charged."""

    async def main() -> None:
        async with scripted(answering({})) as server:
            settler = FacilitatorSettler(server.url, timeout_seconds=1)
            await settler.start([OFFER])
        settler._http._url = "http://127.0.0.1:1"  # the server is gone, and so are its kept connections
        with pytest.raises(Unavailable) as caught:
            await settler.settle(a_payment(), OFFER, RESOURCE, Recorder())
        assert type(caught.value) is Unavailable
        await settler.close()

    asyncio.run(main())


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("version", [1, 2])
def test_settled(protocol: Protocol, version: int) -> None:
    """A payment of any protocol is settled in the version that the facilitator speaks."""
    payment = a_payment(protocol=protocol)
    network = {1: "base-sepolia", 2: "eip155:84532"}[version]
    answer = reply(200, SETTLED | {"network": network})
    outcome, recorder, requests = settle(answer, payment=payment, supported={1: V1, 2: V2}[version])
    assert isinstance(outcome, Settlement)
    assert outcome.transaction == TRANSACTION.lower()
    assert (outcome.payment_id, outcome.protocol, outcome.amount) == (payment.id, protocol, 1_000)
    assert recorder.told == [""]
    body = requests[-1].json()
    assert body["x402Version"] == body["paymentPayload"]["x402Version"] == version
    assert body["paymentRequirements"]["network"] == network
    assert body["paymentPayload"]["payload"]["authorization"]["nonce"] == payment.authorization.nonce
    if version == 2:
        assert body["paymentPayload"]["accepted"] == body["paymentRequirements"]
    else:
        assert body["paymentRequirements"]["resource"] == RESOURCE.url


def test_a_refusing_journal_keeps_the_payment_here() -> None:
    """When the settlement cannot be recorded as begun, it is not begun."""

    async def main() -> None:
        async with scripted(answering({"/settle": reply(200, SETTLED)})) as server:
            settler = FacilitatorSettler(server.url)
            await settler.start([OFFER])
            with pytest.raises(Unavailable, match="no store"):
                await settler.settle(a_payment(), OFFER, RESOURCE, Recorder(Unavailable("no store")))
            assert [request.path for request in server.requests] == ["/supported"]
            await settler.close()

    asyncio.run(main())


def test_pending_is_asked_again() -> None:
    """A facilitator that has sent the payment is asked once more, and its transaction is recorded meanwhile."""
    pending = failed("settlement_pending", 500, transaction=TRANSACTION)
    outcome, recorder, requests = settle([pending, reply(200, SETTLED)])
    assert isinstance(outcome, Settlement)
    assert recorder.told == ["", TRANSACTION.lower()]
    assert requests[-1].body == requests[-2].body


@pytest.mark.parametrize("second", [reply(200, b""), failed("insufficient_funds"), reply(401, b""), CLOSE])
def test_pending_stays_unknown(second: bytes) -> None:
    """No later answer makes a payment that was sent one that was not."""
    outcome, _, requests = settle([failed("settlement_pending", 500, transaction=TRANSACTION), second])
    assert isinstance(outcome, OutcomeUnknown)
    assert TRANSACTION.lower() in outcome.detail
    assert len(requests) == 3


VERDICTS: dict[str, tuple[Any, type[PaymentError] | None, str | None]] = {
    "valid": (reply(200, {"isValid": True, "payer": "0x"}), None, None),
    "no funds": (reply(200, {"isValid": False, "invalidReason": "insufficient_funds"}), InsufficientFunds, None),
    "used": (
        reply(400, {"isValid": False, "invalidReason": "invalid_exact_evm_nonce_already_used"}),
        AlreadyUsed,
        None,
    ),
    "expired": (reply(200, {"isValid": False, "invalidReason": "payment_expired"}), PaymentExpired, None),
    "kept": (
        reply(200, {"isValid": False, "invalidReason": "Invalid_Exact_EVM_payload_to_address_kyt"}),
        VerificationFailed,
        "invalid_exact_evm_payload_to_address_kyt",
    ),
    "nothing to repeat": (
        reply(200, {"isValid": False, "invalidReason": "see <a href='//x'>here</a>"}),
        VerificationFailed,
        "invalid_exact_evm_payload_signature",
    ),
    "no reason": (reply(200, {"isValid": False}), VerificationFailed, "invalid_exact_evm_payload_signature"),
    "a 500 with a verdict": (
        reply(500, {"isValid": False, "invalidReason": "insufficient_funds"}),
        InsufficientFunds,
        None,
    ),
    "unexpected": (reply(200, {"isValid": False, "invalidReason": "unexpected_verify_error"}), Unavailable, None),
    "valid, with a status of 500": (reply(500, {"isValid": True}), Unavailable, None),
    "valid, as a number": (reply(200, {"isValid": 1}), Unavailable, None),
    "HTML": (reply(503, b"<html>"), Unavailable, None),
    "empty": (reply(200, b""), Unavailable, None),
    "other JSON": (reply(400, {"error": "Invalid request"}), Unavailable, None),
    "rate limit": (reply(429, b"", "Retry-After: 9"), Unavailable, None),
    "reset": (CLOSE, Unavailable, None),
    "silence": (_silence, Unavailable, None),
    "drip": (_drip, Unavailable, None),
    "flood": (_flood, Unavailable, None),
}


@pytest.mark.parametrize(("answer", "kind", "reason"), VERDICTS.values(), ids=VERDICTS)
def test_verify(answer: Any, kind: type[PaymentError] | None, reason: str | None) -> None:
    """A verdict is taken as one; whatever is none charges nobody and asks nobody to pay again."""

    async def main() -> PaymentError | None:
        async with scripted(answering({"/verify": answer})) as server:
            settler = FacilitatorSettler(server.url, timeout_seconds=0.5)
            await settler.start([OFFER])
            try:
                await settler.verify(a_payment(), OFFER, RESOURCE)
            except PaymentError as error:
                return error
            finally:
                await settler.close()
            return None

    error = asyncio.run(main())
    if kind is None:
        assert error is None
    else:
        assert type(error) is kind
        assert reason is None or (error is not None and error.reason == reason)


def test_verify_can_be_left_out() -> None:
    """With `verify=False` the facilitator hears of a payment when it is settled."""

    async def main() -> None:
        async with scripted(answering({})) as server:
            settler = FacilitatorSettler(server.url, verify=False)
            await settler.start([OFFER])
            await settler.verify(a_payment(), OFFER, RESOURCE)
            assert [request.path for request in server.requests] == ["/supported"]
            await settler.close()

    asyncio.run(main())


def start(supported: bytes | Any, offer: Offer = OFFER) -> int | str:
    """The version that start-up chooses, or what it says."""

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(supported if isinstance(supported, bytes) else reply(200, supported))

    async def main() -> int | str:
        async with scripted(handler) as server:
            settler = FacilitatorSettler(server.url)
            try:
                await settler.start([offer])
            except SettlerConfigError as error:
                return str(error)
            finally:
                await settler.close()
            return settler._versions[offer.asset.chain_id]

    return asyncio.run(main())


def test_start_chooses_the_version() -> None:
    """Version 2 where there is a choice, by whatever name the network goes; entries of other forms are passed over."""
    assert start(V2) == 2
    assert start(V1) == 1
    assert start({"kinds": V1["kinds"] + V2["kinds"], "extensions": [], "signers": {}}) == 2
    assert start({"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:*"}]}) == 2
    odd = [7, {}, {"x402Version": 2, "scheme": "exact", "network": "eip155:x"}]
    assert start({"kinds": odd + V1["kinds"]}) == 1


def test_start_refuses_what_cannot_be_settled() -> None:
    """An offer that the facilitator does not settle stops the start, which says what it does settle."""
    other = [
        {"x402Version": 2, "scheme": "exact", "network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"},
        {"x402Version": 2, "scheme": "upto", "network": "eip155:84532"},
        {"x402Version": 1, "scheme": "exact", "network": "base"},
    ]
    said = str(start({"kinds": other}))
    assert "exact on eip155:84532" in said
    assert "upto on eip155:84532 (v2)" in said
    assert "exact on base (v1)" in said
    unnamed = Offer(Asset(31337, USDC.address, 6, "USDC", "2"), 1, RECIPIENT)
    assert "eip155:31337" in str(start(V1, unnamed))


def test_start_refuses_what_is_no_facilitator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another kind of server, or none, is told at start-up; a facilitator that is late is waited for."""
    monkeypatch.setattr("bridge.settlers.facilitator._PAUSE_SECONDS", 0.01)
    assert "status 404" in str(start(reply(404, b"")))
    assert "something else" in str(start(reply(200, b"<html>")))
    assert "status 503" in str(start(reply(503, b"")))
    assert "status 301" in str(start(reply(301, b"", "Location: /x402/supported")))

    async def nobody() -> None:
        with pytest.raises(SettlerConfigError, match="does not answer"):
            await FacilitatorSettler("http://127.0.0.1:1").start([OFFER])

    asyncio.run(nobody())

    answers = [reply(503, b""), CLOSE, reply(200, V2)]

    async def late(request: Request, writer: asyncio.StreamWriter) -> None:
        answer = answers.pop(0)
        writer.write(answer.removesuffix(CLOSE))
        if answer is CLOSE:
            writer.close()

    async def main() -> None:
        async with scripted(late) as server:
            settler = FacilitatorSettler(server.url)
            await settler.start([OFFER])
            await settler.close()

    asyncio.run(main())
    assert not answers


def test_authentication() -> None:
    """Headers are made for each request from its method and URL, and may be awaited."""
    asked: list[tuple[str, str]] = []

    async def headers(method: str, url: str) -> dict[str, str]:
        asked.append((method, url.rpartition("/")[2]))
        return {"Authorization": f"Bearer {len(asked)}"}

    outcome, _, requests = settle(reply(200, SETTLED), headers=headers)
    assert isinstance(outcome, Settlement)
    assert asked == [("GET", "supported"), ("POST", "settle")]
    assert [request.headers["authorization"] for request in requests] == ["Bearer 1", "Bearer 2"]


def test_failing_authentication_sends_nothing() -> None:
    """A key server that is down costs nobody anything, and its secrets stay out of the error."""
    calls = 0

    def headers(method: str, url: str) -> dict[str, str]:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise RuntimeError("secret-key-material")
        return {}

    outcome, recorder, requests = settle(reply(200, SETTLED), headers=headers)
    assert type(outcome) is Unavailable
    assert "secret" not in repr(outcome)
    assert recorder.told == []
    assert len(requests) == 1


def test_url() -> None:
    """A facilitator whose word anybody on the way could forge is refused."""
    for url in (
        "https://x402.org/facilitator",
        "http://127.0.0.1:4021",
        "http://localhost:4021/",
        "http://[::1]:80",
        "http://facilitator:4021",
    ):
        FacilitatorSettler(url)
    for url in ("http://x402.org/facilitator", "ftp://x402.org", "x402.org", "", "https://x402.org/?key=1"):
        with pytest.raises(ValueError, match="facilitator"):
            FacilitatorSettler(url)


def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither signature nor answer reaches a log, at any level, nor an error."""
    caplog.set_level(logging.DEBUG)
    payment = a_payment()
    signature = payment.authorization.signature.hex()
    for answer in (reply(200, SETTLED), reply(500, b"<html>body-of-the-answer</html>")):
        outcome, _, _ = settle(answer, payment=payment)
        for text in (caplog.text, repr(outcome)):
            assert signature not in text
            assert "body-of-the-answer" not in text


def test_many_at_once() -> None:
    """Settlements share connections and do not wait for each other."""

    async def slow(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(reply(200, SETTLED))

    async def main() -> float:
        async with scripted(answering({"/settle": slow})) as server:
            settler = FacilitatorSettler(server.url)
            await settler.start([OFFER])
            began = asyncio.get_running_loop().time()
            payments = [a_payment() for _ in range(50)]
            await asyncio.gather(*(settler.settle(one, OFFER, RESOURCE, Recorder()) for one in payments))
            took = asyncio.get_running_loop().time() - began
            await settler.close()
            return took

    assert asyncio.run(main()) < 2


WALLETS: dict[str, tuple[Any, type[PaymentError] | None]] = {
    "good": ({"isValid": True}, None),
    "not his": ({"isValid": False, "invalidReason": "invalid_exact_evm_payload_signature"}, VerificationFailed),
    "used": ({"isValid": False, "invalidReason": "invalid_exact_evm_nonce_already_used"}, AlreadyUsed),
    "poor": ({"isValid": False, "invalidReason": "insufficient_funds"}, InsufficientFunds),
    "undecided": ({"isValid": False, "invalidReason": "unexpected_verify_error"}, Unavailable),
    "no answer": (CLOSE, Unavailable),
    "silence": (_silence, Unavailable),
}
"""What `/verify` says of a contract wallet's payment, and what that is."""


@pytest.mark.parametrize(("answer", "error"), WALLETS.values(), ids=WALLETS)
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.anyio
async def test_without_a_node_the_facilitator_judges_contract_wallets(
    answer: Any, error: type[PaymentError] | None, verify: bool
) -> None:
    """It is asked once, whether or not it is asked about keys, and its whole verdict counts."""
    by_wallet = a_payment(signature=lambda signed: b"\1" + signed)
    verdict = answer if callable(answer) or answer == CLOSE else reply(200, answer)
    async with scripted(answering({"/verify": verdict})) as server:
        settler = FacilitatorSettler(server.url, verify=verify, timeout_seconds=0.5)
        await settler.start([OFFER])
        assert await settler.check_signature(a_payment(), OFFER, RESOURCE) is False
        if error is None:
            assert await settler.check_signature(by_wallet, OFFER, RESOURCE) is True
        else:
            with pytest.raises(error):
                await settler.check_signature(by_wallet, OFFER, RESOURCE)
        await settler.close()
        assert [request.path for request in server.requests] == ["/supported", "/verify"]
        sent = server.requests[1].json()["paymentPayload"]["payload"]["signature"]
        assert sent == "0x" + by_wallet.authorization.signature.hex()
