"""The command `x402-mpp pay`: its options and what they mean. What it does is in `bridge.paying`."""

import sys
from typing import Any

import click

__all__ = ["pay"]

PROTOCOLS = ["mpp", "x402-v2", "x402-v1"]


EXIT_CODES = """\b
Exit codes:
  0  the answer is what was asked for, paid or free; with --dry-run: payable
  1  the server answered with an error, and nothing was paid
  2  the options make no sense
  3  nothing was paid: a rule or a person said no, or nothing could be paid
  4  the server did not take the payment; until its time is over it could
  5  the payment was sent, and its outcome is not known; the same command asks
  6  the server was not reached, and nothing was paid
  7  the payment was taken, and the answer is an error or is missing"""


@click.command(epilog=EXIT_CODES)
@click.argument("url")
@click.option("-X", "--method", metavar="METHOD", help="The HTTP method. Without it GET, with --data POST.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="A request header; repeatable.")
@click.option("-d", "--data", metavar="TEXT|@FILE", help="The request body; @FILE reads it from a file, @- from stdin.")
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    type=click.Choice(PROTOCOLS),
    help="Pay in this protocol only; repeated, in this order of liking. Without it, in any: mpp, x402-v2, x402-v1.",
)
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NETWORK",
    help="Pay on this network only; repeatable, the best liked first. x402 v1's name, eip155:ID, or the id.",
)
@click.option(
    "--asset",
    "assets",
    multiple=True,
    metavar="ADDRESS",
    help="Pay with this token only; repeatable, best liked first.",
)
@click.option("--recipient", "recipients", multiple=True, metavar="ADDRESS", help="Pay this address only; repeatable.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="A host that may be paid; repeatable, *.example.com for all below. Without it, the URL's own.",
)
@click.option(
    "--max-amount",
    "max_amounts",
    multiple=True,
    metavar="MONEY|TOKEN=UNITS",
    default=["0.10"],
    show_default=True,
    help="The most that the request may cost: money in a known dollar token, or a token's address and atomic units.",
)
@click.option(
    "--daily-limit",
    "daily_limits",
    multiple=True,
    metavar="MONEY|TOKEN=UNITS",
    help="The most that may be signed in 24 hours, by every run that shares the ledger; written as --max-amount.",
)
@click.option(
    "--ledger",
    envvar="X402_MPP_LEDGER",
    metavar="FILE",
    help="Where what was signed is remembered. Without it, a file in the user's own folder for applications.",
)
@click.option(
    "--rpc-url",
    envvar="X402_MPP_RPC_URL",
    metavar="URL",
    help="A node to ask about tokens that are not known, and about payments whose outcome is not.",
)
@click.option(
    "--key-env",
    metavar="NAME",
    default="X402_MPP_PRIVATE_KEY",
    show_default=True,
    help="The environment variable that holds the private key, 32 bytes as hexadecimal.",
)
@click.option("--keystore", metavar="FILE", help="An encrypted JSON keystore to take the key from instead.")
@click.option(
    "--password-file",
    metavar="FILE",
    help="The keystore's password. Without it X402_MPP_KEYSTORE_PASSWORD, and without that it is asked for.",
)
@click.option(
    "--signer-command",
    metavar="COMMAND",
    help="A program that signs instead: EIP-712 typed data as JSON on its stdin, the signature on its stdout.",
)
@click.option(
    "--signer-url", metavar="URL", help="A wallet that signs instead, by eth_signTypedData_v4 over JSON-RPC, as clef."
)
@click.option("--address", metavar="ADDRESS", help="The address that the external signer signs for.")
@click.option("--dry-run", is_flag=True, help="Ask without paying, and show what would be paid. No key is needed.")
@click.option("-y", "--yes", is_flag=True, help="Pay without asking; otherwise a person confirms at the terminal.")
@click.option(
    "--pay-again",
    is_flag=True,
    help="Pay although an earlier payment for the same request may have been taken, and its outcome is not known.",
)
@click.option(
    "--allow-http", is_flag=True, help="Pay over plain HTTP too, where everybody on the way can take the proof."
)
@click.option("-L", "--location", is_flag=True, help="Follow redirects. A credential never goes to another host.")
@click.option("-o", "--output", metavar="FILE", help="Write the answer's body to this file instead of stdout.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object about what happened, the body in it.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing about the progress on stderr.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Seconds for one answer."
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait in all for a server that says later about a payment.",
)
def pay(url: str, **options: Any) -> None:
    """Ask for URL, and pay for it if it has to be paid for.

    Pays in whichever protocol the server offers. The body goes to stdout, what happens is told on stderr. Until the
    outcome of a payment is known, the same command sends the same payment again, and never signs another.
    """
    from bridge.paying import PayOptions, UsageError, run

    try:
        sys.exit(run(PayOptions(url=url, **options)))
    except UsageError as error:
        raise click.UsageError(str(error)) from None
