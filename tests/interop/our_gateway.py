"""Our gateway as a child process, run by its command line as anybody would run it."""

import os
import signal
import sys
from pathlib import Path

from .event_log import Event, EventLog
from .peers import Process

SECRET = "a secret of thirty-two bytes or more for the gateways of tests"
"""What the gateways of a test have in common. It signs nothing but their challenges."""


class OurGateway:
    """A running `x402-mpp gateway`: where it listens, and what it has logged since."""

    def __init__(
        self,
        *upstreams: str,
        logs: Path,
        rpc_url: str | None = None,
        store: str = "memory",
        port: int = 0,
        extra: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        command = [Path(sys.executable).with_name("x402-mpp"), "gateway", "--json", "--store", store]
        for upstream in upstreams:
            command += ["--upstream", upstream]
        if rpc_url is not None:
            command += ["--rpc-url", rpc_url]
        self.process = Process(
            "our-gateway",
            (*command, "--port", str(port), *extra),
            logs=logs,
            env={"X402_MPP_SECRET_KEYS": SECRET, "X402_MPP_EVENTS": "none", **(env or {})},
        )
        try:
            self.url: str = self.process.ready()["url"]
        except Exception:
            self.process.stop()
            raise
        self.port = int(self.url.rsplit(":", 1)[1])

    def events(self) -> list[Event]:
        """Every event logged so far, in order."""
        return EventLog(self.process.log).events()

    def events_about(self, *words: str, until: str | None = None, timeout: float = 5) -> list[Event]:
        """The events that mention one of the words (an address, a hash), waiting for one of the given name."""
        return EventLog(self.process.log).about(*words, until=until, timeout=timeout)

    def memory_peak(self) -> int:
        """The most memory that it has had resident, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def terminate(self) -> None:
        """Ask it to finish what is under way and end."""
        os.kill(self.process.pid, signal.SIGTERM)

    def finish(self, timeout: float = 30) -> None:
        """Ask it to finish what is under way, and wait until it has ended; raises `ProcessError` when it does not."""
        self.process.finish(timeout)

    def tail(self) -> str:
        return self.process.tail()

    def stop(self) -> None:
        self.process.stop()
