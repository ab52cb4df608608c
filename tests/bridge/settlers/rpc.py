"""A chain's node from outside of any settler, and settlers on it for as long as a block lasts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from bridge.settlers.chain import ChainSettler
from translators.payment import Payment

from .payments import OFFER, RELAYER, RESOURCE, RIVAL, USDC, Recorder


@asynccontextmanager
async def running(rpc_url: Any, key: Any = RELAYER, **options: Any) -> AsyncIterator[ChainSettler]:
    settler = ChainSettler(rpc_url, key.key.hex(), **{"poll_seconds": 0.02, **options})
    await settler.start([OFFER])
    try:
        yield settler
    finally:
        await settler.close()


async def settle(settler: Any, payment: Payment) -> Any:
    return await settler.settle(payment, OFFER, RESOURCE, Recorder())


async def ask(rpc_url: str, method: str, *params: Any) -> Any:
    # Without the certificates, which take 20 ms to load.
    async with httpx.AsyncClient(timeout=30, verify=False) as client:
        answer = await client.post(rpc_url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    return answer.json()["result"]


async def balance(rpc_url: str, address: str) -> int:
    data = "0x70a08231" + address[2:].lower().rjust(64, "0")
    return int(await ask(rpc_url, "eth_call", {"to": USDC.address, "data": data}, "latest"), 16)


async def used(rpc_url: str, payment: Payment) -> bool:
    data = "0xe94a0102" + payment.authorization.payer[2:].rjust(64, "0") + payment.authorization.nonce[2:]
    return bool(int(await ask(rpc_url, "eth_call", {"to": USDC.address, "data": data}, "latest"), 16))


async def nonce_of(rpc_url: str, address: str, tag: str = "pending") -> int:
    return int(await ask(rpc_url, "eth_getTransactionCount", address, tag), 16)


async def send(rpc_url: str, to: str, data: bytes, key: Any = RIVAL, **fields: Any) -> str:
    """Send a transaction from another account than the settler's; its hash."""
    transaction = {
        "type": 2,
        "chainId": 84532,
        "to": to and bytes.fromhex(to[2:]),
        "value": 0,
        "data": data,
        "gas": 2_000_000,
        "maxFeePerGas": 10**10,
        "maxPriorityFeePerGas": 1,
        **fields,
    }
    if "nonce" not in transaction:
        transaction["nonce"] = await nonce_of(rpc_url, key.address)
    signed = key.sign_transaction(transaction)
    return str(await ask(rpc_url, "eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex()))


async def deploy(rpc_url: str, bytecode: bytes) -> str:
    hash_ = await send(rpc_url, "", bytecode)
    for _ in range(200):
        # Some nodes answer before they have made the block.
        if (receipt := await ask(rpc_url, "eth_getTransactionReceipt", hash_)) is not None:
            return str(receipt["contractAddress"])
        await asyncio.sleep(0.05)
    raise RuntimeError("no block takes the deployment")


async def mint(rpc_url: str, address: str, amount: int) -> None:
    """The demo's token lets anybody."""
    await send(rpc_url, USDC.address, bytes.fromhex("40c10f19" + "00" * 12 + address[2:] + f"{amount:064x}"))


def terms(payment: Payment) -> dict[str, Any]:
    authorization = payment.authorization
    return {
        "asset": payment.asset,
        "payer": authorization.payer,
        "nonce": authorization.nonce,
        "recipient": authorization.recipient,
        "value": authorization.value,
    }
