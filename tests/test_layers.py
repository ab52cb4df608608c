"""The layer check holds, and it bites."""

import pytest

from tests.layers import check, read_sources

CLEAN = {
    "translators/__init__.py": "",
    "translators/errors.py": "from typing import ClassVar\n",
    "translators/encoding.py": "import msgspec\nfrom translators.errors import MalformedError\n",
    "translators/x402.py": "from translators import encoding\nfrom translators.errors import MalformedError\n",
    "bridge/__init__.py": "",
    "bridge/clock.py": "import time\n",
    "bridge/gate.py": "from bridge.stores.base import Store\nfrom translators import x402\n",
    "bridge/stores/__init__.py": "from bridge.stores.base import Store\n",
    "bridge/stores/base.py": "from bridge.clock import Clock\n",
    "bridge/stores/memory.py": "from bridge.stores.base import Store\n",
    "bridge/litestar/plugin.py": "import litestar\nfrom bridge.gate import Gate\n",
}

BREACHES = {
    "upwards in translators": ("translators/encoding.py", "from translators.x402 import to_payload_v1", "lower floors"),
    "upwards by module name": ("translators/encoding.py", "from translators import x402", "lower floors"),
    "upwards by plain import": ("translators/encoding.py", "import translators.x402", "lower floors"),
    "sideways": ("bridge/clock.py", "import bridge.gate", "lower floors"),
    "upwards inside a function": ("bridge/clock.py", "def f():\n    from bridge.gate import Gate", "lower floors"),
    "out of a store": ("bridge/stores/memory.py", "from bridge.gate import Gate", "lower floors"),
    "core to bridge": ("translators/x402.py", "from bridge.clock import Clock", "never import bridge"),
    "tests": ("bridge/gate.py", "from tests.layers import check", "imports the tests"),
    "relative": ("bridge/gate.py", "from .clock import Clock", "relative import"),
    "unknown file of ours": ("bridge/gate.py", "from bridge.nowhere import x", "no file of ours"),
    "litestar in the gate": ("bridge/gate.py", "from litestar import get", "may import litestar"),
    "not in the table": ("bridge/utils.py", "", "not in the table"),
    "not in the table, core": ("translators/helpers.py", "", "not in the table"),
    **{
        f"core imports {module}": ("translators/x402.py", f"import {module}", f"may not import {module}")
        for module in ("time", "os", "random", "secrets", "uuid", "logging", "asyncio", "socket", "pathlib", "sys")
    },
    **{
        f"core imports {module}": ("translators/x402.py", f"from {module} import x", "may not import")
        for module in ("httpx", "starlette", "litestar", "web3", "structlog", "importlib")
    },
    "core opens a file": ("translators/x402.py", "open('x')", "may not call open()"),
    "core prints": ("translators/x402.py", "print(1)", "may not call print()"),
    "core reads the clock": ("translators/x402.py", "from datetime import datetime\ndatetime.now()", "handed the time"),
    "core reads the date": ("translators/x402.py", "import datetime\ndatetime.date.today()", "handed the time"),
    "core reads UTC": ("translators/x402.py", "import datetime\ndatetime.datetime.utcnow()", "handed the time"),
    "core passes the clock on": ("translators/x402.py", "from datetime import datetime\nf = datetime.now", "the time"),
    "core is async": ("translators/x402.py", "async def f(): ...", "not async"),
}


def test_layers_hold() -> None:
    """Every import in the two packages points to a lower floor, and the pure core is pure."""
    assert list(check(read_sources())) == []


def test_clean_sources_pass() -> None:
    """Imports downwards, within a listed folder, and of Litestar where it belongs are allowed."""
    assert list(check(CLEAN)) == []


@pytest.mark.parametrize("breach", BREACHES)
def test_breach_is_found(breach: str) -> None:
    """One bad line in otherwise clean sources is reported, with its file."""
    path, source, expected = BREACHES[breach]
    problems = list(check({**CLEAN, path: source}))
    assert problems
    assert all(problem.startswith(f"{path}:") for problem in problems)
    assert expected in problems[0]


def test_missing_files_make_no_difference() -> None:
    """The table may list files that are not written yet."""
    assert list(check({})) == []
