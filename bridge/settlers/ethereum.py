"""What we use of web3 and eth-account, imported in this one place, because importing them changes the interpreter.

py_ecc, which both bring, raises the recursion limit to 100,000 for the whole process. At that depth CPython 3.11's own
JSON scanner overruns the C stack: one deeply nested request body would end the process, whoever parses it. So the limit
is put back. Takes a second: import this module late.
"""

import sys

_limit = sys.getrecursionlimit()
try:
    from eth_account import Account
    from eth_account.signers.local import LocalAccount
    from web3.providers.async_base import AsyncJSONBaseProvider
    from web3.types import RPCEndpoint, RPCResponse
finally:
    sys.setrecursionlimit(_limit)

__all__ = ["Account", "AsyncJSONBaseProvider", "LocalAccount", "RPCEndpoint", "RPCResponse"]
