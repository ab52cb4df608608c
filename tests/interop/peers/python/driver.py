"""The line protocol of every Python peer: one JSON request a line in, one JSON answer a line out.

A request is `{"id","url","method","headers","body","private_key","stream"}`. An answer is
`{"id","status","headers","body","receipt","chunks","seconds"}`, or `{"id","error"}`: what the client
library did, told without judgement. Requests run side by side, so the id names the one answered.
"""

import asyncio
import inspect
import json
import os
import sys
import threading
import time
import traceback

# Libraries print; the answers must not be mixed with that.
_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
_lock = threading.Lock()


def _say(message):
    with _lock:
        _answers.write(json.dumps(message) + "\n")
        _answers.flush()


def answer(status, headers, *, receipt=None, body=None, chunks=None):
    """What a peer's `pay` returns."""
    if chunks is not None:
        body = "".join(text for _, text in chunks)
    return {
        "status": status,
        "headers": [list(pair) for pair in headers],
        "body": body,
        "receipt": receipt,
        "chunks": chunks,
    }


class Stopwatch:
    """Seconds since the request was begun, and the list of what arrived when."""

    def __init__(self):
        self.start = time.monotonic()
        self.chunks = []

    def add(self, data):
        if data:
            self.chunks.append([time.monotonic() - self.start, data.decode() if isinstance(data, bytes) else data])


def _handle(pay, request):
    begun = time.monotonic()
    try:
        result = asyncio.run(pay(request)) if inspect.iscoroutinefunction(pay) else pay(request)
    except BaseException as error:  # whatever a library raises is an answer too
        traceback.print_exc()
        result = {"error": f"{type(error).__name__}: {error}"}
    _say({"id": request["id"], "seconds": time.monotonic() - begun, **result})


def serve(pay):
    """Answer requests until standard input ends."""
    _say({"ready": True})
    for line in sys.stdin:
        if line.strip():
            threading.Thread(target=_handle, args=(pay, json.loads(line)), daemon=True).start()
    os._exit(0)
