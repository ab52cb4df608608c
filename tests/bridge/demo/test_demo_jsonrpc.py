"""The chain and its JSON-RPC without a process or a socket around them."""

import json
from typing import Any

import pytest
from demo_signing import PAYER, POOR, RECIPIENT, SETTLER, Transfer, payment
from eth_abi.abi import encode

from bridge.demo.blocks import revert_reason
from bridge.demo.evm import Call, Chain, Rejected
from bridge.demo.jsonrpc import answer
from bridge.demo.token import (
    CHAIN_ID,
    TOKEN_ADDRESS,
    balance_slot,
)

ZERO_HASH = "0x" + "00" * 32


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def chain(clock: Clock) -> Chain:
    """A chain without a process or a socket around it."""
    return Chain(balances={PAYER.address: 1_000_000}, gas={SETTLER.address: 10**18}, clock=clock)


def ask(chain: Chain, method: str, *params: Any) -> Any:
    return json.loads(answer(chain, json.dumps({"id": 1, "method": method, "params": params}).encode()))


def result(chain: Chain, method: str, *params: Any) -> Any:
    response = ask(chain, method, *params)
    assert "error" not in response, response
    return response["result"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"[" * 100_000, -32700),
        (b"\xff", -32700),
        (b"[]", -32600),
        (b"{}", -32600),
        (b'"eth_chainId"', -32600),
        (b'{"id":1,"method":"eth_call","params":{}}', -32602),
        (b'{"id":1,"method":"eth_call","params":[{"to":"0x12"}]}', -32602),
        (b'{"id":1,"method":"eth_call","params":[{"value":[]}]}', -32602),
        (b'{"id":1,"method":"eth_call","params":[{},"latest",{"0x":{}}]}', -32602),
        (b'{"id":1,"method":"eth_getBalance","params":[]}', -32602),
        (b'{"id":1,"method":"eth_getBalance","params":["zz"]}', -32602),
        (b'{"id":1,"method":"eth_getLogs","params":[{"topics":[1]}]}', -32602),
        (b'{"id":1,"method":"eth_getLogs","params":[{"topics":1}]}', -32602),
        (b'{"id":1,"method":"eth_getLogs","params":["x"]}', -32602),
        (b'{"id":1,"method":"eth_feeHistory","params":["0x1","latest",5]}', -32602),
        (b'{"id":1,"method":"eth_getStorageAt","params":["0x' + b"00" * 20 + b'","-0x1"]}', -32602),
        (b'{"id":1,"method":"eth_sendRawTransaction","params":["0x"]}', -32000),
        (b'{"id":1,"method":"eth_sendRawTransaction","params":["0x02c0"]}', -32000),
        (b'{"id":1,"method":"eth_call","params":[{},"0xffff"]}', -32000),
    ],
)
def test_bad_requests(chain: Chain, body: bytes, code: int) -> None:
    """Whatever is sent, the answer is an error with geth's code, never an exception."""
    assert json.loads(answer(chain, body))["error"]["code"] == code


def test_absent_things_are_null(chain: Chain) -> None:
    """An unknown block, transaction or receipt is null, not an error."""
    for method in ("eth_getTransactionReceipt", "eth_getTransactionByHash", "eth_getBlockByHash"):
        assert result(chain, method, ZERO_HASH) is None
    assert result(chain, "eth_getBlockByNumber", "0xffff", False) is None


def test_revert_has_its_data(chain: Chain) -> None:
    """A revert is error 3 with the returned data, for a call and for an estimate."""
    call = {"to": TOKEN_ADDRESS, "data": "0xa9059cbb" + RECIPIENT[2:].rjust(64, "0") + f"{1:064x}", "from": RECIPIENT}
    for method in ("eth_call", "eth_estimateGas"):
        error = ask(chain, method, call)["error"]
        assert error["code"] == 3
        assert error["message"] == "execution reverted: ERC20: transfer amount exceeds balance"
        assert revert_reason(bytes.fromhex(error["data"][2:])) == "ERC20: transfer amount exceeds balance"


