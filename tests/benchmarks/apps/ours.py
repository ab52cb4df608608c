"""Our own server. The environment says where claims live (`BENCH_STORE`) and whether events are logged."""

import logging
import os
import sys

import structlog
from litestar import Litestar, get

from bridge.config import PaymentConfig
from bridge.litestar import PaymentPlugin
from bridge.logs import configure_logs

if os.environ.get("BENCH_LOGS"):
    configure_logs(json=True, stream=sys.stderr)
else:
    # No peer writes a line for each request, so neither do we where we are compared.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR), cache_logger_on_first_use=True
    )


@get("/report", price="0.01", description="The weather, for a cent")
async def report() -> dict[str, dict[str, str | int]]:
    """Answer with the weather."""
    return {"report": {"weather": "sunny", "temperature": 70}}


config = PaymentConfig(
    recipient=os.environ["BENCH_PAY_TO"],
    network="base-sepolia",
    settler="null",
    store=os.environ.get("BENCH_STORE", "memory"),
    # No peer records events either; what ours cost is measured beside it.
    event_store=os.environ.get("BENCH_EVENTS"),
    secret_keys=[os.environ["BENCH_SECRET"]],
    public_url=os.environ["BENCH_URL"],
)
app = Litestar([report], plugins=[PaymentPlugin(config)], logging_config=None)
