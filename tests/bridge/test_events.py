"""Who hears of an event: a log at its level, and every sink."""

import logging
from typing import Any

import pytest
import structlog

from bridge.events import Events


@pytest.fixture(autouse=True)
def structlog_as_it_was() -> Any:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize(
    ("level", "event", "hears"),
    [
        (logging.INFO, "payment.verified", True),
        (logging.WARNING, "payment.verified", False),
        (logging.WARNING, "payment.unknown", True),
        (logging.ERROR, "payment.unknown", False),
    ],
)
def test_a_log_hears_what_is_at_its_level(level: int, event: str, hears: bool) -> None:
    """What it would not write is not made up for it; a log that is configured later is asked anew."""
    events = Events()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    assert events.hears(event) is hears


def test_a_log_that_cannot_say_hears_everything() -> None:
    """Another wrapper class may write whatever it is given."""
    structlog.configure(wrapper_class=structlog.BoundLogger)
    assert Events().hears("payment.verified")


def test_a_sink_hears_everything() -> None:
    """Whatever the log's level is."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    assert Events([lambda event, fields: None]).hears("payment.verified")
