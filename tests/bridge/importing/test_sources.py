"""Every source of `x402-mpp import`: a module, a JSON table, an OpenAPI document, a live server; what is written."""

import base64
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bridge.asgi import PaymentMiddleware
from bridge.cli import main
from bridge.importing.diff import entries_of
from bridge.importing.openapi import read_openapi
from bridge.importing.probe import probe
from bridge.importing.table import build_table
from bridge.importing.written import NotWritable, write_python
from bridge.pricing import Paid
from tests.bridge.harness import House, visit
from tests.bridge.importing.tables import OTHER, OWN, PAY_TO, USDC_BASE, USDC_SEPOLIA, entry, lowered
from translators.bazaar import Bazaar
from translators.foreign import X402Only
from translators.payment import Asset
from translators.price import Price
from translators.wire import x402_v2

pytestmark = pytest.mark.anyio
NULL = {"settler": "null"}

MODULE = """
import os, sys, threading
assert __name__ != "__main__"
from helper import PRICE
print("what a module prints is its own affair")
sys.stdout.flush()
threading.Thread(target=sys.stdin.read, daemon=True).start()
routes = {
    "GET /weather": {"accepts": {"scheme": "exact", "payTo": os.environ["PAY_TO"], "price": PRICE,
                                 "network": "eip155:84532"}},
    "GET /plan": {"accepts": {"scheme": "exact", "payTo": os.environ["PAY_TO"], "price": lambda context: "$1",
                              "network": "eip155:84532"}},
}
other = {"routes": {"GET /other": routes["GET /weather"]}}
server = type("Server", (), {"_schemes": {}, "_facilitator_clients": [type("F", (), {"url": "https://f.example"})]})()
"""

