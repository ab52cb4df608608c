"""Children of the test run: started in their own right, listened to line by line, ended by their id."""

import contextlib
import json
import os
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class ProcessError(RuntimeError):
    """A child did not start, did not answer in time, or died; the message ends with the tail of its log."""


class Process:
    """A child whose first line on stdout is JSON and says that it is ready.

    A child that does not talk like that (`talks=False`) is waited for in its log.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        logs: Path,
        env: Mapping[str, str] | None = None,
        talks: bool = True,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = logs / f"{name.replace('/', '-')}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if talks else log,
                stderr=log,
                env={**os.environ, **(env or {})},
                cwd=cwd,
            )
        assert self._child.stdin is not None
        self.stdin, self.stdout = self._child.stdin, self._child.stdout
        self._ready: dict[str, Any] | None = None

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def ready(self, timeout: float = 60) -> dict[str, Any]:
        """The first line of stdout; a child that says nothing in time, or ends first, is an error."""
        if self._ready is None:
            assert self.stdout is not None
            if not select.select([self.stdout], [], [], timeout)[0]:
                raise self.error(f"was not ready within {timeout} s")
            line = self.stdout.readline()
            if not line:
                raise self.error("ended before it was ready")
            self._ready = json.loads(line)
        return self._ready

    def wait_for(self, pattern: str, timeout: float = 20) -> re.Match[str]:
        """The first match of a pattern in the log."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.log.read_text(errors="replace")):
                return found
            if not self.alive:
                raise self.error("ended before it was ready")
            time.sleep(0.02)
        raise self.error(f"did not say {pattern!r} within {timeout} s")

    def error(self, what: str) -> ProcessError:
        return ProcessError(f"{self.name} (pid {self.pid}) {what}; {self.log} ends:\n{self.tail()}")

    def tail(self, size: int = 3000) -> str:
        return self.log.read_bytes()[-size:].decode(errors="replace")

    def finish(self, timeout: float = 30) -> None:
        """Ask the child to finish what is under way and end, and wait for that; its stdin stays open meanwhile."""
        self._child.terminate()
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.error(f"did not end within {timeout} s") from None
        finally:
            self.stop()

    def stop(self) -> None:
        """End the child: the end of its stdin tells it to leave, a signal insists."""
        with contextlib.suppress(OSError):
            self.stdin.close()
        if self.alive:
            self._child.terminate()
            try:
                self._child.wait(10)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        if self.stdout is not None:
            self.stdout.close()
