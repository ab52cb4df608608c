"""What a settler reads of the chain: who was paid, whether a wallet signed, whether a transaction is what it seems.

Reads only; both settlers use it.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from bridge.settlers.base import Fate, Found
from bridge.settlers.eip3009_calls import moved_money
from bridge.settlers.erc6492 import deploy_and_ask, is_valid, is_wrapped, signature_question, unwrap
from bridge.settlers.fate import find_fate, find_record
from bridge.settlers.node_errors import NodeError, NodeUnreachable, as_bytes
from bridge.stores.base import Record
from translators.checks import is_proven
from translators.eip3009 import authorization_digest
from translators.errors import Unavailable, VerificationFailed
from translators.payment import Offer, Payment, is_foreign

if TYPE_CHECKING:  # web3 takes a second to import, and a command's `--help` should not
    from bridge.settlers.nodes import Nodes

__all__ = ["Carried", "ChainReader", "nothing_sent", "terms_of"]

_NODE_SECONDS: Final = 10.0
_SHORTEST: Final = 2.0
"""How long one node may take for an answer, in seconds; with several of them less, so that the next one is in time."""


class Carried(StrEnum):
    """What a transaction has to do with a payment."""

    THIS = "this"
    """It moved the payment's money to its recipient."""
    SOMETHING_ELSE = "something else"
    REVERTED = "reverted"
    NOT_YET = "not yet"
    """No block includes it, or none that is deep enough."""


