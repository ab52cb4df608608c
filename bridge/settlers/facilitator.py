"""Settling through an x402 facilitator: it sends the transaction and pays the gas, we send it the authorization.

A payment of any protocol goes out in the x402 version that the facilitator supports: an MPP authorization is a good
x402 payload, because x402 takes any nonce.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from bridge.settlers.base import BeforeBroadcast, Found, SettlerConfigError, SettlerUnreachable, settlement_of
from bridge.settlers.chain_reader import ChainReader, nothing_sent
from bridge.settlers.eip3009_calls import plain_signature
from bridge.settlers.facilitator_answers import Doubtful, Kind, Pending, read_settlement, read_supported, read_verdict
from bridge.settlers.facilitator_http import FacilitatorHttp, Headers, NoAnswer, check_rate
from bridge.settlers.facilitator_proof import prove
from bridge.settlers.foreign import check_foreign_kinds, foreign_body
from bridge.stores.base import Record
from translators import x402
from translators.checks import is_proven
from translators.errors import MalformedError, OutcomeUnknown, Unavailable
from translators.networks import caip2, v1_network
from translators.payment import Offer, Payment, Resource, Settlement
from translators.wire import x402_v2 as v2

__all__ = ["FacilitatorSettler", "Headers"]

_TRIES: Final = 3
_PAUSE_SECONDS: Final = 1.0


class FacilitatorSettler:
    """Verifies and settles by the facilitator whose endpoints stand below `url`.

    `headers` is asked before every request. `timeout_seconds` is the longest that one answer may take, all of it; a
    settlement that the facilitator calls pending is asked for once more. With `verify=False` the facilitator is first
    asked at settlement. `clock` gives Unix seconds. Raises `ValueError` for a URL that is not https, except http on
    loopback or to a name without a dot (a neighbouring container).

    With `rpc_url` (one node's or several, as for `ChainSettler`) its word is not taken: a settlement counts when the
    transaction that it names exists, has `confirmations` blocks, and carried this very payment; and where its answer
    leaves the outcome open, the chain is asked, for at most `check_seconds`. The chain also answers for contract
    wallets and for what became of earlier payments, searching `lookback_blocks` back. Offers on other chains than the
    nodes' are settled on the facilitator's word.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Headers | None = None,
        timeout_seconds: float = 25.0,
        verify: bool = True,
        rpc_url: str | Sequence[str] | None = None,
        confirmations: int = 1,
        check_seconds: float = 10.0,
        lookback_blocks: int = 2_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = FacilitatorHttp(url, headers, timeout_seconds)
        self._verifies = verify
        self._check_seconds = check_seconds
        self._clock = clock
        self._versions: dict[int, int] = {}
        self._reader = None
        if rpc_url is not None:
            self._reader = ChainReader(rpc_url, confirmations=confirmations, lookback_blocks=lookback_blocks)

    def __repr__(self) -> str:
        """Name the host alone: a path, or a node's URL, may hold a key."""
        return f"FacilitatorSettler({self._http.host!r})"

    async def start(self, offers: Sequence[Offer]) -> None:
        """Ask what the facilitator supports, and for the nodes' chain.

        Raises `SettlerConfigError` when that does not cover every offer, or the nodes are on none of their chains.
        """
        self._http.open()
        own = [offer for offer in offers if offer.foreign is None]
        chains = {offer.asset.chain_id for offer in own}
        try:
            kinds = await self._supported()
            check_foreign_kinds(offers, kinds)
            self._versions = {chain: _version(kinds, chain) for chain in chains}
            if self._reader is not None:
                await self._start_reader(self._reader, own)
        except BaseException:
            await self.close()
            raise

    async def _start_reader(self, reader: ChainReader, offers: Sequence[Offer]) -> None:
        from bridge.settlers.chain_checks import check_token

        chain_id = await reader.start(set())
        chains = {offer.asset.chain_id for offer in offers}
        if chains and chain_id not in chains:
            raise SettlerConfigError(
                f"the chain's node is on chain {chain_id}, and payments are asked for on {sorted(chains)}"
            )
        for asset in dict.fromkeys(offer.asset for offer in offers):
            if asset.chain_id == chain_id:
                await check_token(reader.nodes, asset)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()
        if self._reader is not None:
            await self._reader.close()

    async def verify(self, payment: Payment, offer: Offer, resource: Resource) -> None:
        """Ask `/verify`; raises the payment's error, or `Unavailable` when the facilitator gives no verdict."""
        if not self._verifies and payment.foreign is None:
            # Of a foreign proof nothing is known before.
            return
        await self._judge(payment, offer, resource)

    async def _judge(self, payment: Payment, offer: Offer, resource: Resource) -> None:
        try:
            answer = await self._http.request("POST", "/verify", self._body(payment, offer, resource))
        except NoAnswer:
            raise Unavailable("the facilitator does not answer") from None
        check_rate(answer, self._clock)
        read_verdict(answer.status, answer.body)

    async def settle(
        self, payment: Payment, offer: Offer, resource: Resource, before_broadcast: BeforeBroadcast
    ) -> Settlement:
        """Ask `/settle`; raises as `Settler.settle` says. What cannot be told is `OutcomeUnknown`."""
        body = self._body(payment, offer, resource)
        headers = await self._http.authentication("POST", "/settle")
        await before_broadcast("")
        # What carries a foreign payment is no call of its token's that a node could show.
        reader = self._reader_of(payment.chain_id) if payment.foreign is None else None
        transaction: str | None
        try:
            transaction = await self._settle_patiently(body, headers, payment, before_broadcast)
            doubt = OutcomeUnknown("the facilitator claims a settlement that the chain does not show")
        except OutcomeUnknown as unknown:
            if reader is None:
                raise
            transaction, doubt = unknown.transaction if isinstance(unknown, Doubtful) else None, unknown
        if reader is not None:
            if transaction is not None:
                # Whatever the chain says of it: who asks later can begin with it.
                with suppress(Exception):
                    await before_broadcast(transaction)
            transaction = await prove(reader, payment, transaction, doubt, self._check_seconds)
        assert transaction is not None
        return settlement_of(payment, transaction, self._clock())

    async def find(self, record: Record) -> Found | None:
        """What the chain says of a journal's row; None without a node of its chain. Raises `Unavailable`."""
        reader = self._reader_of(record.chain_id)
        return await reader.find(record) if reader is not None else None

    async def check_signature(self, payment: Payment, offer: Offer, resource: Resource) -> bool:
        """Prove that the payer signed; see `Settler.check_signature`.

        Without a node of its chain, the facilitator is who judges a contract wallet: `/verify` is asked, whatever
        `verify` was set to, and raises whatever it has against the payment.
        """
        if is_proven(payment, offer):
            return False
        if (reader := self._reader_of(payment.chain_id)) is not None:
            await reader.check_signature(payment, offer)
            return False
        await self._judge(payment, offer, resource)
        return True

    async def ping(self) -> None:
        """Ask what the facilitator supports, and for the newest block; raises `Unavailable` where no answer comes."""
        try:
            answer = await self._http.request("GET", "/supported")
        except NoAnswer:
            raise Unavailable("the facilitator does not answer") from None
        if answer.status >= 300:
            raise Unavailable(f"the facilitator answers with status {answer.status}")
        if self._reader is not None:
            with nothing_sent():
                await self._reader.nodes.quantity("eth_blockNumber")

    def _reader_of(self, chain_id: int) -> ChainReader | None:
        return self._reader if self._reader is not None and self._reader.chain_id == chain_id else None

    async def _settle_patiently(
        self, body: bytes, headers: Mapping[str, str], payment: Payment, before_broadcast: BeforeBroadcast
    ) -> str:
        try:
            return await self._settle(body, headers, payment.network)
        except Pending as error:
            pending = error
            if payment.foreign is not None and not payment.foreign.moves_once:
                raise
        try:
            # The same once more, as hosted facilitators want it: they look at the transaction that they have sent.
            await before_broadcast(pending.transaction)
            return await self._settle(body, await self._http.authentication("POST", "/settle"), payment.network)
        except Exception:  # whatever is wrong now, a transaction is under way
            raise pending from None

    async def _settle(self, body: bytes, headers: Mapping[str, str], network: str) -> str:
        try:
            answer = await self._http.send("POST", "/settle", body, headers)
        except NoAnswer as error:
            if error.maybe_sent:
                raise OutcomeUnknown("the facilitator was asked to settle, and does not answer") from None
            raise Unavailable("the facilitator does not answer; nothing was sent") from None
        check_rate(answer, self._clock)
        return read_settlement(answer.status, answer.body, network)

    def _body(self, payment: Payment, offer: Offer, resource: Resource) -> bytes:
        if payment.foreign is not None and offer.foreign is not None:
            return foreign_body(payment.foreign, offer.foreign)
        version = self._versions[payment.chain_id]
        payload: Any
        requirements: Any
        if is_proven(payment, offer):
            # Some facilitators hand v on as it came, and tokens take 27 and 28 only.
            signature = plain_signature(payment.authorization.signature)
            authorization = msgspec.structs.replace(payment.authorization, signature=signature)
            payment = msgspec.structs.replace(payment, authorization=authorization)
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
                answer = await self._http.request("GET", "/supported")
            except NoAnswer:
                continue
            except Unavailable as error:
                raise SettlerConfigError(f"the facilitator {self._http.host}: {error.detail}") from None
            if answer.status < 300:
                try:
                    return read_supported(answer.body)
                except MalformedError as error:
                    problem = f"answers /supported with something else: {error.detail}"
            else:
                problem = f"answers /supported with status {answer.status}"
            if answer.status < 500 and answer.status != 429:
                raise SettlerConfigError(f"the facilitator {self._http.host} {problem}")
        raise SettlerUnreachable(f"the facilitator {self._http.host} {problem}")


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
