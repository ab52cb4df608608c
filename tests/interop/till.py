"""A server that can be paid, and a node of a chain with one token: both honest until a fault is planted."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from translators.eip3009 import domain_separator
from translators.encoding import b64_decode, b64_encode, b64url_encode
from translators.payment import Asset, Protocol

from .faulty import PAY_TO, TOKEN, Shop, right
from .raw_server import RawAnswer, RawRequest, serving

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
PRICE = 10_000


def word(value: int) -> str:
    return f"{value:064x}"


def text(value: str) -> str:
    data = value.encode()
    return word(32) + word(len(data)) + data.hex().ljust(64, "0")


@dataclass
class Ledger:
    """The chain: one payer's balance, the transactions that moved it, and what the token says of itself."""

    chain_id: int = 84532
    balance: int = 1_000_000
    receipts: dict[str, Any] = field(default_factory=dict)
    code: str = "0x6001"
    name: str = "USDC"
    version: str = "2"
    takes_authorizations: bool = True

    def move(self, payer: str, amount: int = PRICE) -> str:
        """Take money from the payer; the transaction's hash."""
        self.balance -= amount
        transaction = f"0x{len(self.receipts) + 1:064x}"
        topics = [TRANSFER, "0x" + word(int(payer, 16)), "0x" + word(int(PAY_TO, 16))]
        log = {"address": TOKEN, "topics": topics, "data": "0x" + word(amount)}
        self.receipts[transaction] = {"status": "0x1", "logs": [log]}
        return transaction

    def answer(self, request: RawRequest) -> RawAnswer:
        call = json.loads(request.body)
        told: dict[str, Any] = {"jsonrpc": "2.0", "id": call["id"]}
        result = self._result(call["method"], call["params"])
        told |= {"result": result} if result is not _REVERTED else {"error": {"code": 3, "message": "reverted"}}
        return RawAnswer(200, [("Content-Type", "application/json")], json.dumps(told).encode())

    def _result(self, method: str, params: list[Any]) -> Any:
        match method:
            case "eth_chainId":
                return hex(self.chain_id)
            case "eth_getCode":
                return self.code
            case "eth_getTransactionReceipt":
                return self.receipts.get(params[0])
            case _:
                return self._call(params[0]["data"])

    def _call(self, data: str) -> Any:
        asset = Asset(self.chain_id, TOKEN.lower(), 6, self.name, self.version)
        match data[:10]:
            case "0x06fdde03":
                return "0x" + text(self.name)
            case "0x54fd4d50":
                return "0x" + text(self.version)
            case "0x313ce567":
                return "0x" + word(6)
            case "0x3644e515":
                return "0x" + domain_separator(asset).hex()
            case "0xe94a0102":
                return "0x" + word(0) if self.takes_authorizations else _REVERTED
            case _:
                return "0x" + word(self.balance)


_REVERTED = object()


@dataclass
class Till:
    """A right server that takes payments; a fault changes what it does with one."""

    ledger: Ledger = field(default_factory=Ledger)
    status: int = 200
    replay_status: int = 402
    charges: int = 1
    """How often the first presentation is charged."""
    charges_again: int = 0
    amount: int = PRICE
    receipt: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda said: said
    headers: list[tuple[str, str]] = field(default_factory=lambda: [("Cache-Control", "private")])
    receipt_always: bool = False
    seen: set[str] = field(default_factory=set)
    shop: Callable[[Shop], None] | None = None

    def answer(self, request: RawRequest) -> RawAnswer:
        presented = _presented(request)
        if presented is None:
            shop = right(request)
            if self.shop is not None:
                self.shop(shop)
            return shop.answer()
        protocol, payer, nonce, challenge = presented
        again = nonce in self.seen
        self.seen.add(nonce)
        transactions = [
            self.ledger.move(payer, self.amount) for _ in range(self.charges_again if again else self.charges)
        ]
        status = self.replay_status if again else self.status
        said = _receipt(protocol, transactions[-1] if transactions else "0x" + "ab" * 32, payer, challenge)
        told = self.receipt(said) if status < 300 or self.receipt_always else None
        headers = [*self.headers, ("Content-Type", "application/json")]
        if told is not None:
            data = json.dumps(told).encode()
            name = {Protocol.X402_V1: "X-PAYMENT-RESPONSE", Protocol.X402_V2: "PAYMENT-RESPONSE"}.get(protocol)
            headers.append((name, b64_encode(data)) if name else ("Payment-Receipt", b64url_encode(data)))
        return RawAnswer(status, headers, b'{"weather":"sunny"}')


def _presented(request: RawRequest) -> tuple[Protocol, str, str, str] | None:
    """The protocol of a credential, its payer and nonce, and the id of its challenge."""
    headers = request.headers
    if "x-payment" in headers or "payment-signature" in headers:
        protocol = Protocol.X402_V1 if "x-payment" in headers else Protocol.X402_V2
        value = headers.get("x-payment") or headers["payment-signature"]
        signed = json.loads(b64_decode(value, ""))["payload"]["authorization"]
        return protocol, signed["from"], signed["nonce"], ""
    if headers.get("authorization", "").startswith("Payment "):
        credential = json.loads(b64_decode(headers["authorization"][8:], ""))
        payload = credential["payload"]
        return Protocol.MPP, payload["from"], payload["nonce"], credential["challenge"]["id"]
    return None


def _receipt(protocol: Protocol, transaction: str, payer: str, challenge: str) -> dict[str, Any]:
    if protocol is Protocol.MPP:
        common = {"status": "success", "method": "evm", "timestamp": "2026-01-01T00:00:00Z"}
        return {**common, "reference": transaction, "challengeId": challenge, "chainId": 84532}
    network = "base-sepolia" if protocol is Protocol.X402_V1 else "eip155:84532"
    return {"success": True, "transaction": transaction, "network": network, "payer": payer}


@contextmanager
def open_till(till: Till) -> Iterator[tuple[str, str]]:
    """The till and its node on the loopback: the URLs of both."""
    with serving(till.answer) as port, serving(till.ledger.answer) as node:
        yield f"http://127.0.0.1:{port}/weather", f"http://127.0.0.1:{node}"
