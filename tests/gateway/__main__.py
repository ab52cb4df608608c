"""The long version of the gateway's tests: big files in full, and a thousand payments under fire.

    python -m tests.gateway                     everything: a gibibyte each way, and both loads
    python -m tests.gateway load --kill         one part

Prints the figures that `docs/gateway.md` gives; ends with status 1 when something did not hold.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.gateway.load import run
from tests.interop.chain import Anvil
from tests.interop.peers import Facilitator, install


def files(mib: int) -> int:
    """Run the tests of big files with files of `mib` MiB; how many parts failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-s", str(Path(__file__).with_name("test_big_files.py"))]
    return subprocess.run(command, env={**os.environ, "BIG_FILE_MIB": str(mib)}, check=False).returncode


def load(payments: int, store: str | None, manners: list[bool], kept: Path | None) -> int:
    """Run the loads, with every child's log in `kept`; the number of violations."""
    if stale := install.stale():
        sys.exit(f"not installed: {', '.join(stale)}; run python -m tests.interop.peers.install")
    violations = 0
    with tempfile.TemporaryDirectory(prefix="x402-mpp-gateway-") as folder, contextlib.ExitStack() as stack:
        logs = kept or Path(folder)
        anvil = Anvil(logs)
        stack.callback(anvil.stop)
        facilitator = Facilitator(rpc_url=anvil.rpc_url, private_key=anvil.keys[-1], logs=logs)
        stack.callback(facilitator.stop)
        for gently in manners:
            url = store or f"sqlite:{logs / f'{gently}.sqlite3'}"
            result = run(payments, kills=2, gently=gently, store=url, logs=logs, anvil=anvil, facilitator=facilitator)
            print(result, flush=True)
            for violation in result.violations[:20]:
                print("VIOLATION", violation)
            violations += len(result.violations)
    return violations


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.gateway", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["files", "load", []], help="what to run")
    parser.add_argument("--mib", type=int, default=1024, help="the size of a big file")
    parser.add_argument("--payments", type=int, default=1000, help="payments of a load")
    parser.add_argument("--store", help="the store that both gateways share; a SQLite file unless given")
    parser.add_argument("--kill", action="store_true", help="only the load whose server is killed")
    parser.add_argument("--logs", type=Path, help="a folder that keeps the log of every process")
    options = parser.parse_args()
    parts = options.parts or ["files", "load"]
    failed = files(options.mib) if "files" in parts else 0
    if "load" in parts:
        failed += load(options.payments, options.store, [False] if options.kill else [True, False], options.logs)
    sys.exit(1 if failed else 0)
