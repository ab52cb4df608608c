"""`docs/metrics.md`, held against the metrics and spans that exist."""

import re

from bridge.metrics import MAX_REASONS, MAX_ROUTES, METRICS
from bridge.tracing import SPANS
from tests.docs.test_docs import prose, table


def test_every_metric_is_described() -> None:
    """With its type and its labels."""
    rows = table("docs/metrics.md", "metric")
    assert rows.keys() == METRICS.keys()
    for name, (kind, labels, _) in METRICS.items():
        assert (rows[name][0], re.findall(r"\w+", rows[name][1])) == (kind, list(labels) or ["none"]), name


def test_every_span_is_described() -> None:
    """And none that does not exist."""
    assert table("docs/metrics.md", "span").keys() == SPANS.keys()


def test_the_bounds_are_the_codes() -> None:
    """How many series there can be."""
    assert f"At most {MAX_ROUTES} routes and {MAX_REASONS} reasons" in prose("docs/metrics.md").replace("\n", " ")
