"""The command line of `x402-mpp dashboard`."""

import asyncio
import sys
from pathlib import Path

import click

from bridge.analytics import DEFAULT_URL, EventsUnavailable, open_events
from bridge.clock import system_clock
from bridge.dashboard.app import Dashboard
from bridge.dashboard.guard import LOOPBACK_NAMES
from bridge.dashboard.health import StoreHealth
from bridge.dashboard.levers import find_levers
from bridge.levers.sources import source_from_spec
from bridge.stores import store_from_url
from bridge.stores.base import Store

__all__ = ["dashboard"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.command()
@click.option(
    "--events", default=DEFAULT_URL, show_default=True, metavar="PATH", help="The events: a path or postgresql://..."
)
@click.option("--store", metavar="URL", help="The payment store, to show how it does: sqlite:PATH, postgresql://...")
@click.option("--levers", metavar="FILE|URL", help="The levers; without them, what the events say of them.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8480, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: a free one.")
@click.option(
    "--token",
    envvar="X402_MPP_DASHBOARD_TOKEN",
    metavar="TEXT",
    help="What visitors give as the password; needed beyond loopback.  [env: X402_MPP_DASHBOARD_TOKEN]",
)
def dashboard(events: str, store: str | None, levers: str | None, host: str, port: int, token: str | None) -> None:
    """Show an event file in the browser: who pays in which protocol, what fails, and who is left.

    It changes nothing, and is served on this machine only unless you say otherwise.
    """
    if token is None and host not in _LOOPBACK:
        raise click.UsageError("who may look? Beyond loopback give --token, or X402_MPP_DASHBOARD_TOKEN")
    try:
        source = source_from_spec(levers) if levers is not None else None
        app = Dashboard(
            events,
            token=token,
            # Without a token, a page from elsewhere must not get in by a name of its own for this machine.
            hosts=() if token is not None else LOOPBACK_NAMES,
            health=StoreHealth(_store(store)) if store is not None else None,
            levers=find_levers(source, system_clock) if source is not None else None,
        )
        _warn(events)
    except (ValueError, ImportError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
    try:
        asyncio.run(_serve(app, host, port))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from None


def _store(url: str) -> Store:
    kind, _, path = url.partition(":")
    if kind == "memory":
        raise ValueError("--store memory is another process's own: give a store that processes share")
    if kind == "sqlite" and not Path(path).exists():
        # Opening it would make it.
        raise ValueError(f"--store: there is no {path}")
    return store_from_url(url)


def _warn(events: str) -> None:
    try:
        open_events(events).close()
    except EventsUnavailable as error:
        # The servers that write them may start later.
        click.echo(f"Nothing to show yet: {error}", err=True)


async def _serve(app: Dashboard, host: str, port: int) -> None:
    try:
        from bridge.serving import listen, serve, server_url, stop_signal
    except ModuleNotFoundError as error:
        raise click.ClickException(f'the dashboard needs {error.name}: pip install "x402-mpp-bridge[server]"') from None
    stop = stop_signal()
    sock = listen(host, port)
    async with serve(app, sock):
        click.echo(f"Dashboard: {server_url(host, sock.getsockname()[1])}/  (Ctrl-C ends it)")
        sys.stdout.flush()
        await stop.wait()
    await app.close()
