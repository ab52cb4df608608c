"""`x402-mpp import`: settings of ours from a server that takes x402 today, and what differs."""

import sys

import click

__all__ = ["import_command"]


@click.command("import")
@click.option("--module", metavar="FILE[:NAME]", help="A Python file with the x402 SDK's route table. It is run.")
@click.option("--python", metavar="PATH", help="The Python that can import it, with --module.", show_default="this one")
@click.option("--routes", metavar="FILE", help="A route table of the TypeScript SDK, as JSON.")
@click.option("--openapi", metavar="FILE|URL", help="An OpenAPI document with x-payment-info.")
@click.option("--url", metavar="URL", help="A live server: its 402s are read, nothing is paid.")
@click.option(
    "--path", "paths", multiple=True, metavar="PATH", help='With --url: ask for this, as "POST /echo". Several.'
)
@click.option("--pay-to", metavar="ADDRESS", help="Who is paid, where the source does not say.")
@click.option("--network", metavar="NAME", help="The chain, where the source does not say.")
@click.option("--settler", metavar="SPEC", help="Who settles: facilitator:URL, or null. Else as the source says.")
@click.option(
    "--write", metavar="FILE", type=click.Path(dir_okay=False), help="Write a Python file that can be served."
)
@click.option(
    "--partial", is_flag=True, help="With --write: leave out routes that cannot be carried. They will be free."
)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Output."
)
def import_command(
    module: str | None,
    python: str | None,
    routes: str | None,
    openapi: str | None,
    url: str | None,
    paths: tuple[str, ...],
    pay_to: str | None,
    network: str | None,
    settler: str | None,
    write: str | None,
    partial: bool,
    form: str,
) -> None:
    """Read an x402 server's prices, and say what carries over.

    Shows the settings and routes that make the same offers, what has no place in them, and what clients will see
    change. Exits with 1 where a route cannot be carried: it would be free.
    """
    sources = {"module": module, "routes": routes, "openapi": openapi, "url": url}
    chosen = {source: place for source, place in sources.items() if place}
    if len(chosen) != 1:
        raise click.UsageError(f"say what to read, with one of --{', --'.join(sources)}")
    if (python and not module) or (paths and not url):
        raise click.UsageError("--python goes with --module, and --path with --url")
    ((source, place),) = chosen.items()
    from bridge.importing.run import Wanted, run

    sys.exit(run(Wanted(source, place, python, paths, pay_to, network, settler, write, partial, form)))
