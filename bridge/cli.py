"""The command `x402-mpp`. Everything heavy is imported by the command that needs it, so that help is quick."""

import sys
import textwrap

import click

__all__ = ["main"]


class _Commands(click.Group):
    """Commands, of which some are made only when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them."""
        return sorted([*super().list_commands(ctx), *_LAZY])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them."""
        make = _LAZY.get(cmd_name)
        return make() if make is not None else super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write their first sentences, without making those that are made only when asked for."""
        names = self.list_commands(ctx)
        width = formatter.width - 6 - max(map(len, names))
        rows = []
        for name in names:
            said = _SUMMARIES.get(name)
            if said is None and (command := self.get_command(ctx, name)) is not None:
                said = command.get_short_help_str(width)
            rows.append((name, textwrap.shorten(said or "", width, placeholder="...")))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _payments() -> click.Command:
    from bridge.commands import payments

    return payments()


def _check() -> click.Command:
    from bridge.check.command import check

    return check


def _dashboard() -> click.Command:
    from bridge.dashboard.command import dashboard

    return dashboard


def _decode() -> click.Command:
    from bridge.decode import decode

    return decode


def _gateway() -> click.Command:
    from bridge.gateway.command import gateway

    return gateway


def _pay() -> click.Command:
    from bridge.pay import pay

    return pay


def _levers() -> click.Command:
    from bridge.commands import levers

    return levers()


def _report() -> click.Command:
    from bridge.commands import report

    return report()


def _import() -> click.Command:
    from bridge.importing.command import import_command

    return import_command


_LAZY = {
    "check": _check,
    "dashboard": _dashboard,
    "decode": _decode,
    "gateway": _gateway,
    "import": _import,
    "levers": _levers,
    "pay": _pay,
    "payments": _payments,
    "report": _report,
}

_SUMMARIES = {
    "check": "Find out what a paid route speaks, and what is wrong with it.",
    "dashboard": "Show an event file in the browser: who pays in which protocol, what fails, and who is left.",
    "decode": "Show what a payment header or body says, and whether it holds.",
    "gateway": "Let MPP clients, and both generations of x402 clients, pay an x402 server that stays as it is.",
    "import": "Read an x402 server's prices, and say what carries over.",
    "levers": "Show and move the stage of each protocol on each route.",
    "pay": "Ask for URL, and pay for it if it has to be paid for.",
    "payments": "Show the payment journal, and look into payments that were left behind.",
    "report": "Who paid what, in which protocol, and how it went.",
}
"""The first sentences of those, so that a list of them imports none; a test holds each against its command's own."""


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="x402-mpp-bridge", prog_name="x402-mpp")
def main() -> None:
    """Serve one paid route to x402 v1, x402 v2 and MPP clients at once."""


@main.command()
@click.option("--serve", is_flag=True, help="Keep the server up instead of telling the story.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, with --serve.")
@click.option("--port", default=0, show_default="a free one", help="Port to listen on, with --serve.")
@click.option("--rpc-url", metavar="URL", help="Settle on this anvil (chain id 84532) instead of the embedded chain.")
@click.option(
    "--settler",
    default="chain",
    show_default=True,
    metavar="chain|facilitator:URL|null",
    help="How money moves. null verifies and claims but settles nowhere: for benchmarks.",
)
@click.option(
    "--store",
    default="memory",
    show_default=True,
    metavar="URL",
    help="Where claims live: memory, sqlite:PATH, postgresql://... or redis://...",
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Worker processes.")
@click.option("--public-url", metavar="URL", help="Where clients reach the server, when not at its own address.")
@click.option(
    "--levers", metavar="FILE|URL", help="The stage of each protocol on each route: a .toml file, or a database."
)
@click.option(
    "--events",
    metavar="PATH",
    help="With --serve: keep events for reports here, a path or postgresql://...; without it, nowhere.",
)
@click.option("--json", "as_json", is_flag=True, help="With --serve: print one JSON line when ready, log JSON.")
def demo(
    serve: bool,
    host: str,
    port: int,
    rpc_url: str | None,
    settler: str,
    store: str,
    workers: int,
    public_url: str | None,
    levers: str | None,
    events: str | None,
    as_json: bool,
) -> None:
    """Pay one Litestar route in all three protocols, settled on an embedded chain.

    Prints what each client was asked, what it sent, the transaction, and the balances. With --serve, keeps the server
    up for clients of your own.
    """
    if workers > 1 and store.startswith("memory"):
        raise click.UsageError("several workers need a store that they share: --store sqlite:PATH")
    if (as_json or workers > 1 or events) and not serve:
        raise click.UsageError("--json, --events and --workers go with --serve")
    try:
        from bridge.demo.run import STARTUP_ERRORS, DemoOptions, run
    except ModuleNotFoundError as error:
        raise click.ClickException(f'the demo needs {error.name}: pip install "x402-mpp-bridge[demo]"') from None
    options = DemoOptions(serve, host, port, rpc_url, settler, store, workers, public_url, levers, events, as_json)
    try:
        sys.exit(run(options))
    except STARTUP_ERRORS as error:
        raise click.ClickException(str(error)) from None
