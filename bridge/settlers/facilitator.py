"""Settling through an x402 facilitator: it sends the transaction and pays the gas, we send it the authorization.

A payment of any protocol goes out in the x402 version that the facilitator supports: an MPP authorization is a good
x402 payload, because x402 takes any nonce.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx
import msgspec

from bridge.settlers.base import BeforeBroadcast, Found, SettlerConfigError
from bridge.settlers.facilitator_answers import Kind, Pending, read_settlement, read_supported, read_verdict
from bridge.stores.base import Record
from translators import x402
from translators.checks import is_proven
from translators.errors import MalformedError, OutcomeUnknown, Unavailable
from translators.networks import caip2, v1_network
from translators.payment import Offer, Payment, Resource, Settlement
from translators.wire import x402_v2 as v2

__all__ = ["FacilitatorSettler", "Headers"]

Headers = Callable[[str, str], Mapping[str, str] | Awaitable[Mapping[str, str]]]
"""Makes the headers that authenticate a request, from its method and URL: some facilitators want both signed."""

_MAX_BODY: Final = 256 * 1024
"""The longest answer that is read, in bytes."""

_CONNECT_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 3.0
"""Node's servers close a connection after five idle seconds. A request that meets the closing may have been read, and
its payment's outcome would be unknown."""

_TRIES: Final = 3
_PAUSE_SECONDS: Final = 1.0
_MAX_RETRY_AFTER: Final = 300


class _Answer(NamedTuple):
    status: int
    body: bytes
    retry_after: str | None


class _NoAnswer(Exception):
    """No whole answer came; `maybe_sent` says whether the request can have reached the facilitator."""

    def __init__(self, *, maybe_sent: bool) -> None:
        super().__init__()
        self.maybe_sent = maybe_sent


