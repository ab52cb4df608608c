"""Blocks, transactions, receipts and logs in the words of Ethereum's JSON-RPC.

Quantities are hex without leading zeros, data is hex in whole bytes, addresses are lower case.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import rlp  # type: ignore[import-untyped]
from eth.abc import ComputationAPI, ReceiptAPI, SignedTransactionAPI
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

Header: TypeAlias = Any
"""py-evm's BlockHeaderAPI, which has a None for every field that some fork did not know yet."""

ERROR_STRING = bytes.fromhex("08c379a0")  # Error(string)
SET_CODE = 4  # EIP-7702
DYNAMIC_FEE = 2  # EIP-1559


@dataclass(frozen=True, slots=True)
class Inclusion:
    """The one transaction of a block, with what came of it."""

    transaction: SignedTransactionAPI
    receipt: ReceiptAPI
    computation: ComputationAPI


@dataclass(frozen=True, slots=True)
class Block:
    """A mined block, or with `pending` the one that would be mined now."""

    header: Header
    inclusion: Inclusion | None
    pending: bool = False

    @property
    def hash(self) -> str:
        """The block's hash, hex."""
        return data(self.header.hash)

    def json(self, *, full: bool) -> dict[str, Any]:
        """The block, its transactions in full or as hashes."""
        header = self.header
        transactions = list(self.transactions())
        return {
            "number": hex(header.block_number),
            "hash": None if self.pending else self.hash,
            "parentHash": data(header.parent_hash),
            "nonce": None if self.pending else data(header.nonce),
            "sha3Uncles": data(header.uncles_hash),
            "logsBloom": _bloom(header.bloom),
            "transactionsRoot": data(header.transaction_root),
            "stateRoot": data(header.state_root),
            "receiptsRoot": data(header.receipt_root),
            "miner": data(header.coinbase),
            "mixHash": data(header.mix_hash),
            "difficulty": hex(header.difficulty),
            "totalDifficulty": "0x0",
            "extraData": data(header.extra_data),
            "size": hex(self._size()),
            "gasLimit": hex(header.gas_limit),
            "gasUsed": hex(header.gas_used),
            "baseFeePerGas": hex(header.base_fee_per_gas),
            "timestamp": hex(header.timestamp),
            "transactions": transactions if full else [transaction["hash"] for transaction in transactions],
            "uncles": [],
            "withdrawals": [],
            "withdrawalsRoot": data(header.withdrawals_root),
            "blobGasUsed": hex(header.blob_gas_used),
            "excessBlobGas": hex(header.excess_blob_gas),
            "parentBeaconBlockRoot": data(header.parent_beacon_block_root),
        }

    def tip(self) -> int:
        """What its transaction paid above the base fee, in wei per unit of gas; 0 in an empty block."""
        if self.inclusion is None:
            return 0
        return self._gas_price(self.inclusion.transaction) - self._base_fee

    def transactions(self) -> Iterator[dict[str, Any]]:
        """Its transactions: one or none."""
        if self.inclusion is not None:
            yield {
                **transaction_json(self.inclusion.transaction),
                **self._where(),
                "gasPrice": hex(self._gas_price(self.inclusion.transaction)),
            }

    def receipts(self) -> Iterator[dict[str, Any]]:
        """Its receipts: one or none."""
        if self.inclusion is None:
            return
        transaction, receipt = self.inclusion.transaction, self.inclusion.receipt
        created = transaction.to == b""
        yield {
            **self._where(),
            "transactionHash": data(transaction.hash),
            "type": hex(_type(transaction)),
            "from": data(transaction.sender),
            "to": None if created else data(transaction.to),
            "contractAddress": data(self.inclusion.computation.msg.storage_address) if created else None,
            "status": "0x1" if receipt.state_root == b"\x01" else "0x0",
            "gasUsed": hex(receipt.gas_used),
            "cumulativeGasUsed": hex(receipt.gas_used),
            "effectiveGasPrice": hex(self._gas_price(transaction)),
            "logsBloom": _bloom(receipt.bloom),
            "logs": [
                {
                    **self._where(),
                    "transactionHash": data(transaction.hash),
                    "logIndex": hex(index),
                    "address": data(log.address),
                    "topics": [f"0x{topic:064x}" for topic in log.topics],
                    "data": data(log.data),
                    "removed": False,
                }
                for index, log in enumerate(receipt.logs)
            ],
        }

    def _size(self) -> int:
        body = 0 if self.inclusion is None else len(self.inclusion.transaction.encode())
        return len(rlp.encode(self.header)) + body

    def _where(self) -> dict[str, Any]:
        return {"blockHash": self.hash, "blockNumber": hex(self.header.block_number), "transactionIndex": "0x0"}

    @property
    def _base_fee(self) -> int:
        return int(self.header.base_fee_per_gas)

    def _gas_price(self, transaction: SignedTransactionAPI) -> int:
        return min(transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas + self._base_fee)


def transaction_json(transaction: SignedTransactionAPI) -> dict[str, Any]:
    """A transaction that no block includes yet."""
    type_ = _type(transaction)
    common = {
        "blockHash": None,
        "blockNumber": None,
        "transactionIndex": None,
        "type": hex(type_),
        "hash": data(transaction.hash),
        "nonce": hex(transaction.nonce),
        "from": data(transaction.sender),
        "to": data(transaction.to) if transaction.to else None,
        "value": hex(transaction.value),
        "gas": hex(transaction.gas),
        "gasPrice": hex(transaction.max_fee_per_gas),
        "input": data(transaction.data),
        "r": hex(transaction.r),
        "s": hex(transaction.s),
    }
    if type_ == 0:
        chain_id = {} if transaction.chain_id is None else {"chainId": hex(transaction.chain_id)}
        return {**common, **chain_id, "v": hex(transaction.v)}  # type: ignore[attr-defined]
    typed: dict[str, Any] = {
        **common,
        "chainId": hex(transaction.chain_id or 0),
        "v": hex(transaction.y_parity),
        "yParity": hex(transaction.y_parity),
        "accessList": [
            {"address": data(address), "storageKeys": [f"0x{key:064x}" for key in keys]}
            for address, keys in transaction.access_list
        ],
    }
    if type_ >= DYNAMIC_FEE:
        typed["maxFeePerGas"] = hex(transaction.max_fee_per_gas)
        typed["maxPriorityFeePerGas"] = hex(transaction.max_priority_fee_per_gas)
    if type_ == SET_CODE:
        typed["authorizationList"] = [
            {
                "chainId": hex(authorization.chain_id),
                "address": data(authorization.address),
                "nonce": hex(authorization.nonce),
                "yParity": hex(authorization.y_parity),
                "r": hex(authorization.r),
                "s": hex(authorization.s),
            }
            for authorization in transaction.authorization_list
        ]
    return typed


def revert_reason(returned: bytes) -> str | None:
    """The string that Solidity and Vyper revert with, or None when it was something else."""
    if not returned.startswith(ERROR_STRING):
        return None
    try:
        (reason,) = decode(["string"], returned[4:])
    except (DecodingError, UnicodeDecodeError):
        return None
    return str(reason)


def data(value: bytes) -> str:
    """Bytes as JSON-RPC writes them."""
    return "0x" + value.hex()


def _bloom(value: int) -> str:
    return f"0x{value:0512x}"


def _type(transaction: SignedTransactionAPI) -> int:
    # A legacy transaction has no type byte, and py-evm gives it None or no attribute at all.
    return getattr(transaction, "type_id", None) or 0
