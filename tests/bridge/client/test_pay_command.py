"""`x402-mpp pay`: what it prints where, what it exits with, where keys come from, and that none of them shows."""

import base64
import functools
import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from click.testing import CliRunner, Result
from eth_account import Account as EthAccount

from bridge.cli import main
from bridge.pay import EXIT_CODES
from bridge.paying import ExitCode
from tests.bridge.client.shop import PAYER, URL, Script, a_402, credential_of
from tests.bridge.harness import MPP, V2, House
from tests.layers import ROOT

KEY = PAYER.private_key


class Shop:
    """A server behind every `httpx.Client` of the command, and a ledger of its own."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import time

        self.house = House(clock=time.time)
        self.ledger = tmp_path / "ledger"
        self.answer: Any = self._by_house
        self.server = Script(lambda request, n: self.answer(request, n))
        monkeypatch.setattr("bridge.paying.httpx.Client", functools.partial(httpx.Client, transport=self.server))
        monkeypatch.setenv("X402_MPP_PRIVATE_KEY", KEY)
        monkeypatch.setattr("bridge.client.resend._FIRST_PAUSE", 0.0)

    def _by_house(self, request: httpx.Request, n: int) -> httpx.Response:
        visit = functools.partial(
            self.house.visit, request.method, request.url.path, request.headers.multi_items(), request.read()
        )
        answer = anyio.run(visit)
        return httpx.Response(answer.status_code, headers=answer.headers.multi_items(), content=answer.content)

    def run(self, *arguments: str, url: str = URL, **options: Any) -> Result:
        return CliRunner().invoke(
            main, ["pay", url, "--ledger", str(self.ledger), *arguments], catch_exceptions=False, **options
        )


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[Any]) -> Shop:
    return Shop(tmp_path, monkeypatch)


def test_the_body_goes_to_stdout_and_the_story_to_stderr(shop: Shop) -> None:
    """Byte for byte, so that it can be piped."""
    ran = shop.run("--yes")
    assert (ran.exit_code, ran.stdout) == (0, "the report")
    assert "Paying    0.01 USDC in mpp on base-sepolia (84532)\n          to 0x" in ran.stderr
    assert shop.house.settler.settlements[0].transaction in ran.stderr
    assert all(len(line) <= 80 for line in ran.stderr.splitlines())
    assert KEY[2:] not in ran.output


def test_json_is_for_a_script(shop: Shop) -> None:
    """One object on stdout, with the body, the payment and the receipt."""
    ran = shop.run("--yes", "--json", "--quiet")
    told = json.loads(ran.stdout)
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert (told["exit_code"], told["result"], told["status"], told["body"]) == (0, "answered", 200, "the report")
    payment = told["payment"]
    assert (payment["state"], payment["protocol"], payment["amount"], payment["delivered"]) == (
        *("paid", "mpp", "10000"),
        True,
    )
    assert payment["receipt"]["reference"] == payment["transaction"] == shop.house.settler.settlements[0].transaction


def test_a_body_that_is_not_text_is_base64_in_json_and_whole_in_a_file(shop: Shop, tmp_path: Path) -> None:
    """Nothing is lost in an encoding."""
    shop.answer = lambda request, n: httpx.Response(200, content=b"\xff\x00")
    assert base64.b64decode(json.loads(shop.run("--json").stdout)["body_base64"]) == b"\xff\x00"
    assert shop.run("--output", str(tmp_path / "out")).exit_code == 0
    assert (tmp_path / "out").read_bytes() == b"\xff\x00"
    assert shop.run().stdout_bytes == b"\xff\x00"
    assert "cannot be written" in shop.run("--output", str(tmp_path)).stderr


@pytest.mark.parametrize("protocol", ["mpp", "x402-v2", "x402-v1"])
def test_a_protocol_can_be_chosen(shop: Shop, protocol: str) -> None:
    """And is what the payment is made in."""
    ran = shop.run("--yes", "--json", "--protocol", protocol)
    assert json.loads(ran.stdout)["payment"]["protocol"] == protocol


def test_a_dry_run_pays_nothing_and_needs_no_key(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows every ask, and marks the one that would be paid."""
    monkeypatch.delenv("X402_MPP_PRIVATE_KEY")
    ran = shop.run("--dry-run", "--protocol", "x402-v2")
    assert ran.exit_code == 0
    lines = ran.stdout.splitlines()
    assert [line[:27].rstrip() for line in lines[::2]] == [
        "offered   0.01 USDC in mpp",
        "would pay 0.01 USDC in x402",
        "offered   0.01 USDC in x402",
    ]
    assert all(len(line) <= 80 for line in lines)
    told = json.loads(shop.run("--dry-run", "--json").stdout)
    assert [ask["chosen"] for ask in told["asks"]] == [True, False, False]
    over = shop.run("--dry-run", "--max-amount", "0.001")
    assert (over.exit_code, "over the limit" in over.stderr) == (3, True)
    assert shop.house.settler.settlements == []
    assert shop.run("--dry-run", url="http://localhost/free").exit_code == 0


