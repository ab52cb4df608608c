"""`httpx.Auth` that pays: the two drivers of one flow, and the streams that notice when a paid answer breaks off."""

import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, TypeVar, assert_never

import httpx

from bridge.client.errors import BodyTooLong, LedgerFailed
from bridge.client.flow import Call, Flow, Keep, Send, Step, Steps, Wait
from bridge.client.ledger import State
from bridge.client.outcome import OutcomeState, outcome_of
from bridge.client.wallet import Wallet, request_key

__all__ = ["PaymentAuth"]

T = TypeVar("T")


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
        with closing(_Course(Flow(self.wallet).run(request))) as course:
            for step in course:
                with course.answering():
                    match step:
                        case Send():
                            course.response = response = yield step.request
                            if response.status_code == 402:
                                response.read()
                        case Keep():
                            body = _Body(step.request, self.wallet.max_body_bytes)
                            course.answer = body.keep([body.take(part) for part in body.stream(httpx.SyncByteStream)])
                        case Wait():
                            time.sleep(step.seconds)
                        case Call():
                            course.answer = step.function()
                        case _:
                            assert_never(step)
        self._watch(course.response)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """httpx calls this, from `AsyncClient`."""
        import anyio.to_thread  # httpx brings it, for asynchronous clients

        with closing(_Course(Flow(self.wallet).run(request))) as course:
            for step in course:
                with course.answering():
                    match step:
                        case Send():
                            course.response = response = yield step.request
                            if response.status_code == 402:
                                await response.aread()
                        case Keep():
                            body = _Body(step.request, self.wallet.max_body_bytes)
                            parts = body.stream(httpx.AsyncByteStream)
                            course.answer = body.keep([body.take(part) async for part in parts])
                        case Wait():
                            await anyio.sleep(step.seconds)
                        case Call():
                            course.answer = await anyio.to_thread.run_sync(step.function)
                        case _:
                            assert_never(step)
        self._watch(course.response)

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


class _Course:
    """The steps of a flow, one after the other: what one was answered, or raised, is handed to the next."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._error: Exception | None = None
        self.answer: Any = None
        """What the flow gets for its step."""
        self._response: httpx.Response | None = None

    @property
    def response(self) -> httpx.Response | None:
        """The last response; it is the answer to its step, too."""
        return self._response

    @response.setter
    def response(self, response: httpx.Response) -> None:
        self._response = self.answer = response

    def __iter__(self) -> Iterator[Step]:
        while True:
            answer, error = self.answer, self._error
            self.answer = self._error = None
            try:
                step = self._steps.send(answer) if error is None else self._steps.throw(error)
            except StopIteration:
                return
            yield step

    @contextmanager
    def answering(self) -> Iterator[None]:
        """What goes wrong here, the flow hears of."""
        try:
            yield
        except Exception as error:
            self._error = error

    def close(self) -> None:
        """No more of it."""
        self._steps.close()


@contextmanager
def _noticing(broken: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except GeneratorExit:
        # The reader has had enough: that is no loss.
        raise
    except BaseException:
        broken()
        raise


class _Watched(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, broken: Callable[[], None]) -> None:
        self._stream = stream
        self._broken = broken

    def __iter__(self) -> Iterator[bytes]:
        with _noticing(self._broken):
            yield from self._stream

    def close(self) -> None:
        """Close the answer."""
        self._stream.close()


class _AsyncWatched(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, broken: Callable[[], None]) -> None:
        self._stream = stream
        self._broken = broken

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _noticing(self._broken):
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        """Close the answer."""
        await self._stream.aclose()


class _Body:
    """The body of a request, of at most `most` bytes where it cannot be sent twice as it is."""

    def __init__(self, request: httpx.Request, most: int) -> None:
        self._request = request
        self._most = most
        # What is in memory anyway is taken whole; of a stream, no more than may be kept.
        self._left = sys.maxsize if isinstance(request.stream, httpx.ByteStream) else most

    def stream(self, kind: type[T]) -> T:
        """Its parts, for a client that sends a stream of this kind."""
        stream = self._request.stream
        if not isinstance(stream, kind):
            is_sync = kind is httpx.SyncByteStream
            body, client = ("an asynchronous", "a synchronous") if is_sync else ("a synchronous", "an asynchronous")
            raise RuntimeError(f"{body} body cannot be sent by {client} client")
        length = self._request.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > self._left:
            raise self._too_long()
        return stream

    def take(self, part: bytes) -> bytes:
        """One part, while there is room."""
        self._left -= len(part)
        if self._left < 0:
            raise self._too_long()
        return part

    def keep(self, parts: Iterable[bytes]) -> bytes:
        """Give the request a body that can be sent as often as need be."""
        body, request = b"".join(parts), self._request
        if not isinstance(request.stream, httpx.ByteStream):
            request.stream = httpx.ByteStream(body)
            if request.headers.pop("Transfer-Encoding", None) is not None:
                # Its length is known now, and a challenge can be bound to it.
                request.headers["Content-Length"] = str(len(body))
        return body

    def _too_long(self) -> BodyTooLong:
        return BodyTooLong(
            f"a request that may have to be paid for is sent twice, and its body is a stream of more than {self._most}"
            " bytes: give the body as bytes, or raise max_body_bytes"
        )
