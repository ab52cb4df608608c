"""The command: quick to ask for help, and plain about what is missing."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bridge import cli
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["-h"],
        ["--version"],
        ["demo", "--help"],
        ["payments", "--help"],
        ["pay", "--help"],
        ["check", "--help"],
        ["decode", "--help"],
        ["import", "--help"],
    ],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Neither web3, which takes a second, nor Litestar, nor a server."""
    ran = subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=HEAVY), *arguments], capture_output=True, text=True, check=False
    )
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")


def test_the_list_of_commands_says_what_each_says() -> None:
    """Where a first sentence stands beside the list, so that help need not import the command for it."""
    for name, summary in cli._SUMMARIES.items():
        assert cli._LAZY[name]().get_short_help_str(1000) == summary, name


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


def test_help_is_quick() -> None:
    """`--help` takes under 300 ms; a busy machine is forgiven, by what Python takes there to do nothing."""

    def seconds(*command: str) -> float:
        begun = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        return time.perf_counter() - begun

    # The quickest of several is what it costs where nothing is in its way.
    command = Path(sys.executable).with_name("x402-mpp")
    ours = min(seconds(str(command), "--help") for _ in range(5))
    nothing = min(seconds(sys.executable, "-c", "pass") for _ in range(5))
    assert ours < 0.3 + 8 * nothing


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered(shell: str) -> None:
    """A script for each shell, and what it asks the command for: commands, options, and the choices of one."""
    command = str(Path(sys.executable).with_name("x402-mpp"))

    def ask(instruction: str, words: str = "", index: str = "0") -> str:
        env = {**os.environ, "_X402_MPP_COMPLETE": f"{shell}_{instruction}"}
        # fish hands over the word that is being completed, the others its number.
        env |= {"COMP_WORDS": words, "COMP_CWORD": words.rpartition(" ")[2] if shell == "fish" else index}
        env["PATH"] = str(Path(sys.executable).parent) + os.pathsep + env["PATH"]
        ran = subprocess.run([command], env=env, capture_output=True, text=True, check=False)
        assert ran.stderr == ""
        return ran.stdout

    assert f"_X402_MPP_COMPLETE={shell}_complete" in ask("source")
    page = Path(__file__).parent.parent.parent / "docs/commands.md"
    assert f"_X402_MPP_COMPLETE={shell}_source x402-mpp" in page.read_text("utf-8")
    assert "check" in ask("complete", "x402-mpp ch", "1")
    assert "--fail-on" in ask("complete", "x402-mpp check --fai", "2")
    offered = ask("complete", "x402-mpp check --format j", "3")
    assert "json" in offered
    assert "junit" in offered
