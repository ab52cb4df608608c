"""Rules about what a payment got: its receipt, the balance, and the same payment once more."""

import json
import re
from collections.abc import Iterator
from typing import Any

from translators.lint.probe import Exchange, PaidExchange
from translators.lint.reading import Reading, as_json, unbase64
from translators.lint.rule import Kind, Rule, Severity
from translators.networks import caip2, v1_network
from translators.payment import Protocol
from translators.wire import mpp, x402_v1, x402_v2

__all__ = ["RECEIPT_HEADERS", "RULES", "receipt_of"]

_RECEIPTS = "x402 transports-v1/http and transports-v2/http, Settlement Response Delivery"
_CORE = "draft-httpauth-payment-00"

RECEIPT_HEADERS = {
    Protocol.X402_V1: x402_v1.RECEIPT_HEADER,
    Protocol.X402_V2: x402_v2.RECEIPT_HEADER,
    Protocol.MPP: mpp.RECEIPT_HEADER,
}
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")


def receipt_of(protocol: Protocol, answer: Exchange) -> dict[str, Any] | None:
    """The receipt in an answer; None where there is none that can be read."""
    value = answer.value(RECEIPT_HEADERS[protocol])
    receipt = as_json(unbase64(value)) if value else None
    return receipt if isinstance(receipt, dict) else None


def transaction_of(protocol: Protocol, answer: Exchange) -> str:
    """The transaction that a receipt names; empty where it names none."""
    receipt = receipt_of(protocol, answer) or {}
    told = receipt.get("reference" if protocol is Protocol.MPP else "transaction")
    return told if isinstance(told, str) else ""


def _ok(answer: Exchange) -> bool:
    return 200 <= answer.status < 300


def _refused(reading: Reading) -> Iterator[str]:
    for paid in reading.probe.paid:
        if 300 <= paid.answer.status < 500:
            yield f"{paid.protocol.value}: {paid.answer.status}{_reason(paid)}"


def _failed(reading: Reading) -> Iterator[str]:
    for paid in reading.probe.paid:
        if paid.answer.status >= 500:
            yield f"{paid.protocol.value}: {paid.answer.status}{_reason(paid)}"


def _reason(paid: PaidExchange) -> str:
    receipt, body = receipt_of(paid.protocol, paid.answer), as_json(paid.answer.body)
    members = {**(body if isinstance(body, dict) else {}), **(receipt or {})}
    told = members.get("errorReason") or members.get("detail") or members.get("error")
    return f", {json.dumps(told)[:120]}" if told else ""


def _charged_for_nothing(reading: Reading) -> Iterator[str]:
    for paid in reading.probe.paid:
        if not _ok(paid.answer) and paid.spent:
            yield f"{paid.protocol.value}: {paid.answer.status}, and {paid.spent} atomic units are gone"


def _receipt_missing(reading: Reading) -> Iterator[str]:
    for paid in reading.probe.paid:
        if _ok(paid.answer) and not paid.answer.values(RECEIPT_HEADERS[paid.protocol]):
            yield f"{paid.protocol.value}: no {RECEIPT_HEADERS[paid.protocol]}"


def _receipt_wrong(reading: Reading) -> Iterator[str]:
    for paid in reading.probe.paid:
        header = RECEIPT_HEADERS[paid.protocol]
        if not _ok(paid.answer) or not paid.answer.values(header):
            continue
        receipt = receipt_of(paid.protocol, paid.answer)
        if receipt is None:
            yield f"{paid.protocol.value}: {header} is not base64 of a JSON object"
            continue
        problems = _mpp_receipt if paid.protocol is Protocol.MPP else _x402_receipt
        for problem in problems(paid, receipt):
            yield f"{paid.protocol.value}: {problem}"


def _x402_receipt(paid: PaidExchange, receipt: dict[str, Any]) -> Iterator[str]:
    if receipt.get("success") is not True:
        yield "success is not true on a success"
    networks = (caip2(paid.chain_id), v1_network(paid.chain_id))
    wanted = networks[:1] if paid.protocol is Protocol.X402_V2 else networks
    if receipt.get("network") not in wanted:
        yield f"network is {str(receipt.get('network'))[:40]!r}"
    if not _HASH.fullmatch(str(receipt.get("transaction"))):
        yield "transaction is no transaction's hash"
    payer = receipt.get("payer")
    if payer is not None and str(payer).lower() != paid.payer.lower():
        yield "payer is somebody else"


def _mpp_receipt(paid: PaidExchange, receipt: dict[str, Any]) -> Iterator[str]:
    if receipt.get("status") != "success":
        yield f"status is {str(receipt.get('status'))[:40]!r}"
    for name in ("method", "timestamp", "reference"):
        if not isinstance(receipt.get(name), str):
            yield f"{name} is missing"
    chain_id = receipt.get("chainId")
    if chain_id is not None and chain_id != paid.chain_id:
        yield f"chainId is {chain_id!r}"


def _receipt_members(reading: Reading) -> Iterator[str]:
    for paid in reading.probe.paid:
        receipt = receipt_of(paid.protocol, paid.answer)
        if paid.protocol is Protocol.MPP and receipt is not None:
            missing = [name for name in ("challengeId", "chainId") if name not in receipt]
            if missing:
                yield f"no {' and no '.join(missing)}"