def test_state_reads(chain: Chain) -> None:
    """Balances, code, nonces and storage are read at the newest block and at an older one."""
    result(chain, "eth_sendRawTransaction", payment(0))
    settler = SETTLER.address.lower()
    assert result(chain, "eth_getTransactionCount", settler, "pending") == "0x1"
    assert result(chain, "eth_getTransactionCount", settler, "0x0") == "0x0"
    genesis = result(chain, "eth_getBlockByNumber", "earliest", False)["hash"]
    assert result(chain, "eth_getBalance", settler, {"blockHash": genesis}) == hex(10**18)
    assert result(chain, "eth_getBalance", RECIPIENT, "latest") == "0x1"
    assert result(chain, "eth_getCode", RECIPIENT, "latest") == "0x"
    stored = result(chain, "eth_getStorageAt", TOKEN_ADDRESS, hex(balance_slot(PAYER.address)), "latest")
    assert stored == f"0x{1_000_000:064x}"


def test_block_and_receipt_agree(chain: Chain) -> None:
    """A block, its transaction and the receipt name one another, in lower case and minimal hex."""
    hash_ = result(chain, "eth_sendRawTransaction", payment(0))
    receipt = result(chain, "eth_getTransactionReceipt", hash_)
    assert (receipt["status"], receipt["gasUsed"], receipt["from"]) == ("0x1", "0x5208", SETTLER.address.lower())
    block = result(chain, "eth_getBlockByHash", receipt["blockHash"], True)
    assert block["number"] == receipt["blockNumber"] == "0x1"
    assert block["transactions"] == [result(chain, "eth_getTransactionByHash", hash_)]
    assert result(chain, "eth_getBlockReceipts", "0x1") == [receipt]
    assert result(chain, "eth_getBlockByNumber", "latest", False)["transactions"] == [hash_]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (payment(0), "nonce too low: next nonce 1, tx nonce 0"),
        (payment(500), "nonce too high"),
        (payment(1, chainId=1), "invalid chain id for signer: have 1 want 84532"),
        (payment(1, value=10**19), "insufficient funds for gas * price + value"),
        (payment(1, maxFeePerGas=1, maxPriorityFeePerGas=1), "max fee per gas less than block base fee"),
        (payment(1, gas=20_000), "intrinsic gas too low"),
        (payment(1, gas=31_000_000), "gas limit"),
    ],
)
def test_refused_transactions(chain: Chain, raw: str, message: str) -> None:
    """A refused transaction is refused in geth's words and leaves the chain able to take the next one."""
    result(chain, "eth_sendRawTransaction", payment(0, value=2))
    error = ask(chain, "eth_sendRawTransaction", raw)["error"]
    assert error["code"] == -32000
    assert message in error["message"]
    assert result(chain, "eth_sendRawTransaction", payment(1))


def test_known_transaction(chain: Chain) -> None:
    """The same transaction again is "already known", which is no failure to whoever sends it twice."""
    result(chain, "eth_sendRawTransaction", payment(0))
    assert ask(chain, "eth_sendRawTransaction", payment(0))["error"]["message"] == "already known"


def test_early_transaction_waits(chain: Chain) -> None:
    """A transaction ahead of its nonce is known, unmined, replaceable, and mined once its predecessor comes."""
    replaced = result(chain, "eth_sendRawTransaction", payment(1, value=5))
    early = result(chain, "eth_sendRawTransaction", payment(1))
    assert result(chain, "eth_getTransactionByHash", replaced) is None
    assert result(chain, "eth_getTransactionByHash", early)["blockNumber"] is None
    assert result(chain, "eth_getTransactionReceipt", early) is None
    result(chain, "eth_sendRawTransaction", payment(0))
    assert result(chain, "eth_getTransactionReceipt", early)["status"] == "0x1"


def test_legacy_and_access_list_transactions(chain: Chain) -> None:
    """The two older forms of transaction are mined and shown in their own fields."""
    fees = {"maxFeePerGas": None, "maxPriorityFeePerGas": None, "gasPrice": 2 * 10**9}
    plain, listed = (
        result(chain, "eth_sendRawTransaction", payment_without_none(nonce, **fees, **extra))
        for nonce, extra in ((0, {}), (1, {"accessList": [], "gas": 30_000}))
    )
    assert result(chain, "eth_getTransactionByHash", plain)["type"] == "0x0"
    shown = result(chain, "eth_getTransactionByHash", listed)
    assert (shown["type"], shown["accessList"], shown["gasPrice"]) == ("0x1", [], hex(2 * 10**9))
    assert "maxFeePerGas" not in shown


