"""The demo's chain itself: py-evm, automined, its blocks stamped with the wall clock. No I/O.

It differs from a testing tool's chain where a payment would notice: time moves by itself, so that the windows of
EIP-3009 open and close; several blocks may share a second, so that a burst of settlements does not push the chain's
clock ahead of everybody else's; and a transaction that arrives before its predecessor waits for it.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from eth import EVM_RECURSION_LIMIT
from eth.abc import BlockHeaderAPI, ComputationAPI, SignedTransactionAPI, StateAPI
from eth.chains.base import MiningChain
from eth.constants import POST_MERGE_DIFFICULTY, POST_MERGE_MIX_HASH, POST_MERGE_NONCE
from eth.db.atomic import AtomicDB
from eth.vm.forks.prague import PragueVM
from eth.vm.spoof import SpoofTransaction

from bridge.demo import blocks
from bridge.demo.token import CHAIN_ID, TOKEN_ADDRESS, genesis_storage, runtime_code

# py-evm asks for 12,288 frames, which calls nested 1,024 deep need. Its dependency py_ecc asks for 100,000, and at
# that depth CPython 3.11's JSON scanner overruns the C stack: one request of nested brackets would end the process.
sys.setrecursionlimit(EVM_RECURSION_LIMIT)

GAS_LIMIT: Final = 30_000_000
TIP: Final = 1_000_000
"""The priority fee we suggest, in wei per unit of gas."""

BLOCK_SECONDS: Final = 2
"""Base's block time. Whoever looks at the chain never finds its newest block older than this."""

MAX_WAITING: Final = 64
"""How far ahead of its account's nonce a transaction may arrive."""


class Rejected(ValueError):
    """The node refuses the request; the message is worded as geth words it, because clients match on it."""


class Reverted(Rejected):
    """The code reverted; `data` is what it returned."""

    def __init__(self, data: bytes) -> None:
        reason = blocks.revert_reason(data)
        super().__init__("execution reverted" + (f": {reason}" if reason else ""))
        self.data = data


@dataclass(frozen=True, slots=True)
class Call:
    """What `eth_call` and `eth_estimateGas` are asked to run; `value` in wei, `to` empty to create a contract."""

    sender: bytes
    to: bytes
    data: bytes
    value: int
    gas: int


class _VM(PragueVM):
    @classmethod
    def validate_header(cls, header: BlockHeaderAPI, parent_header: BlockHeaderAPI) -> None:
        # Ethereum demands a later second for each block. We mine one a transaction, and keep to the wall clock.
        later = max(header.timestamp, parent_header.timestamp + 1)
        super().validate_header(header.copy(timestamp=later), parent_header)


class _Blockchain(MiningChain):
    chain_id = CHAIN_ID
    vm_configuration = ((0, _VM),)  # type: ignore[assignment] # py-evm wants a BlockNumber, a NewType of int