def _receipt_cached(reading: Reading) -> Iterator[str]:
    for paid in reading.probe.paid:
        kept = {"private", "no-store"} & set(paid.answer.elements("Cache-Control"))
        if paid.answer.values(mpp.RECEIPT_HEADER) and not kept:
            yield f"{paid.protocol.value}: Cache-Control is {paid.answer.value('Cache-Control') or 'absent'}"


def _receipt_on_error(reading: Reading) -> Iterator[str]:
    for paid in reading.probe.paid:
        if paid.answer.status >= 400 and paid.answer.values(mpp.RECEIPT_HEADER):
            yield f"{paid.protocol.value}: {mpp.RECEIPT_HEADER} with {paid.answer.status}"


def _balance(reading: Reading) -> Iterator[str]:
    for paid in reading.probe.paid:
        if _ok(paid.answer) and paid.spent is not None and paid.spent != paid.amount:
            yield f"{paid.protocol.value}: {paid.amount} were asked, {paid.spent} are gone"


def _transaction(reading: Reading) -> Iterator[str]:
    for paid in reading.probe.paid:
        if _ok(paid.answer) and paid.moved is False:
            yield f"{paid.protocol.value}: {transaction_of(paid.protocol, paid.answer)[:70] or 'none'}"


def _replay_charged(reading: Reading) -> Iterator[str]:
    for paid in reading.probe.paid:
        if paid.spent is not None and paid.spent_twice is not None and paid.spent_twice > max(paid.spent, paid.amount):
            yield f"{paid.protocol.value}: {paid.spent} after one request, {paid.spent_twice} after two"
        elif paid.replay is not None and _ok(paid.replay) and _ok(paid.answer):
            first, second = (transaction_of(paid.protocol, answer) for answer in (paid.answer, paid.replay))
            if first and second and first.lower() != second.lower():
                yield f"{paid.protocol.value}: two receipts name two transactions"


def _replay_broken(reading: Reading) -> Iterator[str]:
    for paid in reading.probe.paid:
        if paid.replay is not None and _ok(paid.answer) and paid.replay.status >= 500:
            yield f"{paid.protocol.value}: {paid.replay.status}"


RULES = (
    Rule(
        "pay-refused",
        Severity.ERROR,
        Kind.MUST,
        "a good payment is refused",
        f"x402 transports/http, Error Handling; {_CORE}, Status Codes",
        "read the reason, and the server's log; see that payer and server agree on time and token",
        _refused,
    ),
    Rule(
        "pay-failed",
        Severity.ERROR,
        Kind.ADVICE,
        "a paid request breaks the server",
        "RFC 9110, 15.6",
        "read the server's log",
        _failed,
    ),
    Rule(
        "pay-charged-for-nothing",
        Severity.ERROR,
        Kind.ADVICE,
        "money was taken and nothing delivered",
        "draft-payment-intent-charge-00; x402 transports/http: settlement belongs to a success",
        "settle when the handler has succeeded, or keep the answer for the next try",
        _charged_for_nothing,
    ),
    Rule(
        "receipt-missing",
        Severity.WARNING,
        Kind.SHOULD,
        "a paid answer has no receipt",
        f"{_RECEIPTS}; {_CORE}, Payment-Receipt Header",
        "send the receipt header of the protocol that paid; see that no proxy strips it",
        _receipt_missing,
    ),
    Rule(
        "receipt-wrong",
        Severity.ERROR,
        Kind.MUST,
        "a receipt says what is not so",
        f"x402 specification v1 and v2, 5.3; {_CORE}, Payment-Receipt Header and Receipt Status Semantics",
        "write the settlement as it was",
        _receipt_wrong,
    ),
    Rule(
        "receipt-members",
        Severity.INFO,
        Kind.MUST,
        "an evm receipt lacks members",
        "draft-evm-charge-00, Receipt Generation",
        "write challengeId and chainId",
        _receipt_members,
    ),
    Rule(
        "receipt-cacheable",
        Severity.WARNING,
        Kind.MUST,
        "shared caches may keep a receipt",
        f"{_CORE}, Caching",
        "send Cache-Control: private with every receipt",
        _receipt_cached,
    ),
    Rule(
        "receipt-on-error",
        Severity.ERROR,
        Kind.MUST,
        "an error has a receipt",
        f"{_CORE}, Receipt Status Semantics",
        "send Payment-Receipt with a 2xx only",
        _receipt_on_error,
    ),
    Rule(
        "pay-balance",
        Severity.ERROR,
        Kind.MUST,
        "another amount was taken than asked",
        "x402 specification v2, 6.1.2; draft-evm-charge-00, Authorization Settlement",
        "see the transaction; where nothing was taken, the server settles later or not at all",
        _balance,
    ),
    Rule(
        "receipt-transaction",
        Severity.ERROR,
        Kind.MUST,
        "the receipt's transaction did not pay",
        "x402 specification v1 and v2, 5.3; draft-evm-charge-00, Receipt Generation",
        "answer only when the transaction is in a block, and name that one",
        _transaction,
    ),
    Rule(
        "replay-charged",
        Severity.ERROR,
        Kind.MUST,
        "one credential was charged twice",
        f"{_CORE}, Concurrent Request Handling and Replay Protection; EIP-3009: a nonce pays once",
        "claim the authorization in a store that all processes share",
        _replay_charged,
    ),
    Rule(
        "replay-broken",
        Severity.WARNING,
        Kind.MUST,
        "the same credential again breaks the server",
        f"{_CORE}, Status Codes: an already-used challenge answers 402",
        "answer with a refusal, or with the first answer",
        _replay_broken,
    ),
)
