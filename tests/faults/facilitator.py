"""A facilitator that really settles on a chain, and fails in every way that facilitators do.

    python -m tests.faults.facilitator --rpc-url URL --private-key KEY

`POST /faults` with `{"seed": ..., "rate": ..., "modes": [...]}` sets how often and how it fails, `GET /faults` tells
how often it did. It lives while its stdin is open.
"""

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
from contextlib import suppress
from typing import Any

import httpx
from eth_account import Account
from msgspec.structs import replace

from bridge.demo.token import CHAIN_ID, TOKEN_ADDRESS
from bridge.settlers.eip3009_calls import transfer_call
from bridge.settlers.erc6492 import is_wrapped, unwrap
from tests.bridge.settlers.scripted import Request, reply, scripted
from tests.faults.payers import permit2_call
from translators.payment import Authorization

SETTLES_FIRST = ("hangs", "500_json", "502_html", "reset", "no_transaction", "slow", "cut_short", "wrong_json")
"""What goes wrong after the money has moved."""

SETTLES_NOT = ("500_before", "reset_before", "429")
"""What goes wrong before anything is sent."""

SETTLES_LATER = ("504_then_settles",)
"""It says that it failed, and settles a moment later."""

MODES = SETTLES_FIRST + SETTLES_NOT + SETTLES_LATER

Answer = dict[str, Any]
Call = tuple[str, str]
"""A contract, and what is said to it."""


class Refused(Exception):
    """The token would not take it."""


