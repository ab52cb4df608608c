"""Our own demo as a child process, run by its command line as anybody would run it."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .chain import Wallet
from .peers import Process

Event = dict[str, Any]


class OurServer:
    """A running `x402-mpp demo --serve`: what it said when it was ready, and what it has logged since."""

    def __init__(
        self,
        *,
        rpc_url: str,
        settler: str,
        logs: Path,
        store: str = "memory",
        workers: int = 1,
        extra: tuple[str, ...] = (),
    ) -> None:
        command = (Path(sys.executable).with_name("x402-mpp"), "demo", "--serve", "--json")
        chain = ("--rpc-url", rpc_url, "--settler", settler, "--store", store)
        self._process = Process(
            "our-demo", (*command, *chain, "--port", "0", "--workers", str(workers), *extra), logs=logs
        )
        try:
            said = self._process.ready()
        except Exception:
            self._process.stop()
            raise
        self.url: str = said["url"]
        self.pay_to: str = said["pay_to"]
        self.token: dict[str, Any] = said["token"]
        self.payers = [Wallet(payer["address"], payer["private_key"]) for payer in said["payers"]]
        self.routes: list[Any] = said["routes"]

    def events(self) -> list[Event]:
        """Every event logged so far, in order."""
        events = []
        for line in self._process.log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                try:
                    events.append(json.loads(line))
                except ValueError:
                    continue  # the last line, half written
        return events

    def events_about(self, *words: str, until: str | None = None, timeout: float = 5) -> list[Event]:
        """The events that mention one of the words (an address, a hash), waiting for one of the given name."""
        wanted = [word.lower() for word in words]

        def mentions(event: Event) -> bool:
            text = json.dumps(event).lower()
            return any(word in text for word in wanted)

        def look() -> list[Event]:
            return [event for event in self.events() if mentions(event)]

        return _poll(look, lambda found: until is None or any(event.get("event") == until for event in found), timeout)

    def tail(self) -> str:
        return self._process.tail()

    def stop(self) -> None:
        self._process.stop()


def _poll(look: Callable[[], list[Event]], enough: Callable[[list[Event]], bool], timeout: float) -> list[Event]:
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if enough(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
