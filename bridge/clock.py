"""Where the time comes from: one function, so that a test or a simulation can stand in its place."""

import time
from collections.abc import Callable

__all__ = ["Clock", "system_clock"]

Clock = Callable[[], float]
"""Unix seconds, now."""

system_clock: Clock = time.time
