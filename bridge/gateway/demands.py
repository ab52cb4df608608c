"""Reading an upstream's 402, compressed or not."""

import zlib
from typing import Final, NamedTuple

from bridge.gateway.forward import Answer
from bridge.gateway.headers import Headers
from translators.upstream import Demand, read_demand
from translators.wire.x402_v1 import MAX_BODY_BYTES

__all__ = ["Asked", "read_402"]

_WINDOWS: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 47}
"""zlib's names for what HTTP calls them (`deflate` has zlib's header, or gzip's by mistake)."""


class Asked(NamedTuple):
    """An upstream's 402, read."""

    demand: Demand
    answer: Answer
    headers: Headers
    body: bytes | None
    """As everybody can read it; None where it is too long, or compressed in a way that is not known here."""


async def read_402(answer: Answer) -> Asked | None:
    """What a 402 asks; None where nothing in it can be read. The answer can still be sent on as it is."""
    whole = await answer.read(MAX_BODY_BYTES)
    body = _decoded(answer.headers, whole) if whole is not None else None
    demand = read_demand(answer.headers, body)
    return Asked(demand, answer, answer.headers, body) if demand is not None else None


def _decoded(headers: Headers, body: bytes) -> bytes | None:
    coding = next(
        (value.strip().lower() for name, value in headers if name.lower() == b"content-encoding"), b"identity"
    )
    if coding == b"identity" or not body:
        return body
    if coding not in _WINDOWS:
        return None
    unpacker = zlib.decompressobj(_WINDOWS[coding])
    try:
        unpacked = unpacker.decompress(body, MAX_BODY_BYTES)
    except zlib.error:
        return None
    return unpacked if unpacker.eof else None