SERVES = """
import uvicorn
from uvicorn import Server, Config
routes = {"GET /a": {"accepts": {"scheme": "exact", "payTo": "%s", "price": "$1", "network": "eip155:8453"}}}
if %s:
    uvicorn.run(None)
else:
    Server(Config(None)).run()
raise AssertionError("it served")
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["import", *arguments])


def made(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--format", "json")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    loaded: dict[str, Any] = json.loads(result.stdout)
    return loaded


# A module


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PAY_TO", PAY_TO)
    (tmp_path / "helper.py").write_text("PRICE = '$0.01'")
    path = tmp_path / "shop.py"
    path.write_text(MODULE)
    return path


def test_a_module_is_run_as_its_server_would_run_it(module: Path) -> None:
    """With its neighbours, the environment, and a standard input that stays open; a function as price is refused."""
    diff = made("--module", str(module))
    assert list(diff["carried"]) == ["GET /weather"]
    assert diff["settings"]["settler"] == "facilitator:https://f.example"
    assert diff["settings"]["recipient"] == PAY_TO
    assert "PaymentConfig.from_x402" in diff["refused"]["GET /plan"]


def test_a_table_by_its_name(module: Path) -> None:
    """`FILE:NAME`, down to a member."""
    assert list(made("--module", f"{module}:other.routes")["carried"]) == ["GET /other"]


@pytest.mark.parametrize("way", ["True", "False"])
def test_a_module_that_serves_is_stopped_there(way: str, tmp_path: Path) -> None:
    """With what it had made so far."""
    (tmp_path / "app.py").write_text(SERVES % (PAY_TO, way))
    assert list(made("--module", str(tmp_path / "app.py"))["carried"]) == ["GET /a"]


def test_a_module_in_a_package(tmp_path: Path) -> None:
    """By its own name there, so that its relative imports work."""
    package = tmp_path / "shop" / "web"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (package.parent / "prices.py").write_text("ROUTE = " + repr({"accepts": _option()}))
    (package / "main.py").write_text("from ..prices import ROUTE\nroutes = {'GET /x': ROUTE}")
    assert list(made("--module", str(package / "main.py"))["carried"]) == ["GET /x"]


def _option() -> dict[str, Any]:
    return {"scheme": "exact", "payTo": PAY_TO, "price": "$1", "network": "eip155:84532"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = 1", "no route table: name it"),
        ("a = {'/': {'accepts': []}}; b = {'/b': {'accepts': []}}", "several route tables, a, b: name one"),
        ("import not_installed_anywhere", "No module named 'not_installed_anywhere'"),
        ("def", "SyntaxError"),
        ("import os; os._exit(3)", "app.py: "),
    ],
)
def test_a_module_that_has_none(text: str, problem: str, tmp_path: Path) -> None:
    """Says why, and exits with 1."""
    (tmp_path / "app.py").write_text(text)
    result = run("--module", str(tmp_path / "app.py"))
    assert result.exit_code == 1
    assert problem in result.output


def test_a_python_that_is_not_there(module: Path) -> None:
    """Its name is said."""
    assert "/no/python: No such file" in run("--module", str(module), "--python", "/no/python").output
    assert "no such file" in run("--module", "nowhere.py").output


# A table as JSON


def test_tables_of_typescript(tmp_path: Path) -> None:
    """v2's as it stands, v1's with its recipient, and either as the arguments of the middleware."""
    path = tmp_path / "routes.json"

    def table(content: Any, *arguments: str) -> dict[str, Any]:
        path.write_text(json.dumps(content))
        return made("--routes", str(path), *arguments)

    v2 = {"GET /weather/:city": {"accepts": [_option()], "description": "d"}}
    v1 = {"GET /weather": {"price": "$0.001", "network": "base"}, "/*": "$1"}
    assert list(table(v2)["carried"]) == ["GET /weather/{city}"]
    assert "is assumed" in table(v2)["lost"][0]["says"]
    assert list(table(v1, "--pay-to", PAY_TO)["carried"]) == ["GET /weather", "/*"]
    whole = table({"payTo": PAY_TO, "routes": v1, "facilitator": {"url": "https://f.example"}})
    assert whole["settings"]["settler"] == "facilitator:https://f.example"
    assert table({"routes": v2, "facilitator": {"url": "https://f.example"}})["settings"]["settler"].endswith(
        "f.example"
    )
    path.write_text(json.dumps(v1))
    assert "give the recipient" in run("--routes", str(path)).output
    path.write_text("{")
    assert run("--routes", str(path)).exit_code == 1


# An OpenAPI document

DOCUMENT = {
    "openapi": "3.1.0",
    "servers": [{"url": "https://api.example.com/v1"}],
    "paths": {
        "/report/{id}": {
            "parameters": [],
            "get": {
                "summary": "A report",
                "x-payment-info": {"intent": "charge", "method": "evm", "amount": "10000", "currency": USDC_SEPOLIA},
            },
            "post": {
                "x-payment-info": {
                    "offers": [
                        {"intent": "charge", "method": "tempo", "amount": "1", "currency": OWN},
                        {"intent": "charge", "method": "evm", "amount": "20000"},
                    ]
                }
            },
            "delete": {"summary": "free"},
        },
        "/session": {"get": {"x-payment-info": {"intent": "session", "method": "evm", "amount": "1"}}},
        "/dynamic": {"get": {"x-payment-info": {"intent": "charge", "method": "evm", "amount": None}}},
        "/token": {"get": {"x-payment-info": {"intent": "charge", "method": "evm", "amount": "1", "currency": OWN}}},
    },
}


def test_an_openapi_document() -> None:
    """Its evm charges, to the recipient and on the chain that are given; for everything else, why not."""
    read = read_openapi(DOCUMENT, pay_to=PAY_TO, network="base-sepolia")
    table = build_table(read, NULL)
    assert lowered(entries_of(table.offers["GET /v1/report/{id}"])) == lowered([entry("10000")])
    assert lowered(entries_of(table.offers["POST /v1/report/{id}"])) == lowered([entry("20000")])
    assert table.routes["GET /v1/report/{id}"].description == "A report"
    assert {key: why.partition(" ")[0] for key, why in table.refused.items()} == {
        "GET /v1/session": "intent",
        "GET /v1/dynamic": "the",
        "GET /v1/token": "token",
    }
    assert any("tempo" in note.says for note in table.notes)
    assert read.public_url == "https://api.example.com"


def test_a_document_as_a_file_in_json_or_yaml(tmp_path: Path) -> None:
    """With the recipient and the chain beside it."""
    (tmp_path / "a.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "a.yaml").write_text("openapi: 3.0.0\npaths:\n  /a:\n    get:\n      x-payment-info: {amount: '5'}\n")
    given = ["--pay-to", PAY_TO, "--network", "base"]
    assert len(made("--openapi", str(tmp_path / "a.json"), *given)["carried"]) == 1
    assert list(made("--openapi", str(tmp_path / "a.yaml"), *given)["carried"]) == ["GET /a"]
    assert "give --pay-to and --network" in run("--openapi", str(tmp_path / "a.yaml")).output


@pytest.mark.parametrize("document", [[], {"paths": 1}, {"paths": {"/a": {"get": {}}}}])
def test_what_is_no_document_with_prices(document: Any) -> None:
    """Is an error."""
    with pytest.raises(ValueError, match=r"OpenAPI document|x-payment-info"):
        read_openapi(document, pay_to=PAY_TO, network="base")


# A live server


@pytest.fixture
def live() -> Iterator[Callable[[dict[str, tuple[int, list[tuple[str, str]], bytes]]], str]]:
    """A server of canned answers, by `METHOD /path`; gives its URL."""
    servers = []

    def start(answers: dict[str, tuple[int, list[tuple[str, str]], bytes]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                status, headers, body = answers.get(f"{self.command} {self.path}", (404, [], b""))
                self.send_response(status)
                for name, value in [*headers, ("Content-Length", str(len(body)))]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


async def canned(
    house: House, path: str = "/report", only: str | None = None
) -> tuple[int, list[tuple[str, str]], bytes]:
    """What a house asks for, with one of its challenges or with all."""
    answer = await house.visit("GET", path)
    wanted = {None: "payment-required www-authenticate", "x402-v2": "payment-required", "mpp": "www-authenticate"}
    names = wanted.get(only, "")
    headers = [(name, value) for name, value in answer.headers.multi_items() if name.lower() in names.split()]
    return 402, headers, answer.content if only in (None, "x402-v1") else b"{}"


@pytest.mark.parametrize("only", [None, "x402-v1", "x402-v2", "mpp"])
async def test_a_live_402_in_each_protocol(only: str | None, live: Any) -> None:
    """Comes to the offers that it lists; who speaks only one of them is told that there are others."""
    prices = {"GET /report": Paid(["0.01", Price(5, asset=Asset(84532, OWN.lower(), 18, "Own", "1"))], description="d")}
    house = House(prices)
    read = probe(live({"GET /report": await canned(house, only=only)}) + "/report", [])
    table = build_table(read, NULL)
    ours = lowered(entries_of(house.config.offers_to_check()))
    # MPP does not say the domain of a token that nobody knows.
    assert lowered(entries_of(table.offers["GET /report"])) == (ours[:1] if only == "mpp" else ours)
    assert {str(p) for p in table.offered["GET /report"].protocols} == (
        {only} if only else {"x402-v1", "x402-v2", "mpp"}
    )


async def test_several_paths_of_a_live_server(live: Any) -> None:
    """Each by its method; what does not ask for payment, or not in a way that can be read, says so."""
    good = await canned(House())
    url = live(
        {
            "GET /api/a": good,
            "POST /api/b": good,
            "GET /api/free": (200, [], b"{}"),
            "GET /api/odd": (402, [("PAYMENT-REQUIRED", "!!")], b""),
            "GET /api/none": (402, [], b"pay me"),
        }
    )
    paths = ["/a", "POST /b", "/free", "/odd", "/none"]
    table = build_table(probe(url + "/api", paths), NULL)
    assert list(table.routes) == ["GET /api/a", "POST /api/b"]
    assert {key: why.partition(",")[0].partition(":")[0] for key, why in table.refused.items()} == {
        "GET /api/free": "answered 200",
        "GET /api/odd": "its 402 cannot be read",
        "GET /api/none": "it asks for payment in no protocol known here",
    }


async def test_a_strangers_words_give_a_terminal_no_orders(live: Any) -> None:
    """Names and sentences of the server's are printed; escape sequences among them are not."""
    _, headers, body = await canned(House(), only="x402-v2")
    ((name, value),) = headers
    required = json.loads(base64.b64decode(value))
    required["extensions"] = {"\x1b]0;owned\x07": {}}
    said = base64.b64encode(json.dumps(required).encode()).decode()
    result = run("--url", live({"GET /report": (402, [(name, said)], body)}) + "/report")
    assert "owned" in result.output
    assert not {"\x1b", "\x07"} & set(result.output)


