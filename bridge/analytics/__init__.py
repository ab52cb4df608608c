"""The event store: what happened to payments, kept and asked about.

`EventStore` is its settings (`PaymentConfig.event_store`), `Recorder` the sink that writes, and `open_events` opens it
to be read. `docs/analytics.md` has the questions, and what the figures mean.
"""

from bridge.analytics.database import EventsUnavailable
from bridge.analytics.facts import Fact, Mark
from bridge.analytics.figures import Figures, Latency
from bridge.analytics.http import EventsAPI
from bridge.analytics.journeys import Journey, Path, Summary
from bridge.analytics.reader import Events, Recorded, open_events
from bridge.analytics.readiness import Readiness
from bridge.analytics.recorder import Recorder
from bridge.analytics.report import BREAKDOWNS, Filters, OddClient, Report, Span, Step
from bridge.analytics.settings import DEFAULT_URL, EventStore
from bridge.analytics.workers import Part, Worker

__all__ = [
    "BREAKDOWNS",
    "DEFAULT_URL",
    "EventStore",
    "Events",
    "EventsAPI",
    "EventsUnavailable",
    "Fact",
    "Figures",
    "Filters",
    "Journey",
    "Latency",
    "Mark",
    "OddClient",
    "Part",
    "Path",
    "Readiness",
    "Recorded",
    "Recorder",
    "Report",
    "Span",
    "Step",
    "Summary",
    "Worker",
    "open_events",
]
