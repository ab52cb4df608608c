"""`x402-mpp payments reconcile` on a real chain: who was paid is found, whoever sent the transaction."""

import asyncio
import time
from pathlib import Path

import msgspec
from click.testing import CliRunner

from bridge.cli import main
from bridge.demo import token
from bridge.demo.app import TOKEN
from bridge.demo.chain import embedded_chain
from bridge.payers import Account, Asked, account, sign
from bridge.payments import open_store
from bridge.settlers import settler_from_spec
from bridge.stores import Record, store_from_url
from translators.lifecycle import State
from translators.payment import Offer, Payment, Protocol, Resource

PAYER, RELAYER, RECIPIENT = account("payer"), account("relayer"), account("recipient")
OFFER = Offer(asset=TOKEN, amount=10_000, recipient=RECIPIENT.address)


def _payment(payer: Account) -> Payment:
    return sign(Asked(Protocol.X402_V1, "", OFFER), payer, time.time())


def _left_behind(payment: Payment, valid_before: int | None = None) -> Record:
    """The row of a request that died while it settled `payment`, a while ago."""
    authorization = payment.authorization
    return Record(
        id=payment.id,
        state=State.CLAIMED,
        protocol=payment.protocol,
        route="GET /weather",
        correlation_id="c",
        chain_id=payment.chain_id,
        asset=payment.asset,
        payer=authorization.payer,
        recipient=authorization.recipient,
        value=authorization.value,
        nonce=authorization.nonce,
        valid_after=authorization.valid_after,
        valid_before=authorization.valid_before if valid_before is None else valid_before,
        owner="a process that died",
        lease_until=time.time() - 1,
        created_at=time.time() - 61,
        updated_at=time.time() - 61,
    )


def test_reconcile(tmp_path: Path) -> None:
    """Paid is settled with its transaction, unused and closed is released, unused and open is left alone."""
    url = f"sqlite:{tmp_path}/journal.sqlite3"
    paid, closed, still_open = (_payment(PAYER) for _ in range(3))

    async def run() -> tuple[str, list[Record | None], str]:
        balances = {PAYER.address: 1_000_000}
        async with embedded_chain(balances=balances, gas={RELAYER.address: 10**18}) as rpc_url:
            settler = settler_from_spec("chain", rpc_url=rpc_url, private_key=RELAYER.private_key)
            await settler.start([OFFER])

            async def nobody(_: str) -> None:
                """The journal does not hear of it."""

            settlement = await settler.settle(paid, OFFER, Resource("http://localhost/weather"), nobody)
            await settler.close()
            assert await asyncio.to_thread(token.balance_of, rpc_url, RECIPIENT.address) == 10_000
            async with open_store(store_from_url(url)) as store:
                for payment, before in ((paid, None), (closed, int(time.time()) - 5), (still_open, None)):
                    record = _left_behind(payment, before)
                    await store.claim(record, now=time.time())
                    await store.advance(
                        record.id, State.SETTLING, owner=record.owner, now=time.time(), lease_until=time.time() - 1
                    )
            command = ["payments", "--store", url, "--rpc-url", rpc_url, "reconcile"]
            result = await asyncio.to_thread(CliRunner().invoke, main, command)
            assert result.exit_code == 0, result.output
            async with open_store(store_from_url(url)) as store:
                rows = [await store.get(payment.id) for payment in (paid, closed, still_open)]
            return result.output, rows, settlement.transaction

    said, rows, transaction = asyncio.run(run())
    assert [row.state if row else None for row in rows] == [State.SETTLED, State.RELEASED, State.SETTLING]
    assert rows[0] is not None
    assert rows[0].transaction == transaction
    assert "3 looked into" in said
    assert msgspec.json.encode(rows[0]).find(paid.authorization.signature.hex().encode()) == -1
