"""The levers as a document: TOML that a person writes, and to which each change is added at the end.

A document is `migration`, `shadow`, `[levers."GET /report"]` and `[[clients]]`; then `[[change]]` after `[[change]]`,
each with the same members, which count from there on. `undo = true` takes the last change back. So comments survive,
nothing is lost, and what is added needs no knowledge of what stands before it.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from typing import Any

import msgspec

from translators.levers import EVERY_ROUTE, ClientRule, Levers
from translators.payment import Protocol
from translators.stages import Brownout, Lever, Stage

__all__ = ["Change", "Document", "parse_document", "parse_lever", "plan_members", "write_change"]

_TOP = ("migration", "shadow", "levers", "clients")
_LEVER = ("stage", "share", "header", "by", "on_until", "deprecated_from", "refused_from", "sunset", "brownouts")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_URL = re.compile(r"https?://[!-;=?-~]+")


class Change(msgspec.Struct, frozen=True):
    """One step that was taken: when, by whom, and what it says; or that the step before it is taken back."""

    at: float
    by: str
    said: dict[str, Any]
    """The members of the change as the document has them."""
    undo: bool = False


class Document(msgspec.Struct, frozen=True):
    """A document that was read: what counts now, and how it came to that."""

    levers: Levers
    changes: tuple[Change, ...] = ()
    standing: tuple[Change, ...] = ()
    """Those that were not taken back, in order."""


def parse_document(text: str) -> Document:
    """Read a document; raises `ValueError`, which says where and what."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from None
    except RecursionError:
        raise ValueError("not TOML of ours: too deep") from None
    steps = data.pop("change", [])
    if not isinstance(steps, list):
        raise ValueError("change: write [[change]]")
    changes = []
    standing: list[Change] = []
    for number, step in enumerate(steps, 1):
        change = _located(f"change {number}", _change, step)
        changes.append(change)
        if not change.undo:
            standing.append(change)
        elif standing:
            standing.pop()
        else:
            raise ValueError(f"change {number}: there is nothing to undo before it")
    levers = _patch(Levers(), data)
    for number, change in enumerate(standing, 1):
        levers = _located(f"change {number}", lambda said, upon=levers: _patch(upon, said), change.said)
    return Document(levers, tuple(changes), tuple(standing))


def plan_members(text: str) -> dict[str, Any]:
    """What a plan says, as members of a change; raises `ValueError` where it cannot be one."""
    parse_document(text)
    members = tomllib.loads(text)
    if "change" in members:
        raise ValueError("a plan has no [[change]]: it becomes one")
    if not members:
        raise ValueError("the plan says nothing")
    return members


