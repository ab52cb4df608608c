"""The framework's floor: a Litestar route that returns one constant 402, as long as ours in headers and body."""

import json
import os
from pathlib import Path

from litestar import Litestar, get
from litestar.datastructures import ResponseHeader

SAMPLE = json.loads(Path(os.environ["BENCH_SAMPLE"]).read_text())
BODY = SAMPLE["body"].encode()
OWN = {"content-length", "content-type", "date", "server"}


@get(
    "/report",
    status_code=402,
    media_type="application/problem+json",
    response_headers=[ResponseHeader(name=name, value=value) for name, value in SAMPLE["headers"] if name not in OWN],
)
async def report() -> bytes:
    """Answer with what ours answers."""
    return BODY


app = Litestar([report], logging_config=None)
