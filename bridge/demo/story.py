"""Three payers, one route: what each was asked, what it sent, and what it cost, printed as it happens."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

from bridge.demo import token
from bridge.demo.accounts import PAYERS, RECIPIENT
from bridge.payers import Account, Asked, Paid, ask, pay
from translators.fields import checksum_address
from translators.payment import Protocol

__all__ = ["tell"]

_TITLES = {
    Protocol.X402_V1: "x402 v1 client",
    Protocol.X402_V2: "x402 v2 client",
    Protocol.MPP: "MPP client",
}


async def tell(url: str, rpc_url: str, events: list[tuple[str, dict[str, Any]]], say: Callable[[str], None]) -> bool:
    """Let each payer pay `GET /weather` in its protocol; true when every balance moved by exactly the price."""
    before = _balances(rpc_url)
    exact = True
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for protocol, payer in zip(Protocol, PAYERS, strict=True):
            say(f"\n{_TITLES[protocol]}, paying from {checksum_address(payer.address)}")
            asked = await ask(client, "/weather", protocol)
            say(f"  GET /weather       -> 402, {asked.where}: {_money(asked.offer.amount)}")
            paid = await pay(client, "/weather", asked, payer)
            exact &= _report(paid, asked, say)
    after = _balances(rpc_url)
    say("\nBalances in USDC, before and after")
    for name, account in [*zip(_TITLES.values(), PAYERS, strict=True), ("seller", RECIPIENT)]:
        moved = after[account] - before[account]
        say(f"  {name:<16}{_units(before[account]):>14} -> {_units(after[account]):>14}   {_units(moved, sign=True)}")
    _say_who(events, say)
    return exact and after[RECIPIENT] - before[RECIPIENT] == 30_000


def _report(paid: Paid, asked: Asked, say: Callable[[str], None]) -> bool:
    say(f"  {paid.header:<18} -> {paid.status}, {paid.body}")
    say(f"  {paid.receipt_header:<18} <- transaction {paid.transaction}")
    return paid.status == 200 and asked.offer.amount == 10_000


def _say_who(events: list[tuple[str, dict[str, Any]]], say: Callable[[str], None]) -> None:
    used = Counter(fields["protocol"] for name, fields in events if name == "payment.delivered")
    say("\nWho used what")
    for protocol in Protocol:
        took = [f["settle_ms"] for n, f in events if n == "payment.settled" and f["protocol"] == protocol.value]
        settled = f", settled in {took[0]:.0f} ms" if took else ""
        say(f"  {protocol.value:<8} {used[protocol.value]} delivered{settled}")


def _balances(rpc_url: str) -> dict[Account, int]:
    return {account: token.balance_of(rpc_url, account.address) for account in (*PAYERS, RECIPIENT)}


def _units(amount: int, *, sign: bool = False) -> str:
    text = f"{abs(amount) // 10**6:,}.{abs(amount) % 10**6:06}"
    return ("-" if amount < 0 else "+" if sign else "") + text


def _money(amount: int) -> str:
    return f"{amount} atomic units of USDC ({_units(amount)})"