def test_a_server_that_is_not_there() -> None:
    """Every path says so; what is no URL is an error."""
    assert probe("http://127.0.0.1:1", ["/a"]).refused == {"GET /a": "no answer: ConnectError"}
    with pytest.raises(ValueError, match="not the URL"):
        probe("example.com", [])
    with pytest.raises(ValueError, match="not a path"):
        probe("http://127.0.0.1:1", ["a"])


# What is written


async def test_what_is_written_starts_as_it_is(tmp_path: Path, module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has `config`, `routes` and `app`, which asks for the same; its own application charges nobody."""
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "ours.py"
    refused = run("--module", str(module), "--write", str(target))
    assert (refused.exit_code, target.exists()) == (1, False)
    result = run("--module", str(module), "--settler", "null", "--partial", "--write", str(target))
    assert result.exit_code == 0, result.output
    assert "NOT priced" in target.read_text()
    namespace: dict[str, Any] = {"__name__": "ours"}
    exec(compile(target.read_text(), str(target), "exec"), namespace)
    assert isinstance(namespace["app"], PaymentMiddleware)
    answer = await visit(namespace["app"], "GET", "/weather")
    required = x402_v2.decode_payment_required(answer.headers["PAYMENT-REQUIRED"])
    assert lowered(required.accepts) == lowered([entry("10000")])
    assert (await visit(namespace["app"], "GET", "/elsewhere")).status_code == 501
    await namespace["app"]._stop()


@pytest.mark.parametrize(
    "paid",
    [
        Paid("0.01"),
        Paid("0.01", description='say "hi"\n"""\\', mime_type="text/plain; charset=üß€😀"),
        Paid(["0.01", Price("2", network="base", recipient=OTHER, max_timeout_seconds=60)], settle="first"),
        Paid(Price(7, asset=Asset(8453, USDC_BASE.lower(), 6, "Own\u2028Token", "1"))),
        Paid("1", bazaar=Bazaar(query={"city": "SF"}, output={"a": [1, 2]})),
        Paid(X402Only(entry("1", extra={"assetTransferMethod": "permit2", "deep": [1, None, True, 0.5]}))),
    ],
)
def test_what_is_written_is_what_was_meant(paid: Paid) -> None:
    """Text from anywhere, in any writing, comes back as it was."""
    table = build_table(read_openapi(DOCUMENT, pay_to=PAY_TO, network="base-sepolia"), NULL)
    table.routes, table.refused = {"GET /": paid}, {'GET /\'\n"""': "because\nimport os"}
    namespace: dict[str, Any] = {"__name__": "ours"}
    exec(write_python(table, 'C:\\new "file"\n"""', "ours"), namespace)
    written = namespace["routes"]["GET /"]
    assert (written if isinstance(written, Paid) else Paid(written)) == paid
    assert "os" not in namespace


