"""Reports by hand: `x402-mpp report ...` and `litestar payments report ...` are these commands."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

from bridge.analytics.database import EventsUnavailable
from bridge.analytics.facts import PROTOCOLS
from bridge.analytics.reader import Events
from bridge.analytics.readiness import lacking
from bridge.analytics.report import BREAKDOWNS, Filters, Span
from bridge.analytics.spans import duration, span_of
from bridge.analytics.tables import (
    clients_table,
    figures_csv,
    journeys_table,
    readiness_table,
    report_table,
    rows_csv,
    series_table,
    when,
    workers_csv,
    workers_table,
)
from bridge.clock import Clock

__all__ = ["report_group"]

OpenEvents = Callable[[str | None], Events]
F = TypeVar("F", bound=Callable[..., Any])

_OVER = 1
_TROUBLE = 2
_NOT_COVERED = 3


def report_group(events: OpenEvents, clock: Clock, *, choose: bool) -> click.Group:
    """The commands, on what `events` opens; with `choose`, `--events` says which, and else it is asked for None."""
    common = _common(choose)

    @click.group("report", invoke_without_command=True)
    @common
    @click.option("--by", type=click.Choice(BREAKDOWNS), help="Break the figures down by this as well.")
    @click.option("--exact", is_flag=True, help="From the single events: exact quantiles, a span to the second.")
    @_filters
    @click.pass_context
    def report(ctx: click.Context, /, by: str | None, exact: bool, **told: Any) -> None:
        """Who paid what, in which protocol, and how it went.

        Without a command: the figures of all that is recorded, or of the span that you give, by protocol.
        """
        ctx.obj = told
        if ctx.invoked_subcommand is not None:
            return
        asked = _Asked(ctx, told, clock)
        with asked.opened(events) as opened:
            span = asked.span(opened)
            found = opened.report(since=span.since, until=span.until, filters=asked.filters, by=by, exact=exact)
        groups = [(("protocol", name), figures) for name, figures in found.protocols.items()]
        groups += [((by or "", name), figures) for name, figures in found.groups.items() if by != "protocol"]
        asked.say(
            found,
            table=lambda: report_table(found),
            csv=lambda: figures_csv([*groups, (("total", ""), found.total)], ["group", "name"]),
        )

    @report.command()
    @common
    @click.option("--step", default="1d", show_default=True, metavar="LENGTH", help="How long a step is.")
    @_filters
    @click.pass_context
    def shares(ctx: click.Context, /, step: str, **told: Any) -> None:
        """Show each protocol's payments, and its share of them, over time."""
        asked = _Asked(ctx, told, clock)
        with asked.opened(events) as opened:
            span = asked.span(opened)
            steps = opened.series(
                since=span.since,
                until=span.until,
                step_seconds=round(duration(step)),
                filters=asked.filters,
            )
        rows = [((when(s.since), name), figures) for s in steps for name, figures in s.protocols.items()]
        asked.say(steps, table=lambda: series_table(steps), csv=lambda: figures_csv(rows, ["from", "protocol"]))

    @report.command()
    @common
    @click.option(
        "--limit", default=20, show_default=True, type=click.IntRange(0, 100_000), help="Show so many payers."
    )
    @click.pass_context
    def journeys(ctx: click.Context, /, limit: int, **told: Any) -> None:
        """Show how payers move between the protocols."""
        asked = _Asked(ctx, told, clock)
        with asked.opened(events) as opened:
            span = asked.span(opened)
            summary, latest = opened.journeys(since=span.since, until=span.until, limit=limit)
        rows = [
            [j.payer, j.path.value, j.now, name, stay.payments, when(stay.first_at), when(stay.last_at)]
            for j in latest
            for name, stay in j.stays.items()
        ]
        asked.say(
            {"summary": summary, "journeys": latest},
            table=lambda: journeys_table(summary, latest),
            csv=lambda: rows_csv(["payer", "way", "now", "protocol", "payments", "first", "last"], rows),
        )

    @report.command()
    @common
    @click.option("--least", default=10, show_default=True, type=click.IntRange(1), help="From so many on.")
    @_filters
    @click.pass_context
    def clients(ctx: click.Context, /, least: int, **told: Any) -> None:
        """Show clients that loop on 402, or fail again and again."""
        asked = _Asked(ctx, told, clock)
        with asked.opened(events) as opened:
            span = asked.span(opened)
            found = opened.clients(since=span.since, until=span.until, filters=asked.filters, least=least)
        names = ["product", "version", "problem", "challenged", "attempted", "delivered", "failed"]
        asked.say(
            found,
            table=lambda: clients_table(found),
            csv=lambda: rows_csv(names, [[getattr(client, name) for name in names] for client in found]),
        )

    @report.command()
    @common
    @click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
    @click.pass_context
    def marks(ctx: click.Context, /, limit: int, **told: Any) -> None:
        """List what was done to the levers, and what else is no payment."""
        asked = _Asked(ctx, told, clock)
        with asked.opened(events) as opened:
            span = asked.span(opened)
            found = opened.marks(since=span.since, until=span.until, limit=limit)
        rows = [[when(m.at), m.event, m.protocol, m.stage, m.route, m.by] for m in found]
        asked.say(
            found,
            table=lambda: ["  ".join(cell for cell in row if cell) for row in rows] or ["No marks."],
            csv=lambda: rows_csv(["at", "event", "protocol", "stage", "route", "by"], rows),
        )

    @report.command()
    @common
    @click.pass_context
    def health(ctx: click.Context, /, **told: Any) -> None:
        """Show how each serving process does, as it noted last: settler, store, and recorder of events."""
        asked = _Asked(ctx, told, clock)
        with asked.opened(events) as opened:
            workers = opened.workers()
        now = clock()
        asked.say(
            [{**msgspec.to_builtins(worker), "silent": worker.is_silent(now)} for worker in workers],
            table=lambda: workers_table(workers, now),
            csv=lambda: workers_csv(workers, now),
        )

    @report.command()
    @common
    @click.option("--protocol", required=True, type=click.Choice(PROTOCOLS), help="The one to be switched off.")
    @click.option(
        "--limit", default=20, show_default=True, type=click.IntRange(0, 100_000), help="Name so many payers."
    )
    @click.option(
        "--fail-over",
        metavar="SHARE",
        help="Exit with 1 where the larger of its shares of payers and of payments is over this, such as 0.5%.",
    )
    @click.option(
        "--accept-gaps",
        is_flag=True,
        help="With --fail-over: take the record as it is, whatever it lacks.",
    )
    @click.pass_context
    def readiness(ctx: click.Context, /, limit: int, fail_over: str | None, accept_gaps: bool, **told: Any) -> None:
        """Tell whom switching a protocol off today would lose.

        With --fail-over, exit code 1 says that it is too early, and 2 that it cannot be told: no payment is recorded in
        the window. 3 says that the record does not cover the window, and that what it has is within the limit.
        """
        protocol = told.pop("protocol")
        try:
            most = None if fail_over is None else _share(fail_over)
            asked = _Asked(ctx, told, clock)
            with asked.opened(events) as opened:
                span = asked.span(opened, window="14d")
                found = opened.readiness(protocol, since=span.since, until=span.until, limit=limit)
        except click.ClickException as error:
            raise _Trouble(error.format_message()) from None
        names = ["payer", "payments", "last_at", "also", "record_lacks"]
        lacks = " ".join(gap.kind for gap in found.gaps)
        asked.say(
            found,
            table=lambda: readiness_table(found, limit=most),
            csv=lambda: rows_csv(
                names, [[p.payer, p.payments, when(p.last_at), " ".join(p.also), lacks] for p in found.left]
            ),
        )
        if asked.format == "csv":
            # Where nobody is left, no row says so.
            for gap in found.gaps:
                click.echo(gap.detail, err=True)
        if most is None:
            return
        if found.all_payments == 0:
            click.echo("No payment is recorded in this window: it cannot be told.", err=True)
            ctx.exit(_TROUBLE)
        if found.share > most:
            ctx.exit(_OVER)
        if not accept_gaps and lacking(found, most):
            ctx.exit(_NOT_COVERED)

    return report


