"""x402 2.25's own client, over httpx, paying by Permit2 where a 402 offers it.

    python client_permit2.py exact|upto

The credential that it sent comes back as a header of its answer, `X-Sent`, so that it can be sent again.
"""

import sys

from driver import answer, serve
from eth_account import Account
from x402 import x402Client
from x402.http import x402HTTPClient
from x402.http.clients import x402HttpxClient
from x402.http.utils import encode_payment_signature_header
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import register_exact_evm_client
from x402.mechanisms.evm.upto import UptoEvmClientScheme

SCHEME = sys.argv[1]


def _by_permit2(version, requirements):
    return next(
        entry
        for entry in requirements
        if entry.scheme == SCHEME
        and (SCHEME == "upto" or (entry.extra or {}).get("assetTransferMethod") == "permit2")
    )


async def pay(request):
    signer = EthAccountSigner(Account.from_key(request["private_key"]))
    client = x402Client(_by_permit2)
    register_exact_evm_client(client, signer)
    client.register("eip155:*", UptoEvmClientScheme(signer))
    sent = []
    client.on_after_payment_creation(lambda made: sent.append(encode_payment_signature_header(made.payment_payload)))
    async with x402HttpxClient(client, timeout=60) as http:
        response = await http.request(request["method"], request["url"], headers=request.get("headers"))
        try:
            settled = x402HTTPClient(client).get_payment_settle_response(response.headers.get)
        except ValueError:
            settled = None
        return answer(
            response.status_code,
            [*response.headers.multi_items(), *(("X-Sent", header) for header in sent)],
            receipt=settled and settled.model_dump(by_alias=True, mode="json"),
            body=response.text,
        )


serve(pay)
