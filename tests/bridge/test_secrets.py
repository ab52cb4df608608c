"""Known secrets are fed through every path, and everything that comes out is searched for them."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import structlog

from bridge.config import ConfigError, PaymentConfig
from bridge.logs import configure_logs
from bridge.payers import sign
from bridge.stores import MemoryStore
from bridge.stores.base import Record
from bridge.testing import FakeSettler
from tests.bridge.harness import (
    KEY,
    MPP,
    PAYER,
    PROTOCOLS,
    RECIPIENT,
    V2,
    House,
    envelope,
    reply,
    token_json,
    visit_raising,
    with_token,
)
from tests.bridge.test_bad_input import CASES, Bench, Row, Said
from translators.errors import (
    AlreadyUsed,
    InsufficientFunds,
    OutcomeUnknown,
    PaymentError,
    SettlementFailed,
    Unavailable,
    VerificationFailed,
)
from translators.payment import Payment, Protocol

pytestmark = pytest.mark.anyio

OLD_KEY = b"an older secret of the tests, 32 bytes at least"


class Net:
    """Catches what is logged: structlog as JSON with tracebacks, and the standard library at every level."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self.others: list[str] = []

    @property
    def caught(self) -> str:
        return self.text.getvalue() + "".join(self.others)


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net()
    before = structlog.get_config()
    configure_logs(json=True, stream=net.text)
    # Loggers that were made before this test follow the configuration of the moment.
    structlog.configure(cache_logger_on_first_use=False)
    handler = logging.StreamHandler(net.text)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield net
    root.removeHandler(handler)
    root.setLevel(level)
    structlog.configure(**before)


def secrets_in(headers: list[tuple[str, str]]) -> list[str]:
    """The credential as a whole and in halves, and the signature in hexadecimal, in halves."""
    found: list[str] = []
    for header in headers:
        bare = header[1].removeprefix("Payment ")
        signature = str(token_json(header)["payload"]["signature"])
        found += [bare, bare[:80], bare[-80:], signature[2:66], signature[66:130]]
    return found


ALWAYS = [KEY.decode(), OLD_KEY.decode(), PAYER.private_key, PAYER.private_key[2:]]

Fate = Callable[[House], None]


def chain_says(error: Exception) -> Fate:
    def prepare(house: House) -> None:
        def fail(_: Payment) -> None:
            raise error

        house.settler.on_verify = fail

    return prepare


def settling_says(make: Callable[[Payment], Exception]) -> Fate:
    def prepare(house: House) -> None:
        def fail(payment: Payment) -> None:
            raise make(payment)

        house.settler.on_settle = fail

    return prepare


def handler_answers(status: int) -> Fate:
    def prepare(house: House) -> None:
        house.messages = reply(status, b"")

    return prepare


