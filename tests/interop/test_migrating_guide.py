"""The first step of `docs/migrating.md`, done with x402's own SDK."""

import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import main
from tests.interop.peers import places
from tests.layers import ROOT


def test_what_the_import_says(installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the server in `examples/upgrade-in-place`, to the letter."""
    guide = (ROOT / "docs" / "migrating.md").read_text("utf-8")
    found = re.search(r"--module server.py --write paid.py\n```\n\n```text\n(.*?)```", guide, re.DOTALL)
    assert found is not None
    shutil.copy(ROOT / "examples" / "upgrade-in-place" / "server.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    environment = {"PATH": os.environ["PATH"], "EVM_ADDRESS": "0x" + "22" * 20}
    arguments = ["import", "--module", "server.py", "--write", "paid.py", "--python", str(places.python("python"))]
    result = CliRunner().invoke(main, arguments, env=environment)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == found[1].strip()
    assert "Paid(" in (tmp_path / "paid.py").read_text()