def _located(where: str, read: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _change(step: Any) -> Change:
    members = dict(_table(step))
    at, by = members.pop("at", None), members.pop("by", "")
    undo = members.pop("undo", False)
    if at is None:
        raise ValueError("at is missing: when it was made")
    if not isinstance(by, str) or not isinstance(undo, bool):
        raise ValueError("by is text, undo true or false")
    if undo and members:
        raise ValueError("an undo says nothing else")
    _patch(Levers(), members)
    return Change(_moment(at, "at"), by, members, undo)


def _patch(levers: Levers, said: Mapping[str, Any]) -> Levers:
    """`levers`, and over them what a document or a change says."""
    _known(said, _TOP)
    routes = {route: dict(own) for route, own in levers.routes.items()}
    for route, own in _table(said.get("levers", {}), "levers").items():
        for name, value in _table(own, f'levers."{route}"').items():
            protocol = _located(f"levers.{route}", _protocol, name)
            if value == "inherit":
                routes.get(route, {}).pop(protocol, None)
            else:
                routes.setdefault(route, {})[protocol] = _located(f"{route}, {name}", parse_lever, value)
    changed: dict[str, Any] = {"routes": {route: own for route, own in routes.items() if own}}
    if "clients" in said:
        changed["clients"] = tuple(_clients(said["clients"]))
    if "migration" in said:
        if not isinstance(said["migration"], str) or _URL.fullmatch(said["migration"]) is None:
            raise ValueError("migration is the URL of a page, http or https")
        changed["migration"] = said["migration"]
    if "shadow" in said:
        changed["shadow"] = _shadow(said["shadow"])
    return msgspec.structs.replace(levers, **changed)


def parse_lever(value: Any) -> Lever:
    """A lever as the document writes it: a stage, or a table. Raises `ValueError`."""
    if isinstance(value, str):
        return Lever(_stage(value))
    said = _table(value)
    _known(said, _LEVER)
    lever = Lever(
        stage=_stage(said.get("stage", Stage.ON.value)),
        share=_share(said["share"]) if "share" in said else 0.0,
        header=_header(said["header"]) if "header" in said else None,
        by=_header(said["by"]) if "by" in said else None,
        sunset=_date_in(said, "sunset"),
        deprecated_from=_date_in(said, "deprecated_from"),
        refused_from=_date_in(said, "refused_from"),
        brownouts=tuple(_brownouts(said.get("brownouts", []), _date_in(said, "refused_from"))),
    )
    on_until = _date_in(said, "on_until")
    if on_until is None:
        return lever
    if lever.stage not in (Stage.ON, Stage.PREFERRED):
        raise ValueError(f"on_until, and the stage is {lever.stage.value}")
    if lever.deprecated_from is None:
        return msgspec.structs.replace(lever, deprecated_from=on_until)
    if lever.deprecated_from != on_until:
        raise ValueError("on_until and deprecated_from are the same moment, or one of them is left out")
    return lever


def _brownouts(said: Any, refused_from: float | None) -> Iterator[Brownout]:
    if not isinstance(said, list):
        raise ValueError("brownouts is a list of tables: { from = ..., until = ... }")
    for number, value in enumerate(said, 1):
        members = _table(value, f"brownout {number}")
        _known(members, ("from", "until", "daily"))
        until = _date_in(members, "until") or refused_from
        start = _date_in(members, "from")
        if start is None or until is None:
            raise ValueError(f"brownout {number}: say from when, and until when")
        hours = None
        if "daily" in members:
            match = _HOURS.fullmatch(members["daily"]) if isinstance(members["daily"], str) else None
            if match is None:
                raise ValueError(f'brownout {number}: daily is two times in UTC, such as "14:00-15:30"')
            first, second, third, fourth = map(int, match.groups())
            hours = (first * 3600 + second * 60, third * 3600 + fourth * 60)
        yield Brownout(start, until, hours)


def _clients(said: Any) -> Iterator[ClientRule]:
    if not isinstance(said, list):
        raise ValueError("clients: write [[clients]]")
    for number, value in enumerate(said, 1):
        members = _table(value, f"clients {number}")
        _known(members, ("product", "header", "value", "without"))
        product, header, wanted = members.get("product"), members.get("header"), members.get("value")
        if (product is None) == (header is None) or (wanted is not None and header is None):
            raise ValueError(f"clients {number}: give product, or header and perhaps its value")
        if not all(part is None or (isinstance(part, str) and part) for part in (product, wanted)):
            raise ValueError(f"clients {number}: product and value are text")
        without = members.get("without")
        if not isinstance(without, list) or not without:
            raise ValueError(f"clients {number}: without is a list of protocols")
        yield ClientRule(
            frozenset(_protocol(name) for name in without),
            product,
            _header(header) if header is not None else None,
            wanted,
        )


def _shadow(said: Any) -> frozenset[str]:
    if isinstance(said, bool):
        return frozenset((EVERY_ROUTE,)) if said else frozenset()
    if not isinstance(said, list) or not all(isinstance(route, str) for route in said):
        raise ValueError("shadow is true, false, or a list of routes")
    return frozenset(said)


def _table(value: Any, where: str = "a lever") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not a table")
    return value


def _known(said: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in said:
        if name not in names:
            raise ValueError(f"{name} is not known; there are {', '.join(names)}")


def _protocol(name: Any) -> Protocol:
    try:
        return Protocol(name)
    except ValueError:
        raise ValueError(f"{name!r} is no protocol; there are {', '.join(Protocol)}") from None


def _stage(name: Any) -> Stage:
    if isinstance(name, str) and (match := re.fullmatch(r"canary +(.+)", name)):
        raise ValueError(f'write {{ stage = "canary", share = "{match[1]}" }}')
    try:
        return Stage(name)
    except ValueError:
        raise ValueError(f"{name!r} is no stage; there are {', '.join(Stage)}") from None


def _share(said: Any) -> float:
    match = _SHARE.fullmatch(said) if isinstance(said, str) else None
    if match is None:
        raise ValueError('share is a percentage in quotes, such as "10%"')
    return float(match[1])


def _header(said: Any) -> str:
    if not isinstance(said, str) or _HEADER.fullmatch(said) is None:
        raise ValueError("a header is named by its field name")
    return said.lower()


def _date_in(said: Mapping[str, Any], name: str) -> float | None:
    return _moment(said[name], name) if name in said else None


def _moment(value: Any, name: str) -> float:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{name} has no offset: end it with Z for UTC")
        return value.timestamp()
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC).timestamp()
    raise ValueError(f"{name} is a date: write 2027-03-01 or 2027-03-01T12:00:00Z, without quotes")


def write_change(at: float, by: str, said: Mapping[str, Any], *, undo: bool = False) -> str:
    """A change as text to add to a document; `said` as the document has it."""
    lines = ["", "[[change]]", f"at = {_write(datetime.fromtimestamp(int(at), UTC))}"]
    lines += [f"by = {_write(by)}"] if by else []
    lines += ["undo = true"] if undo else []
    lines += [f"{name} = {_write(said[name])}" for name in ("migration", "shadow") if name in said]
    for route, own in said.get("levers", {}).items():
        lines.append(f"[change.levers.{_write(route)}]")
        lines += [f"{name} = {_write(value)}" for name, value in own.items()]
    for rule in said.get("clients", []):
        lines.append("[[change.clients]]")
        lines += [f"{name} = {_write(value)}" for name, value in rule.items()]
    if said.get("clients") == []:
        lines.insert(2, "clients = []")
    return "\n".join(lines) + "\n"


def _write(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case date():
            return value.isoformat()
        case str():
            # JSON's strings are TOML's, but for one character.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return "[" + ", ".join(map(_write, value)) + "]"
        case dict():
            return "{ " + ", ".join(f"{name} = {_write(inner)}" for name, inner in value.items()) + " }"
        case _:
            raise TypeError(f"{type(value).__name__} cannot be written")
