"""The command `x402-mpp demo`: a chain, the application, and payers or an open door."""

import asyncio
import io
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from bridge.demo import token
from bridge.demo.accounts import PAYERS, RECIPIENT, RELAYER
from bridge.demo.app import ROUTES, DemoSettings, create_app
from bridge.demo.chain import embedded_chain
from bridge.demo.serve import serve_here, serve_in_workers
from bridge.demo.story import tell
from bridge.logs import configure_logs
from bridge.serving import listen, server_url, stop_signal
from bridge.settlers.base import SettlerConfigError
from translators.errors import PaymentError
from translators.fields import checksum_address

__all__ = ["STARTUP_ERRORS", "DemoOptions", "run"]

STARTUP_ERRORS = (ValueError, OSError, RuntimeError, ImportError, SettlerConfigError, PaymentError)
"""What keeps a demo from starting, each with a message that says what to mend."""


_PAYER_BALANCE = 1_000_000_000
_RELAYER_GAS = 100 * 10**18


class DemoOptions(msgspec.Struct, frozen=True):
    """The command's options, as its help describes them."""

    serve: bool
    host: str
    port: int
    rpc_url: str | None
    settler: str
    store: str
    workers: int
    public_url: str | None
    levers: str | None
    events: str | None
    json: bool


def run(options: DemoOptions) -> int:
    """Run the demo; returns the exit code."""
    return asyncio.run(_run(options))


async def _run(options: DemoOptions) -> int:
    async with _chain(options.rpc_url) as rpc_url:
        settings = DemoSettings(
            rpc_url=rpc_url,
            settler=options.settler,
            store=options.store,
            secret_keys=[secrets.token_hex(32)],
            public_url=options.public_url,
            levers=options.levers,
            events=options.events,
        )
        if options.serve:
            await _serve(options, settings)
            return 0
        return await _tell(settings)


@asynccontextmanager
async def _chain(rpc_url: str | None) -> AsyncIterator[str]:
    """The embedded chain, or the anvil at `rpc_url` made ready; both with funded payers and a relayer with gas."""
    balances = {payer.address: _PAYER_BALANCE for payer in PAYERS}
    if rpc_url is None:
        async with embedded_chain(balances=balances, gas={RELAYER.address: _RELAYER_GAS}) as embedded:
            yield embedded
    else:
        try:
            await asyncio.to_thread(token.install, rpc_url, balances)
            await asyncio.to_thread(token.fund_gas, rpc_url, RELAYER.address, _RELAYER_GAS)
        except httpx.HTTPError as error:
            raise RuntimeError(f"no anvil answers at {rpc_url}: {error}") from None
        yield rpc_url


async def _tell(settings: DemoSettings) -> int:
    events: list[tuple[str, dict[str, Any]]] = []
    print("One Litestar route, three generations of clients, one chain (id 84532).")  # noqa: T201
    configure_logs(stream=io.StringIO())  # the story tells what the log would
    sock = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    app = create_app(settings, [lambda name, fields: events.append((name, fields))])
    async with serve_here(app, sock):
        exact = await tell(url, settings.rpc_url, events, print)
    if not exact:
        print("\nThe balances are not what the prices say.", file=sys.stderr)  # noqa: T201
    return 0 if exact else 1


async def _serve(options: DemoOptions, settings: DemoSettings) -> None:
    configure_logs(json=True if options.json else None)
    sock = listen(options.host, options.port)
    url = server_url(options.host, sock.getsockname()[1])
    stop = stop_signal()
    serving = (
        serve_here(create_app(settings), sock)
        if options.workers == 1
        else serve_in_workers(settings, sock, options.workers)
    )
    async with serving:
        print(_ready(url, settings) if options.json else _welcome(url, settings), flush=True)  # noqa: T201
        await stop.wait()


def _ready(url: str, settings: DemoSettings) -> str:
    ready = {
        "url": url,
        "chain_id": token.CHAIN_ID,
        "rpc_url": settings.rpc_url,
        "token": {
            "address": token.TOKEN_ADDRESS,
            "name": token.TOKEN_NAME,
            "version": token.TOKEN_VERSION,
            "decimals": token.TOKEN_DECIMALS,
        },
        "pay_to": checksum_address(RECIPIENT.address),
        "payers": [{"address": checksum_address(payer.address), "private_key": payer.private_key} for payer in PAYERS],
        "routes": ROUTES,
    }
    return msgspec.json.encode(ready).decode()


def _welcome(url: str, settings: DemoSettings) -> str:
    lines = [f"Serving on {url}; chain {token.CHAIN_ID} at {settings.rpc_url}", ""]
    lines += [f"  {r['method']:<5}{r['path']:<10}{r['price'] or 'free'}" for r in ROUTES]
    lines += ["", "A payer with test USDC (its key is public: for this chain only):", f"  {PAYERS[0].private_key}"]
    if settings.settler == "null":
        lines += ["", "The null settler verifies and claims, and settles nowhere: nobody is charged."]
    return "\n".join(lines)
