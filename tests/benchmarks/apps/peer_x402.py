"""The official x402 middleware on FastAPI, with a facilitator in the same process that says yes to everything.

So it verifies no signature at all: that is what it leaves to a facilitator.
"""

import os

from fastapi import FastAPI
from x402.http import PaymentOption
from x402.http.middleware.fastapi import PaymentMiddlewareASGI
from x402.http.types import RouteConfig
from x402.mechanisms.evm.exact import ExactEvmServerScheme
from x402.schemas import SettleResponse, SupportedKind, SupportedResponse, VerifyResponse
from x402.server import x402ResourceServer

NETWORK = "eip155:84532"


class Yes:
    """A facilitator that agrees."""

    async def verify(self, payload, requirements):
        return VerifyResponse(is_valid=True, payer="0x" + "11" * 20)

    async def settle(self, payload, requirements):
        return SettleResponse(success=True, transaction="0x" + "00" * 32, network=NETWORK, payer="0x" + "11" * 20)

    def get_supported(self):
        return SupportedResponse(kinds=[SupportedKind(x402_version=2, scheme="exact", network=NETWORK)])


app = FastAPI()
server = x402ResourceServer(Yes())
server.register(NETWORK, ExactEvmServerScheme())
option = PaymentOption(scheme="exact", pay_to=os.environ["BENCH_PAY_TO"], price="$0.01", network=NETWORK)
app.add_middleware(PaymentMiddlewareASGI, routes={"GET /report": RouteConfig(accepts=[option])}, server=server)


@app.get("/report")
async def report():
    return {"report": {"weather": "sunny", "temperature": 70}}
