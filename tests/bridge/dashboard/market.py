"""Forty days at a small paid API whose clients move from x402 to MPP: like real ones, and always the same."""

import random
from collections.abc import Iterator
from typing import Any

from tests.bridge.analytics.samples import DAY, START, TOKEN, Event, challenged, paid, rejected

DAYS = 40
NOW = START + DAYS * DAY + 3 * 3600
"""When it is looked at: the last payments are a few minutes old."""

ROUTES = {"GET /weather/{city}": 10_000, "POST /summarize": 250_000, "GET /prices": 2_500}
BASE = {"network": "eip155:8453", "asset": "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"}
TEST = {"network": "eip155:84532", "asset": TOKEN}
OLD = ["x402-axios/0.7.2", "x402-fetch/0.6.6", "python-httpx/0.27.0"]
NEW = ["x402-fetch/2.3.0", "x402-httpx/2.1.0"]
MPP = ["mppx/0.4.11", "pympp/0.6.0"]

LEVERS = [
    (9, "x402-v1", "on", "deprecated", "*", "ana", "change"),
    (17, "mpp", "canary", "preferred", "*", "ana", "change"),
    (31, "x402-v1", "deprecated", "brownout", "GET /prices", None, "plan"),
    (31.17, "x402-v1", "brownout", "deprecated", "GET /prices", None, "plan"),
]


def events(seed: int = 7) -> list[Event]:
    """All of them, in order."""
    return sorted(_events(random.Random(seed)), key=lambda event: event[0])


def _events(dice: random.Random) -> Iterator[Event]:
    payers = [f"0x{dice.getrandbits(160):040x}" for _ in range(60)]
    switch = {payer: dice.uniform(4, 55) for payer in payers}
    for number, at in enumerate(sorted(dice.uniform(0, DAYS + 0.12) for _ in range(2200))):
        moment = START + at * DAY
        payer = dice.choice(payers)
        place = payers.index(payer)
        protocol = "x402-v1" if at < switch[payer] else "mpp"
        if place % 3 == 1:
            protocol = "x402-v2" if at < switch[payer] + 8 else "mpp"
        agent = {"x402-v1": OLD, "x402-v2": NEW, "mpp": MPP}[protocol][place % 2]
        route = dice.choices(list(ROUTES), [6, 1, 3])[0]
        own: dict[str, Any] = {
            "route": route,
            "agent": agent,
            "amount": str(ROUTES[route]),
            **(BASE if place % 8 else TEST),
        }
        yield challenged(moment, **own, **({"protocol": protocol} if protocol == "mpp" else {}))
        fate = dice.random()
        if fate < 0.03:
            yield rejected(moment + 1, protocol, "insufficient_funds", "verify", **own)
        elif fate < 0.045:
            yield rejected(
                moment + 1, protocol, "invalid_exact_evm_payload_authorization_valid_before", "verify", **own
            )
        elif fate < 0.9:
            yield from paid(moment + 1, f"payment-{number}", payer, protocol, **own)
    for hour in range(0, DAYS * 24, 5):
        yield challenged(START + hour * 3600 + 11, agent="python-requests/2.31.0", route="GET /prices", **BASE)
    for hour in range(24 * 20, DAYS * 24, 9):
        yield rejected(
            START + hour * 3600,
            "x402-v1",
            "invalid_payload",
            "read",
            agent="AcmeAgent/1.2.0",
            route="POST /summarize",
            **BASE,
        )
    for day, protocol, before, after, route, by, source in LEVERS:
        fields = {"route": route, "protocol": protocol, "before": before, "after": after, "share": None, "by": by}
        moment = START + day * DAY
        yield moment, "lever.changed", {**fields, "at": moment, "source": source}
