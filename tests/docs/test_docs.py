"""The docs, held against the code: a setting, event, error, header or command without a word about it fails here."""

import ast
import asyncio
import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import msgspec
import pytest

import bridge
import translators
from bridge.cli import main as command
from bridge.config import PaymentConfig
from bridge.events import EVENTS
from bridge.litestar import PaymentPlugin, plugin
from bridge.pricing import Paid
from bridge.responses import EXPOSED_HEADERS
from bridge.settlers.base import Settler
from bridge.settlers.chain import ChainSettler
from bridge.settlers.facilitator import FacilitatorSettler
from bridge.settlers.fallback import FallbackSettler
from bridge.stores.base import Store
from tests.docs.pictures import every_command, redraw, tracked
from tests.layers import ROOT
from translators import errors
from translators.networks import KNOWN_TOKENS, V1_NETWORKS
from translators.payment import Asset, Protocol
from translators.price import Price
from translators.wire import exact_evm, foreign, mpp, x402_v1, x402_v2

PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", ROOT / "CHANGELOG.md")}
PAGES |= {path.relative_to(ROOT).as_posix(): path for path in sorted((ROOT / "docs").glob("*.md"))}

READERS_FILES = {"app.py", "pay.py", "paid.py", "levers.toml", "plan.toml"}
"""Files that a page tells its reader to make."""

FOREIGN_CLASSES = {"TransferWithAuthorization", "NamedDependency", "ImproperlyConfiguredException"}


