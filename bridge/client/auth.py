"""`httpx.Auth` that pays: the two drivers of one flow, and the streams that notice when a paid answer breaks off."""

import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from typing import Any, assert_never

import httpx

from bridge.client.errors import BodyTooLong, LedgerFailed
from bridge.client.flow import Call, Flow, Keep, Send, Wait
from bridge.client.ledger import State
from bridge.client.outcome import OutcomeState, outcome_of
from bridge.client.wallet import Wallet, request_key

__all__ = ["PaymentAuth"]


class PaymentAuth(httpx.Auth):
    """Pays for what it has to, in whichever protocol the server offers; for `httpx.Client` and `httpx.AsyncClient`.

    `outcome_of(response)` tells what was paid. Raises a `PayError` where the wallet's rules, or the server, keep it
    from paying. A transport error after a payment is raised as it is: the same request, made again, sends the same
    credential (`bridge.client.send` does that).
    """

    def __init__(self, wallet: Wallet) -> None:
        self.wallet = wallet

    def forget(self, request: httpx.Request) -> int:
        """Let `request`, whose body is not a stream, be paid anew although an earlier payment's outcome is not known.

        For a person to decide. How many payments that were.
        """
        key = request_key(request, request.read(), self.wallet.signer.address)
        return self.wallet.ledger.forget(key)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """httpx calls this, from `Client`."""
        with closing(Flow(self.wallet).run(request)) as steps:
            answer: Any = None
            error: Exception | None = None
            response: httpx.Response | None = None
            while True:
                try:
                    step = steps.send(answer) if error is None else steps.throw(error)
                except StopIteration:
                    break
                answer = error = None
                try:
                    match step:
                        case Send():
                            answer = response = yield step.request
                            if response.status_code == 402:
                                response.read()
                        case Keep():
                            answer = _kept(step.request, _parts(step.request, self.wallet.max_body_bytes))
                        case Wait():
                            time.sleep(step.seconds)
                        case Call():
                            answer = step.function()
                        case _:
                            assert_never(step)
                except Exception as raised:
                    error = raised
        self._watch(response)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """httpx calls this, from `AsyncClient`."""
        import anyio.to_thread  # httpx brings it, for asynchronous clients

        with closing(Flow(self.wallet).run(request)) as steps:
            answer: Any = None
            error: Exception | None = None
            response: httpx.Response | None = None
            while True:
                try:
                    step = steps.send(answer) if error is None else steps.throw(error)
                except StopIteration:
                    break
                answer = error = None
                try:
                    match step:
                        case Send():
                            answer = response = yield step.request
                            if response.status_code == 402:
                                await response.aread()
                        case Keep():
                            parts = [part async for part in _aparts(step.request, self.wallet.max_body_bytes)]
                            answer = _kept(step.request, parts)
                        case Wait():
                            await anyio.sleep(step.seconds)
                        case Call():
                            answer = await anyio.to_thread.run_sync(step.function)
                        case _:
                            assert_never(step)
                except Exception as raised:
                    error = raised
        self._watch(response)

    def _watch(self, response: httpx.Response | None) -> None:
        """Have a paid answer noticed that breaks off: its request gets the same credential when it comes again."""
        outcome = outcome_of(response) if response is not None else None
        if response is None or outcome is None or outcome.state is not OutcomeState.PAID or response.is_stream_consumed:
            return

        def broken() -> None:
            # One row of a local file: quick enough to be written where nobody can wait.
            with suppress(LedgerFailed):
                self.wallet.ledger.mark(outcome.payment_id, State.OPEN, doubtful=True)

        if isinstance(response.stream, httpx.AsyncByteStream) and not isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _AsyncWatched(response.stream, broken)
        elif isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _Watched(response.stream, broken)


class _Watched(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, broken: Callable[[], None]) -> None:
        self._stream = stream
        self._broken = broken

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except GeneratorExit:
            # The reader has had enough: that is no loss.
            raise
        except BaseException:
            self._broken()
            raise

    def close(self) -> None:
        """Close the answer."""
        self._stream.close()


class _AsyncWatched(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, broken: Callable[[], None]) -> None:
        self._stream = stream
        self._broken = broken

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except GeneratorExit:
            raise
        except BaseException:
            self._broken()
            raise

    async def aclose(self) -> None:
        """Close the answer."""
        await self._stream.aclose()


def _parts(request: httpx.Request, most: int) -> Iterator[bytes]:
    """The body, of at most so many bytes where it cannot be sent twice as it is."""
    stream = request.stream
    if not isinstance(stream, httpx.SyncByteStream):
        raise RuntimeError("an asynchronous body cannot be sent by a synchronous client")
    left = _room(request, most)
    for part in stream:
        left -= len(part)
        _check_room(left, most)
        yield part


async def _aparts(request: httpx.Request, most: int) -> AsyncIterator[bytes]:
    stream = request.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        raise RuntimeError("a synchronous body cannot be sent by an asynchronous client")
    left = _room(request, most)
    async for part in stream:
        left -= len(part)
        _check_room(left, most)
        yield part


def _room(request: httpx.Request, most: int) -> int:
    """How many bytes are taken: what is in memory anyway, whole; of a stream, no more than may be kept."""
    if isinstance(request.stream, httpx.ByteStream):
        return sys.maxsize
    length = request.headers.get("Content-Length", "")
    _check_room(most - int(length) if length.isdecimal() else 0, most)
    return most


def _check_room(left: int, most: int) -> None:
    if left < 0:
        raise BodyTooLong(
            f"a request that may have to be paid for is sent twice, and its body is a stream of more than {most} bytes:"
            " give the body as bytes, or raise max_body_bytes"
        )


def _kept(request: httpx.Request, parts: Iterable[bytes]) -> bytes:
    """Give the request a body that can be sent as often as need be."""
    body = b"".join(parts)
    if not isinstance(request.stream, httpx.ByteStream):
        request.stream = httpx.ByteStream(body)
        if request.headers.pop("Transfer-Encoding", None) is not None:
            # Its length is known now, and a challenge can be bound to it.
            request.headers["Content-Length"] = str(len(body))
    return body
