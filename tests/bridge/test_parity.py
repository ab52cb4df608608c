"""The parity kit: an application that treats all protocols alike passes, and every planted difference is found."""

from collections.abc import Callable
from typing import Any

import pytest
from litestar import Litestar, get, post
from litestar.exceptions import HTTPException

from bridge.asgi import PaymentMiddleware, payment_of
from bridge.litestar import PaymentConfig, PaymentPlugin
from bridge.testing import Fakes, NotAlike, Parity
from tests.bridge.harness import RECIPIENT
from translators.payment import Asset

pytest_plugins = ["bridge.testing.plugin"]

ODD = Asset(84532, "0x" + "22" * 20, 6, "Odd", "1", "ODD")


def config(fakes: Fakes, **settings: Any) -> PaymentConfig:
    return PaymentConfig(RECIPIENT, network="base-sepolia", **(fakes.settings | settings))


def litestar(fakes: Fakes, **settings: Any) -> Any:
    @get("/report", price="0.01")
    async def report() -> dict[str, str]:
        return {"report": "all is well"}

    @post("/echo", price="0.02", status_code=200)
    async def echo(data: dict[str, Any]) -> dict[str, Any]:
        return data

    @get("/missing", price="0.01")
    async def missing() -> None:
        raise HTTPException(status_code=404)

    handlers = [report, echo, missing]
    return Litestar(handlers, plugins=[PaymentPlugin(config(fakes, **settings))], logging_config=None)


def asgi(answer: Callable[[Any], bytes], price: Any = "0.01", **settings: Any) -> Callable[[Fakes], Any]:
    """An application that answers by a function of the scope."""

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": answer(scope)})

    def make(fakes: Fakes) -> Any:
        return PaymentMiddleware(inner, config=config(fakes, **settings), routes={"GET /report": price})

    return make


def test_an_application_that_is_alike_passes(payment_parity: Parity) -> None:
    """And says what every protocol did."""
    made = payment_parity.check(litestar, "GET", "/report")
    assert (made.unpaid, made.status, made.body) == (402, 200, b'{"report":"all is well"}')
    assert made.charged == (("eip155:84532", 10_000, "0x036cbd53842c5426634e7929541ec2318f3dcf7e", RECIPIENT),)
    assert (made.runs, made.receipt, made.again, made.forged) == (
        *(1, "names the transaction"),
        *("the same answer", "refused"),
    )


@pytest.mark.anyio
async def test_requests_with_bodies_and_in_asynchronous_tests(payment_parity: Parity) -> None:
    """The same, awaited."""
    made = await payment_parity.acheck(litestar, "POST", "/echo", json={"a": 1})
    assert (made.body, made.charged[0][1]) == (b'{"a":1}', 20_000)


def test_a_handler_that_fails_charges_in_no_protocol(payment_parity: Parity) -> None:
    """404 for everybody, and nobody is poorer."""
    made = payment_parity.check(litestar, "GET", "/missing")
    assert (made.status, made.charged, made.receipt) == (404, (), "none")


def test_a_token_of_ones_own_is_known_from_the_application(payment_parity: Parity) -> None:
    """MPP does not say what a token signs as; the application does."""
    assert payment_parity.check(asgi(lambda scope: b"ok", asset=ODD), "GET", "/report").charged[0][2] == ODD.address


PLANTED: dict[str, tuple[Callable[[Fakes], Any], str]] = {
    "another body": (asgi(lambda scope: payment_of(scope).protocol.value.encode()), "body differs"),  # type: ignore[union-attr]
    "another price": (
        asgi(
            lambda scope: b"ok",
            lambda request: "0.02" if request.header(b"payment-signature") is not None else "0.01",
        ),
        "status differs",
    ),
    "a protocol that is off": (asgi(lambda scope: b"ok", protocols=["mpp", "x402-v2"]), "cannot be paid in x402-v1"),
    "free": (asgi(lambda scope: b"ok", lambda request: None), "answers 200 without a payment"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_difference_is_found(planted: str, payment_parity: Parity) -> None:
    """And the message says where, and what each protocol did."""
    make, said = PLANTED[planted]
    with pytest.raises(NotAlike) as found:
        payment_parity.check(make, "GET", "/report")
    assert said in str(found.value)


def test_a_receipt_that_is_lost_is_found(payment_parity: Parity) -> None:
    """Something in front of the application drops one protocol's header."""

    def make(fakes: Fakes) -> Any:
        app = asgi(lambda scope: b"ok")(fakes)

        async def dropping(scope: Any, receive: Any, send: Any) -> None:
            async def without(message: Any) -> None:
                if message["type"] == "http.response.start":
                    kept = [header for header in message["headers"] if header[0] != b"payment-receipt"]
                    message = {**message, "headers": kept}
                await send(message)

            await app(scope, receive, without)

        return dropping

    with pytest.raises(NotAlike) as found:
        payment_parity.check(make, "GET", "/report")
    assert "receipt: money moved, and the answer does not say so" in str(found.value)
    assert "mpp      'none'" in str(found.value)


def test_what_is_wrong_in_every_protocol_is_found_too(payment_parity: Parity) -> None:
    """Alike is not enough: a forged signature gets through everywhere."""

    def make(fakes: Fakes) -> Any:
        fakes.settler.wallets.add(payment_parity.payer.address)
        return asgi(lambda scope: b"ok")(fakes)

    with pytest.raises(NotAlike, match="a forged signature got through"):
        payment_parity.check(make, "GET", "/report")


def test_effects_beside_the_answer_are_compared(payment_parity: Parity) -> None:
    """Whatever the handler did; and an answer that differs by nature is read first."""
    rows: list[str] = []
    count = iter(range(100))

    def answer(scope: Any) -> bytes:
        protocol = payment_of(scope).protocol.value  # type: ignore[union-attr]
        rows.append("v1" if protocol == "x402-v1" else "other")
        return f"number {next(count)}".encode()

    def make(fakes: Fakes) -> Any:
        rows.clear()
        return asgi(answer)(fakes)

    with pytest.raises(NotAlike, match="state differs"):
        payment_parity.check(make, "GET", "/report", body=lambda body: body[:6], state=lambda: list(rows))
    made = payment_parity.check(make, "GET", "/report", body=lambda body: body[:6], protocols=["mpp", "x402-v2"])
    assert made.body == b"number"


def test_an_application_that_does_not_start_says_so(payment_parity: Parity) -> None:
    """Its own message."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="no database"):
        payment_parity.check(lambda fakes: app, "GET", "/report")
