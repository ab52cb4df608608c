"""While an authorization may still move money and its outcome is open, no other is signed for the same request."""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bridge.client import Ledger, LedgerFailed, OutcomeState, OutcomeUnknown, PaymentAuth, asend, outcome_of, send
from bridge.client import flow as flow_module
from tests.bridge.client.shop import URL, Script, a_402, aclient, client, credential_of, nonces, wallet
from tests.bridge.harness import MPP, V1, V2, House
from translators.payment import Protocol

pytestmark = pytest.mark.anyio

NOW = 1_900_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


async def _asks(*protocols: Protocol) -> httpx.Response:
    return await a_402(protocols=protocols or (V1, V2, MPP))


def _again(answer: httpx.Response) -> httpx.Response:
    return httpx.Response(answer.status_code, headers=answer.headers.multi_items(), content=answer.content)


def paid_by(asked: httpx.Response, *answers: Callable[[], httpx.Response]) -> Script:
    """Asks whoever brings no credential; gives those who do the answers in turn, the last for ever."""
    given: list[Callable[[], httpx.Response]] = list(answers)

    def answer(request: httpx.Request, _: int) -> httpx.Response:
        if credential_of(request) is None:
            return _again(asked)
        return (given.pop(0) if len(given) > 1 else given[0])()

    return Script(answer)


def lost() -> httpx.Response:
    raise httpx.ReadError("the connection was reset")


def status(code: int, **headers: str) -> Callable[[], httpx.Response]:
    return lambda: httpx.Response(code, headers=headers)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited; nobody really waits."""
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    monkeypatch.setattr(time, "sleep", naps.append)
    return naps


@pytest.mark.parametrize("protocol", [V1, V2, MPP])
async def test_a_503_gets_the_same_credential_after_the_time_it_names(protocol: Protocol, slept: list[float]) -> None:
    """One signature, sent three times, and the pause is the server's."""
    ask = await _asks(protocol)
    server = paid_by(ask, status(503, **{"retry-after": "7"}), status(503), status(200))
    purse = wallet(now=Clock())
    async with aclient(server, purse) as shopper:
        answer = await shopper.get(URL)
    assert answer.status_code == 200
    assert len(nonces(purse)) == 1
    assert len(server.credentials) == 3
    assert len(set(server.credentials)) == 1
    assert slept == [7.0, 14.0]


async def test_a_server_that_never_knows_is_given_up_on(slept: list[float]) -> None:
    """Bounded in time; the outcome is unknown, and the next request starts where this one ended."""
    ask = await _asks()
    server = paid_by(ask, status(503))
    purse = wallet(now=Clock(), patience=20.0)
    async with aclient(server, purse) as shopper:
        first = await shopper.get(URL)
        assert (first.status_code, sum(slept) <= 20) == (503, True)
        outcome = outcome_of(first)
        assert outcome is not None
        assert (outcome.state, outcome.delivered) == (OutcomeState.UNKNOWN, False)
        await shopper.get(URL)
    assert len(nonces(purse)) - nonces(purse).count(nonces(purse)[0]) == 0
    assert len(set(server.credentials)) == 1


async def test_a_long_retry_after_is_left_to_the_caller(slept: list[float]) -> None:
    """Nobody waits for an hour inside a request."""
    server = paid_by(await _asks(), status(503, **{"retry-after": "3600"}))
    async with aclient(server, wallet(now=Clock())) as shopper:
        assert (await shopper.get(URL)).status_code == 503
    assert (slept, len(server.credentials)) == ([], 1)


@pytest.mark.parametrize("protocol", [V1, V2, MPP])
def test_after_a_lost_connection_the_same_request_sends_the_same_credential(protocol: Protocol) -> None:
    """By the caller's own retry, with a body and an idempotency key."""
    ask = anyio.run(_asks, protocol)
    server = paid_by(ask, lost, status(200))
    purse = wallet(now=Clock())
    with client(server, purse) as shopper:
        with pytest.raises(httpx.ReadError):
            shopper.post(URL, json={"a": 1})
        assert shopper.post(URL, json={"a": 1}).status_code == 200
    assert len(set(nonces(purse))) == 1
    assert len(set(server.credentials)) == 1
    keys = [r.headers["idempotency-key"] for r in server.requests if credential_of(r)]
    assert keys[0] == keys[1]


