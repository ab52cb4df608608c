"""x402 2.25's Flask middleware."""

from flask import Flask, Response, jsonify, request
from serving import FACILITATOR_URL, NETWORK, PAY_TO, PRICES, WEATHER, events, run_wsgi
from x402 import x402ResourceServerSync
from x402.http import FacilitatorConfig, HTTPFacilitatorClientSync, PaymentOption
from x402.http.middleware.flask import payment_middleware
from x402.http.types import RouteConfig
from x402.mechanisms.evm.exact import ExactEvmServerScheme

app = Flask(__name__)
server = x402ResourceServerSync(HTTPFacilitatorClientSync(FacilitatorConfig(url=FACILITATOR_URL)))
server.register(NETWORK, ExactEvmServerScheme())
routes = {
    route: RouteConfig(accepts=[PaymentOption(scheme="exact", pay_to=PAY_TO, price=f"${price}", network=NETWORK)])
    for route, price in PRICES.items()
}
payment_middleware(app, routes=routes, server=server)


@app.get("/weather")
def weather():
    return jsonify(WEATHER)


@app.post("/echo")
def echo():
    return jsonify(request.get_json())


@app.get("/stream")
def stream():
    return Response(events(), mimetype="text/event-stream")


run_wsgi(app)
