"""Where the peers are pinned and where they are installed."""

import shutil
import sys
from pathlib import Path

PEERS = Path(__file__).parent
ROOT = PEERS.parents[2]
INSTALLED = (ROOT / ".peers").resolve()

PYTHON = PEERS / "python"
NODE = PEERS / "node"
NODE_MODULES = NODE / "node_modules"

VENVS = {"python": PYTHON / "requirements.txt", "python-v1": PYTHON / "requirements-v1.txt"}


def python(venv: str) -> Path:
    """The interpreter of one of the virtual environments."""
    folder, name = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    return INSTALLED / venv / folder / name


def anvil() -> Path:
    """The chain's binary: npm's for 64-bit Linux on x86, elsewhere the one on the PATH."""
    installed = NODE_MODULES / "@foundry-rs/anvil-linux-amd64/bin/anvil"
    if installed.exists():
        return installed
    if found := shutil.which("anvil"):
        return Path(found)
    raise FileNotFoundError("no anvil: npm has a binary for Linux on x86-64 only here; put one on the PATH")