def test_send_does_that_by_itself(slept: list[float]) -> None:
    """Bounded: the last error is the caller's."""
    ask = anyio.run(_asks)
    server = paid_by(ask, lost, lost, status(200))
    purse = wallet(now=Clock())
    with client(server, purse) as shopper:
        assert send(shopper, shopper.build_request("GET", URL), attempts=3).status_code == 200
        broken = paid_by(ask, lost)
        with client(broken, wallet(now=Clock())) as other, pytest.raises(httpx.ReadError):
            send(other, other.build_request("GET", URL), attempts=3)
    assert (len(set(nonces(purse))), len(server.credentials), len(broken.credentials)) == (1, 3, 3)


def test_a_post_that_nobody_paid_for_is_not_repeated_once_it_may_have_arrived(slept: list[float]) -> None:
    """A server that charges nothing for it may have done it; where it never left, or was paid for, it is sent again."""
    ask = anyio.run(_asks)
    for error, count in ((httpx.ReadError("reset"), 1), (httpx.ConnectError("no route"), 3)):

        def raising(request: httpx.Request, n: int, error: httpx.TransportError = error) -> httpx.Response:
            raise error

        free = Script(raising)
        with client(free, wallet(now=Clock())) as shopper, pytest.raises(httpx.TransportError):
            send(shopper, shopper.build_request("POST", URL, json={}))
        assert len(free.requests) == count
    server = paid_by(ask, lost, status(200))
    with client(server, wallet(now=Clock())) as shopper:
        assert send(shopper, shopper.build_request("POST", URL, json={})).status_code == 200
    assert len(set(server.credentials)) == 1


async def test_without_a_ledger_nothing_is_signed_and_no_answer_is_lost(tmp_path: Path) -> None:
    """A file that cannot be written stops a payment; one that breaks afterwards does not cost the answer."""
    ask = await _asks(V2)
    server = paid_by(ask, status(200))
    purse = wallet(now=Clock(), ledger=Ledger(tmp_path))
    async with aclient(server, purse) as shopper:
        with pytest.raises(LedgerFailed, match="cannot be used"):
            await shopper.get(URL)
    assert (nonces(purse), server.credentials) == ([], [])

    breaking = Ledger(tmp_path / "ledger")

    def answer() -> httpx.Response:
        breaking.mark = broken  # type: ignore[method-assign]
        return httpx.Response(200, text="the report")

    def broken(*_: object, **__: object) -> None:
        raise LedgerFailed("the disk is full")

    async with aclient(paid_by(ask, answer), wallet(now=Clock(), ledger=breaking)) as shopper:
        assert (await shopper.get(URL)).text == "the report"


async def test_asend_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """For an asynchronous client."""
    server = paid_by(await _asks(), lost, status(200))
    monkeypatch.setattr("bridge.client.resend._FIRST_PAUSE", 0.0)
    async with aclient(server, wallet(now=Clock())) as shopper:
        assert (await asend(shopper, shopper.build_request("GET", URL))).status_code == 200
    assert len(set(server.credentials)) == 1


async def test_another_request_is_another_payment() -> None:
    """Another body, another URL: what is open for one does not answer the other."""
    server = paid_by(await _asks(V2), lost, status(200))
    purse = wallet(now=Clock())
    async with aclient(server, purse) as shopper:
        with pytest.raises(httpx.ReadError):
            await shopper.post(URL, json={"a": 1})
        await shopper.post(URL, json={"a": 2})
        await shopper.post(URL + "?x", json={"a": 1})
    assert len(set(nonces(purse))) == 3


async def test_two_requests_at_once_are_two_payments() -> None:
    """The same twice, side by side, is wanted twice."""
    house = House()
    purse = wallet(now=house.clock)
    async with aclient(httpx.ASGITransport(house.app), purse) as shopper, anyio.create_task_group() as both:
        for _ in range(2):
            both.start_soon(shopper.get, URL)
    assert (len(house.settler.settlements), len(set(nonces(purse)))) == (2, 2)