class FacilitatorSettler:
    """Verifies and settles by the facilitator whose endpoints stand below `url`.

    `headers` is asked before every request. `timeout_seconds` is the longest that one answer may take, all of it; a
    settlement that the facilitator calls pending is asked for once more. With `verify=False` the facilitator is first
    asked at settlement. `clock` gives Unix seconds. Raises `ValueError` for a URL that is not https, except http on
    loopback or to a name without a dot (a neighbouring container).
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Headers | None = None,
        timeout_seconds: float = 25.0,
        verify: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        _check_url(url)
        self._url = url.rstrip("/")
        self._host = urlsplit(url).hostname
        self._headers = headers
        self._timeout_seconds = timeout_seconds
        self._verifies = verify
        self._clock = clock
        self._versions: dict[int, int] = {}
        self._client: httpx.AsyncClient | None = None

    async def start(self, offers: Sequence[Offer]) -> None:
        """Ask what the facilitator supports; raises `SettlerConfigError` when that does not cover every offer."""
        connect = min(_CONNECT_SECONDS, self._timeout_seconds / 2)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(self._timeout_seconds, connect=connect, pool=connect),
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=_IDLE_SECONDS),
            # No compression: the bound on an answer is one on what it unpacks to as well.
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )
        try:
            kinds = await self._supported()
            self._versions = {chain: _version(kinds, chain) for chain in {offer.asset.chain_id for offer in offers}}
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def verify(self, payment: Payment, offer: Offer, resource: Resource) -> None:
        """Ask `/verify`; raises the payment's error, or `Unavailable` when the facilitator gives no verdict."""
        if not self._verifies:
            return
        try:
            answer = await self._request("POST", "/verify", self._body(payment, offer, resource))
        except _NoAnswer:
            raise Unavailable("the facilitator does not answer") from None
        _check_rate(answer)
        read_verdict(answer.status, answer.body)

    async def settle(
        self, payment: Payment, offer: Offer, resource: Resource, before_broadcast: BeforeBroadcast
    ) -> Settlement:
        """Ask `/settle`; raises as `Settler.settle` says. What cannot be told is `OutcomeUnknown`."""
        body = self._body(payment, offer, resource)
        headers = await self._authentication("POST", "/settle")
        await before_broadcast("")
        try:
            transaction = await self._settle(body, headers, payment.chain_id)
        except Pending as pending:
            transaction = await self._settle_again(body, payment.chain_id, pending, before_broadcast)
        authorization = payment.authorization
        return Settlement(
            payment_id=payment.id,
            protocol=payment.protocol,
            chain_id=payment.chain_id,
            asset=payment.asset,
            amount=authorization.value,
            payer=authorization.payer,
            recipient=authorization.recipient,
            transaction=transaction,
            settled_at=self._clock(),
        )

    async def find(self, record: Record) -> Found | None:
        """None: a facilitator cannot be asked what became of an authorization."""
        return None

    async def check_signature(self, payment: Payment, offer: Offer) -> None:
        """Prove what can be proven without a chain; `Unavailable` for a contract wallet's signature."""
        if not is_proven(payment, offer):
            raise Unavailable("a contract wallet's signature cannot be judged without a node of the chain")

    async def ping(self) -> None:
        """Ask what the facilitator supports; raises `Unavailable` when it does not say."""
        try:
            answer = await self._request("GET", "/supported", None)
        except _NoAnswer:
            raise Unavailable("the facilitator does not answer") from None
        if answer.status >= 300:
            raise Unavailable(f"the facilitator answers with status {answer.status}")

    async def _settle(self, body: bytes, headers: Mapping[str, str], chain_id: int) -> str:
        try:
            answer = await self._send("POST", "/settle", body, headers)
        except _NoAnswer as error:
            if error.maybe_sent:
                raise OutcomeUnknown("the facilitator was asked to settle, and does not answer") from None
            raise Unavailable("the facilitator does not answer; nothing was sent") from None
        _check_rate(answer)
        return read_settlement(answer.status, answer.body, chain_id)

    async def _settle_again(
        self, body: bytes, chain_id: int, pending: Pending, before_broadcast: BeforeBroadcast
    ) -> str:
        """Ask the same once more, as hosted facilitators want it: they look at the transaction that they have sent."""
        try:
            await before_broadcast(pending.transaction)
            return await self._settle(body, await self._authentication("POST", "/settle"), chain_id)
        except Exception:  # whatever is wrong now, a transaction is under way
            raise pending from None

    def _body(self, payment: Payment, offer: Offer, resource: Resource) -> bytes:
        version = self._versions[payment.chain_id]
        payload: Any
        requirements: Any
        if version == 2:
            requirements = x402.to_requirements_v2(offer)
            info = v2.ResourceInfo(
                url=resource.url, description=resource.description or None, mime_type=resource.mime_type or None
            )
            payload = x402.to_payload_v2(payment, msgspec.to_builtins(requirements), msgspec.to_builtins(info))
        else:
            requirements = x402.to_requirements_v1(offer, resource)
            payload = x402.to_payload_v1(payment)
        return msgspec.json.encode(
            {"x402Version": version, "paymentPayload": payload, "paymentRequirements": requirements}
        )

    async def _supported(self) -> list[Kind]:
        problem = "does not answer"
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(_PAUSE_SECONDS)
            try:
                answer = await self._request("GET", "/supported", None)
            except _NoAnswer:
                continue
            except Unavailable as error:
                raise SettlerConfigError(f"the facilitator {self._host}: {error.detail}") from None
            if answer.status < 300:
                try:
                    return read_supported(answer.body)
                except MalformedError as error:
                    problem = f"answers /supported with something else: {error.detail}"
            else:
                problem = f"answers /supported with status {answer.status}"
            if answer.status < 500 and answer.status != 429:
                break
        raise SettlerConfigError(f"the facilitator {self._host} {problem}")

    async def _request(self, method: str, path: str, body: bytes | None) -> _Answer:
        return await self._send(method, path, body, await self._authentication(method, path))

    async def _authentication(self, method: str, path: str) -> Mapping[str, str]:
        """The headers for one request; `Unavailable` when they cannot be made, for nothing was sent then."""
        if self._headers is None:
            return {}
        try:
            made = self._headers(method, self._url + path)
            return await made if inspect.isawaitable(made) else made
        except Exception:  # the application's own code: its message may hold what it failed to sign with
            raise Unavailable("the request to the facilitator could not be authenticated") from None

    async def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> _Answer:
        """One request and its whole answer, of bounded size and within the time-out; raises `_NoAnswer`."""
        if self._client is None:
            raise RuntimeError("the settler was not started")
        typed = {"Content-Type": "application/json", **headers} if body is not None else dict(headers)
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._client.stream(method, self._url + path, content=body, headers=typed) as response,
            ):
                content = bytearray()
                async for chunk in response.aiter_raw():
                    content += chunk
                    if len(content) > _MAX_BODY:
                        raise _NoAnswer(maybe_sent=True)
                return _Answer(response.status_code, bytes(content), response.headers.get("Retry-After"))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol):
            raise _NoAnswer(maybe_sent=False) from None
        except (httpx.HTTPError, TimeoutError):
            raise _NoAnswer(maybe_sent=True) from None


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    near = host == "::1" or host.startswith("127.") or "." not in host
    if not host or parts.query or parts.fragment or parts.scheme not in ("https", "http"):
        raise ValueError("a facilitator is given by its URL, such as https://x402.org/facilitator")
    if parts.scheme == "http" and not near:
        # Its word is taken for money: whoever can forge it is served for nothing.
        raise ValueError("a facilitator beyond this host's neighbours is asked by https only")


def _version(kinds: Sequence[Kind], chain_id: int) -> int:
    """The x402 version in which the facilitator settles on a chain, the newer one first."""
    versions = {kind.x402_version for kind in kinds if kind.scheme == x402.SCHEME and kind.covers(chain_id)}
    if 2 in versions:
        return 2
    if 1 in versions and v1_network(chain_id) is not None:
        return 1
    supported = sorted(f"{kind.scheme} on {kind.network} (v{kind.x402_version})" for kind in kinds)
    raise SettlerConfigError(
        f"the facilitator does not settle {x402.SCHEME} on {caip2(chain_id)}; it supports "
        + (", ".join(dict.fromkeys(supported)) or "nothing")
    )


def _check_rate(answer: _Answer) -> None:
    if answer.status == 429:
        wait = answer.retry_after or ""
        seconds = int(wait) if wait.isascii() and wait.isdecimal() and len(wait) < 10 else 5
        raise Unavailable("the facilitator is asked too often", retry_after=max(1, min(seconds, _MAX_RETRY_AFTER)))
