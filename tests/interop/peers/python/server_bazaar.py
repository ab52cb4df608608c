"""x402 2.25's FastAPI middleware, with the SDK's bazaar extension on every route: for catalogues that list paid APIs."""

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from serving import FACILITATOR_URL, NETWORK, PAY_TO, PRICES, WEATHER, events, run_asgi
from x402.extensions.bazaar import OutputConfig, declare_discovery_extension
from x402.http import FacilitatorConfig, HTTPFacilitatorClient, PaymentOption
from x402.http.middleware.fastapi import PaymentMiddlewareASGI
from x402.http.types import RouteConfig
from x402.mechanisms.evm.exact import ExactEvmServerScheme
from x402.server import x402ResourceServer

EXTENSIONS = {
    "GET /weather": declare_discovery_extension(
        input={"city": "Zürich"},
        input_schema={"properties": {"city": {"type": "string"}}},
        output=OutputConfig(example=WEATHER),
    ),
    "POST /echo": declare_discovery_extension(
        input={"city": "Zürich"},
        input_schema={"properties": {"city": {"type": "string"}}},
        body_type="json",
        output=OutputConfig(example={"city": "Zürich"}),
    ),
    "GET /stream": declare_discovery_extension(output=OutputConfig(example={"event": 1})),
}

app = FastAPI()
server = x402ResourceServer(HTTPFacilitatorClient(FacilitatorConfig(url=FACILITATOR_URL)))
server.register(NETWORK, ExactEvmServerScheme())
routes = {
    route: RouteConfig(
        accepts=[PaymentOption(scheme="exact", pay_to=PAY_TO, price=f"${price}", network=NETWORK)],
        mime_type="application/json",
        description=f"{route}, which catalogues may list",
        service_name="Weather API",
        tags=["weather", "api"],
        extensions=EXTENSIONS[route],
    )
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
