"""The settings of the event store."""

from typing import Literal

import msgspec

from bridge.analytics.database import is_server, path_of

__all__ = ["DEFAULT_URL", "EventStore"]

DEFAULT_URL = "sqlite:events.sqlite3"
BUCKETS = {"hour": 3600, "day": 86400}
_LEAST_KEY = 16


class EventStore(msgspec.Struct, frozen=True, kw_only=True):
    """Where events are kept, for how long, and what of a payer. Raises `ValueError` for what cannot work."""

    url: str = DEFAULT_URL
    """`sqlite:PATH` for all processes of one machine, `postgresql://...` for any number of machines."""

    payer_key: str | bytes | None = None
    """A secret of at least 16 bytes: payers are then kept as keyed hashes, and transactions not at all. The same on
    every worker. None keeps addresses, which everybody can read on the chain anyway."""

    event_days: float = 90.0
    """How long single events are kept."""

    rollup_days: float = 730.0
    """How long figures by day are kept, and who paid in which protocol; those by hour as long as single events."""

    rollup: Literal["hour", "day"] = "hour"
    """How finely figures are kept: by hour and day, or by day alone. Reports begin and end at a full one, in UTC."""

    flush_seconds: float = 0.5
    """How long an event waits to be written: what a process that is killed loses at most."""

    queue_events: int = 20_000
    """How many events may wait. What comes when so many do is dropped, and counted."""

    health_seconds: float = 30.0
    """How often each serving process notes there how settler and store do, for dashboards. 0: never."""

    def __post_init__(self) -> None:
        if not is_server(self.url):
            path_of(self.url)
        if self.payer_key is not None and len(self.key or b"") < _LEAST_KEY:
            raise ValueError(f"event_store: payer_key has at least {_LEAST_KEY} bytes")
        if not 0 < self.event_days <= self.rollup_days:
            raise ValueError("give event_days more than 0, and rollup_days no less than that")
        if self.rollup not in BUCKETS:
            raise ValueError("rollup is hour or day")
        if not 0.01 <= self.flush_seconds <= 60:
            raise ValueError("give flush_seconds from 0.01 to 60")
        if not (self.health_seconds == 0 or 1 <= self.health_seconds <= 3600):
            raise ValueError("give health_seconds from 1 to 3600, or 0")
        if not 1 <= self.queue_events <= 10_000_000:
            raise ValueError("give queue_events from 1 to 10 million")

    @property
    def key(self) -> bytes | None:
        """`payer_key` as bytes."""
        return self.payer_key.encode() if isinstance(self.payer_key, str) else self.payer_key

    @property
    def bucket_seconds(self) -> int:
        """`rollup` in seconds."""
        return BUCKETS[self.rollup]

    def __repr__(self) -> str:
        """Leave the URL, which may hold a password, and the key out: a repr ends up in logs."""
        return f"EventStore(rollup={self.rollup!r}, event_days={self.event_days!r})"