class Chain:
    """A chain with the token in its genesis state.

    `balances` are tokens in atomic units, `gas` is native money in wei, both by address; `clock` gives Unix seconds.
    """

    def __init__(
        self, *, balances: Mapping[str, int], gas: Mapping[str, int], clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._waiting: dict[bytes, dict[int, SignedTransactionAPI]] = {}
        self.blocks: list[blocks.Block] = []
        self.block_numbers: dict[str, int] = {}
        self.logs: list[dict[str, Any]] = []
        self.transactions: dict[str, dict[str, Any]] = {}
        self.receipts: dict[str, dict[str, Any]] = {}
        # Any: py-evm types what its class methods return as the base class of what they return.
        self._chain: Any = _Blockchain.from_genesis(AtomicDB(), self._genesis_params(), _genesis_state(balances, gas))
        self._keep(self._chain.get_canonical_head(), None)

    @property
    def head(self) -> blocks.Header:
        """The newest block's header."""
        return self.blocks[-1].header

    def pending_header(self) -> blocks.Header:
        """The header the next block would have if it were mined now."""
        # The clock of a machine may step back; a chain's may not.
        timestamp = max(int(self._clock()), self.head.timestamp)
        return self._chain.create_header_from_parent(self.head, timestamp=timestamp, gas_limit=GAS_LIMIT)

    def tick(self) -> None:
        """Mine an empty block if the newest one is old.

        Done when somebody looks rather than by a timer: readers take the newest block's time for the present.
        """
        if self._clock() - self.head.timestamp >= BLOCK_SECONDS:
            self._mine(None)

    def state(self, number: int | None = None) -> StateAPI:
        """The state after block `number`; after the newest, at the present time, when None."""
        state: StateAPI = self._chain.get_vm(self._header(number)).state
        return state

    def call(self, call: Call, number: int | None = None) -> bytes:
        """What a call returns, changing nothing. Raises `Reverted` or `Rejected`."""
        computation = self._run(call, call.gas, number)
        _raise_for(computation)
        return computation.output

    def estimate_gas(self, call: Call, number: int | None = None) -> int:
        """The gas a call needs. Raises `Reverted` or `Rejected` when no amount is enough."""
        computation = self._run(call, call.gas, number)
        _raise_for(computation)
        spent = call.gas - computation.get_gas_remaining()
        enough = max(spent, spent - computation.get_gas_refund() + computation.data_floor_gas)
        # A call is handed at most 63/64 of the gas, so what was spent is not always enough to spend it again.
        while self._run(call, enough, number).is_error and enough < call.gas:
            enough = min(call.gas, enough + enough // 16)
        return enough

    def submit(self, raw: bytes) -> bytes:
        """Mine a signed transaction, or keep it until its predecessors have come, and return its hash."""
        try:
            transaction: SignedTransactionAPI = self._chain.get_vm().get_transaction_builder().decode(raw)
            sender = transaction.sender
        except Exception as error:  # rlp, eth-keys and py-evm raise each their own
            raise Rejected(f"invalid transaction: {error}") from error
        hash_ = "0x" + transaction.hash.hex()
        if hash_ in self.transactions:
            raise Rejected("already known")
        if transaction.chain_id not in (CHAIN_ID, None):
            raise Rejected(f"invalid chain id for signer: have {transaction.chain_id} want {CHAIN_ID}")
        expected = self.state().get_nonce(sender)
        if transaction.nonce < expected:
            raise Rejected(f"nonce too low: next nonce {expected}, tx nonce {transaction.nonce}")
        if transaction.nonce > expected + MAX_WAITING:
            raise Rejected(f"nonce too high: next nonce {expected}, tx nonce {transaction.nonce}")

        waiting = self._waiting.setdefault(sender, {})
        if transaction.nonce > expected:
            if replaced := waiting.get(transaction.nonce):
                del self.transactions["0x" + replaced.hash.hex()]
            waiting[transaction.nonce] = transaction
            self.transactions[hash_] = blocks.transaction_json(transaction)
            return transaction.hash
        self._mine(transaction)
        while successor := waiting.pop(expected := expected + 1, None):
            try:
                self._mine(successor)
            except Rejected:  # a node drops it from the pool without a word, too
                del self.transactions["0x" + successor.hash.hex()]
                break
        return transaction.hash

    def _mine(self, transaction: SignedTransactionAPI | None) -> None:
        header = self._chain.header = self.pending_header()
        if transaction is not None:
            self._check_funds(transaction, header)
        try:
            imported, receipts, computations = self._chain.mine_all([transaction] if transaction else [])
        except Exception as error:  # py-evm's validation raises several kinds; nothing was written
            raise Rejected(str(error)) from error
        mined = imported.imported_block.header
        if transaction is None:
            self._keep(mined, None)
        else:
            self._keep(mined, blocks.Inclusion(transaction, receipts[0], computations[0]))

    def _check_funds(self, transaction: SignedTransactionAPI, header: blocks.Header) -> None:
        # py-evm checks these as well, in words no client knows.
        cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
        balance = self.state().get_balance(transaction.sender)
        if balance < cost:
            sender = transaction.sender.hex()
            raise Rejected(f"insufficient funds for gas * price + value: address 0x{sender} have {balance} want {cost}")
        if transaction.max_fee_per_gas < header.base_fee_per_gas:
            raise Rejected(
                f"max fee per gas less than block base fee: maxFeePerGas: {transaction.max_fee_per_gas}, "
                f"baseFee: {header.base_fee_per_gas}"
            )
        if transaction.gas < transaction.intrinsic_gas:
            raise Rejected(f"intrinsic gas too low: gas {transaction.gas}, minimum needed {transaction.intrinsic_gas}")

    def _keep(self, header: blocks.Header, inclusion: blocks.Inclusion | None) -> None:
        block = blocks.Block(header, inclusion)
        self.blocks.append(block)
        self.block_numbers[block.hash] = header.block_number
        for transaction in block.transactions():
            self.transactions[transaction["hash"]] = transaction
        for receipt in block.receipts():
            self.receipts[receipt["transactionHash"]] = receipt
            self.logs.extend(receipt["logs"])

    def _header(self, number: int | None) -> blocks.Header:
        return self.pending_header() if number is None else self.blocks[number].header

    def _run(self, call: Call, gas: int, number: int | None) -> ComputationAPI:
        # A call pays nothing, so the base fee must not refuse it.
        vm = self._chain.get_vm(self._header(number).copy(base_fee_per_gas=0))
        unsigned = vm.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
            chain_id=CHAIN_ID,
            nonce=vm.state.get_nonce(call.sender),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=0,
            gas=gas,
            to=call.to,
            value=call.value,
            data=call.data,
            access_list=(),
        )
        try:
            computation: ComputationAPI = vm.state.apply_transaction(SpoofTransaction(unsigned, from_=call.sender))
        except Exception as error:  # refused before it ran: no funds for the value, too little gas to start
            raise Rejected(str(error)) from error
        return computation

    def _genesis_params(self) -> dict[str, Any]:
        return {
            "difficulty": POST_MERGE_DIFFICULTY,
            "gas_limit": GAS_LIMIT,
            "mix_hash": POST_MERGE_MIX_HASH,
            "nonce": POST_MERGE_NONCE,
            "timestamp": int(self._clock()),
        }


def _genesis_state(balances: Mapping[str, int], gas: Mapping[str, int]) -> dict[Any, Any]:
    state: dict[bytes, dict[str, Any]] = {
        bytes.fromhex(address.removeprefix("0x")): {"balance": wei, "nonce": 0, "code": b"", "storage": {}}
        for address, wei in gas.items()
    }
    token = {"balance": 0, "nonce": 1, "code": runtime_code(), "storage": genesis_storage(balances)}
    return {**state, bytes.fromhex(TOKEN_ADDRESS.removeprefix("0x")): token}


def _raise_for(computation: ComputationAPI) -> None:
    if not computation.is_error:
        return
    if not computation.error.erases_return_data:  # REVERT, alone of all errors, keeps its data
        raise Reverted(computation.output)
    raise Rejected(f"{type(computation.error).__name__}: {computation.error}")