class ChainReader:
    """Reads the chain behind `rpc_url`: one URL or several, see `ChainSettler` for these and the other settings."""

    def __init__(
        self,
        rpc_url: str | Sequence[str],
        *,
        chain_id: int | None = None,
        confirmations: int = 1,
        timeout_seconds: float = 30.0,
        poll_seconds: float = 0.2,
        max_gas: int = 1_000_000,
        max_deploy_gas: int = 1_500_000,
        lookback_blocks: int = 2_000,
    ) -> None:
        if confirmations < 1:
            raise ValueError("confirmations: at least 1, the block that includes the settlement")
        parts = rpc_url.split(",") if isinstance(rpc_url, str) else rpc_url
        self._urls = tuple(dict.fromkeys(url.strip() for url in parts if url.strip()))
        if not self._urls:
            raise ValueError("a settler needs the URL of at least one node of the chain")
        self.chain_id = chain_id
        self.confirmations = confirmations
        self._timeout_seconds = timeout_seconds
        self._poll_seconds = poll_seconds
        self._max_gas = max_gas
        self._max_deploy_gas = max_deploy_gas
        self._lookback_blocks = lookback_blocks
        self._nodes: Nodes | None = None

    @property
    def nodes(self) -> "Nodes":
        """The chain's nodes. Raises `RuntimeError` before `start`."""
        if self._nodes is None:
            raise RuntimeError("the settler was not started")
        return self._nodes

    async def start(self, wanted: set[int]) -> int:
        """Connect; the chain's id, which must be all that is `wanted`. Raises `SettlerConfigError`."""
        from bridge.settlers.nodes import Nodes

        seconds = max(_NODE_SECONDS / len(self._urls), _SHORTEST)
        nodes = Nodes(self._urls, timeout_seconds=min(seconds, self._timeout_seconds))
        try:
            self.chain_id = await nodes.start(wanted | ({self.chain_id} if self.chain_id is not None else set()))
        except BaseException:
            await nodes.disconnect()
            raise
        self._nodes = nodes
        return self.chain_id

    async def close(self) -> None:
        """Close the connections."""
        if self._nodes is not None:
            await self._nodes.disconnect()
            self._nodes = None

    async def find(self, record: Record) -> Found | None:
        """What the chain says of a journal's row, with as many confirmations as a settlement needs.

        None for a row of another chain, and for a foreign payment. Raises `Unavailable`.
        """
        # A token knows of its own authorizations only: it would call every other payment unused.
        if record.chain_id != self.chain_id or is_foreign(record.id):
            return None
        with nothing_sent():
            return await find_record(
                self.nodes, record, lookback=self._lookback_blocks, confirmations=self.confirmations
            )

    async def find_settlement(
        self, *, asset: str, payer: str, nonce: str, recipient: str, value: int, from_block: int | None = None
    ) -> Found:
        """What the chain says of an authorization, with as many confirmations as a settlement needs.

        `value` is in atomic units; logs are searched from `from_block`, by default `lookback_blocks` back. Raises
        `Unavailable`.
        """
        with nothing_sent():
            return await find_fate(
                self.nodes,
                asset=asset,
                payer=payer,
                nonce=nonce,
                recipient=recipient,
                value=value,
                from_block=from_block,
                lookback=self._lookback_blocks,
                confirmations=self.confirmations,
            )

    async def fate_of(self, payment: Payment, *, at_least: int = 0, used: bool = False) -> Found:
        """What became of a payment, asked again while the answer is older than what is known already.

        That is: older than the block `at_least`, or saying "unused" of what is known to be `used`. Raises
        `Unavailable`, or `TimeoutError` after `timeout_seconds`.
        """
        async with asyncio.timeout(self._timeout_seconds):
            while True:
                found = await self.find_settlement(**terms_of(payment))
                if found.fate is not Fate.UNUSED or (found.block >= at_least and not used):
                    return found
                await asyncio.sleep(self._poll_seconds)

    async def carried(self, transaction: str, payment: Payment) -> Carried:
        """What a transaction has to do with `payment`. Raises `Unavailable`."""
        with nothing_sent():
            receipt = await self.nodes.ask("eth_getTransactionReceipt", transaction)
            if not isinstance(receipt, dict):
                return Carried.NOT_YET
            if not await self.nodes.is_deep(transaction, receipt, self.confirmations):
                return Carried.NOT_YET
        if receipt.get("status") != "0x1":
            return Carried.REVERTED
        return Carried.THIS if moved_money(receipt["logs"], **terms_of(payment)) else Carried.SOMETHING_ELSE

    async def has_code(self, address: str) -> bool:
        """Whether a contract stands at an address. Raises `NodeError` or `NodeUnreachable`."""
        return bool(as_bytes(await self.nodes.ask("eth_getCode", address, "latest")))

    async def check_signature(self, payment: Payment, offer: Offer) -> None:
        """Prove that the payer signed: by his key, else by his wallet's word (EIP-1271), made for the call if need be.

        The wallet, and the factory that makes it (ERC-6492), get so much gas and no more, and change nothing. It is
        asked as the token would ask it. Raises `VerificationFailed` or `Unavailable`.
        """
        if is_proven(payment, offer):
            return
        authorization = payment.authorization
        wrapped = unwrap(authorization.signature) if is_wrapped(authorization.signature) else None
        signature = authorization.signature if wrapped is None else wrapped.signature
        question = signature_question(authorization_digest(authorization, offer.asset), signature)
        with nothing_sent():
            try:
                if await self.has_code(authorization.payer):
                    answer = await self.nodes.call(
                        authorization.payer, question, sender=payment.asset, gas=self._max_gas
                    )
                elif wrapped is not None:
                    code = deploy_and_ask(wrapped, authorization.payer, question)
                    answer = await self.nodes.call(None, code, gas=self._max_deploy_gas)
                else:
                    raise VerificationFailed("the signature is not the payer's")
            except NodeError as error:
                if not error.code_failed:
                    raise
                answer = b""
        if not is_valid(answer):
            raise VerificationFailed("the payer's wallet refuses the signature")


def terms_of(payment: Payment) -> dict[str, Any]:
    """What an authorization is searched by."""
    authorization = payment.authorization
    return {
        "asset": payment.asset,
        "payer": authorization.payer,
        "nonce": authorization.nonce,
        "recipient": authorization.recipient,
        "value": authorization.value,
    }


@contextmanager
def nothing_sent() -> Iterator[None]:
    """Where nothing was sent, a node that does not answer costs nobody anything."""
    try:
        yield
    except (NodeError, NodeUnreachable):
        raise Unavailable("the chain's node does not answer") from None
