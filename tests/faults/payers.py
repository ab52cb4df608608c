"""Who pays: plain accounts, contract wallets (there or not yet), and accounts that pay by Permit2.

All but the first stand on anvil, where code and storage can be put. Permit2 is what x402 v2 alone can carry.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
from eth_abi import encode
from eth_account import Account as EthAccount
from eth_utils.crypto import keccak
from msgspec.structs import replace

from bridge.demo import token
from bridge.demo.app import TOKEN
from bridge.payers import Account, Asked, read_402, sign
from tests.bridge.harness import envelope
from tests.bridge.settlers import wallets
from tests.bridge.settlers.payments import RIVAL
from tests.interop import permit2
from translators.foreign import X402Only, from_foreign_payload, to_foreign_offer
from translators.payment import Payment, Protocol
from translators.wire import x402_v2

KINDS = ("key", "wallet", "new wallet", "permit2")

ALLOWANCE_SLOT = 2
"""Of the token, behind `balanceOf` and `totalSupply`."""

Ask = Callable[..., Any]
"""`Chain.ask`."""


class Payer(msgspec.Struct, frozen=True):
    """`account` is where the money is, and the key that signs for it."""

    account: Account
    kind: str = "key"
    wraps: Callable[[bytes], bytes] | None = None
    """Makes a wallet's signature of its owner's."""

    @property
    def address(self) -> str:
        return self.account.address

    def pay(self, answer: httpx.Response, protocol: Protocol) -> tuple[Payment, tuple[str, str]]:
        """What it pays a 402 with: the payment, and its header."""
        if self.kind == "permit2":
            return _by_permit2(answer, self.account)
        return self.sign(read_402(answer, protocol))

    def sign(self, asked: Asked) -> tuple[Payment, tuple[str, str]]:
        """The same for what was read in a 402 before."""
        payment = sign(asked, self.account, time.time())
        if self.wraps is not None:
            wrapped = replace(payment.authorization, signature=self.wraps(payment.authorization.signature))
            payment = replace(payment, authorization=wrapped)
        return payment, envelope(payment, asked)


class Contracts:
    """What payers need on an anvil, placed once."""

    def __init__(self, rpc_url: str, ask: Ask, folder: Path) -> None:
        self._rpc_url = rpc_url
        self._ask = ask
        self._folder = folder
        self._factory: str | None = None
        self._is_permit2_there = False

    async def payers(self, keys: Sequence[Account], kind: str) -> list[Payer]:
        """A payer for each key, without money."""
        match kind:
            case "wallet":
                return await self._wallets(keys)
            case "new wallet":
                return [await self._new_wallet(key) for key in keys]
            case "permit2":
                await self._approve(keys)
        return [Payer(key, kind) for key in keys]

    async def _wallets(self, keys: Sequence[Account]) -> list[Payer]:
        # In a thread: it takes a second, and others are waited for meanwhile.
        code = "0x" + (await asyncio.to_thread(wallets.compiled, wallets.WALLET, "bytecode_runtime")).hex()
        payers = [Payer(_owned("0x" + keccak(text=key.address)[12:].hex(), key), "wallet", _form) for key in keys]
        for key, payer in zip(keys, payers, strict=True):
            owner = "0x" + key.address[2:].rjust(64, "0")
            await self._ask(
                ("anvil_setCode", payer.address, code), ("anvil_setStorageAt", payer.address, f"0x{0:064x}", owner)
            )
        return payers

    async def _new_wallet(self, key: Account) -> Payer:
        if self._factory is None:
            await asyncio.to_thread(token.fund_gas, self._rpc_url, RIVAL.address, 10**20)
            for source in (wallets.WALLET, wallets.FACTORY):
                await asyncio.to_thread(wallets.compiled, source)
            self._factory = await wallets.a_factory(self._rpc_url)
        factory, making = self._factory, wallets.make_call(key.address)
        address = (await wallets.address_of(self._rpc_url, factory, making)).lower()
        return Payer(_owned(address, key), "new wallet", lambda own: wallets.wrap(factory, making, _form(own)))

    async def _approve(self, keys: Sequence[Account]) -> None:
        if not self._is_permit2_there:
            self._is_permit2_there = True
            await asyncio.to_thread(permit2.place, _Calls(self._rpc_url), self._folder)
        for key in keys:
            inner = keccak(ALLOWANCE_SLOT.to_bytes(32, "big") + _word(key.address))
            slot = "0x" + keccak(inner + _word(permit2.PERMIT2)).hex()
            await self._ask(("anvil_setStorageAt", token.TOKEN_ADDRESS, slot, "0x" + "ff" * 32))


class _Calls:
    """As much of the interop suite's anvil as placing contracts takes."""

    def __init__(self, rpc_url: str) -> None:
        self._rpc_url = rpc_url

    def call(self, method: str, *params: Any) -> Any:
        asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = httpx.post(self._rpc_url, json=asked, timeout=30).json()
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]


