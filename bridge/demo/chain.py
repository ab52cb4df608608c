"""A chain of one's own, for as long as a block of code runs: `async with embedded_chain(...) as rpc_url`.

It runs in a child process, because py-evm is pure Python: in this one it would hold the interpreter's lock, and the
application's event loop with it. The child lives while its stdin is open, so it cannot outlive a parent that died.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from importlib.util import find_spec
from typing import Any, Final

from bridge.demo.token import CHAIN_ID

MAX_BODY: Final = 4 * 1024 * 1024  # bytes; the largest thing sent is a contract
READY_SECONDS: Final = 15
STOP_SECONDS: Final = 3


class MissingExtraError(ImportError):
    """The embedded chain needs packages that a plain installation does not bring."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f'the demo\'s chain needs {" and ".join(missing)}: pip install "x402-mpp-bridge[demo]"',
        )


class ChainFailedError(RuntimeError):
    """The child did not come up. What it had to say stands on stderr."""


@contextlib.asynccontextmanager
async def embedded_chain(*, balances: Mapping[str, int], gas: Mapping[str, int], port: int = 0) -> AsyncIterator[str]:
    """Run a chain with the token on it and yield its RPC URL, on loopback.

    `balances` are tokens in atomic units, `gas` is native money in wei, both by address; `port` 0 takes a free one.
    Raises `MissingExtraError` without the `demo` extra, `ChainFailedError` when the chain does not come up.
    """
    _require_extra()
    arguments = ["--port", str(port)]
    for option, amounts in (("--balance", balances), ("--gas", gas)):
        for address, amount in amounts.items():
            arguments += [option, f"{address}={amount}"]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bridge.demo.chain",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Ctrl-C is sent to the whole group. The parent may still want to settle; the child ends when it is told.
        start_new_session=True,
    )
    assert child.stdin is not None
    try:
        yield await _ready(child)
    finally:
        child.stdin.close()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), STOP_SECONDS)
        finally:
            if child.returncode is None:  # it hangs, or we are being cancelled
                child.kill()
                await child.wait()


async def _ready(child: asyncio.subprocess.Process) -> str:
    assert child.stdout is not None
    try:
        line = await asyncio.wait_for(child.stdout.readline(), READY_SECONDS)
    except TimeoutError:
        raise ChainFailedError(f"the demo's chain said nothing for {READY_SECONDS} s") from None
    if not line:
        raise ChainFailedError(f"the demo's chain ended with code {await child.wait()}")
    rpc_url: str = json.loads(line)["rpc_url"]
    return rpc_url


def _require_extra() -> None:
    if missing := [name for module, name in (("eth", "py-evm"), ("uvicorn", "uvicorn")) if find_spec(module) is None]:
        raise MissingExtraError(missing)


# The child


def main(argv: Sequence[str] | None = None) -> None:
    """Serve a chain until stdin closes; the first line on stdout is `{"rpc_url": ..., "chain_id": ...}`."""
    parser = argparse.ArgumentParser(prog="python -m bridge.demo.chain", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="a port on loopback; 0 takes a free one")
    parser.add_argument("--balance", type=_amount, action="append", default=[], metavar="ADDRESS=UNITS")
    parser.add_argument("--gas", type=_amount, action="append", default=[], metavar="ADDRESS=WEI")
    options = parser.parse_args(argv)
    try:
        _require_extra()
        listener = socket.create_server(("127.0.0.1", options.port))
        # asyncio sets it only on sockets that were made with IPPROTO_TCP. Without it answers wait 40 ms for an ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (MissingExtraError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    _serve(listener, balances=dict(options.balance), gas=dict(options.gas))


def _amount(text: str) -> tuple[str, int]:
    address, _, amount = text.partition("=")
    try:
        if len(bytes.fromhex(address.removeprefix("0x"))) == 20:
            return address, int(amount)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"not an address and a number: {text}")


def _serve(listener: socket.socket, *, balances: Mapping[str, int], gas: Mapping[str, int]) -> None:
    # Imported here, because only the child needs them and py-evm takes half a second.
    import uvicorn

    from bridge.demo.evm import Chain

    application = _application(Chain(balances=balances, gas=gas))
    server = uvicorn.Server(
        uvicorn.Config(application, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    )

    def stop_with_parent() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    # The socket listens already: whoever connects before the server accepts waits a moment.
    ready = {"rpc_url": f"http://127.0.0.1:{listener.getsockname()[1]}", "chain_id": CHAIN_ID}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    server.run(sockets=[listener])


Message = MutableMapping[str, Any]


def _application(chain: Any) -> Callable[..., Awaitable[None]]:
    """An ASGI application that runs each request to its end on the event loop: a chain does one thing at a time."""
    from bridge.demo.jsonrpc import answer

    async def application(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more and len(body) <= MAX_BODY:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if scope["method"] != "POST":
            status, content = 405, b""
        elif len(body) > MAX_BODY:
            status, content = 413, b""
        else:
            status, content = 200, answer(chain, body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return application


if __name__ == "__main__":
    main()
