"""Settles payments in a process of its own: `python -m tests.bridge.settlers.worker URL`, payments as JSON on stdin.

Answers a line for each: its id and the transaction, or the error.
"""

import asyncio
import sys

import msgspec

from bridge.settlers.chain import ChainSettler
from translators.errors import PaymentError
from translators.payment import Payment

from .payments import OFFER, RELAYER, RESOURCE, Recorder


async def main(url: str, payments: list[Payment]) -> None:
    settler = ChainSettler(url, RELAYER.key.hex(), timeout_seconds=60)
    await settler.start([OFFER])
    sys.stdout.write("ready\n")
    sys.stdout.flush()

    async def one(payment: Payment) -> None:
        try:
            said = (await settler.settle(payment, OFFER, RESOURCE, Recorder())).transaction
        except PaymentError as error:
            said = f"{type(error).__name__} {error.detail}"
        sys.stdout.write(f"{payment.id} {said}\n")

    await asyncio.gather(*(one(payment) for payment in payments))
    await settler.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], msgspec.json.decode(sys.stdin.buffer.read(), type=list[Payment])))
