"""The layer check: who may import whom, as one table, and what the pure core may use at all.

    python -m tests.layers

A file imports only from lower floors, or from files of its own folder where the table lists the folder (`stores/*`).
A file that the table does not list fails: add it where it belongs, as low as its own imports allow.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FLOORS: tuple[tuple[str, ...], ...] = (
    # translators: pure
    ("translators/__init__", "translators/wire/__init__", "translators/errors", "translators/keccak"),
    ("translators/payment", "translators/lifecycle", "translators/encoding", "translators/fields"),
    (
        "translators/networks",
        "translators/auth_params",
        "translators/accept_payment",
        "translators/price",
        "translators/payment_identifier",
        "translators/stages",
        "translators/bazaar",
    ),
    ("translators/levers",),
    ("translators/levers_toml",),
    ("translators/eip3009", "translators/solana", "translators/wire/exact_evm", "translators/wire/foreign"),
    ("translators/wire/x402_v1", "translators/wire/x402_v2", "translators/wire/mpp"),
    ("translators/binding", "translators/checks", "translators/foreign"),
    ("translators/x402", "translators/mpp"),
    ("translators/discovery", "translators/asks", "translators/lint/*", "translators/upstream", "translators/shadow"),
    ("translators/completion", "translators/explain/*"),
    # bridge: input and output
    (
        *("bridge/__init__", "bridge/clock", "bridge/randomness", "bridge/events", "bridge/request", "bridge/tracing"),
        *("bridge/trailers", "bridge/holds"),
    ),
    (
        *("bridge/logs", "bridge/routes", "bridge/patterns", "bridge/credentials", "bridge/stores/*", "bridge/serving"),
        "bridge/http1",
    ),
    ("bridge/settlers/*", "bridge/pricing", "bridge/proofs", "bridge/analytics/*"),
    ("bridge/responses", "bridge/verifier", "bridge/reconciler", "bridge/condition", "bridge/config_checks"),
    (
        *("bridge/replays", "bridge/idempotency", "bridge/metrics", "bridge/importing/*", "bridge/levers/*"),
        "bridge/discovery",
    ),
    ("bridge/admitted",),
    ("bridge/attempt",),
    ("bridge/gate",),
    ("bridge/config", "bridge/health", "bridge/payments"),
    ("bridge/asgi", "bridge/client/*"),
    ("bridge/payers", "bridge/commands", "bridge/paying"),
    ("bridge/gateway/*", "bridge/dashboard/*", "bridge/testing/*", "bridge/check/*", "bridge/decode", "bridge/pay"),
    ("bridge/litestar/*",),
    ("bridge/demo/*",),
    ("bridge/cli",),
)
"""Every file, lowest floor first; `folder/*` is the folder and what is below it."""

PURE_MODULES = {
    *("re", "hashlib", "hmac", "binascii", "json", "math", "enum", "typing", "collections.abc", "datetime"),
    *("functools", "ipaddress", "urllib.parse", "tomllib", "msgspec", "coincurve", "sha3", "Crypto.Hash", "zlib"),
}
"""All that `translators/` may import besides itself."""

IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}
CLOCK_READS = {"now", "today", "utcnow"}

ONLY_FROM: dict[str, tuple[str, ...]] = {"litestar": ("bridge/litestar/*", "bridge/demo/*")}
"""Packages that only these files may import."""


class _Import(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: list[tuple[str, int]] = []

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [(alias.name, node.lineno) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        self.found += [(f"{module}:{alias.name}", node.lineno) for alias in node.names]


def check(sources: Mapping[str, str]) -> Iterator[str]:
    """Every breach in `sources`, a map of paths (`bridge/gate.py`) to texts, as `path:line: what is wrong`."""
    for path, text in sorted(sources.items()):
        name = path.removesuffix(".py")
        tree = ast.parse(text, path)
        if _floor(name) is None:
            yield f"{path}:1: not in the table of floors (tests/layers.py)"
            continue
        visitor = _Import()
        visitor.visit(tree)
        for imported, line in visitor.found:
            for problem in _import_problems(name, imported, sources):
                yield f"{path}:{line}: {problem}"
        if name.startswith("translators/"):
            for problem, line in _impurities(tree):
                yield f"{path}:{line}: {problem}"


def _floor(name: str) -> int | None:
    """The floor of a file, by its exact name before any folder's."""
    for match in (str.__eq__, fnmatchcase):
        for height, entries in enumerate(FLOORS):
            if any(match(name, entry) for entry in entries):
                return height
    return None


def _import_problems(name: str, imported: str, sources: Mapping[str, str]) -> Iterator[str]:
    module, _, attribute = imported.partition(":")
    package = module.partition(".")[0]
    if module.startswith("."):
        yield "a relative import: write the full name, so that a floor can be read off it"
        return
    if package == "tests":
        yield "imports the tests"
    elif package in ("translators", "bridge"):
        yield from _own_import_problems(name, module, attribute, sources)
    elif name.startswith("translators/") and module not in PURE_MODULES:
        yield f"the pure core may not import {module}"
    for restricted, allowed in ONLY_FROM.items():
        if package == restricted and not any(fnmatchcase(name, entry) for entry in allowed):
            yield f"only {' and '.join(allowed)} may import {restricted}"


def _own_import_problems(name: str, module: str, attribute: str, sources: Mapping[str, str]) -> Iterator[str]:
    target = _file_of(f"{module}.{attribute}", sources) or _file_of(module, sources)
    if target is None:
        yield f"imports {module}, which is no file of ours"
    elif name.startswith("translators/") and target.startswith("bridge/"):
        yield "translators never import bridge"
    elif target != name and not _same_folder_entry(name, target):
        ours, theirs = _floor(name), _floor(target)
        if ours is not None and theirs is not None and theirs >= ours:
            yield f"imports {target} (floor {theirs}) from floor {ours}: only lower floors may be imported"


def _file_of(module: str, sources: Mapping[str, str]) -> str | None:
    path = module.replace(".", "/")
    return next((name for name in (path, f"{path}/__init__") if f"{name}.py" in sources), None)


def _same_folder_entry(name: str, target: str) -> bool:
    folders = [entry for entries in FLOORS for entry in entries if entry.endswith("/*")]
    return any(fnmatchcase(name, entry) and fnmatchcase(target, entry) for entry in folders)


def _impurities(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=called)) if called in IMPURE_CALLS:
                yield f"the pure core may not call {called}()", node.lineno
            case ast.Attribute(attr=attribute) if attribute in CLOCK_READS:
                yield f"the pure core is handed the time: .{attribute}", node.lineno
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield "the pure core is not async", node.lineno


def read_sources(root: Path = ROOT, packages: Iterable[str] = ("translators", "bridge")) -> dict[str, str]:
    files = (file for package in packages for file in (root / package).rglob("*.py"))
    return {file.relative_to(root).as_posix(): file.read_text("utf-8") for file in files}


def main() -> int:
    problems = list(dict.fromkeys(check(read_sources())))
    print("\n".join(problems) or f"{len(read_sources())} files, every import points down")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
