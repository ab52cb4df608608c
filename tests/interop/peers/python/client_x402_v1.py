"""x402 0.2.1, the last Python library of the first generation.

    python client_x402_v1.py httpx|requests

Both of its transports read a whole answer before they hand it on, so neither streams.
"""

import sys

from driver import answer, serve
from eth_account import Account
from x402.clients.base import decode_x_payment_response
from x402.clients.httpx import x402HttpxClient
from x402.clients.requests import x402_requests


def _receipt(response):
    header = response.headers.get("X-Payment-Response")
    return decode_x_payment_response(header) if header else None


async def pay_httpx(request):
    account = Account.from_key(request["private_key"])
    async with x402HttpxClient(account=account, timeout=60) as client:
        response = await client.request(
            request["method"], request["url"], content=request.get("body"), headers=request.get("headers")
        )
        body = (await response.aread()).decode()
        return answer(response.status_code, response.headers.multi_items(), receipt=_receipt(response), body=body)


def pay_requests(request):
    session = x402_requests(Account.from_key(request["private_key"]))
    response = session.request(
        request["method"], request["url"], data=request.get("body"), headers=request.get("headers"), timeout=60
    )
    return answer(
        response.status_code, response.headers.items(), receipt=_receipt(response), body=response.content.decode()
    )


serve({"httpx": pay_httpx, "requests": pay_requests}[sys.argv[1]])
