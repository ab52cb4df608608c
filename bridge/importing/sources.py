"""Whatever an old server's prices are written in, read into one table."""

from collections.abc import Mapping
from typing import Any

import structlog

from bridge.importing.notes import Kind
from bridge.importing.offered import Read
from bridge.importing.sdk import is_route, read_routes
from bridge.importing.sdk_v1 import is_call, is_table, read_calls, read_table
from bridge.importing.table import Table, build_table

__all__ = ["carry_over", "read_any", "read_x402"]


def read_x402(routes: Any, server: Any, given: Mapping[str, Any]) -> Table:
    """A route table of either generation of the Python SDK as one of ours; raises `ValueError` for anything else."""
    return build_table(read_any(routes, server), given)


def carry_over(routes: Any, server: Any, given: Mapping[str, Any]) -> Table:
    """As `read_x402`, and whole: every route can be charged, and it is known who settles.

    What has no place here is logged. Raises `ValueError` for everything that is missing.
    """
    table = read_x402(routes, server, given)
    if table.refused:
        raise ValueError("; ".join(f"{key}: {why}" for key, why in table.refused.items()))
    if "settler" not in table.settings:
        raise ValueError("settler: the route table does not say who settles; give it, or give `server`")
    for note in table.notes:
        if note.kind is Kind.LOST:
            log = structlog.get_logger("x402_mpp")
            log.warning("config.not_carried", route=note.route or None, what=note.what, says=note.says)
    return table


def read_any(routes: Any, server: Any = None, *, pay_to: str | None = None, facilitator: Any = None) -> Read:
    """Read a route table of either generation, of Python's SDK or TypeScript's.

    v1's TypeScript tables do not say who is paid: that is `pay_to`. Raises `ValueError`.
    """
    if is_call(routes):
        return read_calls([routes])
    if isinstance(routes, list | tuple) and routes and all(is_call(call) for call in routes):
        return read_calls(routes)
    if isinstance(routes, Mapping) and routes and not is_route(routes) and is_table(routes):
        if pay_to is None:
            raise ValueError("this table is of x402 v1, and does not say who is paid: give the recipient")
        return read_table(pay_to, routes, facilitator)
    read = read_routes(routes, server)
    if isinstance(facilitator, Mapping) and isinstance(facilitator.get("url"), str):
        read.facilitator = facilitator["url"]
    return read
