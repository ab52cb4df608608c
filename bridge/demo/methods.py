"""The methods of Ethereum's JSON-RPC that reading and paying clients use, over the demo's chain. No I/O."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from bridge.demo.blocks import Block, data
from bridge.demo.evm import GAS_LIMIT, TIP, Call, Chain, Rejected
from bridge.demo.token import CHAIN_ID

MAX_FEE_HISTORY: Final = 1024

QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]{1,64}")  # up to a uint256; some clients send leading zeros

Params = Sequence[Any]


class InvalidParamsError(ValueError):
    """The parameters are not what the method takes."""


def _quantity(value: Any) -> int:
    if isinstance(value, str) and QUANTITY.fullmatch(value):
        return int(value, 16)
    raise InvalidParamsError(f"not a hex quantity: {value!r}")


def _list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    raise InvalidParamsError(f"not a list: {value!r}")


def _bytes(value: Any, size: int | None = None) -> bytes:
    try:
        if not value.startswith("0x"):
            raise ValueError
        decoded = bytes.fromhex(value[2:])
    except (AttributeError, TypeError, ValueError):
        raise InvalidParamsError(f"not hex data: {value!r}") from None
    if size is not None and len(decoded) != size:
        raise InvalidParamsError(f"expected {size} bytes, got {len(decoded)}")
    return decoded


def _param(params: Params, index: int) -> Any:
    if index >= len(params) or params[index] is None:
        raise InvalidParamsError(f"missing value for required argument {index}")
    return params[index]


def _address(params: Params, index: int = 0) -> bytes:
    return _bytes(_param(params, index), 20)


def _hash(params: Params, index: int = 0) -> str:
    return data(_bytes(_param(params, index), 32))


def _block_number(chain: Chain, params: Params, index: int) -> int | None:
    """The block a parameter names; None stands for the present, the newest state at the present time."""
    tag = params[index] if index < len(params) else None
    match tag:
        case None | "latest" | "pending" | "safe" | "finalized":
            return None
        case "earliest":
            return 0
        case {"blockHash": hash_}:  # EIP-1898
            number = chain.block_numbers.get(data(_bytes(hash_, 32)), len(chain.blocks))
        case {"blockNumber": value}:
            number = _quantity(value)
        case _:
            number = _quantity(tag)
    if not 0 <= number < len(chain.blocks):
        raise Rejected("header not found")
    return number


def _call(params: Params) -> Call:
    request = _param(params, 0)
    if not isinstance(request, dict):
        raise InvalidParamsError("a call is an object")
    if len(params) > 2 and params[2]:
        raise InvalidParamsError("state overrides are not supported")
    given = {key: value for key, value in request.items() if value is not None}
    return Call(
        sender=_bytes(given.get("from", "0x" + "00" * 20), 20),
        to=_bytes(given["to"], 20) if "to" in given else b"",
        data=_bytes(given.get("input", given.get("data", "0x"))),
        value=_quantity(given.get("value", "0x0")),
        gas=min(GAS_LIMIT, _quantity(given.get("gas", hex(GAS_LIMIT)))),
    )


def _get_block_by_number(chain: Chain, params: Params) -> dict[str, Any] | None:
    full = bool(params[1]) if len(params) > 1 else False
    if _param(params, 0) == "pending":
        return Block(chain.pending_header(), None, pending=True).json(full=full)
    try:
        number = _block_number(chain, params, 0)
    except Rejected:
        return None
    return chain.blocks[-1 if number is None else number].json(full=full)


def _get_block_by_hash(chain: Chain, params: Params) -> dict[str, Any] | None:
    number = chain.block_numbers.get(_hash(params))
    full = bool(params[1]) if len(params) > 1 else False
    return None if number is None else chain.blocks[number].json(full=full)


def _fee_history(chain: Chain, params: Params) -> dict[str, Any]:
    newest = _block_number(chain, params, 1)
    newest = len(chain.blocks) - 1 if newest is None else newest
    count = min(_quantity(_param(params, 0)), MAX_FEE_HISTORY, newest + 1)
    chosen = chain.blocks[newest + 1 - count : newest + 1]
    following = chain.blocks[newest + 1].header if newest + 1 < len(chain.blocks) else chain.pending_header()
    percentiles = _list(params[2]) if len(params) > 2 and params[2] is not None else []
    history: dict[str, Any] = {
        "oldestBlock": hex(newest + 1 - count),
        "baseFeePerGas": [hex(header.base_fee_per_gas) for header in (*(block.header for block in chosen), following)],
        "gasUsedRatio": [block.header.gas_used / block.header.gas_limit for block in chosen],
    }
    if percentiles:
        history["reward"] = [[hex(block.tip())] * len(percentiles) for block in chosen]
    return history


def _get_logs(chain: Chain, params: Params) -> list[dict[str, Any]]:
    query = _param(params, 0)
    if not isinstance(query, dict):
        raise InvalidParamsError("a filter is an object")
    if "blockHash" in query:
        first = last = _block_number(chain, [{"blockHash": query["blockHash"]}], 0) or 0
    else:
        first, last = (_log_bound(chain, query.get(key)) for key in ("fromBlock", "toBlock"))
    addresses = _alternatives(query.get("address"), 20)
    topics = [_alternatives(topic, 32) for topic in _list(query.get("topics", []))]
    return [
        log
        for log in chain.logs
        if first <= int(log["blockNumber"], 16) <= last
        and (addresses is None or log["address"] in addresses)
        and len(log["topics"]) >= len(topics)
        and all(wanted is None or topic in wanted for topic, wanted in zip(log["topics"], topics, strict=False))
    ]


def _log_bound(chain: Chain, tag: Any) -> int:
    # Unlike a state query, a range may end in the future.
    if isinstance(tag, str) and tag.startswith("0x"):
        return _quantity(tag)
    number = _block_number(chain, [tag], 0)
    return len(chain.blocks) - 1 if number is None else number


def _alternatives(wanted: Any, size: int) -> set[str] | None:
    if wanted is None or wanted == []:
        return None
    return {data(_bytes(one, size)) for one in (wanted if isinstance(wanted, list) else [wanted])}


def _get_code(chain: Chain, params: Params) -> str:
    return data(chain.state(_block_number(chain, params, 1)).get_code(_address(params)))  # type: ignore[arg-type]


def _get_balance(chain: Chain, params: Params) -> str:
    return hex(chain.state(_block_number(chain, params, 1)).get_balance(_address(params)))  # type: ignore[arg-type]


def _get_nonce(chain: Chain, params: Params) -> str:
    return hex(chain.state(_block_number(chain, params, 1)).get_nonce(_address(params)))  # type: ignore[arg-type]


def _get_storage(chain: Chain, params: Params) -> str:
    state = chain.state(_block_number(chain, params, 2))
    return f"0x{state.get_storage(_address(params), _quantity(_param(params, 1))):064x}"  # type: ignore[arg-type]


def _get_block_receipts(chain: Chain, params: Params) -> list[dict[str, Any]]:
    number = _block_number(chain, params, 0)
    return list(chain.blocks[-1 if number is None else number].receipts())


METHODS: Final[dict[str, Callable[[Chain, Params], Any]]] = {
    "web3_clientVersion": lambda _chain, _params: "x402-mpp-bridge-demo",
    "net_version": lambda _chain, _params: str(CHAIN_ID),
    "net_listening": lambda _chain, _params: True,
    "eth_chainId": lambda _chain, _params: hex(CHAIN_ID),
    "eth_syncing": lambda _chain, _params: False,
    "eth_accounts": lambda _chain, _params: [],
    "eth_blockNumber": lambda chain, _params: hex(chain.head.block_number),
    "eth_getBlockByNumber": _get_block_by_number,
    "eth_getBlockByHash": _get_block_by_hash,
    "eth_getBlockReceipts": _get_block_receipts,
    "eth_feeHistory": _fee_history,
    "eth_gasPrice": lambda chain, _params: hex(chain.pending_header().base_fee_per_gas + TIP),
    "eth_maxPriorityFeePerGas": lambda _chain, _params: hex(TIP),
    "eth_getBalance": _get_balance,
    "eth_getCode": _get_code,
    "eth_getStorageAt": _get_storage,
    "eth_getTransactionCount": _get_nonce,
    "eth_call": lambda chain, params: data(chain.call(_call(params), _block_number(chain, params, 1))),
    "eth_estimateGas": lambda chain, params: hex(chain.estimate_gas(_call(params), _block_number(chain, params, 1))),
    "eth_sendRawTransaction": lambda chain, params: data(chain.submit(_bytes(_param(params, 0)))),
    "eth_getTransactionByHash": lambda chain, params: chain.transactions.get(_hash(params)),
    "eth_getTransactionReceipt": lambda chain, params: chain.receipts.get(_hash(params)),
    "eth_getLogs": _get_logs,
}
"""Every method a client may call. All run to completion, one after another: the child serves one chain."""
