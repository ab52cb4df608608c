"""The command `x402-mpp check`. What is heavy is imported when it runs, so that help is quick."""

import sys
from typing import Any

import click

__all__ = ["check"]

_PROTOCOLS = click.Choice(["x402-v1", "x402-v2", "mpp"])


@click.command()
@click.argument("url", required=False)
@click.option("-X", "--method", metavar="METHOD", help="Ask with this method.  [default: GET, POST with --data]")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="Send this header; repeatable.")
@click.option("-d", "--data", metavar="TEXT|@FILE", help="Send this body, as JSON unless a header says otherwise.")
@click.option("--expect", multiple=True, type=_PROTOCOLS, help="Fail where this protocol is not spoken; repeatable.")
@click.option("--rpc-url", envvar="X402_MPP_RPC_URL", metavar="URL", help="A node of the chain, to ask the tokens.")
@click.option("--follow", is_flag=True, help="Follow redirects, at most five, and never from https to http.")
@click.option("--connect-to", metavar="HOST:PORT", help="Connect here, and keep the URL's name: one of many servers.")
@click.option(
    "--timeout",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0.1, 600),
    metavar="SECONDS",
    help="How long one answer may take.",
)
@click.option("--ignore", multiple=True, metavar="RULE", help="Do not ask this rule; repeatable.")
@click.option(
    "--fail-on",
    default="error",
    show_default=True,
    type=click.Choice(["error", "warning", "info", "never"]),
    help="The least severity that makes the exit code other than 0.",
)
@click.option(
    "--format",
    "form",
    default="table",
    show_default=True,
    type=click.Choice(["table", "json", "junit"]),
    help="How to print the findings.",
)
@click.option("--pay", is_flag=True, help="Pay once in each protocol, with the key in X402_MPP_PRIVATE_KEY.")
@click.option(
    "--limit", default="0.10", show_default=True, metavar="MONEY", help="The most that --pay may spend in all."
)
@click.option(
    "--real-money", is_flag=True, help="Let --pay pay other machines on networks that are no testnets, up to --limit."
)
@click.option("--rules", is_flag=True, help="List the rules instead of checking anything.")
def check(url: str | None, **options: Any) -> None:
    """Find out what a paid route speaks, and what is wrong with it.

    Asks URL as its clients do, without paying, and reads the answer as an x402 v1, an x402 v2 and an MPP client would.
    Each finding has a severity, says whether a specification asks for it (must, should) or we do (advice), and has its
    clause and its remedy.

    With --pay it also pays, once in each protocol, within --limit and on testnets or to this machine only, and holds
    receipts, balances (with --rpc-url) and the answer to the same payment once more against the same rules.

    Exit codes: 0 where nothing is as bad as --fail-on says; else by the worst finding 3 (info), 4 (warning) or
    5 (error); 1 where the check could not be made, 2 for a command line that makes no sense.
    """
    from bridge.check.report import plain
    from bridge.check.run import CheckError, rules_text, run

    if options["rules"]:
        click.echo(rules_text())
        return
    if url is None:
        raise click.UsageError("Missing argument 'URL'.")
    try:
        text, code = run(url, **options)
    except CheckError as error:
        raise click.ClickException(plain(str(error))) from None
    click.echo(text)
    sys.exit(code)
