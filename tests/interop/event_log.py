"""The events that a child of ours has logged: JSON lines on its standard error, which is its log."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class EventLog:
    """What stands in one child's log."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def events(self) -> list[Event]:
        """Every event logged so far, in order."""
        events = []
        for line in self._path.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                try:
                    events.append(json.loads(line))
                except ValueError:
                    continue  # the last line, half written
        return events

    def about(self, *words: str, until: str | None = None, timeout: float = 5) -> list[Event]:
        """The events that mention one of the words (an address, a hash), waiting for one of the given name."""
        wanted = [word.lower() for word in words]

        def mentions(event: Event) -> bool:
            text = json.dumps(event).lower()
            return any(word in text for word in wanted)

        def look() -> list[Event]:
            return [event for event in self.events() if mentions(event)]

        return _poll(look, lambda found: until is None or any(event.get("event") == until for event in found), timeout)


def _poll(look: Callable[[], list[Event]], enough: Callable[[list[Event]], bool], timeout: float) -> list[Event]:
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if enough(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
