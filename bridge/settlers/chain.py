"""Settling on the chain ourselves: a relayer's key pays the gas, and the payer's authorization moves the money."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from bridge.settlers.base import BeforeBroadcast, Fate, Found
from bridge.settlers.eip3009_calls import moved_money, transfer_call
from bridge.settlers.fate import explain_refusal, find_fate
from bridge.settlers.node_errors import NodeError, NodeUnreachable, as_int
from bridge.stores.base import Record
from translators.checks import is_proven
from translators.errors import (
    AlreadyUsed,
    OutcomeUnknown,
    PaymentError,
    SettlementFailed,
    Unavailable,
    VerificationFailed,
)
from translators.payment import Offer, Payment, Resource, Settlement

if TYPE_CHECKING:  # web3 takes a second to import, and a command's `--help` should not
    from bridge.settlers.node import Node
    from bridge.settlers.relayer import Relayer

__all__ = ["ChainSettler"]

_NODE_SECONDS: Final = 10.0

_ERC6492_MAGIC: Final = bytes.fromhex("6492" * 16)
"""The end of a signature that brings along the deployment of its wallet (ERC-6492, section "Signer side")."""


class ChainSettler:
    """Settles by sending `transferWithAuthorization` from the account of `private_key` through the node at `rpc_url`.

    `chain_id`, where given, must be the node's. `confirmations` is how many blocks a settlement must have, its own
    included; `timeout_seconds` is how long it is waited for before its outcome is called unknown, and the node is asked
    every `poll_seconds`. A settlement that would take more than `max_gas` is refused: a contract wallet decides what
    its signature check costs the relayer. `lookback_blocks` is how far back a transaction of somebody else's is
    searched for. `clock` gives Unix seconds.

    Contract wallets (EIP-1271) are judged by the token itself, in a call that changes nothing. A wallet that does not
    exist yet (ERC-6492) is refused.
    """

    def __init__(
        self,
        rpc_url: str,
        private_key: str,
        *,
        chain_id: int | None = None,
        confirmations: int = 1,
        timeout_seconds: float = 30.0,
        poll_seconds: float = 0.2,
        max_gas: int = 1_000_000,
        lookback_blocks: int = 2_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if confirmations < 1:
            raise ValueError("confirmations: at least 1, the block that includes the settlement")
        self._rpc_url = rpc_url
        self._private_key = private_key
        self._chain_id = chain_id
        self._confirmations = confirmations
        self._timeout_seconds = timeout_seconds
        self._poll_seconds = poll_seconds
        self._max_gas = max_gas
        self._lookback_blocks = lookback_blocks
        self._clock = clock
        self._opened: tuple[Node, Relayer] | None = None

    def __repr__(self) -> str:
        """Leave key and URL out: a repr ends up in logs, and a node's URL may hold a key as well."""
        return f"ChainSettler(chain_id={self._chain_id!r})"

    async def start(self, offers: Sequence[Offer]) -> None:
        """Connect, and check chain, tokens and relayer; raises `SettlerConfigError` naming what is wrong."""
        from bridge.settlers.chain_checks import check_node, check_relayer, check_token, relayer_account
        from bridge.settlers.node import Node
        from bridge.settlers.relayer import Relayer

        account = relayer_account(self._private_key)
        node = Node(self._rpc_url, timeout_seconds=min(_NODE_SECONDS, self._timeout_seconds))
        try:
            chain_id = await check_node(node, self._chain_id, offers)
            relayer = Relayer(node, account, chain_id)
            for asset in dict.fromkeys(offer.asset for offer in offers):
                await check_token(node, asset)
            await check_relayer(node, relayer)
        except BaseException:
            await node.disconnect()
            raise
        self._chain_id = chain_id
        self._opened = node, relayer

    async def close(self) -> None:
        """Close the connections to the node."""
        if self._opened is not None:
            await self._opened[0].disconnect()
            self._opened = None

    async def verify(self, payment: Payment, offer: Offer, resource: Resource) -> None:
        """Let the token judge the authorization, in a call that changes nothing.

        The one call tells used and canceled nonces, balances, blocked accounts and signatures of every kind apart, in
        the token's own words. Raises `AlreadyUsed`, `InsufficientFunds`, `PaymentExpired`, `VerificationFailed`, or
        `Unavailable` when it cannot be told.
        """
        node, relayer = self._running()
        authorization = payment.authorization
        if authorization.signature.endswith(_ERC6492_MAGIC):
            raise VerificationFailed(
                "a wallet that does not exist on the chain yet cannot pay",
                reason="invalid_exact_evm_payload_undeployed_smart_wallet",
            )
        with _nothing_sent():
            try:
                await node.call(payment.asset, transfer_call(authorization), sender=relayer.address, gas=self._max_gas)
            except NodeError as error:
                refused = await explain_refusal(node, error, payment)
                if isinstance(refused, SettlementFailed):
                    raise VerificationFailed(refused.detail) from None
                raise refused from None

    async def settle(
        self, payment: Payment, offer: Offer, resource: Resource, before_broadcast: BeforeBroadcast
    ) -> Settlement:
        """Send the authorization to the token, and wait for the outcome; raises as `Settler.settle` says.

        Anybody who sees an authorization may send it, and a settlement may be asked for again after its outcome was
        unknown. So where the token refuses, the chain is asked who was paid: money that did reach the recipient is
        settled, in whichever transaction.
        """
        node, relayer = self._running()
        data = transfer_call(payment.authorization)
        with _nothing_sent():
            call = {"from": relayer.address, "to": payment.asset, "data": "0x" + data.hex(), "gas": hex(self._max_gas)}
            try:
                # Runs the call as `eth_call` does, refusals included, and says what it costs.
                gas = as_int(await node.ask("eth_estimateGas", call))
            except NodeError as error:
                refused = await explain_refusal(node, error, payment)
                if isinstance(refused, Unavailable):
                    raise refused from None
                return await self._settled_elsewhere(payment, refused, before_broadcast)
            fees = await relayer.fees()
        # A quarter more: the state it runs on is not the state it was tried on.
        transaction = await relayer.send(
            payment.asset, data, gas=gas + gas // 4, fees=fees, before_broadcast=before_broadcast
        )
        receipt = await relayer.receipt(
            transaction,
            confirmations=self._confirmations,
            timeout_seconds=self._timeout_seconds,
            poll_seconds=self._poll_seconds,
        )
        if receipt.get("status") == "0x1":
            if not moved_money(receipt["logs"], **_terms(payment)):
                raise OutcomeUnknown("the token took the authorization and does not report the transfer")
            return self._settlement(payment, transaction)
        failed = SettlementFailed("the token reverted the settlement")
        return await self._settled_elsewhere(payment, failed, None, at_least=as_int(receipt.get("blockNumber")))

    async def find(self, record: Record) -> Found | None:
        """What the chain says of a journal's row, with as many confirmations as a settlement needs.

        Reads only. Raises `Unavailable`.
        """
        return await self.find_settlement(
            asset=record.asset,
            payer=record.payer,
            nonce=record.nonce,
            recipient=record.recipient,
            value=record.value,
        )

    async def check_signature(self, payment: Payment, offer: Offer) -> None:
        """Prove that the payer signed, by his key or by his wallet's word; raises as `Settler.check_signature` says."""
        if not is_proven(payment, offer):
            raise Unavailable("a contract wallet's signature cannot be judged")

    async def ping(self) -> None:
        """Ask for the relayer's balance; raises `Unavailable` when there is none, or no answer."""
        node, relayer = self._running()
        with _nothing_sent():
            if not await node.quantity("eth_getBalance", relayer.address, "latest"):
                raise Unavailable("the relayer's account cannot pay for gas")

    async def find_settlement(
        self, *, asset: str, payer: str, nonce: str, recipient: str, value: int, from_block: int | None = None
    ) -> Found:
        """What the chain says of an authorization, with as many confirmations as a settlement needs.

        Reads only. `value` is in atomic units; logs are searched from `from_block`, by default `lookback_blocks` back.
        Raises `Unavailable`.
        """
        with _nothing_sent():
            return await find_fate(
                self._running()[0],
                asset=asset,
                payer=payer,
                nonce=nonce,
                recipient=recipient,
                value=value,
                from_block=from_block,
                lookback=self._lookback_blocks,
                confirmations=self._confirmations,
            )

    async def _settled_elsewhere(
        self,
        payment: Payment,
        otherwise: PaymentError,
        before_broadcast: BeforeBroadcast | None,
        *,
        at_least: int = 0,
    ) -> Settlement:
        """The settlement that another transaction was; raises `otherwise` when the chain says that there is none.

        `at_least` is a block that the chain's answer must have seen. `before_broadcast` is for a payment of which
        nothing was recorded yet: it is settling from here on, whoever sent it.
        """
        try:
            found: Found | None = await self._fate(payment, at_least, used=isinstance(otherwise, AlreadyUsed))
        except (Unavailable, TimeoutError):
            found = None
        if found is not None and found.fate in (Fate.UNUSED, Fate.VOID):
            raise otherwise
        transaction = found.transaction if found is not None else None
        if before_broadcast is not None:
            await before_broadcast(transaction or "")
        if transaction is None:
            raise OutcomeUnknown("the authorization may have been used, and the chain does not say by whom")
        return self._settlement(payment, transaction)

    async def _fate(self, payment: Payment, at_least: int, *, used: bool) -> Found:
        """What became of the authorization, asked again while the answer is older than what is known already."""
        async with asyncio.timeout(self._timeout_seconds):
            while True:
                found = await self.find_settlement(**_terms(payment))
                if found.fate is not Fate.UNUSED or (found.block >= at_least and not used):
                    return found
                await asyncio.sleep(self._poll_seconds)

    def _settlement(self, payment: Payment, transaction: str) -> Settlement:
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

    def _running(self) -> "tuple[Node, Relayer]":
        if self._opened is None:
            raise RuntimeError("the settler was not started")
        return self._opened


def _terms(payment: Payment) -> dict[str, Any]:
    authorization = payment.authorization
    return {
        "asset": payment.asset,
        "payer": authorization.payer,
        "nonce": authorization.nonce,
        "recipient": authorization.recipient,
        "value": authorization.value,
    }


@contextmanager
def _nothing_sent() -> Iterator[None]:
    """Before anything is sent, a node that does not answer costs nobody anything."""
    try:
        yield
    except (NodeError, NodeUnreachable):
        raise Unavailable("the chain's node does not answer") from None