def text(page: str) -> str:
    return PAGES[page].read_text("utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text(page), flags=re.DOTALL | re.MULTILINE)


def words(page: str) -> set[str]:
    """Everything that stands in code type in a page's prose."""
    return set(re.findall(r"`([^`\n]+)`", prose(page)))


def table(page: str, first: str) -> dict[str, list[str]]:
    """The rows of the table whose first column is headed `first`: code word to the other cells."""
    start = next(m for m in re.finditer(r"^\| *(.+?) *\|.*\n\|[-|]+\n", prose(page), re.MULTILINE) if m[1] == first)
    rows = {}
    for line in prose(page)[start.end() :].splitlines():
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        for word in re.findall(r"`([^`]+)`", cells[0]):
            rows[word] = [cell.strip("`| ") for cell in cells[1:]]
    return rows


def modules() -> Iterator[Any]:
    for package in (translators, bridge):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "demo" not in found.name and not found.name.endswith("__main__"):
                # A part whose extra is not installed has no names to look up.
                with suppress(ImportError):
                    yield importlib.import_module(found.name)


def tree(root: type) -> set[type]:
    return {root}.union(*(tree(child) for child in root.__subclasses__()))


OUR_ERRORS = sorted((cls for cls in tree(errors.PaymentError) if cls.__module__ == errors.__name__), key=repr)

# Every page


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of a page runs from top to bottom, in an empty folder, as if it were one file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("structlog.configure", lambda **_: None)
    monkeypatch.setattr(asyncio, "run", lambda work: work.close())  # the README's client; its own test lets it run
    module = ModuleType("page")  # Litestar looks its handlers' module up
    monkeypatch.setitem(sys.modules, "page", module)
    for number, block in enumerate(blocks(page, "python")):
        exec(compile(block, f"{page}[{number}]", "exec"), vars(module))


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_its_language(page: str) -> None:
    """So that the Python is run, the JSON parsed, and the commands looked at."""
    fences = re.findall(r"^```(\w*)$", text(page), re.MULTILINE)
    assert set(fences[::2]) <= {"python", "console", "json", "text", "mermaid"}
    for block in blocks(page, "json"):
        json.loads(block)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link names a file or folder that exists, and an anchor that it has."""
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file.read_text("utf-8")), target


def _anchors(markdown: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page: str) -> None:
    """A file in code type is there."""
    for word in words(page):
        if re.fullmatch(r"[\w./-]+\.(py|md|toml|json|txt)|[\w-]+(/[\w-]+)*/", word) and word not in READERS_FILES:
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("page", PAGES)
def test_names_in_code_type_exist(page: str) -> None:
    """Dotted names resolve, and words that look like classes of ours are."""
    known = {name for module in modules() for name in vars(module)}
    for word in words(page):
        if re.fullmatch(r"(bridge|translators)(\.\w+)+", word):
            pkgutil.resolve_name(word)
        elif match := re.fullmatch(r"([A-Z][a-z]+(?:[A-Z][A-Za-z]*)+|SQLite\w+)(\.\w+)?(\(.*\))?", word):
            assert match[1] in known | FOREIGN_CLASSES, word
            owner = next((vars(module)[match[1]] for module in modules() if match[1] in vars(module)), None)
            members = {*dir(owner), *getattr(owner, "__annotations__", ())}
            assert not match[2] or match[2][1:] in members, word


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_shown_exist(page: str) -> None:
    """Our own commands and options, and our own modules, wherever a page shows a command line."""
    lines = [line for block in blocks(page, "console") for line in block.splitlines()] + sorted(words(page))
    for line in (line.removeprefix("$ ") for line in lines):
        if line.startswith("x402-mpp "):
            _check_command(shlex.split(line)[1:])
        elif match := re.match(r"python -m ([\w.]+)", line):
            assert importlib.util.find_spec(match[1]), line
        elif match := re.fullmatch(r"make (\w+)", line):
            assert re.search(rf"^{match[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line


def _check_command(arguments: list[str]) -> None:
    at: click.Command = command
    waiting = list(arguments)
    while waiting:
        argument, _, value = waiting.pop(0).partition("=")
        if argument.startswith("-"):
            options = {option: parameter for parameter in at.params for option in parameter.opts}
            assert argument in {*options, "--help", "-h"}, argument
            if not value and waiting and not getattr(options.get(argument), "is_flag", True):
                waiting.pop(0)
        elif isinstance(at, click.Group):
            found = at.get_command(click.Context(at), argument)
            assert found is not None, argument
            at = found


@pytest.mark.parametrize("page", PAGES)
def test_pictures_are_drawn_from_the_code(page: str) -> None:
    """What is made from the code is what the code makes now; `python -m tests.docs.pictures` makes it."""
    assert redraw(text(page)) == text(page), "run python -m tests.docs.pictures"


@pytest.mark.parametrize("promise", [Settler, Store])
def test_what_can_be_plugged_in_is_described_whole(promise: type) -> None:
    """Every method that a settler or a store has to have."""
    row = next(
        line for line in text("docs/architecture.md").splitlines() if f"| a {promise.__name__.lower()} |" in line
    )
    methods = [name for name, value in vars(promise).items() if inspect.isfunction(value) and name[0] != "_"]
    assert sorted(re.findall(r"`(\w+)`", row)) == sorted(methods)


def test_the_readme_leads_to_every_page() -> None:
    """No page that nobody finds."""
    assert {page for page in PAGES if page != "README.md"} <= set(re.findall(r"\]\(([^)#]+)", text("README.md")))


def test_the_changelog_has_this_version() -> None:
    """What is about to be released has an entry."""
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert re.search(rf"^## {re.escape(version[1])}\b", text("CHANGELOG.md"), re.MULTILINE)


# Configuration


def test_every_setting_is_described_with_its_default() -> None:
    """`PaymentConfig` and the table have the same fields, in the same order, with the same defaults."""
    rows = table("docs/configuration.md", "field")
    fields = dataclasses.fields(PaymentConfig)
    assert list(rows) == [field.name for field in fields]
    for field in fields:
        if field.default is dataclasses.MISSING:
            continue
        told = rows[field.name][-1]
        default = getattr(field.default, "value", field.default)
        assert told in (repr(default), json.dumps(default) if isinstance(default, str) else repr(default)) or (
            callable(default) and told == "system_clock"
        ), field.name


@pytest.mark.parametrize("settler", [ChainSettler, FacilitatorSettler, FallbackSettler])
def test_every_argument_of_a_settler_is_described(settler: type) -> None:
    """Each with its default."""
    rows = _argument_tables()
    for name, parameter in inspect.signature(settler).parameters.items():
        told = [cells[-1] for row, cells in rows if row == name]
        if parameter.default is inspect.Parameter.empty:
            assert "required" in told, name
        elif callable(parameter.default):
            assert f"time.{parameter.default.__name__}" in told, name
        else:
            assert repr(parameter.default).replace("_", "") in told, name


def _argument_tables() -> list[tuple[str, list[str]]]:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|$", prose("docs/configuration.md"), re.MULTILINE)
    return [(name, [cell.strip("` ") for cell in cells.split("|")]) for name, cells in rows]


@pytest.mark.parametrize("cls", [Price, Asset, Paid])
def test_every_field_of_a_price_is_described(cls: type) -> None:
    """Prices, their tokens, and what a route may say."""
    fields = getattr(cls, "__struct_fields__", None) or [field.name for field in dataclasses.fields(cls)]
    assert set(fields) <= words("docs/configuration.md")


def test_every_keyword_of_a_handler_is_described() -> None:
    """What the Litestar plugin reads from a handler's `opt`."""
    assert set(table("docs/configuration.md", "keyword of a handler")) == {plugin._PRICE, *plugin._OPTIONS}


def test_every_variable_is_described() -> None:
    """What `from_env` reads, found in its own code, and what else the configuration reads."""
    source = ast.parse(inspect.getsource(importlib.import_module("bridge.config")))
    function = next(n for n in ast.walk(source) if isinstance(n, ast.FunctionDef) and n.name == "from_env")
    names = set(re.findall(r"`(?:X402_MPP)?(_[A-Z_]+)`", ast.get_docstring(function) or ""))
    names |= {f"_{m.upper()}" for m in re.findall(r'env(?:\.get\(|\[)"(\w+)"', ast.unparse(function).replace("'", '"'))}
    assert set(table("docs/configuration.md", "variable")) == {f"X402_MPP{name}" for name in names}


def test_every_variable_does_what_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read into the field of its name."""
    values = {"RECIPIENT": "0x" + "11" * 20, "SETTLER": "null", "NETWORK": "base-sepolia", "STORE": "memory"}
    values |= {"PUBLIC_URL": "https://api.example.com", "REALM": "shop", "SETTLE": "first", "SECRET_KEYS": "a,b"}
    config = PaymentConfig.from_env({f"X402_MPP_{name}": value for name, value in values.items()})
    assert (config.recipient, config.network, config.store) == (values["RECIPIENT"], "base-sepolia", "memory")
    assert (config.public_url, config.realm, config.settle) == (values["PUBLIC_URL"], "shop", "first")
    assert config.secret_keys == ["a", "b"]


COMMANDS = dict(every_command())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_and_its_options_do(name: str) -> None:
    """Its help is the reference, `docs/commands.md`, so it leaves nothing out."""
    at = COMMANDS[name]
    assert f"\n## {name}\n" in text("docs/commands.md")
    assert at.get_short_help_str()
    for parameter in at.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.opts


def test_litestar_has_the_same_commands_on_payments() -> None:
    """What the page says of `x402-mpp payments` holds for `litestar payments`."""
    cli = click.Group()
    config = PaymentConfig("0x" + "11" * 20, "null", store="memory", secret_keys=["k" * 32])
    PaymentPlugin(config).on_cli_init(cli)
    payments = cli.commands["payments"]
    assert isinstance(payments, click.Group)
    reports = payments.commands.pop("report")
    for name, at in every_command(reports, "x402-mpp report"):
        alone = [p.opts for p in COMMANDS[name].params]
        assert [p.opts for p in at.params] == [opts for opts in alone if opts != ["--events"]]
    mounted = dict(every_command(payments, "x402-mpp payments"))
    # The levers are an application's part like its payments, and have a command of their own where there is none.
    mounted = {name.replace("payments levers", "levers"): at for name, at in mounted.items()}
    groups = ("x402-mpp payments", "x402-mpp levers")
    assert mounted.keys() == {name for name in COMMANDS if name.startswith(groups)}
    for name, at in mounted.items():
        if name not in groups:
            assert [p.opts for p in at.params] == [p.opts for p in COMMANDS[name].params]


def test_every_extra_is_described() -> None:
    """As pyproject.toml has them."""
    section = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"^(\w+) =", section, re.MULTILINE))
    assert extras <= set(table("docs/configuration.md", '`pip install "x402-mpp-bridge[...]"`'))


def test_every_token_and_network_is_described() -> None:
    """The tables of `translators.networks`."""
    page = text("docs/configuration.md")
    for token in KNOWN_TOKENS:
        row = next(line for line in page.splitlines() if line[:1] == "|" and token.address in line.lower())
        assert f"| {token.chain_id}" in row
        assert f"`{token.name}`, `{token.version}`" in row
    assert set(V1_NETWORKS) <= words("docs/configuration.md")


# Events and errors


def test_every_event_is_described() -> None:
    """A heading for each, and none for what does not exist."""
    headings = re.findall(r"^### (.+)$", text("docs/events.md"), re.MULTILINE)
    assert sorted(headings) == sorted(EVENTS)


def test_every_other_log_line_is_described() -> None:
    """What is logged besides events, found in the code."""
    logged = set()
    for file in tracked("bridge/*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="info" | "warning" | "error" | "exception"),
                    args=[ast.Constant(value=str(line)), *_],
                ):
                    logged.add(line)
    assert logged == set(table("docs/events.md", "line"))


@pytest.mark.parametrize("cls", OUR_ERRORS)
def test_every_error_is_described_as_it_is(cls: type[errors.PaymentError]) -> None:
    """Its slug, both statuses and its reason."""
    slug, mpp_status, x402_status, reason, _ = table("docs/errors.md", "class")[cls.__name__]
    assert (f"{cls.base}{cls.slug}" in words("docs/errors.md")) == (cls.base == errors.OWN_PROBLEM_BASE)
    assert (slug, mpp_status, x402_status, reason) == (
        cls.slug,
        str(cls.mpp_status),
        str(cls.x402_status),
        cls.x402_reason,
    )


def test_every_reason_is_described() -> None:
    """Every reason that an error is raised with, found in the code."""
    reasons = {cls.x402_reason for cls in tree(errors.PaymentError)}
    for file in tracked("translators/*.py", "bridge/*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Name(), keywords=keywords):
                    reasons |= {
                        keyword.value.value
                        for keyword in keywords
                        if keyword.arg == "reason" and isinstance(keyword.value, ast.Constant)
                    }
    assert {reason for reason in reasons if isinstance(reason, str)} <= set(table("docs/errors.md", "reason"))


# Protocols and words


def test_every_header_is_described() -> None:
    """Those of all three protocols, and what else our answers carry."""
    headers = {mpp.ACCEPT_HEADER, mpp.ALTERNATIVE_CREDENTIAL_HEADER, "Cache-Control", "Access-Control-Expose-Headers"}
    headers |= {getattr(wire, name) for wire in (x402_v1, x402_v2, mpp) for name in vars(wire) if "_HEADER" in name}
    headers = {header for header in headers if isinstance(header, str)} | set(EXPOSED_HEADERS.split(", "))
    page = text("docs/protocols.md")
    assert [header for header in sorted(headers) if header not in page] == []


@pytest.mark.parametrize("wire", [x402_v1, x402_v2, mpp, exact_evm, foreign])
def test_every_field_of_a_wire_is_described(wire: Any) -> None:
    """By its name on the wire."""
    for struct in (value for value in vars(wire).values() if isinstance(value, type)):
        if issubclass(struct, msgspec.Struct) and not struct.__name__.startswith("_"):
            missing = set(struct.__struct_encode_fields__) - words("docs/protocols.md")
            assert not missing, f"{struct.__name__}: {missing}"


def test_every_protocol_is_named() -> None:
    """As events and settings name it."""
    for page in ("docs/protocols.md", "docs/events.md", "docs/configuration.md", "docs/glossary.md"):
        assert {protocol.value for protocol in Protocol} <= words(page)


def test_the_vocabulary_is_in_the_glossary() -> None:
    """Every type that no protocol owns."""
    vocabulary = importlib.import_module("translators.payment")
    types = {n for n, v in vars(vocabulary).items() if isinstance(v, type) and v.__module__ == vocabulary.__name__}
    assert types <= words("docs/glossary.md")


def test_the_glossary_is_in_order() -> None:
    """By letters, so that a word is found."""
    entries = [entry.lower() for entry in re.findall(r"^\*\*(.+?)\.\*\*", text("docs/glossary.md"), re.MULTILINE)]
    assert entries == sorted(entries)