def test_a_person_confirms(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal; where there is none, --yes has to be given."""
    nobody = shop.run()
    assert (nobody.exit_code, "give --yes" in nobody.stderr) == (3, True)
    monkeypatch.setattr("bridge.paying.sys.stdin.isatty", lambda: True, raising=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bridge.paying._Teller.approve", lambda self, asked, url: False)
        assert shop.run().exit_code == 3
        patch.setattr("bridge.paying._Teller.approve", lambda self, asked, url: True)
        assert shop.run().exit_code == 0


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ([404], 1, "nothing was paid"),
        ([402, 402], 4, "did not take 0.01 USDC"),
        ([402, 500], 5, "Whether it was charged is not known"),
        ([402, "lost", "lost", "lost"], 5, "the same command sends the same payment again"),
        (["lost", "lost", "lost"], 6, "nothing was paid"),
    ],
)
def test_exit_codes(shop: Shop, answers: list[Any], code: int, said: str) -> None:
    """Each tells what happened to the money."""
    ask = anyio.run(functools.partial(a_402, clock=shop.house.clock, protocols=[V2]))
    left = list(answers)

    def answer(request: httpx.Request, n: int) -> httpx.Response:
        unpaid = credential_of(request) is None
        now = 402 if unpaid and answers[0] == 402 else left.pop(1 if not unpaid and answers[0] == 402 else 0)
        if now == "lost":
            raise httpx.ConnectError("no route")
        if now == 402:
            return httpx.Response(402, headers=ask.headers.multi_items(), content=ask.content)
        return httpx.Response(now)

    shop.answer = answer
    ran = shop.run("--yes", "--json")
    assert ran.exit_code == code
    assert said in ran.stderr
    assert json.loads(ran.stdout)["exit_code"] == code


@pytest.mark.parametrize(
    ("when", "code", "said"), [(1, 3, "before anything was paid"), (2, 5, "sends the same payment")]
)
def test_an_interrupt_says_what_it_means_for_the_money(shop: Shop, when: int, code: int, said: str) -> None:
    """Before the payment was sent, and after it."""

    def answer(request: httpx.Request, n: int) -> httpx.Response:
        if n == when:
            raise KeyboardInterrupt
        return shop._by_house(request, n)

    shop.answer = answer
    ran = shop.run("--yes")
    assert (ran.exit_code, said in ran.stderr) == (code, True)


def test_charged_and_not_delivered_has_a_code_of_its_own(shop: Shop) -> None:
    """A receipt on an error."""
    shop.house = House({"GET /report": "0.01"}, clock=shop.house.clock, protocols=[V2])
    first: list[httpx.Response] = []

    def answer(request: httpx.Request, n: int) -> httpx.Response:
        made = shop._by_house(request, n)
        if made.status_code == 200:
            return httpx.Response(500, headers={"payment-response": made.headers["payment-response"]})
        first.append(made)
        return made

    shop.answer = answer
    ran = shop.run("--yes")
    assert (ran.exit_code, "and the server answered 500" in ran.stderr) == (7, True)


def test_the_same_command_takes_up_what_the_last_one_left(shop: Shop) -> None:
    """Across runs: one authorization, and one settlement."""
    lose = [True, True, True]

    def answer(request: httpx.Request, n: int) -> httpx.Response:
        made = shop._by_house(request, n)
        if made.status_code == 200 and lose and lose.pop():
            raise httpx.ReadError("reset")
        return made

    shop.answer = answer
    assert shop.run("--yes").exit_code == 5
    again = shop.run("--yes")
    assert (again.exit_code, again.stdout) == (0, "the report")
    assert "A payment for this request is open" in again.stderr
    assert len(shop.house.settler.settlements) == 1


def test_a_daily_limit_holds_across_runs(shop: Shop) -> None:
    """By the ledger."""
    assert shop.run("--yes", "--daily-limit", "0.015").exit_code == 0
    over = shop.run("--yes", "--daily-limit", "0.015")
    assert (over.exit_code, "the daily limit is 0.015" in over.stderr) == (3, True)
    usdc = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
    by_token = shop.run("--yes", "--max-amount", f"{usdc}=10000", "--daily-limit", f"{usdc}=20000")
    assert by_token.exit_code == 0


def test_data_is_sent_as_a_body(shop: Shop, tmp_path: Path) -> None:
    """Text, a file, or stdin; POST unless said otherwise."""
    seen: list[tuple[str, bytes, str]] = []

    def answer(request: httpx.Request, n: int) -> httpx.Response:
        seen.append((request.method, request.read(), request.headers["content-type"]))
        return httpx.Response(200)

    shop.answer = answer
    (tmp_path / "body").write_bytes(b"\x00bytes")
    shop.run("--data", '{"a": 1}')
    shop.run("--data", f"@{tmp_path / 'body'}", "-X", "put", "-H", "Content-Type: application/x")
    shop.run("--data", "@-", input=b"piped")
    assert seen == [
        ("POST", b'{"a": 1}', "application/json"),
        ("PUT", b"\x00bytes", "application/x"),
        ("POST", b"piped", "text/plain"),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-amount", "much"], "max_amount"),
        (["--max-amount", "1", "--max-amount", "2"], "--max-amount: give money once"),
        (["--max-amount", "0x1=5"], "--max-amount"),
        (["--header", "nonsense"], "--header: write NAME:VALUE"),
        (["--network", "mars"], "mars"),
        (["--data", "@/nowhere/at/all"], "--data"),
        (["--keystore", "a", "--signer-url", "b"], "give one of"),
        (["--signer-url", "http://127.0.0.1:1"], "--address"),
        (["--signer-command", "", "--address", PAYER.address], "--signer-command"),
        (["--key-env", "NOT_SET_ANYWHERE"], "set NOT_SET_ANYWHERE"),
        (["--keystore", "/nowhere/at/all", "--password-file", "/nowhere"], "--password-file"),
    ],
)
def test_options_that_make_no_sense(shop: Shop, arguments: list[str], said: str) -> None:
    """A usage error before anything is sent."""
    ran = shop.run("--yes", *arguments)
    assert (ran.exit_code, shop.server.requests) == (2, [])
    assert said in ran.stderr


@pytest.mark.parametrize("url", ["report", "ftp://x/", "http://", "https://user:pass@localhost/"])
def test_urls_that_make_no_sense(shop: Shop, url: str) -> None:
    """Likewise, and a password in one is not repeated."""
    ran = shop.run(url=url)
    assert (ran.exit_code, "pass@" in ran.output) == (2, False)


def test_a_key_that_is_none_is_not_repeated(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in the variable may be somebody's secret."""
    monkeypatch.setenv("X402_MPP_PRIVATE_KEY", KEY + "ff")
    ran = shop.run("--yes")
    assert (ran.exit_code, KEY[2:] in ran.output) == (2, False)


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keystore.json"
    path.write_text(json.dumps(EthAccount.encrypt(KEY, "open sesame", kdf="pbkdf2", iterations=1000)))
    return path


def test_a_keystore_is_opened_with_its_password(
    shop: Shop, keystore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file or the environment; a wrong one is said to be wrong, and a missing one to be missing."""
    (tmp_path / "password").write_text("open sesame\n")
    assert shop.run("--yes", "--keystore", str(keystore), "--password-file", str(tmp_path / "password")).exit_code == 0
    monkeypatch.setenv("X402_MPP_KEYSTORE_PASSWORD", "open sesame")
    assert shop.run("--yes", "--keystore", str(keystore)).exit_code == 0
    monkeypatch.setenv("X402_MPP_KEYSTORE_PASSWORD", "sesame, open up")
    wrong = shop.run("--yes", "--keystore", str(keystore))
    assert (wrong.exit_code, "wrong password" in wrong.stderr, "open up" in wrong.output) == (2, True, False)
    monkeypatch.delenv("X402_MPP_KEYSTORE_PASSWORD")
    assert "--password-file" in shop.run("--yes", "--keystore", str(keystore)).stderr
    assert len(shop.house.settler.settlements) == 2


SIGNER = """
import json, sys
from eth_account import Account
data = json.load(sys.stdin)
for name in ("value", "validAfter", "validBefore"):
    data["message"][name] = int(data["message"][name])
signed = Account.sign_typed_data({key!r}, full_message=data)
print("0x" + signed.signature.hex().removeprefix("0x"))
"""


def test_a_program_may_sign(shop: Shop, tmp_path: Path) -> None:
    """It gets typed data that eth-account signs; no key is with us."""
    script = tmp_path / "sign.py"
    script.write_text(SIGNER.format(key=KEY))
    arguments = ("--yes", "--signer-command", f"{sys.executable} {script}", "--address", PAYER.address)
    assert shop.run(*arguments).exit_code == 0
    script.write_text("import sys; sys.exit('the device is locked')")
    locked = shop.run(*arguments)
    assert (locked.exit_code, "the device is locked" in locked.stderr) == (3, True)
    script.write_text("print('yes')")
    assert "something else than a signature" in shop.run(*arguments).stderr
    missing = shop.run("--yes", "--signer-command", "/nowhere/at/all", "--address", PAYER.address)
    assert (missing.exit_code, "cannot be run" in missing.stderr) == (3, True)


@pytest.fixture
def clef() -> Iterator[str]:
    """A wallet behind JSON-RPC, which signs with eth-account."""

    class Wallet(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert call["method"] == "eth_signTypedData_v4"
            address, data = call["params"]
            if address.lower() != PAYER.address:
                answer: dict[str, Any] = {"error": {"code": -32000, "message": "request denied"}}
            else:
                for name in ("value", "validAfter", "validBefore"):
                    data["message"][name] = int(data["message"][name])
                signed = EthAccount.sign_typed_data(KEY, full_message=data)
                answer = {"result": "0x" + signed.signature.hex().removeprefix("0x")}
            body = json.dumps({"jsonrpc": "2.0", "id": call["id"]} | answer).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Wallet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/a-secret-path"
    server.shutdown()
    server.server_close()


def test_a_wallet_behind_json_rpc_may_sign(shop: Shop, clef: str) -> None:
    """By `eth_signTypedData_v4`; its URL, which may hold a secret, is not repeated."""
    assert shop.run("--yes", "--signer-url", clef, "--address", PAYER.address).exit_code == 0
    denied = shop.run("--yes", "--signer-url", clef, "--address", "0x" + "11" * 20)
    assert (denied.exit_code, "request denied" in denied.stderr) == (3, True)
    away = shop.run("--yes", "--signer-url", "http://127.0.0.1:1/secret", "--address", PAYER.address)
    assert (away.exit_code, "secret" in away.output) == (3, False)


def test_what_a_server_says_does_not_command_the_terminal(shop: Shop) -> None:
    """Its words are shown without control characters."""
    ask = anyio.run(functools.partial(a_402, clock=shop.house.clock, protocols=[MPP]))
    evil = json.dumps({"title": "\x1b[2Jboo", "detail": "x"}).encode()

    def answer(request: httpx.Request, n: int) -> httpx.Response:
        if credential_of(request) is None:
            return httpx.Response(402, headers=ask.headers.multi_items(), content=ask.content)
        return httpx.Response(402, content=evil)

    shop.answer = answer
    ran = shop.run("--yes", "--output", "/dev/null")
    assert ("\x1b" in ran.stderr, "boo" in ran.stderr) == (False, True)


def test_exit_codes_are_told_by_the_help_and_the_docs() -> None:
    """Each with its number."""
    told = {int(number) for number in re.findall(r"^  (\d)  ", EXIT_CODES, re.MULTILINE)}
    page = (ROOT / "docs/client.md").read_text("utf-8")
    documented = {int(number) for number in re.findall(r"^\| (\d) \|", page, re.MULTILINE)}
    assert told == documented == {int(code) for code in ExitCode}