def handler_crashes(house: House) -> None:
    async def crash(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    house.handler = crash


def store_is_away(house: House) -> None:
    class Away(MemoryStore):
        async def advance(self, *args: Any, **more: Any) -> Any:
            raise RuntimeError(f"cannot write {args} {more}")

    house.app.gate.desk.store = Away()


def tells(payment: Payment) -> Exception:
    """A settler's defect whose message quotes all that it was about to send."""
    return RuntimeError(f"cannot send {payment.authorization.signature.hex()} of {payment!r}")


PATHS: dict[str, Fate] = {
    "paid": lambda house: None,
    "used": chain_says(AlreadyUsed("used")),
    "no funds": chain_says(InsufficientFunds("too little")),
    "no node": chain_says(Unavailable("no node answers")),
    "the wallet says no": chain_says(VerificationFailed("no")),
    "settlement failed": settling_says(lambda _: SettlementFailed("it reverted")),
    "outcome unknown": settling_says(lambda _: OutcomeUnknown("it may have moved")),
    "settler defect": settling_says(tells),
    "handler 404": handler_answers(404),
    "handler 500": handler_answers(500),
    "handler crashes": handler_crashes,
    "store away": store_is_away,
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("policy", ["on_success", "first"])
@pytest.mark.parametrize("path", PATHS)
async def test_no_secret_comes_out(protocol: Protocol, policy: str, path: str, net: Net) -> None:
    """Neither in the answer, nor in an event, nor in any log, nor in what the journal keeps."""
    house = House(settle=policy, secret_keys=[KEY, OLD_KEY])
    PATHS[path](house)
    header = await house.credential(protocol)
    try:
        answers = [await house.visit(headers=[header]), await house.visit(headers=[header])]
        said = "".join(answer.text_of_everything for answer in answers)
    except ZeroDivisionError:
        said = ""
    kept = repr(vars(house.store)) if isinstance(house.store, MemoryStore) else ""
    everything = said + repr(house.told) + net.caught + kept
    assert "payment." in net.caught
    for secret in ALWAYS + secrets_in([header]):
        assert secret not in everything
    for line in net.text.getvalue().splitlines():
        if line.startswith("{"):
            json.loads(line)


@pytest.mark.parametrize(("row", "protocol", "said"), CASES)
async def test_no_bad_input_is_logged(row: Row, protocol: Protocol, said: Said, net: Net) -> None:
    """What cannot be paid with is not written down either."""
    bench = Bench(protocol)
    headers = await row.spoil(bench)
    await bench.house.visit(headers=headers)
    for _, value in headers:
        bare = value.removeprefix("Payment ").strip()
        if len(bare) >= 8:
            assert bare[:64] not in net.caught
            assert bare[-64:] not in net.caught
    assert "d0n0tech0me" not in net.caught


async def test_secret_in_the_query_is_not_told(net: Net) -> None:
    """A query may hold an API key of the application's."""
    house = House()
    header = await house.credential(V2)
    answer = await house.visit(headers=[header], query_string=b"api_key=hunter2")
    refused = await house.visit(query_string=b"api_key=hunter2")
    everything = answer.text_of_everything + refused.text_of_everything + repr(house.told) + net.caught
    assert "hunter2" not in everything


async def test_secret_in_another_header_is_not_told(net: Net) -> None:
    """Cookies and bearer tokens are the application's."""
    house = House()
    own = [("Cookie", "session=hunter2"), ("Authorization", "Bearer hunter2"), ("Idempotency-Key", "hunter2-hunter2")]
    await house.visit(headers=own)
    await house.visit(headers=[*own, await house.credential(V2)])
    assert "hunter2" not in repr(house.told) + net.caught


async def test_extension_of_a_client_is_not_told(net: Net) -> None:
    """What a client puts beside its payment is its own affair."""
    house = House()
    header = await house.credential(V2)
    content = token_json(header)
    content["extensions"] = {"private": {"info": "hunter2"}}
    assert (await house.visit(headers=[with_token(header, content)])).status_code == 200
    assert "hunter2" not in repr(house.told) + net.caught + repr(house.store.__dict__)


async def test_reprs() -> None:
    """What ends up in a traceback or a debugger's log shows no secret."""
    house = House(secret_keys=[KEY, OLD_KEY])
    asked = await house.ask(MPP)
    payment = sign(asked, PAYER, house.clock())
    signature = payment.authorization.signature
    header = envelope(payment, asked)
    things: list[Any] = [house.config, house.app, house.app.gate, house.app.gate.desk, payment, payment.authorization]
    things += [PAYER, house.app.gate.verifier, house.app.gate.desk.responder, house.settler, house.store]
    shown = "".join(map(repr, things)) + "".join(map(str, things))
    for secret in [*ALWAYS, signature.hex(), repr(signature)[2:40], header[1].removeprefix("Payment ")]:
        assert secret not in shown


@pytest.mark.parametrize("keys", [["short-secret"], [b"short-secret"], "short-secret", b"short-secret", []])
def test_refused_secret_is_not_in_the_error(keys: Any) -> None:
    """A secret that is too short is not quoted."""
    with pytest.raises(ConfigError) as caught:
        PaymentConfig(RECIPIENT, FakeSettler(), secret_keys=keys).build()
    assert "short-secret" not in str(caught.value)


async def test_uncaught_error_names_no_secret(net: Net) -> None:
    """What the application raises goes on as it is, and nothing of ours is added to it."""

    async def crash(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError("division by zero")

    house = House(handler=crash)
    header = await house.credential(V2)
    _, error = await visit_raising(house.app, headers=[header])
    assert (str(error), error.__notes__ if hasattr(error, "__notes__") else []) == ("division by zero", [])


LEVERS = {"stage", "instead", "migration", "over_in"}
"""What the owner's own settings say, and no request."""


def test_every_error_can_be_said_without_a_secret() -> None:
    """The table of errors has no member that could hold one: detail and reason only."""

    def walk(kind: type[PaymentError]) -> Iterator[type[PaymentError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from walk(child)

    for kind in walk(PaymentError):
        assert set(vars(kind("said"))) <= {"detail", "reason", "retry_after", "transaction", *LEVERS}


def test_journal_has_no_place_for_a_signature() -> None:
    """A row names payer, amount and transaction, and nothing that could be sent again."""
    assert "signature" not in {field.name for field in msgspec.structs.fields(Record)}