def _form(own: bytes) -> bytes:
    """The wallet's own form of its owner's signature."""
    return b"\1" + own


def _owned(address: str, key: Account) -> Account:
    return Account(address, key.private_key)


def _word(address: str) -> bytes:
    return bytes.fromhex(address[2:]).rjust(32, b"\0")


def permit2_price(amount: int, recipient: str, seconds: int) -> X402Only:
    """The price by Permit2."""
    return X402Only(
        {
            "scheme": "exact",
            "network": f"eip155:{TOKEN.chain_id}",
            "amount": str(amount),
            "asset": TOKEN.address,
            "payTo": recipient,
            "maxTimeoutSeconds": seconds,
            "extra": {"name": TOKEN.name, "version": TOKEN.version, "assetTransferMethod": "permit2"},
        }
    )


_PERMIT_TYPES = {
    "PermitWitnessTransferFrom": [
        ("permitted", "TokenPermissions"),
        ("spender", "address"),
        ("nonce", "uint256"),
        ("deadline", "uint256"),
        ("witness", "Witness"),
    ],
    "TokenPermissions": [("token", "address"), ("amount", "uint256")],
    "Witness": [("to", "address"), ("validAfter", "uint256")],
}


def _by_permit2(answer: httpx.Response, payer: Account) -> tuple[Payment, tuple[str, str]]:
    required = x402_v2.decode_payment_required(answer.headers[x402_v2.CHALLENGE_HEADER])
    entries = [msgspec.to_builtins(entry) for entry in required.accepts]
    entry = next(e for e in entries if (e.get("extra") or {}).get("assetTransferMethod") == "permit2")
    terms = {
        "permitted": {"token": entry["asset"], "amount": int(entry["amount"])},
        "spender": permit2.EXACT_PROXY,
        "nonce": int.from_bytes(secrets.token_bytes(32), "big"),
        "deadline": int(time.time()) + entry["maxTimeoutSeconds"],
        "witness": {"to": entry["payTo"], "validAfter": 0},
    }
    signed = EthAccount.sign_typed_data(
        payer.private_key,
        domain_data={"name": "Permit2", "chainId": TOKEN.chain_id, "verifyingContract": permit2.PERMIT2},
        message_types={
            name: [{"name": field, "type": kind} for field, kind in fields] for name, fields in _PERMIT_TYPES.items()
        },
        message_data=terms,
    )
    said = {
        **terms,
        "permitted": {"token": entry["asset"], "amount": entry["amount"]},
        "nonce": str(terms["nonce"]),
        "deadline": str(terms["deadline"]),
        "witness": {"to": entry["payTo"], "validAfter": "0"},
        "from": payer.address,
    }
    payload = x402_v2.PaymentPayload(
        x402_version=2,
        resource=required.resource,
        accepted=entry,
        payload=msgspec.Raw(
            msgspec.json.encode({"signature": "0x" + bytes(signed.signature).hex(), "permit2Authorization": said})
        ),
        extensions=required.extensions,
    )
    payment = from_foreign_payload(payload, to_foreign_offer(X402Only(entry)))
    return payment, (x402_v2.CREDENTIAL_HEADER, x402_v2.encode_payment_payload(payload))


def permit2_call(payload: Any) -> tuple[str, str]:
    """What settles a Permit2 payload: the contract, and its calldata."""
    told = payload["permit2Authorization"]
    permitted, witness = told["permitted"], told["witness"]
    types = ["((address,uint256),uint256,uint256)", "address", "(address,uint256)", "bytes"]
    data = encode(
        types,
        [
            ((permitted["token"], int(permitted["amount"])), int(told["nonce"]), int(told["deadline"])),
            told["from"],
            (witness["to"], int(witness["validAfter"])),
            bytes.fromhex(payload["signature"][2:]),
        ],
    )
    return permit2.EXACT_PROXY, "0x" + (keccak(text=f"settle({','.join(types)})")[:4] + data).hex()
