"""The official facilitator: x402 2.25's, serving `exact` on Base Sepolia in both generations, and `upto`.

Settles on the chain at EVM_RPC_URL with the key in EVM_PRIVATE_KEY; of the wallets that do not exist yet it makes those
that come from EIP6492_FACTORIES. The synchronous facilitator is used, with
ordinary functions as endpoints: its settlement waits for a receipt, and the other requests need not.
"""

import os

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from serving import NETWORK, run_asgi
from x402 import x402FacilitatorSync
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.exact import register_exact_evm_facilitator
from x402.mechanisms.evm.upto import UptoEvmFacilitatorScheme
from x402.schemas import parse_payment_payload, parse_payment_requirements

signer = FacilitatorWeb3Signer(private_key=os.environ["EVM_PRIVATE_KEY"], rpc_url=os.environ["EVM_RPC_URL"])
factories = os.environ.get("EIP6492_FACTORIES", "").split()
facilitator = register_exact_evm_facilitator(
    x402FacilitatorSync(), signer, networks=NETWORK, eip6492_allowed_factories=factories
)
facilitator.register([NETWORK], UptoEvmFacilitatorScheme(signer))
app = FastAPI(title="x402 Facilitator")


class FacilitatorRequest(BaseModel):
    x402Version: int = 2
    paymentPayload: dict
    paymentRequirements: dict


def _parsed(request):
    payload = parse_payment_payload(request.paymentPayload)
    return payload, parse_payment_requirements(payload.x402_version, request.paymentRequirements)


def _answered(response):
    return response.model_dump(by_alias=True, exclude_none=True)


@app.post("/verify")
def verify(request: FacilitatorRequest):
    try:
        return _answered(facilitator.verify(*_parsed(request)))
    except Exception as error:
        raise HTTPException(status_code=500, detail=str(error)) from error


@app.post("/settle")
def settle(request: FacilitatorRequest):
    try:
        return _answered(facilitator.settle(*_parsed(request)))
    except Exception as error:
        raise HTTPException(status_code=500, detail=str(error)) from error


@app.get("/supported")
def supported():
    return _answered(facilitator.get_supported())


run_asgi(app)