def _common(choose: bool) -> Callable[[F], F]:
    options = [
        click.option("--since", metavar="WHEN", help="From here: 2026-01-31, or with a time, in UTC."),
        click.option("--until", metavar="WHEN", help="Until here; without it, now."),
        click.option(
            "--window", metavar="LENGTH", help="Instead of --since: the time before the end, such as 14d or 6h."
        ),
        click.option("--format", "format_", type=click.Choice(["table", "json", "csv"]), help="table, if not said."),
    ]
    if choose:
        options.append(
            click.option(
                "--events",
                envvar="X402_MPP_EVENTS",
                metavar="PATH",
                help="Where the events are: a path or postgresql://...; events.sqlite3, if not said.",
            )
        )
    return _with(options)


def _with(options: Sequence[Callable[[Any], Any]]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_filters = _with(
    [
        click.option("--route", metavar="NAME", help="Only this route, such as 'GET /report'."),
        click.option("--network", metavar="ID", help="Only this network, by its CAIP-2 id."),
        click.option("--asset", metavar="ADDRESS", help="Only this token."),
        click.option("--protocol", type=click.Choice(PROTOCOLS), help="Only this protocol."),
        click.option("--product", metavar="NAME", help="Only this client product."),
        click.option("--product-version", "version", metavar="VERSION", help="Only this version of it."),
        click.option("--x402-only", is_flag=True, help="Only payments that x402 v2 alone can carry."),
    ]
)


class _Asked:
    """What the options ask for; what stands before the command holds where the command says nothing."""

    def __init__(self, ctx: click.Context, told: dict[str, Any], clock: Clock) -> None:
        before = (ctx.parent.obj if ctx.parent is not None and isinstance(ctx.parent.obj, dict) else None) or {}
        self._told = {**before, **{name: value for name, value in told.items() if value not in (None, False)}}
        self._clock = clock
        names = [name for name in Filters.__struct_fields__ if self._told.get(name)]
        self.filters = Filters(**{name: self._told[name] for name in names})

    @property
    def format(self) -> str:
        """How to say it: `table`, `json` or `csv`."""
        return self._told.get("format_") or "table"

    def span(self, events: Events, *, window: str | None = None) -> Span:
        """The span that the options say; without one, the last `window`, or everything that is recorded."""
        told = {name: self._told.get(name) for name in ("since", "until", "window")}
        if window is None and not any(told.values()):
            return events.recorded() or Span(self._clock() - 86400, self._clock())
        try:
            return span_of(self._clock(), **told, default=window or "36500d")
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    def opened(self, events: OpenEvents) -> "_Opened":
        return _Opened(events, self._told.get("events"))

    def say(self, found: Any, *, table: Callable[[], list[str]], csv: Callable[[], str]) -> None:
        match self.format:
            case "json":
                click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
            case "csv":
                click.echo(csv(), nl=False)
            case _:
                click.echo("\n".join(table()))


class _Trouble(click.ClickException):
    """What went wrong where 1 is an answer."""

    exit_code = _TROUBLE


class _Opened:
    """The events, opened; what goes wrong with them is the command's answer."""

    def __init__(self, events: OpenEvents, url: str | None) -> None:
        try:
            self._events = events(url)
        except (EventsUnavailable, ValueError, ImportError, RuntimeError) as error:
            raise click.ClickException(str(error)) from None

    def __enter__(self) -> Events:
        return self._events

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        self._events.close()
        if isinstance(error, EventsUnavailable | ValueError):
            raise click.ClickException(str(error)) from None


def _share(text: str) -> float:
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100 if number != text.strip() else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise click.UsageError("--fail-over: give a share, such as 0.5% or 0.005")
    return share
