"""A route that settles its payments itself: our own account sends the payer's authorization to the token.

The account of `X402_MPP_PRIVATE_KEY` pays the gas and never holds the money, which goes from the payer to the
recipient. The route settles first, because its handler asks for the settlement: it has the transaction to show.

    export X402_MPP_RECIPIENT=0x... X402_MPP_NETWORK=base-sepolia
    export X402_MPP_RPC_URL=https://node.example X402_MPP_PRIVATE_KEY=0x...
    python examples/self_settling_route.py
"""

from litestar import Litestar, get
from litestar.di import NamedDependency

from bridge.litestar import PaymentConfig, PaymentPlugin, Settlement


@get("/invoice", price="0.05", description="An invoice for five cents")
async def invoice(settlement: NamedDependency[Settlement]) -> dict[str, str]:
    """Answer with the transaction that paid for this very request."""
    return {
        "payer": settlement.payer,
        "amount": str(settlement.amount),
        "transaction": settlement.transaction,
    }


def create_app(config: PaymentConfig | None = None) -> Litestar:
    """The application; `X402_MPP_RPC_URL` alone says that payments are settled on the chain."""
    return Litestar([invoice], plugins=[PaymentPlugin(config or PaymentConfig.from_env())])


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(create_app(), port=8000)
