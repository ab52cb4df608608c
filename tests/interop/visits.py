"""A visit: one client pays for every route of one server, all at once, each time from a wallet of its own."""

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .chain import Anvil, Wallet
from .peers import Answer, ClientError, Peer

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
    waiting = {name: _begin(client, name, url, payer.private_key) for name, payer in payers.items()}
    answers = {name: client.answer(future) for name, future in waiting.items()}
    spent = {name: MINTED - chain.balance_of(payer.address) for name, payer in payers.items()}
    return Visit(answers, payers, spent, chain.balance_of(pay_to) - before)


def _begin(client: Peer, name: str, url: str, private_key: str) -> "Future[dict[str, Any]]":
    route = ROUTES[name]
    return client.submit(
        route.method,
        url + route.path,
        private_key=private_key,
        body=route.body,
        headers={"Content-Type": "application/json"} if route.body else {},
        stream=name == "stream",
    )


@dataclass(frozen=True)
class Crowd:
    """What many clients got that came at once, and what moved on the chain meanwhile."""

    answers: Mapping[tuple[str, str], Answer | ClientError]
    """By client and route; the error is what the library raised."""
    payers: Mapping[tuple[str, str], Wallet]
    spent: Mapping[tuple[str, str], int]
    earned: int
    """What the recipient is richer by, from all of them."""

    def of(self, client: str) -> dict[str, Answer]:
        """A client's answers by route; raises the first error that it met."""
        found = {}
        for (name, route), answer in self.answers.items():
            if name == client:
                if isinstance(answer, ClientError):
                    raise answer
                found[route] = answer
        return found


def crowd(peers: Iterable[Peer], url: str, pay_to: str, chain: Anvil, routes: Iterable[str] = ROUTES) -> Crowd:
    """Every client pays for every route at the same time, each time from a wallet of its own."""
    wanted = [(peer, name) for peer in peers for name in routes]
    payers = {(peer.name, name): chain.payer(MINTED) for peer, name in wanted}
    before = chain.balance_of(pay_to)
    waiting = {
        (peer.name, name): (peer, _begin(peer, name, url, payers[peer.name, name].private_key)) for peer, name in wanted
    }
    answers: dict[tuple[str, str], Answer | ClientError] = {}
    for key, (peer, future) in waiting.items():
        try:
            answers[key] = peer.answer(future)
        except ClientError as error:
            answers[key] = error
    spent = {key: MINTED - chain.balance_of(payer.address) for key, payer in payers.items()}
    return Crowd(answers, payers, spent, chain.balance_of(pay_to) - before)


def check_body(name: str, answer: Answer) -> None:
    """The body is the route's own, whole."""
    match name:
        case "weather":
            assert json.loads(answer.body)
        case "echo":
            assert json.loads(answer.body) == ORDER
        case "stream":
            assert answer.body.count("data:") == 5
