"""x402 2.25's FastAPI middleware."""

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from serving import FACILITATOR_URL, NETWORK, PAY_TO, PRICES, WEATHER, events, run_asgi
from x402.http import FacilitatorConfig, HTTPFacilitatorClient, PaymentOption
from x402.http.middleware.fastapi import PaymentMiddlewareASGI
from x402.http.types import RouteConfig
from x402.mechanisms.evm.exact import ExactEvmServerScheme
from x402.server import x402ResourceServer

app = FastAPI()
server = x402ResourceServer(HTTPFacilitatorClient(FacilitatorConfig(url=FACILITATOR_URL)))
server.register(NETWORK, ExactEvmServerScheme())
routes = {
    route: RouteConfig(accepts=[PaymentOption(scheme="exact", pay_to=PAY_TO, price=f"${price}", network=NETWORK)])
    for route, price in PRICES.items()
}
app.add_middleware(PaymentMiddlewareASGI, routes=routes, server=server)


@app.get("/weather")
async def weather():
    return WEATHER


@app.post("/echo")
async def echo(request: Request):
    return await request.json()


@app.get("/stream")
async def stream():
    return StreamingResponse(events(), media_type="text/event-stream")


run_asgi(app)
