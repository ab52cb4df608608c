"""One chain, asked through whichever of its nodes answers.

A node that fails rests for a while and the next one is asked. A node must say that it is on our chain before it is
asked anything else, and again when it comes back from a rest: an endpoint behind which the wrong chain stands would
call every payment unused, and every balance nothing.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog

from bridge.settlers.base import SettlerConfigError, SettlerUnreachable
from bridge.settlers.node import Node
from bridge.settlers.node_errors import NodeError, NodeUnreachable, as_bytes, as_int

__all__ = ["Endpoint", "Nodes"]

_TRIES: Final = 3
_PAUSE_SECONDS: Final = 1.0
_REST_SECONDS: Final = 1.0
_LONGEST_REST: Final = 30.0
_TRUSTED_SECONDS: Final = 60.0
"""How long a node's chain id is believed."""


class Endpoint:
    """One node and its health. `number` is its place in the setting, from 1: its URL may hold a key."""

    def __init__(self, number: int, node: Node, clock: Callable[[], float]) -> None:
        self.number = number
        self.chain_id: int | None = None
        self.resting_until = 0.0
        self._node = node
        self._clock = clock
        self._failures = 0
        self._trusted_until = 0.0
        self._checking = asyncio.Lock()

    async def ask(self, method: str, *params: Any) -> Any:
        """The result of one call. Raises `NodeError` or `NodeUnreachable`, after which the node rests."""
        try:
            await self._check_chain()
            result = await self._node.ask(method, *params)
        except NodeUnreachable as error:
            self._rest(str(error))
            raise
        except NodeError as error:
            if error.is_the_nodes_own:
                self._rest(f"error {error.code}")
            raise
        self._failures, self.resting_until = 0, 0.0
        return result

    async def ask_chain(self) -> int:
        """The node's chain id."""
        return as_int(await self._node.ask("eth_chainId"))

    async def disconnect(self) -> None:
        """Close its connections."""
        await self._node.disconnect()

    async def _check_chain(self) -> None:
        if self.chain_id is None or self._clock() < self._trusted_until:
            return
        async with self._checking:
            if self._clock() < self._trusted_until:
                return
            try:
                told = await self.ask_chain()
            except NodeUnreachable as error:
                raise NodeUnreachable(str(error), maybe_sent=False) from None  # what was to be asked was not sent
            except NodeError as error:
                raise NodeUnreachable(f"error {error.code}", maybe_sent=False) from None
            if told != self.chain_id:
                _log().error("settler.wrong_chain", node=self.number, chain_id=told, expected=self.chain_id)
                self._failures = 10  # the longest rest
                raise NodeUnreachable("another chain", maybe_sent=False)
            self._trusted_until = self._clock() + _TRUSTED_SECONDS

    def _rest(self, why: str) -> None:
        now = self._clock()
        if self.resting_until <= now:
            if self._failures == 0:
                _log().warning("settler.node_down", node=self.number, problem=why)
            self.resting_until = now + min(_REST_SECONDS * 2 ** min(self._failures, 10), _LONGEST_REST)
            self._failures += 1
        self._trusted_until = 0.0


