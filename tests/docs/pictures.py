"""What the docs show of the code, made from the code.

    python -m tests.docs.pictures

rewrites every block between `<!-- made by ... -->` and `<!-- end -->` in `docs/`; a test compares.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click

from bridge.cli import main as command
from tests.layers import FLOORS, ROOT
from translators.lifecycle import TRANSITIONS, State
from translators.lint.known import HEADER_LIMITS
from translators.lint.table import GROUPS

__all__ = ["PICTURES", "every_command", "redraw", "tracked"]

_BLOCK = re.compile(r"(<!-- made by `python -m tests\.docs\.pictures`: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

_WORDS: dict[tuple[State, State], str] = {
    (State.CLAIMED, State.SETTLING): "handed to the settler",
    (State.CLAIMED, State.RELEASED): "handler failed, or nothing was sent",
    (State.SETTLING, State.SETTLED): "the money moved",
    (State.SETTLING, State.RELEASED): "certainly refused",
    (State.SETTLING, State.UNKNOWN): "nobody can say",
    (State.UNKNOWN, State.SETTLED): "the money did move",
    (State.UNKNOWN, State.RELEASED): "it never will",
    (State.UNKNOWN, State.SETTLING): "tried again",
    (State.SETTLED, State.DELIVERED): "the last byte",
    (State.RELEASED, State.CLAIMED): "presented again",
}


def lifecycle() -> str:
    """The table of transitions as a state diagram; fails where the table and the words differ."""
    edges = [(state, after) for state in State for after in State if after in TRANSITIONS[state]]
    if set(edges) != set(_WORDS):
        raise LookupError(f"the words and the table differ in {sorted(set(edges) ^ set(_WORDS))}")
    lines = [f"    [*] --> {State.CLAIMED}: a verified payment"]
    lines += [f"    {state} --> {after}: {_WORDS[state, after]}" for state, after in edges]
    lines += [f"    {state} --> [*]" for state in State if not TRANSITIONS[state]]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def floors() -> str:
    """Every file or folder by its floor, the highest first, with what its docstring says it is."""
    lines = ["| floor | file | what it is |", "|---|---|---|"]
    files = tracked("translators/*.py", "bridge/*.py")
    for height, entries in reversed(list(enumerate(FLOORS))):
        for entry in entries:
            folder = entry.removesuffix("*") if entry.endswith("/*") else None
            file = ROOT / (f"{folder}__init__.py" if folder else f"{entry}.py")
            # The table of floors has rooms for files that are still to come.
            if file in files and (folder or file.stem != "__init__"):
                lines.append(f"| {height} | `{folder or f'{entry}.py'}` | {_what_it_is(file)} |")
    return "\n".join(lines)


def tracked(*patterns: str) -> list[Path]:
    """The files that are in the repository: what somebody is still working on beside them is not described yet."""
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def _what_it_is(file: Path) -> str:
    """The first sentence of the module's docstring."""
    said = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    paragraph = said.partition("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=[.:])\s(?=[A-Z`(]|$)", paragraph)[0].rstrip(".:").replace("|", "\\|")


def every_command(at: click.Command = command, name: str = "x402-mpp") -> Iterator[tuple[str, click.Command]]:
    """`at` and every command below it, by its whole name, those included that are made only when asked for."""
    yield name, at
    if isinstance(at, click.Group):
        context = click.Context(at)
        for below in at.list_commands(context):
            found = at.get_command(context, below)
            if found is None:
                raise LookupError(f"{name} lists {below}, and has no such command")
            yield from every_command(found, f"{name} {below}")


def commands() -> str:
    """What every command says to `--help`, as 80 columns show it."""
    sections = []
    contexts: dict[str, click.Context] = {}
    for name, at in every_command():
        above, _, word = name.rpartition(" ")
        settings = {**at.context_settings, "terminal_width": 80, "color": False}
        contexts[name] = click.Context(at, info_name=word, parent=contexts.get(above), **settings)
        lines = at.get_help(contexts[name]).splitlines()
        sections.append("\n".join([f"## {name}", "", "```text", *(line.rstrip() for line in lines), "```"]))
    return "\n\n".join(sections)


def rules() -> str:
    """Every rule of `check`, by what it is about."""
    sections = []
    for group, of_it in GROUPS.items():
        lines = [
            f"### {group}",
            "",
            "| rule | severity | kind | what is wrong | clause | remedy |",
            "|---|---|---|---|---|---|",
        ]
        for rule in of_it:
            cells = (f"`{rule.id}`", rule.severity.value, rule.kind.value, rule.title, rule.clause, rule.remedy)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def limits() -> str:
    """Where a block of headers becomes too long, and for whom."""
    rows = [f"| {limit} | {who} |" for limit, who in HEADER_LIMITS]
    return "\n".join(["| bytes | who stops there |", "|---|---|", *rows])


PICTURES = {"lifecycle": lifecycle, "floors": floors, "commands": commands, "rules": rules, "limits": limits}


def redraw(page: str) -> str:
    """`page` with every block made anew."""
    return _BLOCK.sub(lambda block: f"{block[1]}{PICTURES[block[2]]()}\n{block[3]}", page)


def main() -> None:
    for path in sorted((ROOT / "docs").glob("*.md")):
        page = path.read_text("utf-8")
        if (drawn := redraw(page)) != page:
            path.write_text(drawn, "utf-8")
            print(f"{path.relative_to(ROOT)} redrawn")


if __name__ == "__main__":
    main()
