"""The same bridge in FastAPI, by its ASGI middleware: prices stand in a table of routes.

Starlette, Quart and Django (under ASGI) take the middleware in the same way.

    X402_MPP_RECIPIENT=0x... X402_MPP_NETWORK=base-sepolia X402_MPP_SETTLER=null python examples/fastapi_route.py
"""

from fastapi import FastAPI, Request

from bridge.asgi import PaymentMiddleware, payment_of, settlement_of
from bridge.config import PaymentConfig
from bridge.pricing import Paid

ROUTES = {
    "GET /report": "0.01",
    # Paid before the work begins.
    "POST /models/{name}/*": Paid("0.25", settle="first", description="A run of a model"),
}


def create_app(config: PaymentConfig | None = None) -> FastAPI:
    """The application; `config` is from the environment unless a test brings its own."""
    app = FastAPI()
    # Middleware that is added later runs earlier: add authentication and CORS after this line.
    app.add_middleware(PaymentMiddleware, config=config or PaymentConfig.from_env(), routes=ROUTES)

    @app.get("/report")
    async def report(request: Request) -> dict[str, str]:
        payment = payment_of(request.scope)
        assert payment is not None, "the middleware lets nobody here who has not paid"
        return {"report": "all is well", "paid_in": payment.protocol.value}

    @app.post("/models/{name}/run")
    async def run(name: str, request: Request) -> dict[str, str]:
        settlement = settlement_of(request.scope)
        assert settlement is not None, 'with settle="first" the money has moved before the handler runs'
        return {"model": name, "transaction": settlement.transaction}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"price": "none"}

    return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(create_app(), port=8000)
