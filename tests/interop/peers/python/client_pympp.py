"""pympp 0.16's client, paying `evm` charges in Base Sepolia's USDC."""

from driver import Stopwatch, answer, serve
from eth_account import Account
from mpp import Receipt
from mpp.client import Mpp
from mpp.methods.evm import BASE_SEPOLIA_USDC
from mpp.methods.evm import client as evm


async def pay(request):
    method = evm.charge(currency=BASE_SEPOLIA_USDC, account=Account.from_key(request["private_key"]))
    watch = Stopwatch()
    async with (
        Mpp(methods=[method]) as mpp,
        mpp.client(timeout=60) as http,
        http.stream(
            request["method"], request["url"], content=request.get("body"), headers=request.get("headers")
        ) as response,
    ):
        async for text in response.aiter_text():
            watch.add(text)
        return answer(
            response.status_code, response.headers.multi_items(), receipt=_receipt(response), chunks=watch.chunks
        )


def _receipt(response):
    header = response.headers.get("Payment-Receipt")
    if header is None:
        return None
    receipt = Receipt.from_payment_receipt(header)
    return {
        "status": receipt.status,
        "method": receipt.method,
        "reference": receipt.reference,
        "timestamp": receipt.timestamp.isoformat(),
    }


serve(pay)
