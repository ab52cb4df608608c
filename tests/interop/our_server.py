"""Our own demo as a child process, run by its command line as anybody would run it."""

import sys
from pathlib import Path
from typing import Any

from .chain import Wallet
from .event_log import Event, EventLog
from .peers import Process


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
        return EventLog(self._process.log).events()

    def events_about(self, *words: str, until: str | None = None, timeout: float = 5) -> list[Event]:
        """The events that mention one of the words (an address, a hash), waiting for one of the given name."""
        return EventLog(self._process.log).about(*words, until=until, timeout=timeout)

    def tail(self) -> str:
        return self._process.tail()

    def stop(self) -> None:
        self._process.stop()
