"""The demo's token: what it is called, what its code is, and how to place it on an anvil node.

It stands at the address of Base Sepolia's USDC and answers as that contract does, so that a client configured for
the real testnet pays the demo unchanged. Anybody may mint it.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx
from eth_utils.crypto import keccak

TOKEN_ADDRESS: Final = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"  # noqa: S105
"""USDC on Base Sepolia."""

TOKEN_NAME: Final = "USDC"  # noqa: S105
"""The `name` of the EIP-712 domain."""

TOKEN_VERSION: Final = "2"  # noqa: S105
"""The `version` of the EIP-712 domain."""

TOKEN_DECIMALS: Final = 6
"""One dollar is 1,000,000 atomic units."""

CHAIN_ID: Final = 84532
"""Base Sepolia."""


class NotAnvilError(RuntimeError):
    """The node does not know anvil's methods, without which code and balances cannot be placed on it."""


@cache
def artifact() -> dict[str, Any]:
    """The compiled token: `abi` (both overloads of each signed call), `runtime` (hex), `slots` (by variable)."""
    loaded: dict[str, Any] = json.loads(Path(__file__).with_name("token.json").read_text())
    return loaded


def abi() -> list[dict[str, Any]]:
    """The token's ABI, with both overloads of each signed call."""
    entries: list[dict[str, Any]] = artifact()["abi"]
    return entries


def runtime_code() -> bytes:
    """The token's code as it stands at its address; it has no constructor."""
    return bytes.fromhex(artifact()["runtime"].removeprefix("0x"))


def balance_slot(address: str) -> int:
    """The storage slot of an address's balance. Vyper hashes the variable's slot first, Solidity the key first."""
    key = bytes.fromhex(address.removeprefix("0x")).rjust(32, b"\0")
    return int.from_bytes(keccak(artifact()["slots"]["balanceOf"].to_bytes(32, "big") + key), "big")


def genesis_storage(balances: Mapping[str, int]) -> dict[int, int]:
    """The token's storage, slot to value, for a chain that starts with these balances in atomic units."""
    amounts = {balance_slot(address): amount for address, amount in balances.items()}
    return {**amounts, artifact()["slots"]["totalSupply"]: sum(amounts.values())}


def install(rpc_url: str, mint: Mapping[str, int]) -> None:
    """Place the token on the anvil at `rpc_url` and set balances, in atomic units.

    Balances are set, not added, so a second call changes nothing. Raises `NotAnvilError` for any other node.
    """
    with httpx.Client(base_url=rpc_url) as client:
        _anvil(client, "anvil_setCode", TOKEN_ADDRESS, artifact()["runtime"])
        for address, amount in mint.items():
            supply_slot = artifact()["slots"]["totalSupply"]
            supply = _stored(client, supply_slot) - _stored(client, balance_slot(address)) + amount
            _store(client, balance_slot(address), amount)
            _store(client, supply_slot, supply)


def fund_gas(rpc_url: str, address: str, wei: int) -> None:
    """Set an account's native balance, in wei, on the anvil at `rpc_url`; `NotAnvilError` for any other node."""
    with httpx.Client(base_url=rpc_url) as client:
        _anvil(client, "anvil_setBalance", address, hex(wei))


def balance_of(rpc_url: str, address: str) -> int:
    """An address's balance in atomic units, asked of the token on any node."""
    selector = keccak(text="balanceOf(address)")[:4].hex()
    data = "0x" + selector + address.removeprefix("0x").lower().rjust(64, "0")
    with httpx.Client(base_url=rpc_url) as client:
        answer = _call(client, "eth_call", {"to": TOKEN_ADDRESS, "data": data}, "latest")
    if answer == "0x":
        raise RuntimeError(f"no token at {TOKEN_ADDRESS} on {rpc_url}")
    return int(answer, 16)


def _stored(client: httpx.Client, slot: int) -> int:
    return int(_call(client, "eth_getStorageAt", TOKEN_ADDRESS, hex(slot), "latest"), 16)


def _store(client: httpx.Client, slot: int, value: int) -> None:
    _anvil(client, "anvil_setStorageAt", TOKEN_ADDRESS, f"0x{slot:064x}", f"0x{value:064x}")


def _anvil(client: httpx.Client, method: str, *params: Any) -> None:
    try:
        _call(client, method, *params)
    except _RpcError as error:
        if error.code == -32601:
            raise NotAnvilError(f"{client.base_url} does not know {method}: it is not an anvil node") from error
        raise


class _RpcError(RuntimeError):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


def _call(client: httpx.Client, method: str, *params: Any) -> Any:
    response = client.post("", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    response.raise_for_status()
    answer = response.json()
    if "error" in answer:
        raise _RpcError(answer["error"]["code"], answer["error"]["message"])
    return answer["result"]
