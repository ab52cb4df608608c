"""What was asked of a server and what it answered: all that the rules know."""

import msgspec

from translators.payment import Protocol

__all__ = ["Exchange", "PaidExchange", "Probe", "TokenFacts"]


class Exchange(msgspec.Struct, frozen=True):
    """One request and its answer. Headers are in order, names as they came, repeated ones each on its own."""

    method: str
    url: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    def values(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def value(self, name: str) -> str | None:
        """The first value of a header, or None."""
        return next(iter(self.values(name)), None)

    def elements(self, name: str) -> list[str]:
        """The elements of a header that is a comma-separated list, in lower case."""
        return [part.strip().lower() for value in self.values(name) for part in value.split(",") if part.strip()]


class TokenFacts(msgspec.Struct, frozen=True):
    """What a token's contract says of itself; None where it did not say."""

    chain_id: int
    address: str
    has_code: bool
    name: str | None = None
    version: str | None = None
    decimals: int | None = None
    domain_separator: bytes | None = None
    takes_authorizations: bool | None = None
    """Whether it answers `authorizationState`, as EIP-3009 has it."""


class PaidExchange(msgspec.Struct, frozen=True):
    """A payment in one protocol, its answer, and the answer to the very same request once more.

    Amounts are in atomic units: what the offer asked, and by how much the payer's balance fell until the first and the
    second answer; None where no chain was asked.
    """

    protocol: Protocol
    amount: int
    chain_id: int
    payer: str
    answer: Exchange
    replay: Exchange | None = None
    spent: int | None = None
    spent_twice: int | None = None
    moved: bool | None = None
    """Whether the receipt's transaction moved the money, as the chain tells; None where it was not asked."""


class Probe(msgspec.Struct, frozen=True):
    """Everything about one route. `answer` is to the request without payment, `at` is when it came, in Unix seconds."""

    url: str
    method: str
    at: float
    answer: Exchange
    sent: bytes = b""
    """The request's body."""
    again: Exchange | None = None
    """The answer to the same request a second time, from a page of another origin."""
    preflight: Exchange | None = None
    """The answer to a browser's OPTIONS."""
    head: Exchange | None = None
    openapi: Exchange | None = None
    tokens: tuple[TokenFacts, ...] = ()
    paid: tuple[PaidExchange, ...] = ()
    expected: tuple[Protocol, ...] = ()
    """The protocols that the owner means to speak."""