async def test_one_after_the_other_are_two_payments() -> None:
    """What was delivered is done with."""
    house = House()
    purse = wallet(now=house.clock)
    async with aclient(httpx.ASGITransport(house.app), purse) as shopper:
        await shopper.get(URL)
        await shopper.get(URL)
    assert (len(house.settler.settlements), len(set(nonces(purse)))) == (2, 2)


@pytest.mark.parametrize("protocol", [V1, V2, MPP])
async def test_a_402_after_a_payment_is_not_paid_again(protocol: Protocol) -> None:
    """Not in the same request, and not in the next: while the first could be settled, it is what is sent."""
    asked = await _asks(protocol)
    server = paid_by(asked, lambda: _again(asked))
    clock = Clock()
    purse = wallet(now=clock)
    async with aclient(server, purse) as shopper:
        for _ in range(3):
            answer = await shopper.get(URL)
            outcome = outcome_of(answer)
            assert outcome is not None
            assert (answer.status_code, outcome.state) == (402, OutcomeState.REFUSED)
        # Clocks differ: the chain's may be behind.
        clock.now = outcome.valid_until + 30
        await shopper.get(URL)
        assert len(set(nonces(purse))) == 1
        clock.now = outcome.valid_until + 61
        server._answer = paid_by(await a_402(clock=clock), status(200))._answer
        assert (await shopper.get(URL)).status_code == 200
    assert len(set(nonces(purse))) == 2


async def test_a_402_after_a_lost_answer_is_not_paid_again_even_when_the_time_is_over() -> None:
    """It may have been settled. Who decides otherwise says so."""
    ask = await _asks(V2)
    ledger = Ledger()
    clock = Clock()
    purse = wallet(now=clock, ledger=ledger)
    server = paid_by(ask, lost, lambda: _again(ask))
    async with aclient(server, purse) as shopper:
        with pytest.raises(httpx.ReadError):
            await shopper.get(URL)
        assert (await shopper.get(URL)).status_code == 402
        clock.now += 4000
        with pytest.raises(OutcomeUnknown) as unknown:
            await shopper.get(URL)
        assert unknown.value.payment_id.endswith(nonces(purse)[0])
        assert len(set(nonces(purse))) == 1
        request = shopper.build_request("GET", URL)
        assert PaymentAuth(purse).forget(request) == 1
        await shopper.get(URL)
    assert len(set(nonces(purse))) == 2


@pytest.mark.parametrize(
    ("used", "late", "signed"), [(True, True, 1), (False, False, 1), (False, True, 2)], ids=["used", "alive", "dead"]
)
async def test_a_node_tells_what_became_of_a_lost_payment(used: bool, late: bool, signed: int) -> None:
    """Used: it is paid, and said to be. Unused and past its time: it is paid anew. Else it is left as it is."""
    ask = await _asks(V2)
    clock = Clock()
    purse = wallet(now=clock)

    class Node:
        def now(self) -> int:
            return int(clock.now)

        def is_used(self, asset: Any, payer: str, nonce: str) -> bool:
            return used

    purse.chain = Node()  # type: ignore[assignment]
    server = paid_by(ask, lost, lambda: _again(ask))
    async with aclient(server, purse) as shopper:
        with pytest.raises(httpx.ReadError):
            await shopper.get(URL)
        clock.now += 4000 if late else 0
        answer = await shopper.get(URL)
    outcome = outcome_of(answer)
    assert outcome is not None
    assert outcome.state is (OutcomeState.PAID if used else OutcomeState.REFUSED)
    assert not outcome.delivered
    assert len(set(nonces(purse))) == signed


