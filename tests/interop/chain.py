"""A chain of our own: anvil under the chain id of Base Sepolia, with the token where USDC is there."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account

from bridge.demo import token

from .peers import Process, places

CHAIN_ID = 84532
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak256("Transfer(address,address,uint256)")."""


@dataclass(frozen=True)
class Wallet:
    """A key nobody used before, and its address."""

    address: str
    private_key: str

    @classmethod
    def fresh(cls) -> "Wallet":
        account = Account.from_key(secrets.token_bytes(32))
        return cls(account.address, "0x" + bytes(account.key).hex())


@dataclass(frozen=True)
class Transfer:
    """One movement of the token, as its log tells it; addresses in lower case."""

    sender: str
    recipient: str
    amount: int


class Anvil:
    """A running anvil. A block a second: without that its clock stands still between transactions, and a fresh
    authorization is "not yet valid".

    It listens where the kernel says. Those ports begin far above 10080, the last one that Node's fetch refuses.
    """

    def __init__(self, logs: Path, *options: str) -> None:
        accounts = logs / "anvil-accounts.json"
        chain = ("--chain-id", str(CHAIN_ID), "--block-time", "1", *options)
        command = (places.anvil(), *chain, "--port", "0", "--config-out", accounts)
        self._process = Process("anvil", command, logs=logs, talks=False)
        try:
            self.rpc_url = "http://" + self._process.wait_for(r"Listening on (127\.0\.0\.1:\d+)")[1]
        except Exception:
            self._process.stop()
            raise
        self.keys: list[str] = json.loads(accounts.read_text())["private_keys"]
        """Ten keys with ether for gas. The first is our demo's to use, the last the facilitator's."""
        self._rpc = httpx.Client(base_url=self.rpc_url, timeout=30)
        token.install(self.rpc_url, {})

    def mint(self, wallet: Wallet, amount: int = 1_000_000) -> Wallet:
        """Give a wallet that much of the token, in atomic units."""
        token.install(self.rpc_url, {wallet.address: amount})
        return wallet

    def payer(self, amount: int = 1_000_000) -> Wallet:
        """A fresh wallet with that much of the token and nothing else."""
        return self.mint(Wallet.fresh(), amount)

    def balance_of(self, address: str) -> int:
        return token.balance_of(self.rpc_url, address)

    def transfers(self, transaction: str) -> list[Transfer]:
        """What a mined transaction moved of the token; empty if it failed or is not known."""
        receipt = self.call("eth_getTransactionReceipt", transaction)
        if receipt is None or receipt["status"] != "0x1":
            return []
        return [
            Transfer("0x" + log["topics"][1][-40:], "0x" + log["topics"][2][-40:], int(log["data"], 16))
            for log in receipt["logs"]
            if log["address"].lower() == token.TOKEN_ADDRESS.lower() and log["topics"][0] == TRANSFER
        ]

    def call(self, method: str, *params: Any) -> Any:
        """One call of the node's own interface."""
        answer = self._rpc.post("", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).json()
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def stop(self) -> None:
        self._rpc.close()
        self._process.stop()