def payment_without_none(nonce: int, **fields: Any) -> str:
    base = {"chainId": CHAIN_ID, "nonce": nonce, "gas": 21_000, "to": RECIPIENT, "value": 1}
    transaction = {key: value for key, value in {**base, **fields}.items() if value is not None}
    return "0x" + SETTLER.sign_transaction(transaction).raw_transaction.hex()


def test_logs_are_filtered(chain: Chain) -> None:
    """Logs are found by range, block, address and topic, a topic being one, several, or any."""
    mint = "0x40c10f19"
    for nonce, to in enumerate((RECIPIENT, POOR.address)):
        calldata = mint + to[2:].rjust(64, "0") + f"{5:064x}"
        result(
            chain,
            "eth_sendRawTransaction",
            payment(nonce, to=TOKEN_ADDRESS, value=0, gas=200_000, data=calldata),
        )
    everything = result(chain, "eth_getLogs", {"fromBlock": "0x0"})
    assert [log["blockNumber"] for log in everything] == ["0x1", "0x2"]
    first, second = everything
    signature = first["topics"][0]
    cases: list[tuple[dict[str, Any], list[Any]]] = [
        ({}, [second]),  # the newest block alone
        ({"fromBlock": "earliest", "toBlock": "0x1"}, [first]),
        ({"fromBlock": "0x1", "toBlock": "0xffff"}, [first, second]),
        ({"blockHash": first["blockHash"]}, [first]),
        ({"fromBlock": "0x0", "address": TOKEN_ADDRESS}, [first, second]),
        ({"fromBlock": "0x0", "address": [RECIPIENT]}, []),
        ({"fromBlock": "0x0", "topics": [signature, None, first["topics"][2]]}, [first]),
        ({"fromBlock": "0x0", "topics": [[signature, ZERO_HASH]]}, [first, second]),
        ({"fromBlock": "0x0", "topics": [None, None, None, None]}, []),
    ]
    for query, expected in cases:
        assert result(chain, "eth_getLogs", query) == expected, query


def test_clock_is_the_wall_clock(chain: Chain, clock: Clock) -> None:
    """Time passes without transactions, a burst does not hurry it, and a clock that steps back does not turn it."""

    def latest() -> int:
        return int(result(chain, "eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    started = latest()
    for nonce in range(3):
        result(chain, "eth_sendRawTransaction", payment(nonce))
    assert latest() == started
    clock.now += 90
    assert latest() == started + 90
    clock.now -= 30
    result(chain, "eth_sendRawTransaction", payment(3))
    assert latest() == started + 90


def test_authorization_expires_by_itself(chain: Chain, clock: Clock) -> None:
    """A call sees the present, not the newest block's time: an authorization expires while the chain is idle."""
    transfer = Transfer(valid_before=int(clock.now) + 10)
    call = Call(
        sender=bytes.fromhex(SETTLER.address[2:]),
        to=bytes.fromhex(TOKEN_ADDRESS[2:]),
        data=bytes.fromhex("cf092995") + _encoded(transfer),
        value=0,
        gas=1_000_000,
    )
    chain.call(call)
    clock.now += 10
    with pytest.raises(Rejected, match="authorization is expired"):
        chain.call(call)


def _encoded(transfer: Transfer) -> bytes:
    types = ["address", "address", "uint256", "uint256", "uint256", "bytes32", "bytes"]
    return encode(types, [*transfer.arguments, transfer.sign().packed])


def test_estimate_is_just_enough(chain: Chain) -> None:
    """A transaction sent with exactly its estimate succeeds, and one with less does not."""
    transfer = Transfer(valid_before=2_000_000_000)
    calldata = "0xcf092995" + _encoded(transfer).hex()
    call = {"from": SETTLER.address, "to": TOKEN_ADDRESS, "data": calldata}
    gas = int(result(chain, "eth_estimateGas", call), 16)
    fields = {"to": TOKEN_ADDRESS, "value": 0, "data": calldata}
    failed = result(chain, "eth_sendRawTransaction", payment(0, gas=gas * 9 // 10, **fields))
    assert result(chain, "eth_getTransactionReceipt", failed)["status"] == "0x0"
    worked = result(chain, "eth_sendRawTransaction", payment(1, gas=gas, **fields))
    assert result(chain, "eth_getTransactionReceipt", worked)["status"] == "0x1"
