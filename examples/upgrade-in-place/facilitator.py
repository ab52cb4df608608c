"""x402's own facilitator on a chain of this machine, so that the story needs no account and no network.

With a real server you have one already, and do not need this. It needs what `server.py` needs.

    EVM_RPC_URL=http://127.0.0.1:8545 EVM_PRIVATE_KEY=0x... python facilitator.py
"""

import os
from typing import Any

import uvicorn
from fastapi import FastAPI
from x402 import x402FacilitatorSync
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.exact import register_exact_evm_facilitator
from x402.schemas import parse_payment_payload, parse_payment_requirements

signer = FacilitatorWeb3Signer(private_key=os.environ["EVM_PRIVATE_KEY"], rpc_url=os.environ["EVM_RPC_URL"])
facilitator = register_exact_evm_facilitator(x402FacilitatorSync(), signer, networks="eip155:84532")
app = FastAPI()


def _read(body: dict[str, Any]) -> tuple[Any, Any]:
    payload = parse_payment_payload(body["paymentPayload"])
    return payload, parse_payment_requirements(payload.x402_version, body["paymentRequirements"])


def _write(answer: Any) -> dict[str, Any]:
    return answer.model_dump(by_alias=True, exclude_none=True)


@app.get("/supported")
def supported() -> dict[str, Any]:
    """Say which networks it settles on."""
    return _write(facilitator.get_supported())


@app.post("/verify")
def verify(body: dict[str, Any]) -> dict[str, Any]:
    """Say whether a payment would be taken."""
    return _write(facilitator.verify(*_read(body)))


@app.post("/settle")
def settle(body: dict[str, Any]) -> dict[str, Any]:
    """Move the money."""
    return _write(facilitator.settle(*_read(body)))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "4022")), log_level="warning")
