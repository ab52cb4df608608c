"""What stands behind the gateway: an x402 v2 route and a free one, plain ASGI, as quick as can be, settling nowhere."""

import base64
import json
import os

URL = os.environ["BENCH_URL"]
ACCEPTS = {
    "scheme": "exact",
    "network": "eip155:84532",
    "amount": "10000",
    "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    "payTo": os.environ["BENCH_PAY_TO"],
    "maxTimeoutSeconds": 300,
    "extra": {"name": "USDC", "version": "2"},
}
REQUIRED = {
    "x402Version": 2,
    "error": "PAYMENT-SIGNATURE header is required",
    "resource": {"url": URL + "/report"},
    "accepts": [ACCEPTS],
}
RECEIPT = {"success": True, "transaction": "0x" + "11" * 32, "network": "eip155:84532"}
BODY = b'{"report":{"weather":"sunny","temperature":70}}'


def _b64(value: object) -> bytes:
    return base64.b64encode(json.dumps(value).encode())


_REQUIRED, _RECEIPT = _b64(REQUIRED), _b64(RECEIPT)


async def app(scope, receive, send):  # type: ignore[no-untyped-def]
    """Free is free; the report costs a cent, and who sends anything has paid."""
    if scope["type"] != "http":
        raise RuntimeError("http only")
    headers = dict(scope["headers"])
    status, extra = 200, []
    if scope["path"] == "/report":
        if b"payment-signature" in headers:
            extra = [(b"payment-response", _RECEIPT)]
        else:
            status, extra = 402, [(b"payment-required", _REQUIRED)]
    body = BODY if status == 200 else b"{}"
    start = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
