"""Levers by hand: `x402-mpp levers ...` and `litestar payments levers ...` are these commands.

They change the same file or table that the servers look at, one step at a time, and check it before it is written.
"""

import asyncio
import getpass
from collections.abc import Callable, Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from bridge.clock import system_clock
from bridge.levers.sources import LeverSource
from bridge.levers.standings import Routes, route_names, share_text, standings, written
from translators.errors import Unavailable
from translators.levers import EVERY_ROUTE, Levers, lever_of
from translators.levers_toml import Document, parse_document, plan_members, write_change
from translators.payment import Protocol
from translators.stages import BY_PAYER, Lever, Stage, boundaries, next_change, stage_at

__all__ = ["levers_group"]

Check = Callable[[Levers], None]
_TRIES = 5


def levers_group(find: Callable[[], LeverSource], check: Check, routes: Callable[[], Routes] = dict) -> click.Group:
    """The commands, on the source that `find` finds; `check` raises `ValueError`, `routes` finds the routes."""
    group = click.Group("levers", help="Show and move the stage of each protocol on each route.")

    @group.command()
    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    def show(as_json: bool) -> None:
        """Show every lever: its stage now, and what the dates make of it next."""
        levers = _parsed(_run(find().read())).levers
        rows = list(standings(levers, routes(), system_clock()))
        if as_json:
            _say(*(msgspec.json.encode(row).decode() for row in rows))
            return
        _say(f"{'route':<28}{'protocol':<10}{'stage':<12}next")
        _say(*(f"{row['route']:<28}{row['protocol']:<10}{row['stage']:<12}{_next(row)}".rstrip() for row in rows))

    @group.command()
    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    def history(as_json: bool) -> None:
        """List every change, the first one first, also those that were taken back."""
        document = _parsed(_run(find().read()))
        for change in document.changes:
            row = {"at": written(change.at), "by": change.by, "undo": change.undo, "said": change.said}
            if as_json:
                _say(msgspec.json.encode(row).decode())
            else:
                what = "undo" if change.undo else _short(change.said)
                _say(f"{written(change.at)}  {change.by or '-':<12}{what}")
        if not document.changes and not as_json:
            _say("No changes.")

    @group.command("set")
    @click.argument("protocol", type=click.Choice([p.value for p in Protocol]))
    @click.argument("stage", type=click.Choice([*(s.value for s in Stage), "inherit"]))
    @click.option("--route", default=EVERY_ROUTE, show_default=True, help='Such as "GET /report"; * is every route.')
    @click.option("--share", metavar="PERCENT", help='Of a canary: how many clients, such as "10%".')
    @click.option("--header", help="Of a canary: the request header by which a client decides for itself.")
    @click.option("--by-header", help="Of a canary: the request header that names a client.")
    @click.option("--by-payer", is_flag=True, help="Of a canary: draw each payer, where it is known who pays.")
    @click.option("--deprecated-from", metavar="DATE", help="Since when clients are told that it ends.")
    @click.option("--sunset", metavar="DATE", help="The end, as clients are told it.")
    @click.option("--refused-from", metavar="DATE", help="When it is refused.")
    @click.option(
        "--brownout",
        "brownouts",
        multiple=True,
        metavar="FROM/UNTIL",
        help="When it is refused for a while: two DATEs. Again for another while.",
    )
    @click.option("--migration", metavar="URL", help="The page that tells clients what to do.")
    @click.option("--by", help="Who says so, for the history.  [default: your user name]")
    def set_(
        protocol: str,
        stage: str,
        route: str,
        by: str | None,
        migration: str | None,
        brownouts: tuple[str, ...],
        by_payer: bool,
        **said: str | None,
    ) -> None:
        """Bring PROTOCOL to STAGE.

        DATE is a day, or a time with its offset: 2027-03-01, 2027-03-01T12:00:00Z. With `inherit` a route does again
        as every route does.
        """
        names = {"by_header": "by"}
        dates = ("deprecated_from", "sunset", "refused_from")
        more: dict[str, Any] = {
            names.get(name, name): _date(name, value) if name in dates else value
            for name, value in said.items()
            if value is not None
        }
        if by_payer:
            if "by" in more:
                raise click.UsageError("give one of --by-header and --by-payer")
            more["by"] = BY_PAYER
        if brownouts:
            more["brownouts"] = [_brownout(text) for text in brownouts]
        if stage == "inherit" and more:
            raise click.UsageError("inherit says nothing else")
        lever: Any = {"stage": stage, **more} if more else stage
        change: dict[str, Any] = {"levers": {route: {protocol: lever}}}
        if migration is not None:
            change["migration"] = migration
        _append(find(), change, by, check, routes())

    @group.command()
    @click.option("--by", help="Who says so, for the history.  [default: your user name]")
    def undo(by: str | None) -> None:
        """Take the last change back; again, the one before it."""
        _append(find(), None, by, check, routes())

    plan = click.Group("plan", help="Plans with dates: a file of levers that is checked, then applied as one change.")
    group.add_command(plan)

    @plan.command("check")
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    def check_(file: Path) -> None:
        """Check FILE for sense, on top of what there is, and list when it does what."""
        plan_text = _text_of(file)
        document = _parsed(plan_text)
        try:
            check(_upon(find, plan_text))
        except ValueError as error:
            raise click.ClickException(str(error)) from None
        _say(*_calendar(document.levers, system_clock()))

    @plan.command()
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @click.option("--by", help="Who says so, for the history.  [default: your user name]")
    def apply(file: Path, by: str | None) -> None:
        """Make what FILE says count, as one change on top of what there is."""
        try:
            members = plan_members(_text_of(file))
        except ValueError as error:
            raise click.ClickException(f"{file}: {error}") from None
        _append(find(), members, by, check, routes())

    return group


