"""Paid routes in Litestar: one price for a controller, one route freed, one price that depends on the request.

Settings come from the environment, so the same file runs on a laptop and in production:

    X402_MPP_RECIPIENT=0x... X402_MPP_NETWORK=base-sepolia X402_MPP_SETTLER=null python examples/litestar_route.py
"""

from typing import Any

from litestar import Controller, Litestar, Request, get
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery

from bridge.litestar import Payment, PaymentConfig, PaymentPlugin

WORDS = {"monday": "all is well", "tuesday": "all is still well"}


class Reports(Controller):
    """Every route here costs a cent, unless it says otherwise."""

    path = "/reports"
    opt = {"price": "0.01"}  # noqa: RUF012  (Litestar's own way)

    @get("/", price=None)
    async def index(self) -> list[str]:
        """Tell anybody what can be bought."""
        return sorted(WORDS)

    @get("/{day:str}", description="The report of one day")
    async def report(self, day: FromPath[str], payment: NamedDependency[Payment]) -> dict[str, str]:
        """Answer the payer. Our 404 costs nothing: money moves only when the answer is a success."""
        if day not in WORDS:
            raise NotFoundException(day)
        return {"report": WORDS[day], "paid_by": payment.authorization.payer, "paid_in": payment.protocol.value}


def by_length(request: Request[Any, Any, Any]) -> str | None:
    """A cent for each word that is asked for; None makes the request free."""
    count = int(request.query_params.get("words", "0"))
    return f"{count / 100:.2f}" if count else None


@get("/words", price=by_length, description="As many words as you pay for")
async def words(words: FromQuery[int] = 0) -> str:
    """Answer with that many words."""
    return " ".join(["word"] * words)


def create_app(config: PaymentConfig | None = None) -> Litestar:
    """The application; `config` is from the environment unless a test brings its own."""
    return Litestar([Reports, words], plugins=[PaymentPlugin(config or PaymentConfig.from_env())])


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(create_app(), port=8000)
