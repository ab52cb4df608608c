"""A shop on x402 0.2.1's FastAPI middleware. Run, it prints what the SDK answers to each path without a payment."""

import json
import os
import sys

from fastapi import FastAPI
from x402.fastapi.middleware import require_payment
from x402.types import EIP712Domain, TokenAmount, TokenAsset

PAY_TO = os.environ["PAY_TO"]
OWN = TokenAmount(
    amount="1500",
    asset=TokenAsset(address="0x" + "a1" * 20, decimals=18, eip712=EIP712Domain(name="Own", version="3")),
)
FACILITATOR = {"url": "https://facilitator.example"}

CALLS = [
    dict(path="/weather", price="$0.001", description="The weather", mime_type="application/json"),
    dict(path=["/premium/*", "/dear"], price="12.5", network="base", max_deadline_seconds=120),
    dict(path="/own", price=OWN),
    dict(path="/whole", price=3, network="avalanche-fuji"),
]
PATHS = {"/weather": "/weather", "/premium/*": "/premium/a", "/dear": "/dear", "/own": "/own", "/whole": "/whole"}

app = FastAPI()
for call in CALLS:
    app.middleware("http")(require_payment(pay_to_address=PAY_TO, facilitator_config=FACILITATOR, **call))

if __name__ == "__main__":
    from fastapi.testclient import TestClient

    client = TestClient(app)
    json.dump({pattern: client.get(path).json()["accepts"] for pattern, path in PATHS.items()}, sys.stdout)
