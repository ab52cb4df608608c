"""A paid application in a process of its own, which can be told where to die.

    python -m tests.faults.worker FD...

imports everything once and then forks a worker for each line on stdin, so that a restart takes a twentieth of a second.
A line is a `Start`; the answers on stdout are `{"pid": ...}`, and `{"ended": pid, "code": ...}` for each end.
Workers end with their parent, and that with its stdin.
"""

import asyncio
import logging
import os
import select
import signal
import socket
import sys
import threading
from typing import Any

import msgspec
import structlog
import uvicorn

from bridge.asgi import PaymentMiddleware, payment_of
from bridge.config import PaymentConfig
from bridge.demo.app import TOKEN
from bridge.litestar import PaymentPlugin
from bridge.pricing import Paid
from bridge.settlers.chain import ChainSettler
from bridge.settlers.facilitator import FacilitatorSettler
from bridge.settlers.fallback import FallbackSettler
from bridge.stores import store_from_url
from tests.faults.payers import permit2_price
from tests.faults.points import CrashingSettler, CrashingStore, Points, crashing_send, watch_the_network

PRICE = 10_000
"""`Start.price` in atomic units."""

CREDENTIALS = (b"x-payment", b"payment-signature", b"authorization")


class Start(msgspec.Struct, frozen=True):
    """One worker."""

    fd: int
    store: str
    settler: str
    """`chain`, `facilitator`, `facilitator+rpc`, or `fallback`: two of these, the first of which is rate limited."""
    rpc_url: str
    facilitator_url: str
    private_key: str
    recipient: str
    runs: str
    """The file that every run of the handler is written to, before its answer."""
    trace: str
    secret: str = "a secret of the fault harness, 32 bytes and more"
    framework: str = "asgi"
    price: str = "0.01"
    lease_seconds: float = 1.0
    reconcile_seconds: float = 0.25
    wait_seconds: float = 1.0
    max_timeout_seconds: int = 300
    facilitator_timeout: float = 1.5
    answer_bytes: int = 64
    handler_seconds: float = 0.0
    confirmations: int = 1
    permit2: bool = False
    """Whether the routes also have a price by Permit2."""
    crash: tuple[str, int] | None = None
    kill_at: int | None = None


def _settler(start: Start) -> Any:
    match start.settler:
        case "chain":
            return ChainSettler(
                start.rpc_url,
                start.private_key,
                poll_seconds=0.05,
                timeout_seconds=5.0,
                confirmations=start.confirmations,
            )
        case "facilitator":
            return FacilitatorSettler(start.facilitator_url, timeout_seconds=start.facilitator_timeout)
        case "facilitator+rpc":
            return _facilitator(start, "")
        case "fallback":
            return FallbackSettler([_facilitator(start, "/limited"), _facilitator(start, "")])
        case _:
            raise ValueError(start.settler)


def _facilitator(start: Start, below: str) -> FacilitatorSettler:
    return FacilitatorSettler(
        start.facilitator_url + below,
        timeout_seconds=start.facilitator_timeout,
        rpc_url=start.rpc_url,
        confirmations=start.confirmations,
    )


def application(start: Start, points: Points) -> Any:
    """Two priced routes, `/on_success` and `/first`, whose handler writes down every run."""
    config = PaymentConfig(
        recipient=start.recipient,
        event_store=None,
        settler=CrashingSettler(_settler(start), points),
        network=TOKEN.chain_id,
        asset=TOKEN,
        store=CrashingStore(store_from_url(start.store), points),  # type: ignore[arg-type]
        secret_keys=[start.secret],
        public_url="http://127.0.0.1:8402",
        lease_seconds=start.lease_seconds,
        reconcile_seconds=start.reconcile_seconds,
        wait_seconds=start.wait_seconds,
        max_timeout_seconds=start.max_timeout_seconds,
        challenge_seconds=max(300, start.max_timeout_seconds),
    )
    runs = os.open(start.runs, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def work(scope: Any) -> bytes:
        payment = payment_of(scope)
        assert payment is not None
        points.hit("handler.before")
        os.write(runs, f"{payment.id}\n".encode())
        if start.handler_seconds:
            await asyncio.sleep(start.handler_seconds)
        points.hit("handler.after")
        return b"x" * start.answer_bytes

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = await work(scope)
        half = len(body) // 2
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body[:half], "more_body": True})
        await send({"type": "http.response.body", "body": body[half:]})

    app: Any
    if start.framework == "litestar":
        app = _litestar(config, start.price, work)
    else:
        price: Any = start.price
        if start.permit2:
            price = [start.price, permit2_price(PRICE, start.recipient, start.max_timeout_seconds)]
        prices = {f"/{settle}": Paid(price, settle=settle) for settle in ("on_success", "first")}
        app = PaymentMiddleware(handler, config=config, routes=prices)

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not any(name in CREDENTIALS for name, _ in scope["headers"]):
            await app(scope, receive, send)
            return
        points.arm()
        await app(scope, receive, crashing_send(send, points))

    return watched


def _litestar(config: PaymentConfig, price: str, work: Any) -> Any:
    from litestar import Litestar, Request, get

    @get("/on_success", price=price)
    async def on_success(request: Request[Any, Any, Any]) -> str:
        answer: bytes = await work(request.scope)
        return answer.decode()

    @get("/first", price=price, settle="first")
    async def first(request: Request[Any, Any, Any]) -> str:
        answer: bytes = await work(request.scope)
        return answer.decode()

    return Litestar([on_success, first], plugins=[PaymentPlugin(config)], logging_config=None)


def serve(start: Start) -> None:
    """Serve until killed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    # The drivers' own complaints about a server that is stopped on purpose.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    points = Points(start.trace, start.crash, start.kill_at)
    watch_the_network(points)
    # In its own event loop: nothing of asyncio crosses the fork.
    config = uvicorn.Config(application(start, points), log_level="error", access_log=False, timeout_keep_alive=60)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=os.dup(start.fd))])


def _forked(start: Start, lifeline: tuple[int, int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.close(lifeline[1])
        threading.Thread(target=lambda: (os.read(lifeline[0], 1), os._exit(1)), daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(2, 1)
        serve(start)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(3)


def main() -> None:
    """Fork workers until stdin ends."""
    import bridge.settlers.relayer  # noqa: F401  (web3, before the fork)

    lifeline = os.pipe()
    alive: set[int] = set()
    buffer = b""
    _say({"ready": True})
    while True:
        readable, _, _ = select.select([0], [], [], 0.01)
        if readable:
            read = os.read(0, 65536)
            if not read:
                break
            *lines, buffer = (buffer + read).split(b"\n")
            for line in lines:
                pid = _forked(msgspec.json.decode(line, type=Start), lifeline)
                alive.add(pid)
                _say({"pid": pid})
        for pid in list(alive):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                alive.discard(pid)
                _say({"ended": pid, "code": os.waitstatus_to_exitcode(status)})
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


def _say(what: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
