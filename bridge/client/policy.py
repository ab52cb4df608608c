"""The wallet's rules: what it pays with first, how much, and to whom."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from ipaddress import ip_address

import httpx

from bridge.client.errors import Declined, LimitExceeded, NothingPayable
from bridge.client.ledger import Spent
from translators.asks import Asked, Passed, Reading
from translators.binding import parse_time
from translators.checks import MIN_VALIDITY_SECONDS
from translators.errors import PaymentError
from translators.networks import KNOWN_TOKENS, chain_id_from_network, v1_network
from translators.payment import Asset, Protocol
from translators.price import PriceError, atomic_units, checked_address

__all__ = ["Amount", "Policy", "amount_text", "network_text"]

Amount = str | Mapping[str, int]
"""Money as text (`"0.10"`), for the dollar tokens that are known; or atomic units by the token's address."""

_PRECISION = 18


@dataclass(frozen=True)
class Policy:
    """What a wallet is allowed to do. Raises `ValueError` for a rule that could not be kept.

    A rule that is None allows everything of its kind; the limit a request has to be given.
    """

    max_amount: Amount
    """The most that one request may cost."""

    daily_limit: Amount | None = None
    """The most that may be signed in any 24 hours, by every process that shares the ledger."""

    protocols: Sequence[Protocol | str] = (Protocol.MPP, Protocol.X402_V2, Protocol.X402_V1)
    """What is paid in, the best liked first."""

    networks: Sequence[str | int] | None = None
    """Where money may move, the best liked first: v1's names, CAIP-2 ids or chain ids."""

    assets: Sequence[str] | None = None
    """Addresses of the tokens that may be spent, the best liked first."""

    recipients: Sequence[str] | None = None
    """Addresses that may be paid."""

    hosts: Sequence[str] | None = None
    """Hosts that may be paid: `api.example.com`, `api.example.com:8443`, or `*.example.com` for all below it."""

    tokens: Sequence[Asset] = ()
    """Tokens that are known besides `KNOWN_TOKENS`; money means their unit too."""

    allow_http: bool = False
    """Whether a credential may go over plain HTTP to another machine, where everybody on the way can take it."""

    longest_seconds: int = 3600
    """How long an authorization may stay valid, whatever the server asks, in seconds."""

    _chains: tuple[int, ...] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "protocols", tuple(Protocol(protocol) for protocol in self.protocols))
        if not self.protocols:
            raise ValueError("protocols: leave at least one to pay in")
        if self.networks is not None:
            set_(self, "_chains", tuple(_chain_id(network) for network in self.networks))
        for name in ("assets", "recipients"):
            if (given := getattr(self, name)) is not None:
                set_(self, name, tuple(_checked(address, name) for address in given))
        if self.hosts is not None:
            set_(self, "hosts", tuple(host.lower() for host in self.hosts))
        set_(self, "max_amount", _amount(self.max_amount, "max_amount"))
        if self.daily_limit is not None:
            set_(self, "daily_limit", _amount(self.daily_limit, "daily_limit"))
        if self.longest_seconds <= MIN_VALIDITY_SECONDS:
            raise ValueError(f"longest_seconds: more than {MIN_VALIDITY_SECONDS}, or nobody can settle in time")

    def is_dollar(self, asset: Asset) -> bool:
        """Whether money as text means this token's unit."""
        return any((t.chain_id, t.address) == (asset.chain_id, asset.address) for t in (*KNOWN_TOKENS, *self.tokens))

    def choose(self, reading: Reading, url: httpx.URL, now: float, *, has_authorization: bool = False) -> Asked:
        """The ask that this wallet likes best.

        `has_authorization`: the request's `Authorization` is taken, so that no MPP credential can go there. Raises
        `Declined` or `NothingPayable`, with the reason for each ask.
        """
        self.check_host(url)
        if not reading.asks:
            raise NothingPayable(_told("the server asks for nothing that can be paid here", reading.passed))
        allowed: list[Asked] = []
        refused: list[tuple[Asked, Declined]] = []
        for asked in reading.asks:
            try:
                self._check(asked, now, has_authorization)
            except Declined as error:
                refused.append((asked, error))
            else:
                allowed.append(asked)
        if not allowed:
            reasons = [Passed(asked.protocol, str(error)) for asked, error in refused]
            kind = LimitExceeded if all(isinstance(error, LimitExceeded) for _, error in refused) else Declined
            raise kind(_told("the wallet's rules allow none of what the server asks", (*reasons, *reading.passed)))
        return min(allowed, key=self._rank)

    def check_host(self, url: httpx.URL) -> None:
        """Raise `Declined` for a server that may not be paid, or not over this connection."""
        host = url.host.lower()
        if self.hosts is not None and not any(_matches(host, url.port, allowed) for allowed in self.hosts):
            raise Declined(f"{host} is not among the hosts that may be paid")
        if url.scheme != "https" and not self.allow_http and not _is_loopback(host):
            # draft-httpauth-payment-00, section "Transport Security": no credential over plain HTTP.
            raise Declined(f"{host} asks over plain HTTP: whoever is on the way could take the payment's proof")

    def _check(self, asked: Asked, now: float, has_authorization: bool) -> None:
        offer, asset = asked.offer, asked.offer.asset
        if asked.protocol not in self.protocols:
            raise Declined("the protocol is not one to pay in")
        if self._chains is not None and asset.chain_id not in self._chains:
            raise Declined(f"{network_text(asset.chain_id)} is not among the networks to pay on")
        if self.assets is not None and asset.address not in self.assets:
            raise Declined(f"the token {asset.address} is not among those to pay with")
        if self.recipients is not None and offer.recipient not in self.recipients:
            raise Declined(f"{offer.recipient} is not among the recipients that may be paid")
        if (challenge := asked.challenge) is not None:
            if challenge.expires is not None and parse_time(challenge.expires) <= now + MIN_VALIDITY_SECONDS:
                raise Declined("the challenge has expired")
            if has_authorization and (challenge.header or "authorization").lower() == "authorization":
                raise Declined("the request has an Authorization of its own, and the credential belongs there")
        elif offer.max_timeout_seconds <= MIN_VALIDITY_SECONDS:
            raise Declined("the server leaves no time to settle")
        limit = self._limit(self.max_amount, asset)
        if limit is None:
            raise Declined(f"no limit is set for the token {asset.address}, whose worth is not known")
        if offer.amount > limit:
            raise LimitExceeded(
                f"the price is {amount_text(offer.amount, asset)}, over the limit a request of"
                f" {amount_text(limit, asset)}"
            )

    def check_day(self, asked: Asked, spent: Sequence[Spent]) -> None:
        """Raise `LimitExceeded` where paying would take `spent`, the last 24 hours, over the day's limit."""
        limit, asset, amount = self.daily_limit, asked.offer.asset, asked.offer.amount
        if limit is None:
            return
        if isinstance(limit, str):
            if not self.is_dollar(asset):
                raise LimitExceeded(f"no daily limit is set for the token {asset.address}, whose worth is not known")
            total = sum((_money(one.amount, one.decimals) for one in spent if one.decimals is not None), Fraction(0))
            if total + _money(amount, asset.decimals) > Fraction(limit):
                raise LimitExceeded(f"{_decimal(total)} were signed for in 24 hours, and the daily limit is {limit}")
            return
        most = limit.get(asset.address)
        if most is None:
            raise LimitExceeded(f"no daily limit is set for the token {asset.address}")
        units = sum(one.amount for one in spent if (one.chain_id, one.asset) == (asset.chain_id, asset.address))
        if units + amount > most:
            raise LimitExceeded(
                f"{amount_text(units, asset)} were signed for in 24 hours, and the daily limit is"
                f" {amount_text(most, asset)}"
            )

    def _limit(self, amount: Amount, asset: Asset) -> int | None:
        """In the token's atomic units; None where the rule does not say."""
        if not isinstance(amount, str):
            return amount.get(asset.address)
        if not self.is_dollar(asset):
            return None
        # Rounded down: a token with fewer decimals than the rule has cannot be overspent.
        return int(Fraction(amount) * 10**asset.decimals)

    def _rank(self, asked: Asked) -> tuple[int, int, int]:
        asset = asked.offer.asset
        return (
            list(self.protocols).index(asked.protocol),
            self._chains.index(asset.chain_id) if self._chains is not None else 0,
            list(self.assets).index(asset.address) if self.assets is not None else 0,
        )


