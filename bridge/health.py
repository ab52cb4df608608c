"""Liveness and readiness, for whoever restarts or routes around this process.

Live says that the process answers. Ready says that it could take a payment now: the store answers, and the settler can
settle. A process that is not ready still answers every request for a free route, and refuses payments with a 503.
"""

import msgspec

from bridge.gate import Gate
from bridge.responses import Response

__all__ = ["live", "ready"]

_ENCODER = msgspec.json.Encoder()


def live() -> Response:
    """200 for as long as the process answers at all."""
    return _response(200, {"status": "live"})


async def ready(gate: Gate) -> Response:
    """200 when a payment could be taken now; else 503, with what is missing by part."""
    missing = await gate.ready()
    return _response(503 if missing else 200, {"status": "not ready" if missing else "ready", "missing": missing})


def _response(status: int, content: dict[str, object]) -> Response:
    body = _ENCODER.encode(content)
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"content-length", str(len(body)).encode()),
    ]
    if status == 503:
        headers.append((b"retry-after", b"5"))
    return Response(status, headers, body)