class Nodes:
    """The nodes at `urls`, the first that is well before the others; one request to one takes `timeout_seconds`.

    `clock` is in seconds, from whenever.
    """

    def __init__(
        self, urls: Sequence[str], *, timeout_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._endpoints = [
            Endpoint(number, Node(url, timeout_seconds=timeout_seconds), clock) for number, url in enumerate(urls, 1)
        ]
        self._spreading: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        """Leave the URLs out: they may hold keys."""
        return f"Nodes({len(self._endpoints)})"

    async def start(self, wanted: set[int] | None = None) -> int:
        """Ask every node for its chain, which must be the same, and the only one in `wanted` where that is given.

        Returns its id. Nodes that do not answer are let pass while one does; none may contradict. Raises
        `SettlerConfigError`.
        """
        told: list[int | BaseException] = []
        # A node that is started together with the server may be a moment later.
        for tries_left in reversed(range(_TRIES)):
            told = await asyncio.gather(*(endpoint.ask_chain() for endpoint in self._endpoints), return_exceptions=True)
            problems = [answer for answer in told if isinstance(answer, BaseException)]
            if len(problems) < len(told):
                break
            if not tries_left or any(isinstance(problem, NodeError) for problem in problems):
                raise SettlerUnreachable(f"the chain's node does not answer for its chain id: {problems[0]}")
            await asyncio.sleep(_PAUSE_SECONDS)
        chains = {answer for answer in told if isinstance(answer, int)}
        if len(chains) > 1:
            raise SettlerConfigError(f"the nodes are on different chains: {sorted(chains)}")
        (chain_id,) = chains
        if wanted and (strange := sorted(wanted - chains)):
            raise SettlerConfigError(
                f"the chain's node is on chain {chain_id}, and payments are asked for on {strange}"
            )
        for endpoint, answer in zip(self._endpoints, told, strict=True):
            endpoint.chain_id = chain_id
            if not isinstance(answer, int):
                _log().warning("settler.node_down", node=endpoint.number, problem=str(answer))
        return chain_id

    def order(self) -> Iterator[Endpoint]:
        """The nodes to be asked one after another: those that are well, then those that have rested longest."""
        now = self._clock()
        yield from sorted(self._endpoints, key=lambda endpoint: max(endpoint.resting_until - now, 0.0))

    async def ask(self, method: str, *params: Any) -> Any:
        """The result of a call that changes nothing. Raises the last node's `NodeError` or `NodeUnreachable`."""
        problem: NodeError | NodeUnreachable | None = None
        for endpoint in self.order():
            try:
                return await endpoint.ask(method, *params)
            except NodeUnreachable as error:
                problem = problem or error
            except NodeError as error:
                if not error.is_the_nodes_own:
                    raise
                problem = error
        assert problem is not None
        raise problem

    async def quantity(self, method: str, *params: Any) -> int:
        """The result of a call that answers a number."""
        return as_int(await self.ask(method, *params))

    async def is_deep(self, transaction: str, receipt: Mapping[str, Any], confirmations: int) -> bool:
        """Whether the block of a transaction's receipt has so many confirmations, its own included.

        The receipt is asked for again at the end: between it and the newest block the chain may have been reorganised.
        """
        if confirmations == 1:
            return True
        if await self.quantity("eth_blockNumber") - as_int(receipt.get("blockNumber")) + 1 < confirmations:
            return False
        again = await self.ask("eth_getTransactionReceipt", transaction)
        return isinstance(again, dict) and again.get("blockHash") == receipt.get("blockHash")

    async def call(
        self, to: str | None, data: bytes, *, sender: str | None = None, gas: int | None = None, block: str = "latest"
    ) -> bytes:
        """What `eth_call` returns, within `gas`; `block` is a tag or a number in hex.

        With `to` None, `data` is run as when a contract is created, and what would be its code is returned.
        """
        request = {"data": "0x" + data.hex()} | ({} if to is None else {"to": to})
        if sender is not None:
            request["from"] = sender
        if gas is not None:
            request["gas"] = hex(gas)
        return as_bytes(await self.ask("eth_call", request, block))

    def spread(self, raw: str, besides: Endpoint) -> None:
        """Give a signed transaction that one node took to the others too, so that it outlives that node."""
        now = self._clock()
        for endpoint in self._endpoints:
            if endpoint is not besides and endpoint.resting_until <= now:
                task = asyncio.ensure_future(_offer(endpoint, raw))
                self._spreading.add(task)
                task.add_done_callback(self._spreading.discard)

    async def disconnect(self) -> None:
        """Close the connections."""
        for task in self._spreading:
            task.cancel()
        await asyncio.gather(*self._spreading, return_exceptions=True)
        for endpoint in self._endpoints:
            await endpoint.disconnect()


async def _offer(endpoint: Endpoint, raw: str) -> None:
    with suppress(NodeError, NodeUnreachable):
        await endpoint.ask("eth_sendRawTransaction", raw)


def _log() -> Any:
    return structlog.get_logger("x402_mpp")
