"""A visit: one client pays for every route of one server, all at once, each time from a wallet of its own."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .chain import Anvil, Wallet
from .peers import Answer, Peer

MINTED = 1_000_000
ORDER = {"city": "Zürich", "days": [1, 2, 3], "note": 'a "quoted" word'}


@dataclass(frozen=True)
class Route:
    """A priced route, and the price in atomic units of a token of six decimals."""

    method: str
    path: str
    price: int

    @property
    def body(self) -> str | None:
        return json.dumps(ORDER) if self.method == "POST" else None


ROUTES: Mapping[str, Route] = MappingProxyType(
    {
        "weather": Route("GET", "/weather", 10_000),
        "echo": Route("POST", "/echo", 20_000),
        "stream": Route("GET", "/stream", 10_000),
    }
)


@dataclass(frozen=True)
class Visit:
    """What one client got, and what moved on the chain meanwhile."""

    answers: Mapping[str, Answer]
    payers: Mapping[str, Wallet]
    spent: Mapping[str, int]
    """What each payer is poorer by."""
    earned: int
    """What the recipient is richer by."""


def visit(client: Peer, url: str, pay_to: str, chain: Anvil, routes: Iterable[str] = ROUTES) -> Visit:
    """Pay for the routes and look at the balances before and after."""
    payers = {name: chain.payer(MINTED) for name in routes}
    before = chain.balance_of(pay_to)
    waiting = {
        name: client.submit(
            ROUTES[name].method,
            url + ROUTES[name].path,
            private_key=payer.private_key,
            body=ROUTES[name].body,
            headers={"Content-Type": "application/json"} if ROUTES[name].body else {},
            stream=name == "stream",
        )
        for name, payer in payers.items()
    }
    answers = {name: client.answer(future) for name, future in waiting.items()}
    spent = {name: MINTED - chain.balance_of(payer.address) for name, payer in payers.items()}
    return Visit(answers, payers, spent, chain.balance_of(pay_to) - before)


def check_body(name: str, answer: Answer) -> None:
    """The body is the route's own, whole."""
    match name:
        case "weather":
            assert json.loads(answer.body)
        case "echo":
            assert json.loads(answer.body) == ORDER
        case "stream":
            assert answer.body.count("data:") == 5