def amount_text(amount: int, asset: Asset) -> str:
    """An amount for a person: `0.01 USDC`, or atomic units of a token whose decimals nobody has vouched for."""
    if not asset.symbol:
        return f"{amount} units of {asset.address}"
    return f"{_decimal(_money(amount, asset.decimals))} {asset.symbol}"


def network_text(chain_id: int) -> str:
    """A network for a person: its name where it has one, and its id."""
    name = v1_network(chain_id)
    return f"{name} ({chain_id})" if name else f"chain {chain_id}"


def _money(amount: int, decimals: int | None) -> Fraction:
    return Fraction(amount, 10 ** (decimals or 0))


def _decimal(value: Fraction) -> str:
    scaled = value * 10**_PRECISION
    whole, part = divmod(int(scaled), 10**_PRECISION)
    digits = f"{part:0{_PRECISION}d}".rstrip("0")
    return f"{whole}.{digits.ljust(2, '0')}" if digits else str(whole)


def _amount(amount: Amount, what: str) -> Amount:
    try:
        if isinstance(amount, str):
            atomic_units(amount, _PRECISION)
            return amount.strip().removeprefix("$")
        return {_checked(address, what): atomic_units(units, 0) for address, units in amount.items()}
    except PriceError as error:
        raise ValueError(f"{what}: {error}") from None


def _checked(address: str, what: str) -> str:
    try:
        return checked_address(address, what)
    except PriceError as error:
        raise ValueError(str(error)) from None


def _chain_id(network: str | int) -> int:
    try:
        found = network if isinstance(network, int) else chain_id_from_network(network)
    except PaymentError:
        found = None
    if not found and isinstance(network, str) and network.isdecimal():
        found = int(network)
    if not found:
        raise ValueError(f"network {network!r} is not known: use eip155:<chain id>, or x402 v1's name")
    return found


def _matches(host: str, port: int | None, allowed: str) -> bool:
    if allowed.startswith("*."):
        return host.endswith(allowed[1:])
    return allowed in (host, f"{host}:{port}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return re.fullmatch(r"(?:.+\.)?localhost", host) is not None


def _told(sentence: str, passed: Sequence[Passed]) -> str:
    protocols: dict[str, list[str]] = {}
    for one in passed:
        names = protocols.setdefault(one.reason, [])
        if one.protocol.value not in names:
            names.append(one.protocol.value)
    return sentence + "".join(f"\n  {', '.join(names)}: {reason}" for reason, names in protocols.items())
