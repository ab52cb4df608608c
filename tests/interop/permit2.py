"""Permit2 and x402's two proxies, each at its canonical address on an anvil.

Permit2's code is what anvil's own Tempo network has there. The `exact` proxy is the published one: its creation code
(coinbase/x402, `contracts/evm/script/data/exact-proxy-initcode.hex`, Apache-2.0) goes through the deterministic
deployer, which puts it at its address or nowhere. The `upto` proxy is published as Solidity only, and what stands here
in its place is our own (`contracts/upto_proxy.vy`).
"""

import warnings
from pathlib import Path

import httpx
from eth_utils.crypto import keccak

from .chain import Anvil
from .peers import Process, places

CONTRACTS = Path(__file__).parent / "contracts"

PERMIT2 = "0x000000000022D473030F116dDEE9F6B43aC78BA3"
EXACT_PROXY = "0x402085c248EeA27D92E8b30b2C58ed07f9E20001"
UPTO_PROXY = "0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002"

_DEPLOYER = "0x4e59b44847b379578588920cA78FbF26c0B4956C"
_EXACT_SALT = "0000000000000000000000000000000000000000000000003000000007263b0e"
_ENOUGH = hex(10**18)


def place(anvil: Anvil, logs: Path) -> None:
    """Place all three."""
    anvil.call("anvil_setCode", PERMIT2, _permit2_code(logs))
    initcode = (CONTRACTS / "exact_proxy_initcode.hex").read_text().strip().removeprefix("0x")
    _send(anvil, anvil.call("eth_accounts")[0], _DEPLOYER, "0x" + _EXACT_SALT + initcode)
    anvil.call("anvil_setCode", UPTO_PROXY, _upto_code())
    for address in (PERMIT2, EXACT_PROXY, UPTO_PROXY):
        assert len(anvil.call("eth_getCode", address, "latest")) > 1000, address


def approve(anvil: Anvil, token: str, owner: str) -> None:
    """What a payer does once: let Permit2 take of a token whatever he signs for."""
    anvil.call("anvil_setBalance", owner, _ENOUGH)
    anvil.call("anvil_impersonateAccount", owner)
    selector = keccak(text="approve(address,uint256)")[:4].hex()
    _send(anvil, owner, token, "0x" + selector + PERMIT2[2:].lower().rjust(64, "0") + "f" * 64)


def _send(anvil: Anvil, sender: str, to: str, data: str) -> None:
    transaction = anvil.call("eth_sendTransaction", {"from": sender, "to": to, "data": data})
    anvil.call("evm_mine")
    receipt = anvil.call("eth_getTransactionReceipt", transaction)
    assert receipt["status"] == "0x1", receipt


def _permit2_code(logs: Path) -> str:
    tempo = Process("anvil-tempo", (places.anvil(), "--network", "tempo", "--port", "0"), logs=logs, talks=False)
    try:
        url = "http://" + tempo.wait_for(r"Listening on (127\.0\.0\.1:\d+)")[1]
        asked = {"jsonrpc": "2.0", "id": 1, "method": "eth_getCode", "params": [PERMIT2, "latest"]}
        code: str = httpx.post(url, json=asked).json()["result"]
        return code
    finally:
        tempo.stop()


def _upto_code() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import vyper

        compiled = vyper.compile_code((CONTRACTS / "upto_proxy.vy").read_text(), output_formats=["bytecode_runtime"])
    code: str = compiled["bytecode_runtime"]
    return code
