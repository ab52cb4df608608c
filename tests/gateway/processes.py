"""Children of these tests."""

import os
import signal
import sys
from pathlib import Path

from tests.interop.peers import Process


class Upstream:
    """A running `python -m tests.gateway.upstream`."""

    def __init__(self, logs: Path, *, port: int = 0) -> None:
        command = (sys.executable, "-m", "tests.gateway.upstream", "--port", str(port))
        self.process = Process("upstream", command, logs=logs)
        try:
            self.url: str = self.process.ready()["url"]
        except Exception:
            self.process.stop()
            raise
        self.port = int(self.url.rsplit(":", 1)[1])

    def kill(self) -> None:
        """At once, as the kernel does it."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.stop()

    def stop(self) -> None:
        self.process.stop()
