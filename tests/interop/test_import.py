"""From other people's servers to ours: the same offers, entry by entry, and their own clients pay for them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.importing.diff import entries_of
from bridge.importing.offered import network_id
from bridge.importing.paths import key_from_glob, key_from_sdk
from translators.wire import x402_v1, x402_v2

from .chain import Anvil, Wallet
from .peers import Clients, Facilitator, Process, Server, places
from .visits import ROUTES, check_body, visit

PATHS = [f"{route.method} {route.path}" for route in ROUTES.values()]
COMMAND = Path(sys.executable).with_name("x402-mpp")


def import_(*arguments: str, cwd: Path, **environ: str) -> dict[str, Any]:
    """What the command makes of a source."""
    command = [str(COMMAND), "import", "--format", "json", *arguments]
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


def lowered(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry | {name: entry[name].lower() for name in ("asset", "payTo")} for entry in entries]


def asks(url: str, name: str) -> list[dict[str, Any]]:
    """What a server lists in x402 v2."""
    route = ROUTES[name]
    response = httpx.request(route.method, url + route.path, content=route.body)
    assert response.status_code == 402
    return lowered(x402_v2.decode_payment_required(response.headers[x402_v2.CHALLENGE_HEADER]).accepts)


def asks_v1(url: str, name: str) -> list[dict[str, Any]]:
    """What a server lists in x402 v1, without the resource's own description."""
    route = ROUTES[name]
    accepts = x402_v1.decode_payment_required(httpx.request(route.method, url + route.path).content).accepts
    own = ("resource", "outputSchema", "description", "mimeType")
    return lowered([{k: v for k, v in entry.items() if k not in own} for entry in accepts])


@pytest.fixture
def serving(logs: Path) -> Iterator[Callable[[Path], str]]:
    """Serve a file that was written; gives its URL."""
    running = []

    def start(path: Path) -> str:
        process = Process("imported", (sys.executable, "-m", "tests.interop.imported_server", path), logs=logs)
        running.append(process)
        url: str = process.ready()["url"]
        return url

    yield start
    for process in running:
        process.stop()


def test_from_the_sdks_fastapi_server(
    peer_server: Callable[[str], Server],
    facilitator: Facilitator,
    serving: Callable[[Path], str],
    clients: Clients,
    anvil: Anvil,
    tmp_path: Path,
) -> None:
    """Its module imported and its live 402s probed come to one table; ours lists what theirs lists, and is paid."""
    theirs = peer_server("py-x402-fastapi")
    module = places.PYTHON / "server_fastapi.py"
    imported = import_(
        *("--module", str(module), "--python", str(places.python("python")), "--write", "imported.py"),
        cwd=tmp_path,
        PAY_TO=theirs.pay_to,
        FACILITATOR_URL=facilitator.url,
    )
    probed = import_(
        *("--url", theirs.url, *(word for path in PATHS for word in ("--path", path))),
        *("--settler", f"facilitator:{facilitator.url}", "--write", "probed.py"),
        cwd=tmp_path,
    )
    assert imported["carried"] == probed["carried"]
    assert sorted(imported["carried"]) == sorted(PATHS)
    assert imported["lost"] == probed["lost"] == []
    for file in ("imported.py", "probed.py"):
        ours = serving(tmp_path / file)
        for name in ROUTES:
            assert asks(ours, name) == asks(theirs.url, name)
    visited = visit(clients["py-x402-httpx"], ours, theirs.pay_to, anvil, ["weather", "echo"])
    for name, answer in visited.answers.items():
        assert answer.status == 200, answer
        check_body(name, answer)
        assert visited.spent[name] == ROUTES[name].price
    assert visited.earned == sum(ROUTES[name].price for name in visited.answers)


def test_from_a_live_server_of_v1(
    peer_server: Callable[[str], Server],
    facilitator: Facilitator,
    serving: Callable[[Path], str],
    clients: Clients,
    anvil: Anvil,
    tmp_path: Path,
) -> None:
    """x402-express: the same v1 entries, which its own client pays, and an MPP client as well."""
    theirs = peer_server("x402-express")
    import_(
        *("--url", theirs.url, *(word for path in PATHS for word in ("--path", path))),
        *("--settler", f"facilitator:{facilitator.url}", "--write", "probed.py"),
        cwd=tmp_path,
    )
    ours = serving(tmp_path / "probed.py")
    for name in ROUTES:
        assert asks_v1(ours, name) == asks_v1(theirs.url, name)
    for client in ("x402-fetch", "mppx"):
        visited = visit(clients[client], ours, theirs.pay_to, anvil, ["weather"])
        assert visited.answers["weather"].status == 200, visited.answers
        assert visited.earned == ROUTES["weather"].price


