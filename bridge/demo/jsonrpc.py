"""Ethereum's JSON-RPC over the demo's chain: one request body in, one answer body out. No I/O.

Errors are geth's: -32601 for an unknown method, -32602 for bad parameters, -32000 for what the node refuses, and 3
with the returned data for code that reverted.
"""

import json
from typing import Any, Final

from bridge.demo.blocks import data
from bridge.demo.evm import Chain, Rejected, Reverted
from bridge.demo.methods import METHODS, InvalidParamsError

MAX_BATCH: Final = 100


def answer(chain: Chain, body: bytes) -> bytes:
    """The answer to a request or a batch; empty when nothing in it wants one."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return _dump(_error(None, -32700, "parse error"))
    chain.tick()
    if not isinstance(request, list):
        response = _answer_one(chain, request)
        return b"" if response is None else _dump(response)
    if not request or len(request) > MAX_BATCH:
        return _dump(_error(None, -32600, f"a batch holds 1 to {MAX_BATCH} requests"))
    responses = [response for one in request if (response := _answer_one(chain, one)) is not None]
    return _dump(responses) if responses else b""


def _answer_one(chain: Chain, request: Any) -> dict[str, Any] | None:
    match request:
        case {"method": str(method)}:
            identity, params = request.get("id"), request.get("params") or []
        case _:
            return _error(None, -32600, "invalid request")
    response: dict[str, Any]
    try:
        if method not in METHODS:
            response = _error(identity, -32601, f"the method {method} does not exist/is not available")
        elif not isinstance(params, list):
            response = _error(identity, -32602, "parameters are positional")
        else:
            response = {"jsonrpc": "2.0", "id": identity, "result": METHODS[method](chain, params)}
    except Reverted as error:
        response = _error(identity, 3, str(error), data(error.data))
    except Rejected as error:
        response = _error(identity, -32000, str(error))
    except InvalidParamsError as error:
        response = _error(identity, -32602, str(error))
    return response if "id" in request else None


def _error(identity: Any, code: int, message: str, detail: str | None = None) -> dict[str, Any]:
    error = {"code": code, "message": message} | ({} if detail is None else {"data": detail})
    return {"jsonrpc": "2.0", "id": identity, "error": error}


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