def test_a_function_cannot_be_written() -> None:
    """And is not left out."""
    table = build_table(read_openapi(DOCUMENT, pay_to=PAY_TO, network="base-sepolia"), NULL)
    table.routes = {"GET /": Paid(lambda request: "1")}
    with pytest.raises(NotWritable):
        write_python(table, "x", "ours")


def test_a_public_url_waits_for_a_secret(tmp_path: Path, live: Any) -> None:
    """The file starts as it is: where it is reached stands in it, to be switched on."""
    (tmp_path / "a.json").write_text(json.dumps(DOCUMENT))
    target = tmp_path / "ours.py"
    run("--openapi", str(tmp_path / "a.json"), "--pay-to", PAY_TO, "--network", "base-sepolia")
    result = run(
        *("--openapi", str(tmp_path / "a.json"), "--pay-to", PAY_TO, "--network", "base-sepolia"),
        *("--partial", "--write", str(target), "--settler", "null"),
    )
    assert result.exit_code == 0, result.output
    assert '# public_url="https://api.example.com",' in target.read_text()


# The command


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "say what to read"),
        (["--url", "http://a", "--routes", "b"], "say what to read"),
        (["--url", "http://a", "--python", sys.executable], "--python goes with --module"),
        (["--routes", "nowhere.json"], "nowhere.json"),
    ],
)
def test_a_command_line_that_makes_no_sense(arguments: list[str], problem: str) -> None:
    """Says what is wrong with it."""
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert problem in result.output


def test_the_text_has_all_parts(tmp_path: Path) -> None:
    """For a person: settings, what carries over, what does not, what is refused, what clients will see."""
    (tmp_path / "a.json").write_text(json.dumps(DOCUMENT))
    text = run("--openapi", str(tmp_path / "a.json"), "--pay-to", PAY_TO, "--network", "base-sepolia").output
    titles = ["Settings", "Carries over", "Cannot be carried over", "Does not carry over", "Clients will see"]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    assert "GET /v1/report/{id}\n    10000 of 0x036" in text