Listed = dict[str, list[dict[str, Any]]]
SHOP = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
TABLES = {"route_table.py": "python", "route_table_v1.py": "python-v1"}


@pytest.fixture(scope="module")
def sdk_lists(installed: None) -> Callable[[str], Listed]:
    """What an SDK itself lists for a table, by its patterns; each is asked once."""

    @cache
    def ask(table: str) -> Listed:
        command = [str(places.python(TABLES[table])), str(places.PYTHON / table)]
        environ = {**os.environ, "PAY_TO": SHOP}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        listed: Listed = json.loads(done.stdout)
        return listed

    return ask


@pytest.mark.parametrize("table", TABLES)
def test_the_sdk_lists_what_we_list(table: str, sdk_lists: Callable[[str], Listed], tmp_path: Path) -> None:
    """A shop with most of what an owner can say: its own SDK's answer, and ours from its module."""
    theirs = sdk_lists(table)
    v1 = table == "route_table_v1.py"
    module, python = places.PYTHON / table, places.python(TABLES[table])
    diff = import_(
        *("--module", str(module), "--python", str(python), "--write", "ours.py"),
        cwd=tmp_path,
        PAY_TO=SHOP,
    )
    assert diff["refused"] == {}
    assert diff["lost"] == []
    assert diff["settings"]["settler"] == "facilitator:https://facilitator.example"
    namespace: dict[str, Any] = {"__name__": "ours"}
    exec((tmp_path / "ours.py").read_text(), namespace)
    ours = {route.name: entries_of(route.offers) for route in namespace["config"].routes}
    assert len(ours) == len(theirs)
    for pattern, entries in theirs.items():
        key, _ = key_from_glob(pattern) if v1 else key_from_sdk(pattern)
        listed = [
            {
                "scheme": entry["scheme"],
                "network": network_id(entry["network"]),
                "amount": entry["maxAmountRequired" if v1 else "amount"],
                **{name: entry[name] for name in ("asset", "payTo", "maxTimeoutSeconds", "extra")},
            }
            for entry in entries
        ]
        assert lowered(ours[key]) == lowered(listed), pattern


FROM_OBJECTS = """
import json, sys
sys.path[:0] = [sys.argv[2]]
sys.path.append(sys.argv[1])
import route_table
from bridge.config import PaymentConfig
from bridge.importing.diff import entries_of
config, routes, notes = PaymentConfig.from_x402(route_table.routes, server=route_table.server, secret_keys=["k" * 32])
from bridge.asgi import PaymentMiddleware
PaymentMiddleware(None, config=config, routes=routes)
ours = {route.name: entries_of(route.offers) for route in config.routes}
json.dump({"settler": config.settler, "ours": ours}, sys.stdout)
"""


def test_from_x402_takes_the_sdks_own_objects(sdk_lists: Callable[[str], Listed]) -> None:
    """`PaymentConfig.from_x402(routes, server=server)`, with the SDK's own classes, in one process with the SDK."""
    packages = next((places.INSTALLED / "python" / "lib").glob("python*/site-packages"))
    theirs = sdk_lists("route_table.py")
    command = [sys.executable, "-c", FROM_OBJECTS, str(packages), str(places.PYTHON)]
    environ = {**os.environ, "PAY_TO": SHOP}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout[done.stdout.index('{"settler"') :])
    assert made["settler"] == "facilitator:https://facilitator.example"
    for entries, own in zip(theirs.values(), made["ours"].values(), strict=True):
        assert lowered(own) == lowered(entries)


def test_what_is_written_is_served_by_uvicorn(installed: None, tmp_path: Path, logs: Path) -> None:
    """`uvicorn ours:app`, as the file says."""
    (tmp_path / "routes.json").write_text(
        json.dumps(
            {
                "GET /a": {
                    "accepts": {
                        "scheme": "exact",
                        "payTo": Wallet.fresh().address,
                        "price": "$1",
                        "network": "eip155:84532",
                    }
                }
            }
        )
    )
    import_("--routes", "routes.json", "--settler", "null", "--write", "ours.py", cwd=tmp_path)
    command = (sys.executable, "-m", "uvicorn", "--app-dir", tmp_path, "--port", "0", "ours:app")
    environ = {"X402_MPP_STORE": "memory"}
    process = Process("written", command, logs=logs, env=environ, talks=False)
    try:
        port = process.wait_for(r"http://127\.0\.0\.1:(\d+)")[1]
        assert httpx.get(f"http://127.0.0.1:{port}/a").status_code == 402
        assert httpx.get(f"http://127.0.0.1:{port}/b").status_code == 501
    finally:
        process.stop()
