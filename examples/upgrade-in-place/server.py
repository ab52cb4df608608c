"""The server that you run today: x402's own SDK on FastAPI, and not a word of MPP.

Nothing in this folder changes it. It needs `pip install "x402[fastapi,evm]"`, in an environment of its own if you like.

    EVM_ADDRESS=0x... FACILITATOR_URL=http://127.0.0.1:4022 python server.py
"""

import os

import uvicorn
from fastapi import FastAPI
from x402.http import FacilitatorConfig, HTTPFacilitatorClient, PaymentOption
from x402.http.middleware.fastapi import PaymentMiddlewareASGI
from x402.http.types import RouteConfig
from x402.mechanisms.evm.exact import ExactEvmServerScheme
from x402.server import x402ResourceServer

NETWORK = "eip155:84532"  # Base Sepolia

facilitator = HTTPFacilitatorClient(
    FacilitatorConfig(url=os.environ.get("FACILITATOR_URL", "https://x402.org/facilitator"))
)
server = x402ResourceServer(facilitator)
server.register(NETWORK, ExactEvmServerScheme())

app = FastAPI()
app.add_middleware(
    PaymentMiddlewareASGI,
    server=server,
    routes={
        "GET /weather": RouteConfig(
            accepts=[
                PaymentOption(scheme="exact", pay_to=os.environ["EVM_ADDRESS"], price="$0.01", network=NETWORK),
            ],
            mime_type="application/json",
            description="The weather, for a cent",
        ),
    },
)


@app.get("/weather")
async def weather() -> dict[str, str | int]:
    """Answer whoever has paid."""
    return {"weather": "sunny", "temperature": 21}


@app.get("/")
async def about() -> dict[str, str]:
    """Answer anybody."""
    return {"price": "none"}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "4021")), log_level="warning")
