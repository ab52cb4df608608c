"""A server of ours with one route for everybody: a cent by EIP-3009, by Permit2 (`exact`), or by `upto`.

Settles by the facilitator at FACILITATOR_URL. Its first line on standard output says where it is; events are JSON lines
on standard error.
"""

import asyncio
import json
import os
import sys
from typing import Any

import httpx
from litestar import Litestar, get

from bridge.demo.app import TOKEN
from bridge.demo.serve import serve_here
from bridge.litestar import PaymentConfig, PaymentPlugin, X402Only
from bridge.logs import configure_logs
from bridge.serving import listen
from bridge.settlers.facilitator import FacilitatorSettler
from translators.fields import checksum_address

PRICE = "10000"


def offers(pay_to: str, facilitator_url: str) -> list[Any]:
    """The price in every protocol, and the two entries that only x402 v2 can say."""
    kinds = httpx.get(f"{facilitator_url}/supported").json()["kinds"]
    upto = next(kind for kind in kinds if kind["scheme"] == "upto")
    domain = {"name": TOKEN.name, "version": TOKEN.version}
    entry = {
        "network": f"eip155:{TOKEN.chain_id}",
        "amount": PRICE,
        "asset": checksum_address(TOKEN.address),
        "payTo": pay_to,
        "maxTimeoutSeconds": 60,
    }
    return [
        X402Only({**entry, "scheme": "exact", "extra": {**domain, "assetTransferMethod": "permit2"}}),
        X402Only({**entry, "scheme": "upto", "extra": {**domain, **upto["extra"]}}),
        "0.01",
    ]


async def main() -> None:
    facilitator_url, pay_to = os.environ["FACILITATOR_URL"], os.environ["PAY_TO"]

    @get("/weather", price=offers(pay_to, facilitator_url))
    async def weather() -> dict[str, str]:
        """Answer whoever has paid."""
        return {"weather": "sunny"}

    config = PaymentConfig(
        recipient=pay_to,
        event_store=None,
        network=TOKEN.chain_id,
        asset=TOKEN,
        settler=FacilitatorSettler(facilitator_url),
        store="memory",
    )
    sock = listen("127.0.0.1", 0)
    async with serve_here(Litestar([weather], plugins=[PaymentPlugin(config)], logging_config=None), sock):
        print(json.dumps({"url": f"http://127.0.0.1:{sock.getsockname()[1]}"}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    configure_logs(json=True)
    asyncio.run(main())
