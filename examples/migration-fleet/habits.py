"""The clients of the fleet: two hundred, each with its own habits, and the day on which it moves."""

from dataclasses import dataclass, field
from random import Random

from bridge.testing import Account, account
from translators.asks import Asked
from translators.payment import Protocol

V1, V2, MPP = Protocol.X402_V1, Protocol.X402_V2, Protocol.MPP

LIBRARIES = {
    V1: ("x402-axios/0.7.3", "x402-python/0.2.1", "acme-bot/1.2"),
    V2: ("x402-fetch/2.3.0 (node)", "x402-python/2.1.0", "acme-bot/2.0"),
    MPP: ("mppx/0.8.1", "pympp/0.4.0", "acme-bot/3.0"),
}


@dataclass
class Client:
    """One client. `speaks` is what it prefers to pay in, from a day on; the last that has come counts."""

    name: str
    kind: str
    account: Account
    address: str
    speaks: list[tuple[int, tuple[Protocol, ...]]]
    agents: dict[Protocol, str | None]
    quirk: str = ""
    """`loops`, `forges`, `dawdles`, `garbles`, `broke`, `repeats`, `keys`, `caches` or nothing."""
    listens: bool = False
    """Whether somebody reads `Deprecation` in its answers and moves it for that."""
    moves_when_refused: bool = False
    says: bool = False
    """Whether it sends `Accept-Payment` once it speaks MPP."""
    kept: dict[str, Asked] = field(default_factory=dict)
    """What it was asked for before, by route: it pays that again without asking."""
    lost_at: float | None = None
    """When it found nothing that it could pay in, and has not since."""

    def now(self, day: float) -> tuple[Protocol, ...]:
        """What it can pay in, the dearest to it first; empty before it is there."""
        return next((own for since, own in reversed(self.speaks) if since <= day), ())

    def agent(self, protocols: tuple[Protocol, ...]) -> str | None:
        """Its `User-Agent`: that of the newest library that it has."""
        return self.agents[max(protocols, key=[V1, V2, MPP].index)]

    def move_by(self, day: int) -> None:
        """Bring its next move forward to `day`."""
        for number, (since, own) in enumerate(self.speaks):
            if since > day:
                self.speaks[number] = (day, own)
                return

    def learns(self, day: int) -> None:
        """Learn MPP on `day`, although nobody had planned to."""
        if all(MPP not in own for _, own in self.speaks):
            self.speaks = [step for step in self.speaks if step[0] <= day] + [(day, (MPP, *self.now(day)))]


KINDS: tuple[tuple[str, int], ...] = (
    ("v1 only", 46),
    ("v2 only", 32),
    ("mpp native", 24),
    ("v1, v2, then mpp", 40),
    ("v1, then mpp", 18),
    ("dual", 14),
    ("falls back", 8),
    ("loops on 402", 6),
    ("sends what is no good", 12),
)


def fleet(rng: Random) -> list[Client]:
    """Two hundred clients."""
    made: list[Client] = []
    for kind, count in KINDS:
        for number in range(count):
            place = len(made)
            agents: dict[Protocol, str | None] = {p: rng.choice(names) for p, names in LIBRARIES.items()}
            if rng.random() < 0.05:
                agents = dict.fromkeys(agents)
            client = Client(
                name=f"{kind} {number}",
                kind=kind,
                account=account(f"the fleet's client {place}"),
                address=f"10.0.{place // 250}.{place % 250 + 1}",
                speaks=_way(kind, number, rng),
                agents=agents,
                quirk=rng.choices(("", "repeats", "keys", "caches"), (60, 12, 12, 16))[0],
                listens=rng.random() < 0.5,
                moves_when_refused=rng.random() < 0.6,
                says=rng.random() < 0.5,
            )
            if kind == "loops on 402":
                client.quirk, client.agents = "loops", dict.fromkeys(client.agents, f"crawler/0.{number % 2}")
            if kind == "sends what is no good":
                client.quirk = ("forges", "dawdles", "garbles", "broke")[number % 4]
                client.agents = dict.fromkeys(client.agents, f"{client.quirk}-bot/1.0")
            made.append(client)
    return made


def _way(kind: str, number: int, rng: Random) -> list[tuple[int, tuple[Protocol, ...]]]:
    first = rng.randrange(0, 12)
    match kind:
        case "v1 only" | "loops on 402":
            return [(0, (V1,))]
        case "v2 only":
            return [(0, (V2,))]
        case "mpp native":
            return [(first, (MPP,))]
        case "v1, v2, then mpp":
            second = rng.randrange(5, 30)
            return [(0, (V1,)), (second, (V2, V1)), (second + rng.randrange(8, 25), (MPP, V2))]
        case "v1, then mpp":
            return [(0, (V1,)), (rng.randrange(18, 56), (MPP, V1))]
        case "dual":
            # Two programs of one owner, with one wallet: the new one is there from some day on, the old one stays.
            old = (V1, V2)[number % 2]
            return [(0, (old,)), (rng.randrange(5, 40), (MPP, old))]
        case "falls back":
            there = rng.randrange(18, 30)
            back = (V2,) if number % 2 else (V1,)
            return [(0, back), (there, (MPP, *back)), (there + rng.randrange(4, 15), back)]
        case _:
            return [(0, ((V1,), (V2,), (MPP, V2))[number % 3])]
