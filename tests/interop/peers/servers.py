"""Other people's servers and facilitator, each its own process on a free port of the loopback."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import places
from .processes import Process


@dataclass(frozen=True)
class ServerSpec:
    """One server library; each serves GET /weather (0.01), POST /echo (0.02) and GET /stream (0.01)."""

    protocols: frozenset[str]
    """What it can be paid with."""
    command: tuple[str | Path, ...]
    streams: bool
    """Whether /stream leaves it while it is being produced (x402's own middlewares hold it back to settle first)."""


def _python(script: str) -> tuple[str | Path, ...]:
    return (places.python("python"), places.PYTHON / script)


def _node(script: str) -> tuple[str | Path, ...]:
    return ("node", places.NODE / script)


SERVERS: dict[str, ServerSpec] = {
    "x402-express": ServerSpec(frozenset({"x402-v1"}), _node("server-x402-express.mjs"), streams=False),
    "py-x402-fastapi": ServerSpec(frozenset({"x402-v2"}), _python("server_fastapi.py"), streams=False),
    "py-x402-flask": ServerSpec(frozenset({"x402-v2"}), _python("server_flask.py"), streams=False),
    "py-x402-bazaar": ServerSpec(frozenset({"x402-v2"}), _python("server_bazaar.py"), streams=False),
    "@x402/express": ServerSpec(frozenset({"x402-v2"}), _node("server-express.mjs"), streams=False),
    "@x402/hono": ServerSpec(frozenset({"x402-v2"}), _node("server-hono.mjs"), streams=False),
    "mppx-server": ServerSpec(frozenset({"mpp", "x402-v2"}), _node("server-mppx.mjs"), streams=True),
    "pympp-server": ServerSpec(frozenset({"mpp", "x402-v2"}), _python("server_pympp.py"), streams=True),
}

# mppx refuses a shorter secret. It signs nothing but challenges of a test's own server.
_SECRET = "a secret of thirty-two bytes or more, for tests"


class Server:
    """A running server."""

    def __init__(self, name: str, *, pay_to: str, facilitator_url: str, logs: Path, port: int = 0) -> None:
        """On a free port; the Python servers that run under ASGI can be given one, to come back where they were."""
        self.name, self.spec, self.pay_to = name, SERVERS[name], pay_to
        env = {"PAY_TO": pay_to, "FACILITATOR_URL": facilitator_url, "MPP_SECRET_KEY": _SECRET, "PORT": str(port)}
        self._process = Process(name, self.spec.command, logs=logs, env=env)

    @property
    def url(self) -> str:
        return self._process.ready()["url"]

    def kill(self) -> None:
        """At once, as the kernel does it."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.stop()

    def finish(self) -> None:
        """Ask it to finish what is under way, and wait until it has ended."""
        self._process.finish()

    def stop(self) -> None:
        self._process.stop()


class Facilitator:
    """The official facilitator, settling on a chain of ours. Wallets that do not exist yet are made by `factories` only."""

    def __init__(self, *, rpc_url: str, private_key: str, logs: Path, factories: Sequence[str] = ()) -> None:
        command = (places.python("python"), places.PYTHON / "facilitator.py")
        env = {"EVM_RPC_URL": rpc_url, "EVM_PRIVATE_KEY": private_key, "EIP6492_FACTORIES": " ".join(factories)}
        self._process = Process("facilitator", command, logs=logs, env=env)

    @property
    def url(self) -> str:
        return self._process.ready()["url"]

    def stop(self) -> None:
        self._process.stop()
