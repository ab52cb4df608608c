"""x402 2.25's own clients, over httpx and over requests.

    python client_x402.py httpx|requests [v1]

`v1` registers the scheme of the first generation and nothing else, as a program does that has taken the new
library and not yet the new protocol.
"""

import sys

import requests
from driver import Stopwatch, answer, serve
from eth_account import Account
from x402 import x402Client, x402ClientSync
from x402.http import x402HTTPClient, x402HTTPClientSync
from x402.http.clients import wrapRequestsWithPayment, x402HttpxClient
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import register_exact_evm_client
from x402.mechanisms.evm.exact.v1 import ExactEvmSchemeV1

TRANSPORT, ONLY_V1 = sys.argv[1], sys.argv[2:] == ["v1"]


def _registered(client, request):
    signer = EthAccountSigner(Account.from_key(request["private_key"]))
    if ONLY_V1:
        client.register_v1("base-sepolia", ExactEvmSchemeV1(signer))
    else:
        register_exact_evm_client(client, signer)
    return client


def _receipt(http_client, response):
    try:
        settled = http_client.get_payment_settle_response(response.headers.get)
    except ValueError:
        return None
    return settled.model_dump(by_alias=True, mode="json")


async def pay_httpx(request):
    client = _registered(x402Client(), request)
    watch = Stopwatch()
    async with (
        x402HttpxClient(client, timeout=60) as http,
        http.stream(
            request["method"], request["url"], content=request.get("body"), headers=request.get("headers")
        ) as response,
    ):
        async for text in response.aiter_text():
            watch.add(text)
        return answer(
            response.status_code,
            response.headers.multi_items(),
            receipt=_receipt(x402HTTPClient(client), response),
            chunks=watch.chunks,
        )


def pay_requests(request):
    client = _registered(x402ClientSync(), request)
    watch = Stopwatch()
    session = wrapRequestsWithPayment(requests.Session(), client)
    with session.request(
        request["method"],
        request["url"],
        data=request.get("body"),
        headers=request.get("headers"),
        stream=True,
        timeout=60,
    ) as response:
        for data in response.iter_content(chunk_size=None):
            watch.add(data)
        return answer(
            response.status_code,
            response.headers.items(),
            receipt=_receipt(x402HTTPClientSync(client), response),
            chunks=watch.chunks,
        )


serve({"httpx": pay_httpx, "requests": pay_requests}[TRANSPORT])
