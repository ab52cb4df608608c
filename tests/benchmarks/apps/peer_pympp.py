"""pympp on Starlette, open to standard x402 payers, with a settlement that is a constant."""

import os
import sys

if os.environ.get("BENCH_WITHOUT_COINCURVE"):
    # Its default: coincurve is not among its dependencies, and pure Python recovers the signer.
    sys.modules["coincurve"] = None

from mpp.methods.evm import BASE_SEPOLIA_USDC
from mpp.methods.evm import server as evm
from mpp.server import Mpp, pay
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

server = Mpp(
    methods=evm.charge(
        currency=BASE_SEPOLIA_USDC,
        recipient=os.environ["BENCH_PAY_TO"],
        settle=lambda authorization: "0x" + "00" * 32,
        route_binding="resource",
    ),
    secret_key=os.environ["BENCH_SECRET"],
    realm="127.0.0.1",
)


@pay(server.charge(amount="0.01"))
async def report(request, credential, receipt):
    return JSONResponse({"report": {"weather": "sunny", "temperature": 70}})


app = Starlette(routes=[Route("/report", report)])