def _append(source: LeverSource, said: dict[str, Any] | None, by: str | None, check: Check, routes: Routes) -> None:
    """Add a change (None: an undo) that makes sense, and tell what it came to."""
    now = system_clock()
    change = write_change(now, _user() if by is None else by, said or {}, undo=said is None)
    for _ in range(_TRIES):
        text = _run(source.read())
        before = _parsed(text).levers
        # As the source will have it: a last line without an end gets one.
        after = _parsed(text + ("" if not text or text.endswith("\n") else "\n") + change).levers
        try:
            check(after)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
        if _run(source.append(change, after=text)):
            _say(*_differences(before, after, now, routes))
            return
    raise click.ClickException("somebody else keeps changing the levers; try again")


def _upon(find: Callable[[], LeverSource], plan: str) -> Levers:
    """What applying a plan would come to; the plan alone where there are no levers yet to add it to."""
    try:
        text = _run(find().read())
    except click.ClickException:
        return _parsed(plan).levers
    change = write_change(0, "", plan_members(plan))
    return _parsed(text + ("" if not text or text.endswith("\n") else "\n") + change).levers


def _differences(before: Levers, after: Levers, now: float, routes: Routes) -> Iterable[str]:
    lines = []
    for route in route_names((before, after), routes):
        for protocol in Protocol:
            was, lever = (lever_of(each, route, protocol, routes.get(route)) for each in (before, after))
            if was != lever:
                line = f"{route}  {protocol.value}  {stage_at(was, now).value} -> {stage_at(lever, now).value}"
                lines.append(line + _more(lever, now))
    return lines or ["Nothing is different now."]


def _more(lever: Lever, now: float) -> str:
    parts = [share_text(lever)] if lever.share else []
    parts += [f"who sends {lever.header}"] if lever.header else []
    if (moment := next_change(lever, now)) is not None:
        parts.append(f"{stage_at(lever, moment).value} from {written(moment)} on")
    return f" ({', '.join(parts)})" if parts else ""


def _calendar(levers: Levers, now: float) -> Iterable[str]:
    lines = []
    for route in route_names((levers,), {}):
        for protocol, lever in sorted(levers.routes.get(route, {}).items()):
            name = f"{route}  {protocol.value}"
            lines.append((now, f"now                   {name}  {stage_at(lever, now).value}{_share(lever)}"))
            moments = [moment for moment in boundaries(lever) if moment > now]
            lines += [(moment, f"{written(moment)}  {name}  {stage_at(lever, moment).value}") for moment in moments]
    return [line for _, line in sorted(lines)] or ["The plan moves no lever."]


def _share(lever: Lever) -> str:
    return f" ({share_text(lever)})" if lever.share else ""


def _next(row: dict[str, Any]) -> str:
    parts = [row["share"]] if row["share"] else []
    parts += [f"who sends {row['header']}"] if row["header"] else []
    parts += [f"{row['next']['stage']} from {row['next']['at']} on"] if row["next"] else []
    return ", ".join(parts)


def _short(said: dict[str, Any]) -> str:
    levers = [
        f"{route}  {protocol}  {lever if isinstance(lever, str) else lever.get('stage', Stage.ON.value)}"
        for route, own in said.get("levers", {}).items()
        for protocol, lever in own.items()
    ]
    return ", ".join([*levers, *(name for name in ("migration", "clients", "shadow") if name in said)])


def _parsed(text: str) -> Document:
    try:
        return parse_document(text)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError:
        raise click.ClickException(f"{file}: not UTF-8") from None


def _date(name: str, text: str) -> date | datetime:
    try:
        if len(text) == len("2027-03-01"):
            return date.fromisoformat(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--{name.replace('_', '-')}: {text} is not a date such as 2027-03-01") from None
    if moment.tzinfo is None:
        raise click.UsageError(f"--{name.replace('_', '-')}: {text} has no offset: end it with Z for UTC")
    return moment


def _brownout(text: str) -> dict[str, Any]:
    start, slash, end = text.partition("/")
    if not slash:
        raise click.UsageError("--brownout: write two dates with a slash between them")
    return {"from": _date("brownout", start), "until": _date("brownout", end)}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def _run(work: Any) -> Any:
    try:
        return asyncio.run(work)
    except Unavailable as error:
        raise click.ClickException(error.detail) from None
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _say(*lines: str) -> None:
    for line in lines:
        click.echo(line)
