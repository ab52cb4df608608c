"""A route whose payments are settled by an x402 facilitator: no node, no key and no gas of one's own.

The facilitator settles MPP payments as well: it is shown the authorization, not the protocol it came in. One that
wants to know its customers gets a header from us, made anew for every request.

    export X402_MPP_RECIPIENT=0x... X402_MPP_NETWORK=base-sepolia
    export FACILITATOR_URL=https://facilitator.example FACILITATOR_TOKEN=...
    python examples/facilitator_route.py
"""

import os

from litestar import Litestar, get

from bridge.litestar import PaymentConfig, PaymentPlugin
from bridge.settlers.facilitator import FacilitatorSettler


def authenticate(method: str, url: str) -> dict[str, str]:
    """The headers for one request to the facilitator. A function that signs method and URL goes here, too."""
    return {"Authorization": f"Bearer {os.environ['FACILITATOR_TOKEN']}"}


@get("/report", price="0.01", description="Today's report, for a cent")
async def report() -> dict[str, str]:
    """Answer whoever has paid."""
    return {"report": "all is well"}


def create_app(config: PaymentConfig | None = None) -> Litestar:
    """The application. It does not start when the facilitator cannot settle what the routes ask for."""
    if config is None:
        settler = FacilitatorSettler(os.environ["FACILITATOR_URL"], headers=authenticate, timeout_seconds=20)
        config = PaymentConfig.from_env(settler=settler)
    return Litestar([report], plugins=[PaymentPlugin(config)])


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(create_app(), port=8000)
