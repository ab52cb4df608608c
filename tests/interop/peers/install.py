"""Install the peers: `python -m tests.interop.peers.install`.

Two virtual environments under `.peers/` and one `npm ci` under `tests/interop/peers/node/`. Each is stamped with a
hash of what pins it and is left alone while the hash holds, so a second run is over at once. Needs python3 with pip,
node 20 or later, and npm; no install script of any package is run.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

from . import places


def _hash(pins: Iterable[Path], *salt: str) -> str:
    digest = hashlib.sha256("\0".join(salt).encode())
    for pin in pins:
        digest.update(pin.read_bytes())
    return digest.hexdigest()


def _stamps() -> dict[str, tuple[str, Path]]:
    """For each part: the hash it should carry, and something that exists only once it is installed."""
    parts = {
        name: (_hash([pins], platform.python_version(), str(places.INSTALLED)), places.python(name))
        for name, pins in places.VENVS.items()
    }
    pins = [places.NODE / "package.json", places.NODE / "package-lock.json"]
    parts["node"] = (_hash(pins, platform.machine()), places.NODE_MODULES)
    return parts


def stale() -> list[str]:
    """The parts that are missing or no longer what the pins say."""
    return [
        name
        for name, (wanted, proof) in _stamps().items()
        if not proof.exists() or not _stamp(name).exists() or _stamp(name).read_text() != wanted
    ]


def _stamp(name: str) -> Path:
    return places.INSTALLED / f"{name}.stamp"


def _install_venv(name: str, pins: Path) -> None:
    folder = places.INSTALLED / name
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    # The pins are a whole `pip freeze`: there is nothing left to resolve.
    pip = [str(places.python(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--requirement", str(pins)], check=True)


def _install_node() -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is not on the PATH: the Node peers need node 20 or later, and npm")
    subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=places.NODE, check=True)


def main() -> None:
    """Bring every stale part up to its pins."""
    places.INSTALLED.mkdir(exist_ok=True)
    for name in stale():
        print(f"installing the {name} peers", file=sys.stderr)
        _stamp(name).unlink(missing_ok=True)
        if name == "node":
            _install_node()
        else:
            _install_venv(name, places.VENVS[name])
        _stamp(name).write_text(_stamps()[name][0])


if __name__ == "__main__":
    main()