async def test_what_another_process_left_open_is_taken_up(tmp_path: Path) -> None:
    """Nothing but the file is shared; the authorization is signed again, and is the same one."""
    path = tmp_path / "state" / "payments.sqlite3"
    ask = await _asks(MPP)
    first, second = (wallet(now=Clock(), ledger=Ledger(path)) for _ in range(2))
    server = paid_by(ask, lost, status(200))
    async with aclient(server, first) as shopper:
        with pytest.raises(httpx.ReadError):
            await shopper.get(URL)
    async with aclient(server, second) as shopper:
        assert (await shopper.get(URL)).status_code == 200
    assert nonces(first) == nonces(second)
    assert len(set(server.credentials)) == 1
    kept = path.read_bytes() + b"".join(p.read_bytes() for p in path.parent.iterdir())
    assert path.stat().st_mode & 0o077 == 0
    for secret in (first.signer._key.secret, first.signer._key.secret.hex().encode()):  # type: ignore[attr-defined]
        assert secret not in kept
    for value in server.credentials:
        assert value.removeprefix("Payment ").encode() not in kept


async def test_an_answer_that_breaks_off_is_asked_for_with_the_same_credential() -> None:
    """It was paid for, and not delivered whole."""

    class Breaking(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"half of"
            raise httpx.ReadError("the connection was reset")

    server = paid_by(await _asks(V2), lambda: httpx.Response(200, stream=Breaking()), status(200))
    purse = wallet(now=Clock())
    async with aclient(server, purse) as shopper:
        with pytest.raises(httpx.ReadError):
            await shopper.get(URL)
        await shopper.get(URL)
    assert len(set(server.credentials)) == 1
    assert len(server.credentials) == 2


async def test_a_reader_who_has_had_enough_has_lost_nothing() -> None:
    """The next request is a new one."""
    house = House()
    purse = wallet(now=house.clock)
    async with aclient(httpx.ASGITransport(house.app), purse) as shopper:
        async with shopper.stream("GET", URL) as answer:
            async for _ in answer.aiter_bytes():
                break
        await shopper.get(URL)
    assert len(set(nonces(purse))) == 2


async def test_a_refused_mpp_credential_goes_on_in_x402_with_the_same_signature() -> None:
    """Some MPP servers hash the challenge otherwise and refuse the draft's nonce; x402 takes any, so one authorization
    serves both, and cannot be settled twice."""
    ask = await _asks()

    def answer(request: httpx.Request, n: int) -> httpx.Response:
        return httpx.Response(200) if "payment-signature" in request.headers else _again(ask)

    server = Script(answer)
    purse = wallet(now=Clock())
    async with aclient(server, purse) as shopper:
        outcome = outcome_of(await shopper.get(URL))
    assert outcome is not None
    assert (outcome.state, outcome.protocol, outcome.presented) == (OutcomeState.PAID, V2, 2)
    assert len(nonces(purse)) == 1


async def test_the_settled_answer_of_our_own_gate_comes_with_the_same_credential() -> None:
    """The gate settles, the answer is lost, and the same request gets it; charged once."""
    house = House(replay_bytes=65536)
    lose = [True]
    inside = httpx.ASGITransport(house.app)

    class Losing(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await inside.handle_async_request(request)
            if answer.status_code == 200 and lose and lose.pop():
                raise httpx.ReadError("the connection was reset")
            return answer

    async with aclient(Losing(), wallet(now=house.clock)) as shopper:
        with pytest.raises(httpx.ReadError):
            await shopper.get(URL)
        answer = await shopper.get(URL)
    assert (answer.status_code, answer.text) == (200, "the report")
    assert len(house.settler.settlements) == 1


async def test_a_challenge_that_comes_twice_is_paid_once() -> None:
    """A server that repeats a challenge would get the same authorization for two requests."""
    ask = await _asks(MPP)
    server = paid_by(ask, status(200))
    async with aclient(server, wallet(now=Clock())) as shopper:
        await shopper.get(URL)
        with pytest.raises(Exception, match="was paid with before"):
            await shopper.get(URL)


def test_statuses_that_ask_for_patience_are_few() -> None:
    """A 500 is the handler's failure, and is not knocked at again."""
    assert sorted(flow_module._AGAIN) == [409, 425, 429, 502, 503, 504]
