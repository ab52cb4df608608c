"""How this package's own commands log: JSON lines in production, a readable console in development.

An application that configures structlog itself is left alone: only the commands call this.
"""

import logging
import sys
from typing import Any, TextIO

import msgspec
import structlog

__all__ = ["configure_logs"]


_ENCODER = msgspec.json.Encoder(enc_hook=repr)


def _as_json(event: Any, **_: Any) -> str:
    """There is a line for every request that was not paid: written by the standard library it costs twice as much."""
    return _ENCODER.encode(event).decode()


def configure_logs(*, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Configure structlog: JSON lines when `json` is true, or None and `stream` (standard error) is not a terminal."""
    out = stream or sys.stderr
    if json is None:
        json = not out.isatty()
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_as_json)
        if json
        else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
