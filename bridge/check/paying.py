"""`check --pay`: pays the route once in each protocol that it speaks, and asks once more with the very same credential.

The wallet's rules are those of `bridge.client`; here each protocol is paid by itself, where that client would choose.
"""

import secrets
from collections.abc import Sequence
from fractions import Fraction

import httpx
import msgspec
from msgspec.structs import replace

from bridge.check.network import CheckError, Network, Request
from bridge.check.tokens import balance_of, chain_id_of, moved_money
from bridge.client import Declined, KeySigner, NothingPayable, Policy, SignerFailed
from bridge.clock import Clock
from translators.asks import Asked, envelope, read_asks, to_payment, to_sign
from translators.asks import Reading as Reading402
from translators.lint.known import TESTNETS, is_loopback, split_url
from translators.lint.probe import Exchange, PaidExchange, Probe, TokenFacts
from translators.lint.reading import Reading
from translators.lint.rules_paid import transaction_of
from translators.networks import KNOWN_TOKENS, v1_network
from translators.payment import Asset, Protocol

__all__ = ["Purse", "pay_in_each"]

_ANSWER_BYTES = 4 * 1024 * 1024
_SETTLING_SECONDS = 60.0
"""A paid answer waits for a block; the check's own time-out is for answers that cost nothing."""
_LONGEST_SECONDS = 600
"""How long an authorization of ours may stay valid, whatever the server asks."""


class Purse(msgspec.Struct, frozen=True):
    """What may be spent: the payer's key, the most for all payments together, and whether real money may move."""

    key: str
    limit: str
    real_money: bool = False

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"Purse(limit={self.limit!r}, real_money={self.real_money})"


async def pay_in_each(
    network: Network, request: Request, probe: Probe, purse: Purse, *, clock: Clock, rpc_url: str | None
) -> tuple[tuple[PaidExchange, ...], list[str]]:
    """Pay in each protocol; what came of it, and notes on what was not paid and why. Raises `CheckError`."""
    try:
        signer = KeySigner(purse.key)
    except SignerFailed as error:
        raise CheckError(str(error)) from None
    node = _Node(network, rpc_url, await chain_id_of(network, rpc_url)) if rpc_url is not None else None
    tokens = tuple(asset for facts in probe.tokens if (asset := _asset(facts)) is not None)
    paid: list[PaidExchange] = []
    notes: list[str] = []
    left = Fraction(purse.limit)
    for protocol in Reading(probe).speaks:
        if not left:
            notes.append(f"{protocol.value} not paid: all of the limit is spent")
            continue
        try:
            asked = await _asked(network, request, probe, protocol, tokens, _decimal(left), clock())
            _check_money(asked, probe, purse)
        except (Declined, NothingPayable) as error:
            notes.append(f"{protocol.value} not paid: {_one_line(str(error))}")
            continue
        left -= Fraction(asked.offer.amount, 10**asked.offer.asset.decimals)
        paid.append(await _pay(network, request, probe, asked, signer, clock(), node))
    return tuple(paid), notes


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def _asset(facts: TokenFacts) -> Asset | None:
    """A token that nobody here knows by name, as its contract tells it."""
    known = any((t.chain_id, t.address) == (facts.chain_id, facts.address) for t in KNOWN_TOKENS)
    if known or facts.name is None or facts.version is None or facts.decimals is None:
        return None
    return Asset(facts.chain_id, facts.address, facts.decimals, facts.name, facts.version)


async def _asked(
    network: Network,
    request: Request,
    probe: Probe,
    protocol: Protocol,
    tokens: Sequence[Asset],
    limit: str,
    now: float,
) -> Asked:
    """What a fresh 402 asks of a client of one protocol, within the wallet's rules. Raises `PayError`."""
    url = probe.answer.url
    answer = await network.ask(request.method, url, headers=request.headers_for(url), body=request.body)
    if answer.status != 402:
        raise NothingPayable(f"the route answers {answer.status} now")
    everything = read_asks(answer.headers, answer.body, tokens)
    reading = Reading402(
        tuple(asked for asked in everything.asks if asked.protocol is protocol),
        tuple(passed for passed in everything.passed if passed.protocol is protocol),
    )
    # An unknown token is not worth a dollar, so that a limit in money says nothing about it: such a one is not paid.
    return Policy(max_amount=limit, protocols=(protocol,)).choose(reading, httpx.URL(answer.url), now)


def _check_money(asked: Asked, probe: Probe, purse: Purse) -> None:
    """Raise `Declined` where real money would move without having been allowed to."""
    chain_id = asked.offer.asset.chain_id
    parts = split_url(probe.url)
    here = parts is not None and is_loopback(parts.hostname or "")
    if chain_id not in TESTNETS and not here and not purse.real_money:
        name = v1_network(chain_id) or f"chain {chain_id}"
        raise Declined(f"{name} is no testnet, and the server not this machine; --real-money allows it")


async def _pay(
    network: Network,
    request: Request,
    probe: Probe,
    asked: Asked,
    signer: KeySigner,
    now: float,
    node: "_Node | None",
) -> PaidExchange:
    offer = asked.offer
    unsigned = to_sign(asked, signer.address, now=now, nonce=secrets.token_bytes(32), longest=_LONGEST_SECONDS)
    payment = to_payment(asked, unsigned, signer.sign(unsigned, offer.asset))
    header = envelope(asked, payment)
    asking = node if node is not None and node.chain_id == offer.asset.chain_id else None
    before = await asking.balance(offer.asset.address, signer.address) if asking else 0

    async def present() -> tuple[Exchange, int | None]:
        try:
            answer = await network.ask(
                request.method,
                probe.answer.url,
                headers=(*request.headers_for(probe.answer.url), header),
                body=request.body,
                limit=_ANSWER_BYTES,
                seconds=_SETTLING_SECONDS,
            )
        except CheckError as error:
            raise CheckError(f"{error}; the payment {payment.id} was sent, and may have been taken") from None
        after = await asking.balance(offer.asset.address, signer.address) if asking else None
        return answer, before - after if after is not None else None

    answer, spent = await present()
    moved = None
    if asking and (transaction := transaction_of(asked.protocol, answer)):
        moved = await moved_money(
            network,
            asking.url,
            transaction,
            token=offer.asset.address,
            payer=signer.address,
            recipient=offer.recipient,
            amount=offer.amount,
        )
    told = PaidExchange(
        asked.protocol, offer.amount, offer.asset.chain_id, signer.address, answer, spent=spent, moved=moved
    )
    replay, twice = await present()
    return replace(told, replay=replay, spent_twice=twice)


class _Node:
    """A node of the chain that payments are looked at on."""

    def __init__(self, network: Network, url: str, chain_id: int) -> None:
        self._network = network
        self.url = url
        self.chain_id = chain_id

    async def balance(self, token: str, owner: str) -> int:
        return await balance_of(self._network, self.url, token, owner)


def _decimal(amount: Fraction) -> str:
    """Money as text, exactly: amounts here have at most 18 decimals."""
    units = amount * 10**18
    whole, fraction = divmod(units.numerator // units.denominator, 10**18)
    digits = f"{fraction:018}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
