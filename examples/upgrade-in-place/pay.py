"""A customer of each generation buys the weather, at the address that it is given.

    python pay.py http://127.0.0.1:8402

Those who do not find their protocol in the 402 say so, and pay nothing.
"""

import asyncio
import sys

import httpx

from bridge.payers import ask, pay
from bridge.testing import account
from translators.errors import PaymentError
from translators.payment import Protocol

CUSTOMER = account("upgrade in place")


async def main(url: str) -> None:
    """Pay once in each protocol that is understood here."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for protocol in Protocol:
            try:
                asked = await ask(client, "/weather", protocol)
            except (KeyError, IndexError, PaymentError):
                print(f"{protocol.value}: not understood here")
                continue
            paid = await pay(client, "/weather", asked, CUSTOMER)
            print(f"{protocol.value}: {paid.status} {paid.body}, receipt for {paid.transaction}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
