"""pympp 0.16's server, charging with `evm` and open to standard x402 payers too."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from mpp import Credential, Receipt
from mpp.methods.evm import BASE_SEPOLIA_USDC
from mpp.methods.evm import server as evm
from mpp.server import Mpp, pay
from serving import FACILITATOR_URL, PAY_TO, PRICES, WEATHER, events, run_asgi

app = FastAPI()
server = Mpp(
    methods=evm.charge(
        currency=BASE_SEPOLIA_USDC, recipient=PAY_TO, facilitator=FACILITATOR_URL, route_binding="resource"
    )
)


@app.get("/weather")
@pay(server.charge(amount=PRICES["GET /weather"]))
async def weather(request: Request, credential: Credential, receipt: Receipt):
    return JSONResponse(WEATHER)


@app.post("/echo")
@pay(server.charge(amount=PRICES["POST /echo"]))
async def echo(request: Request, credential: Credential, receipt: Receipt):
    return JSONResponse(await request.json())


@app.get("/stream")
@pay(server.charge(amount=PRICES["GET /stream"]))
async def stream(request: Request, credential: Credential, receipt: Receipt):
    return StreamingResponse(events(), media_type="text/event-stream")


run_asgi(app)
