"""A request's body, sent to an upstream while it comes from the client, and while the answer may come back already.

A body that waits for `Expect: 100-continue` is not asked for before the upstream wants it (RFC 9110, section 10.1.1).
"""

import asyncio
from contextlib import aclosing, suppress
from typing import Final

from bridge.gateway.body import Body
from bridge.gateway.connection import Connection, Reply
from bridge.gateway.errors import ClientGone, TooLarge, Unanswered
from bridge.trailers import passable

__all__ = ["upload"]

_PATIENCE_SECONDS: Final = 1.0
"""How long an upstream is waited for that says nothing: many do not know `Expect`, and want the body all the same."""


async def upload(
    connection: Connection, reply: Reply, body: Body, *, length: int | None, expects: bool, seconds: float
) -> None:
    """Send `body`, whose head has been sent; whatever goes wrong is told to `reply`, and ends the connection.

    `length` is what the head says; None: it comes in chunks, and its trailers behind it. The upstream takes each part
    within `seconds`; how long the client takes is its own affair.
    """
    try:
        if not expects or await _is_wanted(reply):
            await _send(connection, body, length, seconds)
            reply.has_gone()
        else:
            # It has answered. The client hears that, and is not asked for the body.
            body.is_over = True
    except (ClientGone, TooLarge, Unanswered) as error:
        reply.fail(error)
    except Exception:
        # A defect: whoever waits for the answer must hear of it.
        reply.fail(Unanswered(timed_out=False))
        raise


async def _is_wanted(reply: Reply) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await reply.wants_body()
    return True


async def _send(connection: Connection, body: Body, length: int | None, seconds: float) -> None:
    left = length
    async with aclosing(body.__aiter__()) as parts:
        async for part in parts:
            if left is None:
                connection.write(b"%x\r\n" % len(part), part, b"\r\n")
            else:
                left -= len(part)
                if left < 0:
                    # What is beyond it, the upstream would read as a request of its own.
                    raise Unanswered(timed_out=False)
                connection.write(part)
            await connection.drain(seconds)
    if left is None:
        fields = [b"%b: %b\r\n" % field for field in passable(body.trailers, body.hop_by_hop)]
        connection.write(b"0\r\n", *fields, b"\r\n")
    elif left:
        raise Unanswered(timed_out=False)
