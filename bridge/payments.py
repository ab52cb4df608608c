"""The journal by hand: `x402-mpp payments ...` and `litestar payments ...` are these commands.

They read the same store as the servers, beside them while they run, and never show more than the journal holds.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
import structlog

from bridge.analytics import Recorder
from bridge.clock import system_clock
from bridge.events import Events
from bridge.logs import configure_logs
from bridge.reconciler import Finder, Reconciler, Resolution
from bridge.settlers.base import SettlerConfigError
from bridge.stores.base import Record, Store
from translators.errors import PaymentError
from translators.lifecycle import State

__all__ = ["open_store", "payments_group", "told_to"]

OpenStore = Callable[[], AbstractAsyncContextManager[Store]]
OpenFinder = Callable[[], AbstractAsyncContextManager[Finder]]
OpenTeller = Callable[[], AbstractContextManager[Events]]


@asynccontextmanager
async def open_store(store: Store) -> AsyncIterator[Store]:
    """The store, started and closed around a command."""
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def told_to(recorder: Recorder | None) -> Iterator[Events]:
    """Events that go to the log and to `recorder`, which is open meanwhile."""
    if recorder is None:
        yield Events()
        return
    recorder.start()
    try:
        yield Events([recorder])
    finally:
        recorder.close()


def payments_group(stores: OpenStore, finders: OpenFinder, events: OpenTeller) -> click.Group:
    """The commands, on whatever store the first function opens and whoever the second finds to ask.

    What `reconcile` finds out is told to what the third opens: a settlement that is found by hand is revenue, too.
    """
    group = click.Group("payments", help="Show the payment journal, and look into payments that were left behind.")

    @group.command("list")
    @click.option("--state", "states", multiple=True, type=click.Choice([s.value for s in State]), help="Only these.")
    @click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="At most so many.")
    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    def list_(states: tuple[str, ...], limit: int, as_json: bool) -> None:
        """List payments, the last touched first."""

        async def run() -> list[Record]:
            async with stores() as store:
                return await store.records(states=[State(state) for state in states], limit=limit)

        rows = _run(run)
        if as_json:
            _say(*(msgspec.json.encode(row).decode() for row in rows))
        else:
            _say(*(_table(rows) if rows else ["No payments."]))

    @group.command()
    @click.argument("payment")
    def show(payment: str) -> None:
        """Show one payment: by its id, transaction hash or correlation id."""

        async def run() -> Record | None:
            async with stores() as store:
                found = await store.get(payment)
                if found is not None:
                    return found
                rows = await store.records(limit=10_000)
                return next((row for row in rows if payment in (row.transaction, row.correlation_id)), None)

        row = _run(run)
        if row is None:
            raise click.ClickException("no such payment in the journal")
        width = max(len(name) for name in row.__struct_fields__)
        _say(*(f"{name.replace('_', ' '):<{width}}  {_value(name, row)}" for name in row.__struct_fields__))

    @group.command()
    def reconcile() -> None:
        """Ask the chain about every payment that nobody works on, and put the journal right."""

        async def run() -> list[Resolution]:
            async with stores() as store, finders() as finder:
                with events() as told:
                    return await Reconciler(store=store, settler=finder, events=told, clock=system_clock).once()

        resolutions = _run(run)
        _say(*(f"{resolution.verdict.value:<12}{resolution.record.id}" for resolution in resolutions))
        _say(f"{len(resolutions)} looked into")

    @group.command()
    def migrate() -> None:
        """Create the store's schema, or bring it up to date; a server does the same when it starts."""

        async def run() -> None:
            async with stores():
                pass

        _run(run)
        _say("The store is up to date.")

    return group


def _run(work: Callable[[], Any]) -> Any:
    if not structlog.is_configured():
        configure_logs()  # to standard error: standard output is the command's answer
    try:
        return asyncio.run(work())
    except (PaymentError, SettlerConfigError, ValueError, RuntimeError, ImportError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _say(*lines: str) -> None:
    for line in lines:
        click.echo(line)


def _table(rows: list[Record]) -> list[str]:
    return [
        f"{'state':<10}{'updated':<21}{'protocol':<9}{'amount':>12}  {'payer':<13}{'route':<20}transaction",
        *(
            f"{row.state.value:<10}{_time(row.updated_at):<21}{row.protocol.value:<9}{row.value:>12}  "
            f"{_short(row.payer):<13}{row.route[:19]:<20}{_short(row.transaction)}"
            for row in rows
        ),
    ]


def _value(name: str, row: Record) -> str:
    value = getattr(row, name)
    match name:
        case "created_at" | "updated_at" | "lease_until":
            return _time(value)
        case "valid_after" | "valid_before" if value < 2**33:
            return f"{value} ({_time(value)})"
        case _:
            return str(value)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _short(text: str) -> str:
    return f"{text[:6]}..{text[-4:]}" if len(text) > 12 else text
