"""The command line of `x402-mpp gateway`."""

import os
from typing import Any

import click

from bridge.config import ConfigError
from bridge.gateway.config import load
from bridge.settlers.base import SettlerConfigError
from translators.errors import PaymentError

__all__ = ["gateway"]


@click.command()
@click.option(
    "--upstream",
    multiple=True,
    metavar="[PATH=]URL",
    help="The x402 server behind the gateway; several by the path that each has. Repeatable.",
)
@click.option("--host", metavar="ADDR", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [default: 8402]")
@click.option("--public-url", metavar="URL", help="Where clients reach the gateway, when not at its own address.")
@click.option(
    "--store",
    metavar="URL",
    help="Where claims live: memory, sqlite:PATH, postgresql://... or redis://...  [default: sqlite:payments.sqlite3]",
)
@click.option(
    "--events",
    metavar="PATH",
    help="Where events are kept for reports: a path, postgresql://... or none.  [default: events.sqlite3]",
)
@click.option(
    "--levers", metavar="FILE|URL", help="The stage of each protocol on each route: a .toml file, or a database."
)
@click.option(
    "--rpc-url", metavar="URL", help="A node of the chain, to be asked what became of a payment that got no answer."
)
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="ADDR",
    help="A proxy in front whose X-Forwarded-* are believed: address, network or unix. Repeatable.",
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    type=click.Choice(["x402-v1", "x402-v2", "mpp"]),
    help="What to add to the upstream's own challenge. Repeatable.  [default: all]",
)
@click.option("--workers", type=click.IntRange(1, 64), help="Worker processes.  [default: 1]")
@click.option("--timeout", type=float, metavar="SECONDS", help="For an upstream to begin its answer.  [default: 60]")
@click.option("--max-body", type=click.IntRange(1), metavar="BYTES", help="The longest request body.  [default: any]")
@click.option(
    "--max-concurrency",
    type=click.IntRange(1),
    metavar="N",
    help="Requests under way at once, in each worker.  [default: 1000]",
)
@click.option(
    "--config",
    "file",
    type=click.Path(exists=True, dir_okay=False),
    help="A TOML file with settings; flags and X402_MPP_* variables win over it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line when ready, log JSON.")
def gateway(upstream: tuple[str, ...], file: str | None, as_json: bool, **options: Any) -> None:
    """Let MPP clients, and both generations of x402 clients, pay an x402 server that stays as it is.

    Challenges are authenticated by X402_MPP_SECRET_KEYS: comma-separated, at least 32 bytes each, the same on every
    gateway.
    """
    try:
        config = load(options, environ=os.environ, file=file, upstream=upstream)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    try:
        from bridge.gateway.serve import run
    except ModuleNotFoundError as error:
        raise click.ClickException(f'the gateway needs {error.name}: pip install "x402-mpp-bridge[gateway]"') from None
    try:
        run(config, json=as_json)
    except (ValueError, SettlerConfigError, PaymentError, OSError, RuntimeError, ImportError) as error:
        raise click.ClickException(str(error)) from None
