"""The quick starts that other people's server packages document, run as they stand in the READMEs that npm installed.

Only addresses are changed: who is paid, which facilitator is asked, and where it listens. The v1 package's example names
no facilitator, so ours is handed over where its documentation says; and a type that is imported is left out, as a
TypeScript compiler leaves it out.
"""

import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from . import places
from .processes import Process

PATH = "/protected-route"
PRICE = 100_000
"""The examples' `$0.10`, in atomic units of a token of six decimals."""
BODY = {"message": "This content is behind a paywall"}

_LEAVES_WITH_ITS_PARENT = 'process.stdin.resume().on("end", () => process.exit(0));'


@dataclass(frozen=True)
class Change:
    """One address of an example, and what stands in its place."""

    theirs: str
    ours: str


DOCUMENTED: dict[str, tuple[Change, ...]] = {
    "@x402/express": (
        Change("https://x402.org/facilitator", "{facilitator}"),
        Change("0xYourAddress", "{pay_to}"),
        Change("app.listen(3000)", 'app.listen({port}, "127.0.0.1")'),
    ),
    "@x402/hono": (
        Change("https://x402.org/facilitator", "{facilitator}"),
        Change("0xYourAddress", "{pay_to}"),
        Change("port: 3000", 'port: {port}, hostname: "127.0.0.1"'),
    ),
    "x402-express": (
        Change(", Network }", " }}"),
        Change("0xYourAddress", "{pay_to}"),
        Change("  }\n));", '  }},\n  {{ url: "{facilitator}" }}\n));'),
        Change("app.listen(3000)", 'app.listen({port}, "127.0.0.1")'),
    ),
}
"""What is changed of each package's quick start."""


def quick_start(package: str) -> str:
    """The first example of an installed package's README."""
    readme = (places.NODE_MODULES / package / "README.md").read_text("utf-8")
    found = re.search(r"^## Quick Start\s+```typescript\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    if found is None:
        raise LookupError(f"{package} has no quick start any more")
    return found[1]


class Documented:
    """A running quick start."""

    def __init__(self, package: str, *, pay_to: str, facilitator_url: str, logs: Path) -> None:
        self.name, self.pay_to = package, pay_to
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        code = quick_start(package)
        for change in DOCUMENTED[package]:
            if code.count(change.theirs) != 1:
                raise LookupError(f"{package}'s quick start has not one {change.theirs!r}")
            ours = change.ours.format(facilitator=facilitator_url, pay_to=pay_to, port=port)
            code = code.replace(change.theirs, ours)
        command = ("node", "--input-type=module", "--eval", f"{code}\n{_LEAVES_WITH_ITS_PARENT}")
        self._process = Process(f"documented-{package}", command, logs=logs, talks=False, cwd=places.NODE)
        self.url = f"http://127.0.0.1:{port}"
        self._wait(port)

    def _wait(self, port: int, timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._process.alive:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        error = self._process.error("does not listen")
        self.stop()
        raise error

    def stop(self) -> None:
        self._process.stop()
