"""Contract wallets: one that its owner's key signs for, a factory that makes it, and some that mean no good."""

import importlib
from functools import cache
from typing import Any

from eth_abi import encode
from eth_utils import keccak

from .payments import PAYER
from .rpc import ask, deploy

WALLET = """
owner: public(address)

@external
def setup(owner: address):
    assert self.owner == empty(address)
    self.owner = owner

@external
@view
def isValidSignature(digest: bytes32, signature: Bytes[300]) -> bytes4:
    # 65 bytes, or one of the wallet's own before them
    at: uint256 = len(signature) - 65
    v: uint256 = convert(slice(signature, at + 64, 1), uint256)
    r: uint256 = convert(slice(signature, at, 32), uint256)
    s: uint256 = convert(slice(signature, at + 32, 32), uint256)
    signer: address = ecrecover(digest, v, r, s)
    if signer != empty(address) and signer == self.owner:
        return 0x1626ba7e
    return 0xffffffff
"""

DELEGATE = """
@external
@view
def isValidSignature(digest: bytes32, signature: Bytes[65]) -> bytes4:
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    r: uint256 = convert(slice(signature, 0, 32), uint256)
    s: uint256 = convert(slice(signature, 32, 32), uint256)
    return 0x1626ba7e if ecrecover(digest, v, r, s) == self else 0xffffffff
"""
"""What an EIP-7702 account may run: it takes what the account's own key has signed."""

LIAR = """
@external
@view
def isValidSignature(digest: bytes32, signature: Bytes[2048]) -> bytes4:
    # A simulation pays nothing for its gas.
    return 0x1626ba7e if tx.gasprice == 0 else 0xffffffff
"""
"""Says yes to everything while nothing is at stake, and no when the money should move."""

FACTORY = """
interface Wallet:
    def setup(owner: address): nonpayable

TEMPLATE: immutable(address)

@deploy
def __init__(template: address):
    TEMPLATE = template

@external
@payable
def make(owner: address, salt: bytes32) -> address:
    wallet: address = create_minimal_proxy_to(TEMPLATE, salt=keccak256(abi_encode(owner, salt)))
    extcall Wallet(wallet).setup(owner)
    return wallet
"""

MAGIC = bytes.fromhex("6492" * 16)


@cache
def compiled(source: str, what: str = "bytecode") -> bytes:
    # Not skipped without it: it is one of the packages that the tests install.
    vyper: Any = importlib.import_module("vyper")
    return bytes.fromhex(vyper.compile_code(source, output_formats=[what])[what][2:])


def returning(code: str) -> bytes:
    """What creates a contract with this runtime code, of at most 32 bytes."""
    runtime = bytes.fromhex(code)
    return b"\x7f" + runtime.ljust(32, b"\0") + bytes.fromhex("5f5260") + bytes((len(runtime),)) + bytes.fromhex("5ff3")


MALICIOUS = {
    "endless": returning("5b5f56"),
    "reverts": returning("5f5ffd"),
    "a million bytes": returning("620f42405ff3"),
    "four bytes alone": returning("631626ba7e5f526004601cf3"),
    "invalid opcode": returning("fe"),
    "does nothing": returning("00"),
    "an answer that is no code": returning("60ef5f5360205ff3"),
}
"""Creates contracts that answer whatever they are asked so."""


def make_call(owner: str = PAYER.address, salt: int = 0) -> bytes:
    """The factory's call that makes a wallet of `owner`."""
    types: list[str] = ["address", "bytes32"]
    return keccak(text="make(address,bytes32)")[:4] + encode(types, [owner, salt.to_bytes(32, "big")])


def wrap(factory: str, deployment: bytes, signature: bytes) -> bytes:
    """ERC-6492: the signature of a wallet that does not exist yet."""
    types: list[str] = ["address", "bytes", "bytes"]
    return encode(types, [factory, deployment, signature]) + MAGIC


async def a_factory(rpc_url: str) -> str:
    template = await deploy(rpc_url, compiled(WALLET))
    return await deploy(rpc_url, compiled(FACTORY) + bytes(12) + bytes.fromhex(template[2:]))


async def address_of(rpc_url: str, factory: str, deployment: bytes) -> str:
    """Where the factory would put the wallet."""
    made = await ask(rpc_url, "eth_call", {"to": factory, "data": "0x" + deployment.hex()}, "latest")
    return "0x" + made[-40:]


async def code_at(rpc_url: str, address: str) -> str:
    return str(await ask(rpc_url, "eth_getCode", address, "latest"))
