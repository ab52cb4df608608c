"""Settling on the chain ourselves: a relayer's key pays the gas, and the payer's authorization moves the money."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bridge.settlers.base import BeforeBroadcast, Fate, Found, settlement_of
from bridge.settlers.chain_reader import ChainReader, nothing_sent, terms_of
from bridge.settlers.eip3009_calls import moved_money
from bridge.settlers.fate import explain_refusal
from bridge.settlers.foreign import refuse_foreign
from bridge.settlers.node_errors import NodeError, NodeUnreachable, as_int
from bridge.settlers.transaction import Call, Fees, GasLimits, Sent, transfer
from bridge.settlers.wallets import Wallets
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
    from bridge.settlers.relayer import Relayer

__all__ = ["ChainSettler"]

_SENDINGS: Final = 5
"""How often a settlement is sent with a nonce of its own, when other users of the key take it over and over."""


class ChainSettler:
    """Settles by sending `transferWithAuthorization` from the account of `private_key` through the chain's nodes.

    `rpc_url` is one node's URL or several, as a sequence or with commas between; the first that is well is asked, and
    none may be on another chain than `chain_id`, where given, and the offers. `confirmations` is how many blocks a
    settlement must have, its own included; `timeout_seconds` is how long it is waited for before its outcome is called
    unknown, and the node is asked every `poll_seconds`, then less often.

    A settlement that no block has taken after `replace_after_seconds` is sent again for a quarter more, in the first
    one's place (same nonce, same authorization), at most `max_replacements` times and never above `max_fee_per_gas`
    (wei per unit of gas; None: no limit). Other processes may use the same key.

    Contract wallets (EIP-1271) are judged by the token itself, in a call that changes nothing. A settlement that would
    take more than `max_gas` is refused: a wallet decides what its signature check costs the relayer. A wallet that does
    not exist yet (ERC-6492) is made in the transaction that settles its payment, within `max_deploy_gas` in all, or
    refused with `deploy_wallets=False`. Its payer chooses what is called to make it. That call is made by a contract
    that lives for this transaction only and owns nothing, with no money, and only after a simulation in which the
    settlement came about; so what a malicious payer can cost is the gas of one transaction that reverts, and an honest
    one that of a deployment, which on a dear chain is more than a small price. A wallet (or a factory's wallets) whose
    settlements were reverted three times gets `Unavailable` for ten minutes.

    `lookback_blocks` is how far back a transaction of somebody else's is searched for. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        rpc_url: str | Sequence[str],
        private_key: str,
        *,
        chain_id: int | None = None,
        confirmations: int = 1,
        timeout_seconds: float = 30.0,
        poll_seconds: float = 0.2,
        replace_after_seconds: float = 10.0,
        max_replacements: int = 5,
        max_fee_per_gas: int | None = None,
        max_gas: int = 1_000_000,
        deploy_wallets: bool = True,
        max_deploy_gas: int = 1_500_000,
        lookback_blocks: int = 2_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reader = ChainReader(
            rpc_url,
            chain_id=chain_id,
            confirmations=confirmations,
            timeout_seconds=timeout_seconds,
            poll_seconds=poll_seconds,
            max_gas=max_gas,
            max_deploy_gas=max_deploy_gas,
            lookback_blocks=lookback_blocks,
        )
        self._private_key = private_key
        self._timeout_seconds = timeout_seconds
        self._poll_seconds = poll_seconds
        self._replace_after_seconds = replace_after_seconds
        self._max_replacements = max_replacements
        self._max_fee_per_gas = max_fee_per_gas
        self._limits = GasLimits(max_gas, max_deploy_gas if deploy_wallets else None)
        self._clock = clock
        self._relayer: Relayer | None = None
        self._wallets = Wallets()

    def __repr__(self) -> str:
        """Leave key and URLs out: a repr ends up in logs, and a node's URL may hold a key as well."""
        return f"ChainSettler(chain_id={self._reader.chain_id!r})"

    async def start(self, offers: Sequence[Offer]) -> None:
        """Connect, and check chain, tokens and relayer; raises `SettlerConfigError` naming what is wrong."""
        from bridge.settlers.chain_checks import check_relayer, check_token, relayer_account
        from bridge.settlers.relayer import Relayer

        refuse_foreign(offers, "the chain settler")
        account = relayer_account(self._private_key)
        chain_id = await self._reader.start({offer.asset.chain_id for offer in offers})
        nodes = self._reader.nodes
        try:
            relayer = Relayer(nodes, account, chain_id, max_fee_per_gas=self._max_fee_per_gas)
            for asset in dict.fromkeys(offer.asset for offer in offers):
                await check_token(nodes, asset)
            await check_relayer(nodes, relayer)
        except BaseException:
            await self._reader.close()
            raise
        self._relayer = relayer

    async def close(self) -> None:
        """Close the connections to the nodes."""
        self._relayer = None
        await self._reader.close()

    async def verify(self, payment: Payment, offer: Offer, resource: Resource) -> None:
        """Let the token judge the authorization, in a call that changes nothing.

        The one call tells used and canceled nonces, balances, blocked accounts and signatures of every kind apart, in
        the token's own words. Raises `AlreadyUsed`, `InsufficientFunds`, `PaymentExpired`, `VerificationFailed`, or
        `Unavailable` when it cannot be told, or the relayer could not pay for the settlement.
        """
        relayer = self._running()
        self._wallets.check(payment)
        with nothing_sent():
            # A node that is away is told first, an empty account second, whatever the payment is.
            await relayer.check_balance()
            call = await transfer(self._reader, payment, offer, self._limits)
            try:
                await relayer.nodes.call(call.to, call.data, sender=relayer.address, gas=call.gas)
            except NodeError as error:
                refused = await explain_refusal(relayer.nodes, error, payment)
                if isinstance(refused, SettlementFailed):
                    raise VerificationFailed(refused.detail) from None
                raise refused from None

    async def settle(
        self, payment: Payment, offer: Offer, resource: Resource, before_broadcast: BeforeBroadcast
    ) -> Settlement:
        """Send the authorization to the token, and wait for the outcome; raises as `Settler.settle` says.

        Anybody who sees an authorization may send it, and a settlement may be asked for again after its outcome was
        unknown. So where the token refuses, the chain is asked who was paid: money that did reach the recipient is
        settled, in whichever transaction. For the same reason it may be sent anew when another transaction of the
        relayer's took its nonce: the token takes an authorization once.
        """
        async with self._wallets.turn(payment, offer):
            return await self._settle(payment, offer, before_broadcast)

    async def _settle(self, payment: Payment, offer: Offer, before_broadcast: BeforeBroadcast) -> Settlement:
        from bridge.settlers.delivery import Displaced, Patience, deliver

        relayer = self._running()
        patience = Patience(
            self._reader.confirmations, self._poll_seconds, self._replace_after_seconds, self._max_replacements
        )
        deadline: float | None = None
        displaced_at = 0
        for _ in range(_SENDINGS):
            try:
                try:
                    call, fees = await self._prepare(payment, offer)
                except Unavailable:
                    raise
                except PaymentError as refused:
                    return await self._settled_elsewhere(payment, refused, before_broadcast, at_least=displaced_at)
                sent = Sent(call, fees)
                await relayer.send(sent, before_broadcast)
            except Unavailable as error:
                if not displaced_at or isinstance(error, OutcomeUnknown):
                    raise
                # Something was sent before. It can do nothing any more, by the word of a node that is gone now.
                raise OutcomeUnknown("the settlement was displaced, and the chain's node does not answer") from None
            # From the first broadcast on: whoever had to queue for a nonce has not waited for a block yet.
            deadline = deadline or asyncio.get_running_loop().time() + self._timeout_seconds
            try:
                mined = await deliver(relayer, sent, before_broadcast, patience, deadline)
            except Displaced as displaced:
                displaced_at = displaced.block
                continue
            if mined.receipt.get("status") == "0x1":
                if not moved_money(mined.receipt["logs"], **terms_of(payment)):
                    raise OutcomeUnknown("the token took the authorization and does not report the transfer")
                return settlement_of(payment, mined.transaction, self._clock())
            failed = SettlementFailed("the token reverted the settlement")
            block = as_int(mined.receipt.get("blockNumber"))
            try:
                return await self._settled_elsewhere(payment, failed, None, at_least=block)
            except SettlementFailed:
                with suppress(NodeError, NodeUnreachable):
                    # What its key signed proves nobody's honesty where the account runs code (EIP-7702).
                    if not is_proven(payment, offer) or await self._reader.has_code(payment.authorization.payer):
                        self._wallets.note(payment)
                raise
        raise OutcomeUnknown("the relayer's account is in use elsewhere, and its transactions are displaced")

    async def find(self, record: Record) -> Found | None:
        """What the chain says of a journal's row, with as many confirmations as a settlement needs.

        None for a row of another chain. Reads only. Raises `Unavailable`.
        """
        return await self._reader.find(record)

    async def find_settlement(
        self, *, asset: str, payer: str, nonce: str, recipient: str, value: int, from_block: int | None = None
    ) -> Found:
        """What the chain says of an authorization; see `ChainReader.find_settlement`. Raises `Unavailable`."""
        return await self._reader.find_settlement(
            asset=asset, payer=payer, nonce=nonce, recipient=recipient, value=value, from_block=from_block
        )

    async def check_signature(self, payment: Payment, offer: Offer, resource: Resource) -> bool:
        """Prove that the payer signed, by his key or by his wallet's word; raises as `Settler.check_signature` says."""
        await self._reader.check_signature(payment, offer)
        return False

    async def ping(self) -> None:
        """Whether a node answers and the relayer can pay for gas; raises `Unavailable` where not."""
        relayer = self._running()
        with nothing_sent():
            await relayer.nodes.quantity("eth_blockNumber")
            await relayer.check_balance()

    def settlements_left(self) -> int | None:
        """See `PaysGas`."""
        return self._running().settlements_left()

    async def _prepare(self, payment: Payment, offer: Offer) -> tuple[Call, Fees]:
        """The transaction to be sent and what to pay for it; nothing is sent yet.

        Raises the payment's error where the token refuses it, and `Unavailable`.
        """
        relayer = self._running()
        self._wallets.check(payment)
        with nothing_sent():
            call = await transfer(self._reader, payment, offer, self._limits)
            asked = {"from": relayer.address, "data": "0x" + call.data.hex(), "gas": hex(call.gas)}
            try:
                # Runs the call as `eth_call` does, refusals included, and says what it costs.
                needed = await relayer.nodes.quantity(
                    "eth_estimateGas", asked if call.to is None else asked | {"to": call.to}
                )
            except NodeError as error:
                raise await explain_refusal(relayer.nodes, error, payment) from None
            # A quarter more: the state it runs on is not the state it was tried on.
            call = call._replace(gas=needed + needed // 4)
            await relayer.check_balance(call.gas)
            return call, await relayer.fees()

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
        found: Found | None = None
        with suppress(Unavailable, TimeoutError):
            found = await self._reader.fate_of(payment, at_least=at_least, used=isinstance(otherwise, AlreadyUsed))
        if found is not None and found.fate in (Fate.UNUSED, Fate.VOID):
            raise otherwise
        transaction = found.transaction if found is not None else None
        if before_broadcast is not None:
            await before_broadcast(transaction or "")
        if transaction is None:
            raise OutcomeUnknown("the authorization may have been used, and the chain does not say by whom")
        return settlement_of(payment, transaction, self._clock())

    def _running(self) -> "Relayer":
        if self._relayer is None:
            raise RuntimeError("the settler was not started")
        return self._relayer
