"""The command: quick to ask for help, and plain about what is missing."""

import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from bridge.cli import main

HEAVY = ("web3", "litestar", "eth", "uvicorn", "aiohttp", "httpx")

PROBE = """
import sys
from click.testing import CliRunner
from bridge.cli import main
result = CliRunner().invoke(main, sys.argv[1:])
assert result.exit_code == 0, result.output
print(sorted(name for name in {heavy!r} if name in sys.modules))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"], ["demo", "--help"], ["payments", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Neither web3, which takes a second, nor Litestar, nor a server."""
    ran = subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=HEAVY), *arguments], capture_output=True, text=True, check=False
    )
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")


def test_installed_command() -> None:
    """`x402-mpp` is the name that the distribution installs."""
    from importlib.metadata import entry_points

    (command,) = entry_points(group="console_scripts", name="x402-mpp")
    assert command.load() is main


@pytest.mark.parametrize(("module", "distribution"), [("eth", "py-evm"), ("uvicorn", "uvicorn")])
def test_missing_extra_is_named_with_its_remedy(
    module: str, distribution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo's parts are an extra."""
    monkeypatch.setitem(sys.modules, module, None)
    ran = CliRunner().invoke(main, ["demo"])
    assert ran.exit_code == 1
    assert f'needs {distribution}: pip install "x402-mpp-bridge[demo]"' in ran.output
    assert "Traceback" not in ran.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "--serve", "--workers", "2"], "a store that they share"),
        (["demo", "--json"], "go with --serve"),
        (["demo", "--workers", "2", "--store", "sqlite:x"], "go with --serve"),
        (["demo", "--workers", "0"], "workers"),
        (["demo", "--nonsense"], "nonsense"),
        (["nonsense"], "nonsense"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], said: str, monkeypatch: Any) -> None:
    """Are refused before anything starts."""
    monkeypatch.setitem(sys.modules, "bridge.demo.run", None)
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 2
    assert said in ran.output


def test_importing_the_bridge_imports_no_framework() -> None:
    """`bridge.asgi` is for any framework: it brings neither Litestar nor web3."""
    code = f"import sys, bridge.asgi; print(sorted(n for n in {HEAVY!r} if n in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