class Ledger:
    """The way to the chain: one account, whose nonces are given out one after another."""

    def __init__(self, rpc_url: str, private_key: str) -> None:
        self._client = httpx.AsyncClient(base_url=rpc_url, timeout=20, limits=httpx.Limits(max_connections=20))
        self._account = Account.from_key(private_key)
        self._lock = asyncio.Lock()
        self._nonce: int | None = None
        self._sent: dict[int, str] = {}

    async def ask(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = (await self._client.post("", json=body)).json()
        if "error" in answer:
            raise Refused(str(answer["error"].get("message")) + str(answer["error"].get("data") or ""))
        return answer["result"]

    async def try_out(self, call: Call) -> None:
        """Raise `Refused` where the contract would."""
        to, data = call
        await self.ask("eth_call", {"from": self._account.address, "to": to, "data": data}, "latest")

    async def settle(self, call: Call) -> str:
        """Send it and wait for its block; raises `Refused` for one that failed."""
        await self.try_out(call)
        to, data = call
        async with self._lock:
            if self._nonce is None:
                self._nonce = int(await self.ask("eth_getTransactionCount", self._account.address, "pending"), 16)
            fields = {"type": 2, "chainId": CHAIN_ID, "nonce": self._nonce, "to": to, "value": 0}
            fees = {"gas": 300_000, "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9}
            signed = self._account.sign_transaction({**fields, **fees, "data": data})
            raw = "0x" + bytes(signed.raw_transaction).hex()
            transaction: str = await self.ask("eth_sendRawTransaction", raw)
            self._sent[self._nonce] = raw
            self._nonce += 1
        for _ in range(400):
            receipt = await self.ask("eth_getTransactionReceipt", transaction)
            if receipt:
                if receipt["status"] != "0x1":
                    raise Refused("reverted")
                return transaction
            await asyncio.sleep(0.025)
        raise Refused("not mined")

    async def keep_sending(self) -> None:
        """Send again what a reorganised chain has lost: a real node's pool would have kept it."""
        while True:
            await asyncio.sleep(0.25)
            with suppress(httpx.HTTPError, ValueError, KeyError, Refused):
                mined = int(await self.ask("eth_getTransactionCount", self._account.address, "latest"), 16)
                for nonce in range(mined, self._nonce or 0):
                    with suppress(Refused):
                        await self.ask("eth_sendRawTransaction", self._sent[nonce])


class Facilitator:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._random = random.Random(0)
        self._rate = 0.0
        self._modes: tuple[str, ...] = MODES
        self._counts: Counter[str] = Counter()
        self._later: set[asyncio.Task[None]] = set()

    async def handle(self, request: Request, writer: asyncio.StreamWriter) -> None:
        try:
            await self._handle(request, writer)
        except (httpx.HTTPError, ValueError):
            writer.write(reply(502, b"<html>its own node does not answer</html>"))

    async def _handle(self, request: Request, writer: asyncio.StreamWriter) -> None:
        # Below /limited it verifies, and takes no settlements: what a fallback is for.
        limited, path = request.path.startswith("/limited/"), request.path.removeprefix("/limited")
        match request.method, path:
            case "GET", "/supported":
                kinds = [
                    {"x402Version": 2, "scheme": "exact", "network": f"eip155:{CHAIN_ID}"},
                    {"x402Version": 1, "scheme": "exact", "network": "base-sepolia"},
                ]
                writer.write(reply(200, {"kinds": kinds, "extensions": [], "signers": {}}))
            case "POST", "/verify":
                writer.write(reply(200, await self._verify(_call_of(request.json()))))
            case "POST", "/settle" if limited:
                writer.write(reply(429, {"error": "slow down"}, "Retry-After: 1"))
            case "POST", "/settle":
                await self._settle(_call_of(request.json()), request.json(), writer)
            case "POST", "/faults":
                asked = request.json()
                self._random = random.Random(asked["seed"])
                self._rate, self._modes = asked["rate"], tuple(asked.get("modes") or MODES)
                self._counts.clear()
                writer.write(reply(200, {}))
            case "GET", "/faults":
                writer.write(reply(200, dict(self._counts)))
            case _:
                writer.write(reply(404, {}))

    async def _verify(self, call: Call) -> Answer:
        try:
            await self._ledger.try_out(call)
        except Refused as error:
            return {"isValid": False, "invalidReason": _reason(error)}
        return {"isValid": True}

    async def _settle(self, call: Call, body: Any, writer: asyncio.StreamWriter) -> None:
        mode = self._random.choice(self._modes) if self._random.random() < self._rate else "well"
        self._counts[mode] += 1
        network = body["paymentRequirements"]["network"]
        match mode:
            case "500_before":
                writer.write(reply(500, b"oh no"))
                return
            case "reset_before":
                writer.transport.abort()
                return
            case "429":
                writer.write(reply(429, {"error": "slow down"}, "Retry-After: 1"))
                return
            case "504_then_settles":
                task = asyncio.create_task(self._settle_later(call))
                self._later.add(task)
                task.add_done_callback(self._later.discard)
                writer.write(reply(504, b"<html>gateway time-out</html>"))
                return
        try:
            transaction = await self._ledger.settle(call)
        except Refused as error:
            refused = {"success": False, "errorReason": _reason(error), "transaction": "", "network": network}
            writer.write(reply(200, refused))
            return
        done = {"success": True, "transaction": transaction, "network": network}
        failed = {"success": False, "errorReason": "unexpected_settle_error", "transaction": "", "network": network}
        match mode:
            case "hangs":
                await asyncio.sleep(30)
                writer.transport.abort()
            case "500_json":
                writer.write(reply(500, failed))
            case "502_html":
                writer.write(reply(502, b"<html>bad gateway</html>", "Content-Type: text/html"))
            case "reset":
                writer.transport.abort()
            case "no_transaction":
                writer.write(reply(200, {**done, "transaction": ""}))
            case "wrong_json":
                writer.write(reply(200, {"ok": True}))
            case "cut_short":
                writer.write(reply(200, done)[:-20])
                await writer.drain()
                writer.transport.abort()
            case "slow":
                for byte in reply(200, done):
                    if writer.is_closing():
                        return
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(0.002)
            case _:
                writer.write(reply(200, done))

    async def _settle_later(self, call: Call) -> None:
        await asyncio.sleep(0.4)
        try:
            await self._ledger.settle(call)
        except Refused:
            return


def _reason(error: Refused) -> str:
    said = str(error)
    if "756688fe" in said:  # Permit2's InvalidNonce()
        return "permit2_invalid_nonce"
    if "used" in said or "6973207573656420" in said:  # "is used " in the returned data
        return "invalid_exact_evm_nonce_already_used"
    return "insufficient_funds" if "balance" in said else "invalid_exact_evm_payload"


def _call_of(body: Any) -> Call:
    payload = body["paymentPayload"]["payload"]
    if "permit2Authorization" in payload:
        return permit2_call(payload)
    told = payload["authorization"]
    authorization = Authorization(
        payer=told["from"].lower(),
        recipient=told["to"].lower(),
        value=int(told["value"]),
        valid_after=int(told["validAfter"]),
        valid_before=int(told["validBefore"]),
        nonce=told["nonce"].lower(),
        signature=bytes.fromhex(payload["signature"].removeprefix("0x")),
    )
    signature = authorization.signature
    if is_wrapped(signature):
        # It makes no wallets: that is not what is looked into here.
        authorization = replace(authorization, signature=unwrap(signature).signature)
    return TOKEN_ADDRESS, "0x" + transfer_call(authorization).hex()


async def _main(rpc_url: str, private_key: str) -> None:
    ledger = Ledger(rpc_url, private_key)
    sending = asyncio.create_task(ledger.keep_sending())
    async with scripted(Facilitator(ledger).handle) as server:
        print(json.dumps({"url": server.url}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    sending.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rpc-url", required=True)
    parser.add_argument("--private-key", required=True)
    options = parser.parse_args()
    asyncio.run(_main(options.rpc_url, options.private_key))
