"""A shop's route table for x402 2.25, with most of what the SDK lets an owner say. Run, it prints what the SDK lists."""

import asyncio
import json
import os
import sys

from x402.extensions.bazaar import OutputConfig, declare_discovery_extension
from x402.http import FacilitatorConfig, HTTPFacilitatorClient, PaymentOption
from x402.http.types import RouteConfig
from x402.mechanisms.evm.exact import ExactEvmServerScheme
from x402.schemas import AssetAmount
from x402.server import x402ResourceServer

PAY_TO = os.environ["PAY_TO"]
OTHER = "0x000000000000000000000000000000000000bEEF"
NETWORKS = ["eip155:8453", "eip155:84532", "eip155:42161", "eip155:42220", "eip155:4326", "eip155:43114"]


def option(price, network="eip155:84532", pay_to=PAY_TO, **more):
    return PaymentOption(scheme="exact", pay_to=pay_to, price=price, network=network, **more)


routes = {
    "GET /weather": RouteConfig(
        accepts=option("$0.01"),
        description="The weather",
        mime_type="application/json",
        extensions=declare_discovery_extension(
            input={"city": "Zürich"},
            input_schema={"properties": {"city": {"type": "string"}}, "required": ["city"]},
            output=OutputConfig(example={"temperature": 70}),
        ),
    ),
    "GET /number": RouteConfig(accepts=[option(0.05)]),
    "GET /tiny": RouteConfig(accepts=[option("$0.0000019")]),
    "POST /api/[version]/chat": {
        "accepts": [
            {"scheme": "exact", "payTo": PAY_TO, "price": "$0.10", "network": "eip155:8453"},
            {"scheme": "exact", "payTo": PAY_TO, "price": "$0.12", "network": "eip155:42161", "maxTimeoutSeconds": 90},
        ],
        "description": "A chat",
    },
    "GET /files/:name": RouteConfig(accepts=[option("1 USDT", "eip155:42220"), option("1", pay_to=OTHER)]),
    "/own/*": RouteConfig(
        accepts=option(AssetAmount(amount="1500", asset="0x" + "a1" * 20, extra={"name": "Own", "version": "3"}))
    ),
    "GET /usdc": RouteConfig(accepts=option({"amount": "77", "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e"})),
    "GET /permit2": RouteConfig(accepts=option("$2", extra={"assetTransferMethod": "permit2"})),
    "GET /mega": RouteConfig(accepts=option("$3", "eip155:4326")),
    "GET /avalanche": RouteConfig(accepts=option("$0.5", "eip155:43114", max_timeout_seconds=30)),
    "GET /dear": RouteConfig(accepts=option("$1234567.891")),
}


class Facilitator(HTTPFacilitatorClient):
    """Says that it settles all of it; nobody is asked for anything else."""

    def get_supported(self):
        from x402.schemas import SupportedKind, SupportedResponse

        kinds = [SupportedKind(x402_version=2, scheme="exact", network=network) for network in NETWORKS]
        return SupportedResponse(kinds=kinds, extensions=[], signers={})


server = x402ResourceServer(Facilitator(FacilitatorConfig(url="https://facilitator.example")))
for network in NETWORKS:
    server.register(network, ExactEvmServerScheme())


async def listed():
    """What the SDK lists for each route, by its pattern."""
    from x402.http.x402_http_server import x402HTTPResourceServer

    http = x402HTTPResourceServer(server, routes)
    http.initialize()
    found = {}
    for pattern, compiled in zip(routes, http._compiled_routes, strict=True):
        accepts = compiled.config.accepts
        options = accepts if isinstance(accepts, list) else [accepts]
        built = await http._build_payment_requirements_from_options(options, None, timeout=None)
        found[pattern] = [entry.model_dump(by_alias=True) for entry in built]
    return found


if __name__ == "__main__":
    json.dump(asyncio.run(listed()), sys.stdout)
