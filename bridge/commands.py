"""The stand-alone command's groups: what `litestar` mounts too, on a store and a chain that options name."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager

import click

from bridge.analytics import DEFAULT_URL, EventStore, Recorder, open_events
from bridge.analytics.commands import report_group
from bridge.clock import system_clock
from bridge.events import Events
from bridge.levers.commands import levers_group
from bridge.levers.sources import LeverSource, source_from_spec
from bridge.payments import open_store, payments_group, told_to
from bridge.reconciler import Finder
from bridge.settlers.chain_reader import ChainReader
from bridge.stores import store_from_url
from bridge.stores.base import Store
from translators.levers import check_levers

__all__ = ["levers", "payments", "report"]


def levers() -> click.Group:
    """`x402-mpp levers`."""
    chosen: dict[str, str | None] = {}

    def source() -> LeverSource:
        at = chosen["at"]
        if at is None:
            raise click.UsageError("say where the levers are, with --at before the command")
        try:
            return source_from_spec(at)
        except (ValueError, ImportError) as error:
            raise click.UsageError(str(error)) from None

    group = levers_group(source, check_levers)
    group.params = [
        click.Option(
            ["--at"],
            envvar="X402_MPP_LEVERS",
            metavar="FILE|URL",
            help="Where they are: a .toml file, sqlite:PATH, postgresql://... or redis://...",
        )
    ]
    group.callback = lambda at: chosen.update(at=at)
    return group


def payments() -> click.Group:
    """`x402-mpp payments`."""
    chosen: dict[str, str | None] = {}

    @asynccontextmanager
    async def store() -> AsyncIterator[Store]:
        if chosen["store"] is None:
            raise click.UsageError("say which journal, with --store before the command")
        async with open_store(store_from_url(chosen["store"])) as opened:
            yield opened

    @asynccontextmanager
    async def finder() -> AsyncIterator[Finder]:
        if chosen["rpc_url"] is None:
            raise click.UsageError("reconcile asks the chain: say where, with --rpc-url before the command")
        reader = ChainReader(chosen["rpc_url"])
        await reader.start(set())
        try:
            yield reader
        finally:
            await reader.close()

    def told() -> AbstractContextManager[Events]:
        kept = chosen["events"]
        try:
            return told_to(Recorder(EventStore(url=kept)) if kept else None)
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    group = payments_group(store, finder, told)
    group.params = [
        click.Option(
            ["--store"],
            envvar="X402_MPP_STORE",
            metavar="URL",
            help="The journal: sqlite:PATH, postgresql://... or redis://...",
        ),
        click.Option(["--rpc-url"], envvar="X402_MPP_RPC_URL", metavar="URL", help="The chain to ask, for reconcile."),
        click.Option(
            ["--events"],
            envvar="X402_MPP_EVENTS",
            metavar="PATH",
            help="The event store that reconcile tells what it finds, so that reports have it.",
        ),
    ]
    group.callback = lambda store, rpc_url, events: chosen.update(store=store, rpc_url=rpc_url, events=events)
    return group


def report() -> click.Group:
    """`x402-mpp report`."""
    return report_group(lambda url: open_events(url or DEFAULT_URL), system_clock, choose=True)
